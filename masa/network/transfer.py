"""Feature extraction: matched Ref features are copied to the LR's grid (section 3.2, figure 3)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from masa.network.blocks import Geometry
from masa.network.matching import Matches


@dataclass(frozen=True)
class TransferPlan:
    """Which Ref-down cells make up each LR pixel, and with which weights.

    The patch matched for an LR pixel covers its neighbours too, so each pixel receives up to
    ``patch²`` cells; they are averaged. Patches count only inside their own LR block.
    """

    geometry: Geometry
    row: Tensor
    """``(N, h, w, patch²)`` int64 on the Ref-down grid."""
    column: Tensor
    """``(N, h, w, patch²)`` int64 on the Ref-down grid."""
    weight: Tensor
    """``(N, h, w, patch²)`` float32, summing to 1; 0 for patches of other blocks. There ``row``
    and ``column`` repeat the pixel's own match, so that no cell is named that is not used."""
    similarity: Tensor
    """``(N, 1, h, w)``, the similarity map the features are multiplied by."""


def plan_transfer(matches: Matches) -> TransferPlan:
    """The plan for given matches."""
    geometry, position = matches.geometry, matches.position
    n, _, h, w = position.shape
    rim = geometry.radius
    device = position.device
    steps = torch.arange(-rim, rim + 1, device=device)
    offset = torch.cartesian_prod(steps, steps) if rim else steps.new_zeros(1, 2)
    # Neighbour k of LR pixel p is p + offset[k]; its patch holds p at -offset[k] from its centre.
    rows = torch.arange(h, device=device)[:, None] + offset[:, 0]
    columns = torch.arange(w, device=device)[:, None] + offset[:, 1]

    def same_block(neighbours: Tensor, count: int) -> Tensor:
        own = torch.arange(count, device=device)[:, None] // geometry.block
        return torch.div(neighbours, geometry.block, rounding_mode="floor") == own

    valid = same_block(rows, h)[:, None] & same_block(columns, w)[None]
    rows, columns = rows.clamp(0, h - 1)[:, None], columns.clamp(0, w - 1)[None]
    source = position[:, :, rows, columns] - offset.T[:, None, None]
    source = torch.where(valid, source, position[..., None])
    weight = valid / valid.sum(-1, keepdim=True)
    return TransferPlan(
        geometry, source[:, 0], source[:, 1], weight.expand(n, -1, -1, -1), matches.similarity
    )


def transfer(source: Tensor, plan: TransferPlan, scale: int, weighted: bool = True) -> Tensor:
    """Copy Ref features (or pixels) to the LR pixels that they were matched with.

    ``source`` is ``(N, C, scale * hr, scale * wr)``; the result ``(N, C, scale * h, scale * w)``,
    channels-last, multiplied by the similarity map unless ``weighted`` is off.

    A cell of ``scale`` x ``scale`` pixels is copied as ``scale`` runs of ``scale * C`` values,
    which lie together in channels-last memory: one weighted sum of rows of a table, without ever
    holding the overlapping patches.
    """
    n, channels = source.shape[:2]
    geometry = plan.geometry
    h, w, wr = geometry.lr_height, geometry.lr_width, geometry.ref_width
    table = source.permute(0, 2, 3, 1).reshape(-1, scale * channels)
    batch = torch.arange(n, device=source.device).view(n, 1, 1, 1, 1) * geometry.ref_height
    line = torch.arange(scale, device=source.device).view(1, 1, scale, 1, 1)
    runs = ((batch + plan.row[:, :, None]) * scale + line) * wr + plan.column[:, :, None]
    weight = plan.weight[:, :, None].expand_as(runs)
    moved = F.embedding_bag(
        runs.flatten(0, 3),
        table,
        per_sample_weights=weight.flatten(0, 3).to(table.dtype),
        mode="sum",
    )
    moved = moved.view(n, scale * h, scale * w, channels).permute(0, 3, 1, 2)
    if not weighted:
        return moved
    similarity = scaled_similarity(plan.similarity, geometry, scale).to(moved.dtype)
    # With gradients not in place: the similarity's gradient needs the features before the product.
    return moved * similarity if torch.is_grad_enabled() else moved.mul_(similarity)


def scaled_similarity(similarity: Tensor, geometry: Geometry, scale: int) -> Tensor:
    """The similarity map at ``scale``, interpolated inside each block, not across its border.

    ``(N, 1, h, w)`` to ``(N, 1, scale * h, scale * w)``.
    """
    if scale == 1:
        return similarity
    blocks = geometry.to_blocks(similarity)
    resized = F.interpolate(
        blocks.flatten(0, 1), scale_factor=scale, mode="bilinear", align_corners=False
    )
    return geometry.from_blocks(resized.unflatten(0, blocks.shape[:2]))
