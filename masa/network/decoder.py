"""The decoder: LR and transferred Ref features are merged at x1, x2 and x4."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from masa.config import SCALE, Adaptation, MASAConfig
from masa.network.adaptation import (
    Adapted,
    ChannelStats,
    channel_stats,
    make_adaptation,
)
from masa.network.aggregation import Aggregated, Branches, DualResidualAggregation
from masa.network.encoder import Pyramid
from masa.network.layers import (
    conv3x3,
    conv_cat_relu,
    conv_relu,
    residual_blocks,
    run_blocks,
    upsample2,
)
from masa.network.progress import OnShare, between, ignore
from masa.network.tiling import run_tiled, tiles


@dataclass(frozen=True)
class ScaleTrace:
    """What happened at one scale (1, 2 or 4); all maps ``(N, C, scale * h, scale * w)``."""

    lr: Tensor
    """The LR features that the Ref is adapted to."""
    ref: Tensor
    """Transferred, similarity-weighted Ref features: adaptation's input."""
    adapted: Adapted
    """Adaptation's output, gamma and beta."""
    adaptation: Adaptation
    """What made it."""
    aggregated: Aggregated | None
    """DRAM's output and branches; ``None`` at x1, which has no DRAM."""


class _Stage(NamedTuple):
    """The parts of the decoder that take features from one scale to twice that scale."""

    scale: int
    """Pixels of its input to an LR pixel, along a side."""
    dram: DualResidualAggregation
    blocks: nn.Sequential
    last: nn.Conv2d | None
    """Turns the last features into the picture; ``None`` for a stage that others follow."""
    halo: int
    """LR pixels around a tile that its output depends on."""


_ADAPTED, _AGGREGATED = 0.27, 0.47  # share of the multiply-adds of x4 done after each step


