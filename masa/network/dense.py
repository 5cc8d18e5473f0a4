"""Dense matching: every LR patch compared with every Ref-down patch, which the network avoids.

It shows what matching in two steps misses, and what that saves.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from masa.network.matching import SCORE_BYTES
from masa.network.progress import OnShare, ignore

_PATCH_BYTES = 64 * 2**20  # of patches laid out side by side


@torch.inference_mode()
def match_densely(
    lr: Tensor, ref: Tensor, patch: int, step: int = 1, on_share: OnShare = ignore
) -> Tensor:
    """The most similar patch of all, by cosine similarity, for LR pixels.

    ``lr`` ``(C, h, w)`` (borders replicated) and ``ref`` ``(C, hr, wr)``, both on the CPU in
    float32, to ``(2, h, w)`` int64: (row, column) of the patch's centre on the Ref-down grid. Only
    the rows and columns of :func:`sampled` are searched for; all others get -1. Scores are held a
    few megabytes at a time.
    """
    rim = patch // 2
    (channels, height, width), (_, ref_height, ref_width) = lr.shape, ref.shape
    rows, columns = sampled(height, step), sampled(width, step)
    padded = F.pad(lr[None], (rim,) * 4, mode="replicate")
    patches_per_row = ref_width - 2 * rim
    ref_rows = max(1, _PATCH_BYTES // (4 * patch**2 * channels * ref_width))
    best = torch.full((len(rows) * len(columns),), -torch.inf)
    place = torch.zeros(len(best), dtype=torch.int64)
    lr_rows = max(1, _PATCH_BYTES // (4 * patch**2 * channels * width))
    for first in range(0, len(rows), lr_rows):
        taken = rows[first : first + lr_rows]
        lr_patches = F.unfold(padded[:, :, taken[0] : taken[-1] + patch], patch, stride=(step, 1))
        lr_patches = lr_patches[0].unflatten(1, (len(taken), width))[:, :, list(columns)].flatten(1)
        lr_patches = F.normalize(lr_patches.T, dim=1)  # (LR patches, patch² C)
        part = slice(first * len(columns), (first + len(taken)) * len(columns))
        for top in range(0, ref_height - 2 * rim, ref_rows):
            ref_patches = F.unfold(ref[None, :, top : top + ref_rows + 2 * rim], patch)[0]
            ref_patches = F.normalize(ref_patches, dim=0)  # (patch² C, Ref patches)
            chunk = max(1, SCORE_BYTES // (4 * ref_patches.shape[1]))
            found = [(some @ ref_patches).max(1) for some in lr_patches.split(chunk)]
            score = torch.cat([values for values, _ in found])
            index = torch.cat([index for _, index in found]) + top * patches_per_row
            better = score > best[part]  # the first of equals stays, as in one argmax
            best[part] = torch.where(better, score, best[part])
            place[part] = torch.where(better, index, place[part])
        on_share(min(1.0, (first + lr_rows) / len(rows)))
    position = torch.full((2, height, width), -1)
    found_at = place.view(len(rows), len(columns))
    searched = torch.stack((found_at // patches_per_row, found_at % patches_per_row)) + rim
    position[:, rows.start :: step, columns.start :: step] = searched
    return position


def sampled(side: int, step: int) -> range:
    """Every ``step``-th of ``side`` pixels, from the middle of the first step on; at least one."""
    return range(min(step // 2, side - 1), side, step)
