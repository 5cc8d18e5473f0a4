"""One run's matching, done again: with other settings, and densely to compare with."""

from __future__ import annotations

import time
import weakref
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from demo.runs.exploration import Exploration
from masa.config import MASAConfig, Size
from masa.errors import UserError
from masa.machine.cost import dense_matching_cost, executed_cost
from masa.network.blocks import Geometry
from masa.network.dense import match_densely, sampled
from masa.network.matching import Matches, match
from masa.network.progress import OnShare, ignore

DENSE_BUDGET = 160 * 10**9
"""Multiply-adds a dense search may take; at larger sizes only some LR pixels are searched for."""
REMATCH_BUDGET = 200 * 10**9
"""Multiply-adds that matching with other settings may take."""
REMATCH_BYTES = 400 * 2**20
"""Memory that the scores of one block may take."""
LR_BLOCKS = (4, 8, 16, 32)
"""LR block sides to choose from."""


@dataclass(frozen=True, eq=False)
class DenseMatch:
    """The best place in all of the reference for LR pixels, found by comparing with every place."""

    of: weakref.ref[Matches]
    """Those of the run whose features were compared; the run alone holds them."""
    position: NDArray[np.int64]
    """``(2, h, w)``: (row, column) on the Ref-down grid; -1 where it was not searched."""
    step: int
    """Only every ``step``-th row and column of the LR was searched, from ``step // 2`` on."""
    multiply_adds: int
    seconds: float

    def kept_bytes(self) -> int:
        """Memory that this holds, besides the run."""
        return self.position.nbytes


@dataclass(frozen=True, eq=False)
class Rematch:
    """The matching of one run's features with other settings, and how it compares."""

    config: MASAConfig
    matches: Matches
    """On whole LR blocks: rows and columns beyond them are left out."""
    agreement_with_dense: float | None
    """Share of LR pixels matched to the very place that dense matching finds; ``None`` if that is
    not known. Like the others, over the visitor's own pixels."""
    near_dense: float | None
    """Share of those within one pixel of it."""
    agreement_with_run: float
    """Share of those matched to the same place as in the run."""
    mean_similarity: float
    multiply_adds: int
    """Of the matching, as this program does it."""
    seconds: float

    @property
    def geometry(self) -> Geometry:
        """Blocks and sizes."""
        return self.matches.geometry


def dense_match(
    x: Exploration, budget: int = DENSE_BUDGET, on_share: OnShare = ignore
) -> DenseMatch:
    """Compare LR patches with all patches of the reference, on the features of a finished run.

    So many LR pixels are left out, evenly, that no more than ``budget`` multiply-adds are needed.
    ``on_share`` is told the share done and may raise.
    """
    start = time.perf_counter()
    patch = x.matches.geometry.patch
    height, width = _size(x.lr_features)
    per_pixel = dense_matching_cost((1, 1), _size(x.ref_features), _searched(x, MASAConfig()))
    step = 1
    while (searched := len(sampled(height, step)) * len(sampled(width, step))) * per_pixel > budget:
        step += 1
    position = match_densely(x.lr_features, x.ref_features, patch, step, on_share)
    seconds = time.perf_counter() - start
    return DenseMatch(weakref.ref(x.matches), position.numpy(), step, searched * per_pixel, seconds)


def _whole_blocks(x: Exploration, config: MASAConfig) -> Size:
    height, width = (side - side % config.lr_block for side in x.lr_features.shape[1:])
    return height, width


def rematch_cost(x: Exploration, config: MASAConfig) -> int:
    """Multiply-adds of :func:`rematch`.

    Raises ``UserError`` if the photo holds no whole block or the search would be too large.
    """
    config = _searched(x, config)
    block = config.lr_block
    size, ref_size = _whole_blocks(x, config), _size(x.ref_features)
    if not all(size):
        raise UserError(
            f"This photo is smaller than one block of {block} x {block} pixels: use smaller ones."
        )
    geometry = Geometry.of(size, ref_size, config)
    count = executed_cost(size, ref_size, config).matching
    rim = 2 * geometry.radius
    pairs = (geometry.ref_block_height + rim) * (geometry.ref_block_width + rim)
    if count > REMATCH_BUDGET or 8 * pairs * (block + rim) ** 2 > REMATCH_BYTES:
        raise UserError(
            "With these settings the search is too large for these pictures: choose another size "
            "of block."
        )
    return count


def rematch(x: Exploration, config: MASAConfig, dense: DenseMatch | None = None) -> Rematch:
    """Match a run's features again with another LR block, Ref block or other dilations.

    Only those three fields of ``config`` count. Features were kept for multiples of 8 pixels: of
    larger blocks, only whole ones are matched, from the top left. Raises ``UserError`` like
    :func:`rematch_cost`.
    """
    count = rematch_cost(x, config)
    config = _searched(x, config)
    height, width = _whole_blocks(x, config)
    start = time.perf_counter()
    with torch.inference_mode():
        found = match(x.lr_features[None, :, :height, :width], x.ref_features[None], config)
    seconds = time.perf_counter() - start
    position = found.position[0].numpy()
    shown = np.s_[..., : min(height, x.lr.height), : min(width, x.lr.width)]
    distance = None if dense is None else distances(position[shown], dense.position[shown])
    known = None if distance is None else distance[distance >= 0]
    in_run = distances(position[shown], x.matches.position[0].numpy()[shown])
    return Rematch(
        config=config,
        matches=found,
        agreement_with_dense=None if known is None else share_of(known == 0),
        near_dense=None if known is None else share_of(known <= 1),
        agreement_with_run=share_of(in_run == 0),
        mean_similarity=float(found.similarity[0, 0].numpy()[shown].mean()),
        multiply_adds=count,
        seconds=seconds,
    )


def distances(position: NDArray, other: NDArray) -> NDArray[np.int64]:
    """Pixels between two maps of places, the larger of rows and columns; -1 where unknown."""
    distance = np.abs(position - other).max(axis=0)
    return np.where(other[0] < 0, -1, distance)


def _searched(x: Exploration, config: MASAConfig) -> MASAConfig:
    """``config`` with the channels and the patch of the finished run, which cannot vary."""
    return replace(config, channels=x.lr_features.shape[0], patch=x.matches.geometry.patch)


def share_of(these: NDArray[np.bool_]) -> float:
    """Share of what is true; 0 of nothing."""
    return float(these.mean()) if these.size else 0.0


def _size(features: Tensor) -> Size:
    return features.shape[-2], features.shape[-1]