class Decoder(nn.Module):
    """Small U-Net over the LR features, then three scales of adaptation and aggregation."""

    HALO_X2 = 11
    """LR pixels around a tile that its x2 features depend on."""
    HALO_X4 = 4
    """LR pixels around a tile that its x4 picture depends on, given the x2 features."""

    def __init__(self, config: MASAConfig) -> None:
        super().__init__()
        c = config.channels
        self.conv_L3 = conv3x3(c, c)
        self.blk_L3 = residual_blocks(c, 2)
        self.conv_L2 = conv3x3(2 * c, c)
        self.blk_L2 = residual_blocks(c, 2)
        self.conv_L1 = conv3x3(2 * c, c)
        self.blk_L1 = residual_blocks(c, 2)

        self.merge_warp_x1 = conv3x3(2 * c, c)
        self.blk_x1 = residual_blocks(c, 12)
        branches = Branches(config.dram_ref, config.dram_lr)
        self.dram_x2 = DualResidualAggregation(c, branches)
        self.blk_x2 = residual_blocks(c, 8)
        self.dram_x4 = DualResidualAggregation(c, branches)
        self.blk_x4 = residual_blocks(c, 4)
        self.conv_out = conv3x3(c, 3)

        self.adaptation = config.adaptation
        self.pAda = make_adaptation(config.adaptation, c)

    def context(self, lr: Pyramid) -> Tensor:
        """LR features of three levels to one map ``(N, C, h, w)``."""
        f = self.blk_L3(conv_relu(self.conv_L3, lr.l3))
        f = conv_cat_relu(self.conv_L2, upsample2(f), lr.l2)
        f = conv_cat_relu(self.conv_L1, upsample2(self.blk_L2(f)), lr.l1)
        return self.blk_L1(f)

    def at_x1(
        self, context: Tensor, ref: Tensor, keep: bool, on_share: OnShare = ignore
    ) -> tuple[Tensor, ScaleTrace]:
        """Merge with the Ref features at the LR's size: ``(N, C, h, w)`` to the same."""
        stats = channel_stats([context]), channel_stats([ref])
        adapted = self.pAda(context, ref, *stats, learned=keep)
        merged = conv_cat_relu(self.merge_warp_x1, adapted.out, context)
        x1 = run_blocks(self.blk_x1, merged, on_share)
        return x1, ScaleTrace(context, ref, adapted, self.adaptation, None)

    def at_x2(
        self,
        x1: Tensor,
        ref: Tensor,
        branches: Branches,
        keep: bool,
        tile: int | None,
        on_share: OnShare,
    ) -> tuple[Tensor, ScaleTrace | None]:
        """``(N, C, h, w)`` and Ref features ``(N, C, 2h, 2w)`` to ``(N, C, 2h, 2w)``."""
        stage = _Stage(1, self.dram_x2, self.blk_x2, None, self.HALO_X2)
        return self._upscale(stage, x1, ref, branches, keep, tile, on_share)

    def at_x4(
        self,
        x2: Tensor,
        ref: Tensor,
        branches: Branches,
        keep: bool,
        tile: int | None,
        on_share: OnShare,
    ) -> tuple[Tensor, ScaleTrace | None]:
        """``(N, C, 2h, 2w)`` and Ref features ``(N, C, 4h, 4w)`` to the residual picture.

        The picture is ``(N, 3, 4h, 4w)``, to be added to the bicubic enlargement.
        """
        stage = _Stage(2, self.dram_x4, self.blk_x4, self.conv_out, self.HALO_X4)
        return self._upscale(stage, x2, ref, branches, keep, tile, on_share)

    def _upscale(
        self,
        stage: _Stage,
        x: Tensor,
        ref: Tensor,
        branches: Branches,
        keep: bool,
        tile: int | None,
        on_share: OnShare,
    ) -> tuple[Tensor, ScaleTrace | None]:
        """One scale up: SAM, DRAM, residual blocks; in tiles, with the whole image's statistics.

        ``x`` is ``(N, C, stage.scale * h, stage.scale * w)`` and ``ref`` twice that. ``tile``
        limits the LR pixels a side worked on at a time. With ``keep``, the trace is returned too.
        """
        scale = stage.scale
        lr_stats = _upsampled_stats(x, scale, tile, on_share)
        ref_stats = _stats(ref, 2 * scale, tile, on_share)

        def step(
            x: Tensor, ref: Tensor, on_share: OnShare
        ) -> tuple[Tensor, tuple[Tensor, Adapted, Aggregated] | None]:
            lr = upsample2(x)
            adapted = self.pAda(lr, ref, lr_stats, ref_stats, learned=keep)
            on_share(_ADAPTED)
            if not keep:
                del lr  # as large as the output; so are the maps deleted below
            aggregated = stage.dram(x, adapted.out, branches, keep)
            on_share(_AGGREGATED)
            merged, kept = aggregated.out, None
            if keep:
                kept = lr, adapted, aggregated
                merged = merged.clone()  # residual blocks write over their input
            else:
                del adapted, aggregated, ref
            out = run_blocks(stage.blocks, merged, between(on_share, _AGGREGATED, 1))
            return (out if stage.last is None else stage.last(out)), kept

        out, kept = run_tiled(step, [(x, scale), (ref, 2 * scale)], tile, stage.halo, on_share)
        if kept is None:
            return out, None
        lr, adapted, aggregated = kept
        return out, ScaleTrace(lr, ref, adapted, self.adaptation, aggregated)


def _stats(x: Tensor, scale: int, tile: int | None, on_share: OnShare) -> ChannelStats:
    """Channel statistics, read tile by tile (``scale`` pixels to a grid cell)."""

    def parts() -> Iterator[Tensor]:
        for t in tiles(x.shape[2] // scale, x.shape[3] // scale, tile):
            on_share(0)  # so that the run can be cancelled here
            yield t.cut(x, scale)

    return channel_stats(parts())


def _upsampled_stats(x: Tensor, scale: int, tile: int | None, on_share: OnShare) -> ChannelStats:
    """Channel statistics of ``upsample2(x)`` without holding all of it."""
    height, width = x.shape[2] // scale, x.shape[3] // scale

    def parts() -> Iterator[Tensor]:
        for t in tiles(height, width, tile):
            on_share(0)
            grown = t.grow(1, height, width)
            yield t.cut(upsample2(grown.cut(x, scale)), 2 * scale, origin=grown)

    return channel_stats(parts())


def bicubic(lr: Tensor) -> Tensor:
    """The skip connection: ``(N, 3, h, w)`` to ``(N, 3, 4h, 4w)`` by bicubic interpolation."""
    return F.interpolate(lr.float(), scale_factor=SCALE, mode="bicubic", align_corners=False)
