"""Coarse-to-fine matching: for each LR pixel the most similar place in the reference.

Everything here happens on two grids: LR pixels (features ``lr``, ``(N, C, h, w)``) and pixels of
Ref-down, the reference reduced four times (features ``ref``, ``(N, C, hr, wr)``). Coordinates are
(row, column) of pixel centres, the first pixel is (0, 0). Section 3.2 of the paper, equations (1)
to (5). Beyond an LR of 256 x 256 with a reference of 1024 x 1024, few channels propose places and
all channels decide between them (:data:`masa.network.blocks.FULL_SEARCH`).

Features are compared in float32 whatever precision they come in, because lower precision turns
different scores into equal ones. (On NVIDIA GPUs PyTorch's convolutions may still round factors to
TF32; see :func:`masa.machine.device.resolve_precision`.)
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from torch.profiler import record_function

from masa.config import MASAConfig, Size
from masa.network.blocks import Geometry
from masa.network.progress import OnShare, between, ignore

_EPS = 1e-12  # smallest norm a patch is divided by

SCORE_BYTES = 24 * 2**20
"""Bytes of scores held at a time: small enough for a processor's cache, large enough for fast
convolutions. So memory does not grow with (LR pixels x Ref pixels)."""


@dataclass(frozen=True)
class CoarseMatch:
    """The best place in the reference for each LR block's centre."""

    index: Tensor
    """``(N, blocks)`` int64: ``row * wr + column`` on the Ref-down grid."""
    score: Tensor
    """``(N, blocks)``: cosine similarities summed over the dilations; at most their number."""
    per_dilation: Tensor
    """``(N, blocks, dilations)``: the summands of ``score``, each in [-1, 1]."""


@dataclass(frozen=True, eq=False)
class Matches:
    """Where every LR pixel's texture comes from."""

    geometry: Geometry
    coarse: CoarseMatch
    corner: Tensor
    """``(N, blocks, 2)`` int64: first pixel (row, column) of each block's Ref crop, on the
    Ref-down grid. The crop is one patch radius larger on each side than the Ref block."""
    index: Tensor
    """``(N, h, w)`` int64, the index map: ``row * ref_block_width + column`` inside the pixel's
    Ref block."""
    position: Tensor
    """``(N, 2, h, w)`` int64: (row, column) of the matched patch's centre on the Ref-down grid."""
    similarity: Tensor
    """``(N, 1, h, w)`` float32 in [-1, 1]: cosine similarity of the matched patches, equation (5).
    Gradients flow through it, not through the positions."""


_COARSE = 0.8  # coarse matching's share of the matching's time at usual sizes


def match(lr: Tensor, ref: Tensor, config: MASAConfig, on_share: OnShare = ignore) -> Matches:
    """Coarse, then fine matching of LR features with Ref-down features.

    Raises ``ValueError`` if their batch sizes differ or they are too small.
    """
    if lr.shape[0] != ref.shape[0]:
        raise ValueError(
            f"each LR needs a reference of its own, not {ref.shape[0]} for {lr.shape[0]}"
        )
    geometry = Geometry.of(_size(lr), _size(ref), config)
    # Not in mixed precision: rounded scores can change which of two similar places wins.
    with torch.autocast(lr.device.type, enabled=False):
        lr, ref = lr.float(), ref.float()
        on_coarse, on_fine = between(on_share, 0, _COARSE), between(on_share, _COARSE, 1)
        with record_function("masa.coarse"):
            coarse = coarse_match(lr, ref, geometry, config.dilations, on_coarse)
        with record_function("masa.fine"):
            index = fine_match(lr, ref, ref_corners(coarse.index, geometry), geometry, on_fine)
            return assemble(lr, ref, geometry, coarse, index)


def assemble(
    lr: Tensor, ref: Tensor, geometry: Geometry, coarse: CoarseMatch, index: Tensor
) -> Matches:
    """Matches of given coarse matches and a given index map ``(N, h, w)``."""
    corner = ref_corners(coarse.index, geometry)
    inside = torch.stack(
        (index // geometry.ref_block_width, index % geometry.ref_block_width), dim=1
    )
    block = geometry.block
    corner_map = corner.transpose(1, 2).reshape(-1, 2, geometry.rows, geometry.columns)
    corner_map = corner_map.repeat_interleave(block, 2).repeat_interleave(block, 3)
    position = corner_map + geometry.radius + inside
    similarity = patch_similarity(lr, ref, position, geometry.patch)
    return Matches(geometry, coarse, corner, index, position, similarity)


@torch.no_grad()
def coarse_match(
    lr: Tensor,
    ref: Tensor,
    geometry: Geometry,
    dilations: Sequence[int],
    on_share: OnShare = ignore,
) -> CoarseMatch:
    """Best Ref pixel for the centre of every LR block: equations (1) to (3)."""
    parts: list[_Best] = []
    for n in range(lr.shape[0]):
        search = _search(lr[n], ref[n], geometry, dilations, geometry.full_search)
        for first in range(0, geometry.blocks, _BLOCKS):
            last = min(first + _BLOCKS, geometry.blocks)
            done, share = n + first / geometry.blocks, (last - first) / geometry.blocks
            part = between(on_share, done / lr.shape[0], (done + share) / lr.shape[0])
            parts.append(search.best(torch.arange(first, last, device=lr.device), part))
    index, score, per_dilation = (torch.cat(p) for p in zip(*parts, strict=True))
    shape = (lr.shape[0], geometry.blocks)
    return CoarseMatch(index.view(shape), score.view(shape), per_dilation.view(*shape, -1))


@torch.no_grad()
def fit_scores(
    lr: Tensor,
    ref: Tensor,
    config: MASAConfig,
    most_blocks: int,
    full_search: bool = True,
    on_share: OnShare = ignore,
) -> Tensor:
    """How well a reference fits an LR: ``(blocks,)``, the scores of the best places.

    ``lr`` ``(1, C, h, w)`` and ``ref`` ``(1, C, hr, wr)``. Of many LR blocks, ``most_blocks`` stand
    for all: those of :func:`spread_blocks`. Scores that are compared have to come from the same
    kind of search, ``full_search`` or not: the other one misses a few of the best places.
    """
    with torch.autocast(lr.device.type, enabled=False):
        geometry = Geometry.of(_size(lr), _size(ref), config)
        search = _search(lr[0].float(), ref[0].float(), geometry, config.dilations, full_search)
        spread = spread_blocks(geometry.rows, geometry.columns, most_blocks)
        groups = torch.from_numpy(spread).to(lr.device).split(_BLOCKS)
        found = [
            search.best(
                group, between(on_share, number / len(groups), (number + 1) / len(groups))
            ).score
            for number, group in enumerate(groups)
        ]
        return torch.cat(found)


_GOLDEN = (5**0.5 - 1) / 2  # its multiples, without their whole parts, fill [0, 1) evenly


def spread_blocks(rows: int, columns: int, most: int) -> NDArray[np.int64]:
    """Numbers of ``most`` blocks, or of all if there are fewer, spread over a grid, in order.

    Each row that is used begins at another column. Equal steps through the numbers would not do:
    where sides are powers of two, they meet the same few columns in every row.
    """
    count = min(rows * columns, most)
    number = np.arange(count)
    _, first, nth, each = np.unique(
        number * rows // count, return_index=True, return_inverse=True, return_counts=True
    )
    shift = nth * _GOLDEN % 1
    column = ((number - first[nth] + shift) * columns / each[nth]).astype(np.int64)
    return number * rows // count * columns + column


@torch.no_grad()
def coarse_scores(
    lr: Tensor, ref: Tensor, geometry: Geometry, dilations: Sequence[int], blocks: Tensor
) -> Tensor:
    """Score maps over the reference of the LR blocks numbered ``blocks``.

    ``lr`` ``(C, h, w)`` and ``ref`` ``(C, hr, wr)`` to ``(dilations, len(blocks), hr, wr)``: the
    cosine similarity of the dilated patch around the block's centre with that around every Ref
    pixel (zero outside).
    """
    search = _FullSearch(lr, ref, geometry, dilations)
    maps = search.scores(search.kernels(blocks), slice(0, geometry.ref_height))
    return torch.stack(maps).movedim(-1, 1)


PRINCIPAL = 8
"""Channels by which all places are compared where there are too many to compare them by all 64."""

_STRIP = 8
"""Rows of Ref-down to a strip. Of each strip, the best place is then compared by all channels."""

_BLOCKS = 64
"""LR blocks compared at a time. They are output channels of a convolution, and this many let it run
at full speed."""


class _FullSearch:
    """Compares the block centres of one LR with all of one reference, in strips of rows."""

    def __init__(
        self, lr: Tensor, ref: Tensor, geometry: Geometry, dilations: Sequence[int]
    ) -> None:
        self._lr, self._geometry, self._dilations = lr, geometry, dilations
        self._margin = max(dilations) * geometry.radius
        rows = (0, 0, self._margin, self._margin)
        self._image = F.pad(ref[None], rows).contiguous(memory_format=torch.channels_last)
        energy = ref.square().sum(0)[None, None]
        ones = energy.new_ones(1, 1, geometry.patch, geometry.patch)
        self._norms = [
            F.conv2d(energy, ones, padding=dilation * geometry.radius, dilation=dilation)
            .sqrt_()
            .clamp_min_(_EPS)[0, 0, :, :, None]
            for dilation in dilations
        ]

    def kernels(self, blocks: Tensor) -> list[Tensor]:
        """For each dilation ``(len(blocks), C, patch, patch)``: normalised LR patches."""
        geometry, lr = self._geometry, self._lr
        taps = torch.arange(geometry.patch, device=lr.device) - geometry.radius
        centre = geometry.block_corners(lr.device)[blocks] + geometry.block // 2
        kernels = []
        for dilation in self._dilations:
            rows = (centre[:, :1] + dilation * taps).clamp(0, geometry.lr_height - 1)
            columns = (centre[:, 1:] + dilation * taps).clamp(0, geometry.lr_width - 1)
            patches = lr[:, rows[:, :, None], columns[:, None, :]].transpose(0, 1)
            patches = F.normalize(patches.flatten(1), dim=1, eps=_EPS).view_as(patches)
            kernels.append(patches.contiguous(memory_format=torch.channels_last))
        return kernels

    def scores(self, kernels: Sequence[Tensor], rows: slice) -> list[Tensor]:
        """For each dilation ``(rows, wr, kernels)``: cosine similarities at rows of Ref-down.

        Normalised LR patches serve as a convolution's kernels.
        """
        maps = []
        for dilation, kernel, norm in zip(self._dilations, kernels, self._norms, strict=True):
            reach = dilation * self._geometry.radius
            first, last = rows.start + self._margin, rows.stop + self._margin
            score = F.conv2d(
                self._image[:, :, first - reach : last + reach],
                kernel,
                padding=(0, reach),
                dilation=dilation,
            )
            maps.append(score[0].permute(1, 2, 0).div_(norm[rows]))
        return maps

    def scores_at(self, kernels: Sequence[Tensor], row: Tensor, column: Tensor) -> list[Tensor]:
        """For each dilation ``(places, kernels)``: cosine similarities at single places.

        ``row`` and ``column`` ``(places, kernels)`` are where each kernel is compared.
        """
        geometry, image = self._geometry, self._image[0].permute(1, 2, 0)
        taps = range(-geometry.radius, geometry.radius + 1)
        maps = []
        for dilation, kernel, norm in zip(self._dilations, kernels, self._norms, strict=True):
            score = torch.zeros_like(row, dtype=image.dtype)
            for down, across in itertools.product(taps, taps):
                there = column + dilation * across
                inside = (there >= 0) & (there < geometry.ref_width)
                values = image[
                    row + self._margin + dilation * down, there.clamp(0, geometry.ref_width - 1)
                ]
                tap = kernel[:, :, down + geometry.radius, across + geometry.radius]
                score += (values * tap).sum(-1) * inside
            maps.append(score / norm[row, column, 0])
        return maps

    def best(self, blocks: Tensor, on_share: OnShare) -> _Best:
        """The best places for some blocks."""
        geometry, kernels = self._geometry, self.kernels(blocks)
        found: _Best | None = None
        rows = self.rows_at_once(len(blocks))
        for top in range(0, geometry.ref_height, rows):
            bottom = min(top + rows, geometry.ref_height)
            maps = [m.flatten(0, 1) for m in self.scores(kernels, slice(top, bottom))]
            index, score, per_dilation = _best_of(maps)
            index += top * geometry.ref_width
            if found is not None:
                better = score > found.score  # of equal scores the first wins
                index = torch.where(better, index, found.place)
                score = torch.where(better, score, found.score)
                per_dilation = torch.where(better[:, None], per_dilation, found.per_dilation)
            found = _Best(index, score, per_dilation)
            on_share(bottom / geometry.ref_height)
        assert found is not None
        return found

    def rows_at_once(self, blocks: int) -> int:
        """Rows of scores that may be in memory together, each dilation's and their sum."""
        row_bytes = 4 * self._geometry.ref_width * blocks * (len(self._dilations) + 1)
        return max(1, SCORE_BYTES // row_bytes)


class _PrunedSearch:
    """Compares all places by few channels, and the best of them by all.

    Features are first projected on the ``PRINCIPAL`` directions that hold most of the LR's energy.
    By them the best place in every ``_STRIP`` rows is found; among those, all channels choose.
    """

    def __init__(
        self, lr: Tensor, ref: Tensor, geometry: Geometry, dilations: Sequence[int]
    ) -> None:
        channels = lr.flatten(1)
        energy = (channels @ channels.T).cpu().double()  # not every device has float64
        directions = torch.linalg.eigh(energy).eigenvectors[:, -PRINCIPAL:].to(lr)
        few_lr, few_ref = (torch.einsum("ck,chw->khw", directions, x) for x in (lr, ref))
        self._geometry = geometry
        self._rough = _FullSearch(few_lr, few_ref, geometry, dilations)
        self._exact = _FullSearch(lr, ref, geometry, dilations)

    def best(self, blocks: Tensor, on_share: OnShare) -> _Best:
        """As :meth:`_FullSearch.best`."""
        height, width = self._geometry.ref_height, self._geometry.ref_width
        kernels = self._rough.kernels(blocks)
        rows = max(1, self._rough.rows_at_once(len(blocks)) // _STRIP) * _STRIP
        places = []
        for top in range(0, height, rows):
            bottom = min(top + rows, height)
            scores = sum_shifted(self._rough.scores(kernels, slice(top, bottom)))
            for first, strip in enumerate(scores.split(_STRIP)):
                place = strip.flatten(0, 1).argmax(dim=0)
                places.append(place + (top + first * _STRIP) * width)
            on_share(bottom / height)
        index = torch.stack(places)
        row, column = torch.div(index, width, rounding_mode="floor"), index % width
        maps = self._exact.scores_at(self._exact.kernels(blocks), row, column)
        place, score, per_dilation = _best_of(maps)
        return _Best(index.gather(0, place[None])[0], score, per_dilation)


def _search(
    lr: Tensor, ref: Tensor, geometry: Geometry, dilations: Sequence[int], full: bool
) -> _FullSearch | _PrunedSearch:
    """The one kind of search or the other."""
    kind = _FullSearch if full else _PrunedSearch
    return kind(lr, ref, geometry, dilations)


class _Best(NamedTuple):
    """The best places for some blocks: one picture's part of :class:`CoarseMatch`."""

    place: Tensor
    """``(blocks,)`` int64: ``row * wr + column`` on the Ref-down grid."""
    score: Tensor
    """``(blocks,)``."""
    per_dilation: Tensor
    """``(blocks, dilations)``."""


def _best_of(maps: Sequence[Tensor]) -> _Best:
    """The best of the places for which each dilation has scores ``(places, blocks)``.

    ``place`` is its number among these, from 0; the caller knows where on Ref-down that is.
    """
    score, place = sum_shifted(maps).max(dim=0)
    return _Best(place, score, torch.stack([m.gather(0, place[None])[0] for m in maps], dim=1))


def ref_corners(coarse_index: Tensor, geometry: Geometry) -> Tensor:
    """First pixel of each block's Ref crop.

    ``(N, blocks)`` to ``(N, blocks, 2)``: centred on the coarse match, moved to stay inside.
    """
    rows = coarse_index // geometry.ref_width
    columns = coarse_index % geometry.ref_width
    rim = geometry.radius
    top = (rows - geometry.ref_block_height // 2 - rim).clamp(
        0, geometry.ref_height - geometry.ref_block_height - 2 * rim
    )
    left = (columns - geometry.ref_block_width // 2 - rim).clamp(
        0, geometry.ref_width - geometry.ref_block_width - 2 * rim
    )
    return torch.stack((top, left), dim=2)


@torch.no_grad()
def fine_match(
    lr: Tensor, ref: Tensor, corner: Tensor, geometry: Geometry, on_share: OnShare = ignore
) -> Tensor:
    """Index map ``(N, h, w)``: the best patch of its Ref block for each LR pixel, equation (4)."""
    rim = 2 * geometry.radius
    side = geometry.block + rim
    # Products of all pixel pairs and their sums along rows are in memory together.
    row_bytes = 4 * 2 * side * side * (geometry.ref_block_width + rim)
    # Large Ref blocks are searched some rows at a time, small ones several at a time.
    rows = min(max(1, SCORE_BYTES // row_bytes - rim), geometry.ref_block_height)
    chunk = max(1, SCORE_BYTES // (row_bytes * (rows + rim)))
    lr_corner = geometry.block_corners(lr.device)
    parts = []
    for n in range(lr.shape[0]):
        for first in range(0, geometry.blocks, chunk):
            blocks = slice(first, first + chunk)
            parts.append(
                _best_inside(lr[n], ref[n], lr_corner[blocks], corner[n, blocks], geometry, rows)
            )
            on_share((n + min(blocks.stop / geometry.blocks, 1)) / lr.shape[0])
    index = torch.cat(parts).view(lr.shape[0], geometry.blocks, 1, *parts[0].shape[1:])
    return geometry.from_blocks(index)[:, 0]


def _best_inside(
    lr: Tensor,
    ref: Tensor,
    lr_corner: Tensor,
    ref_corner: Tensor,
    geometry: Geometry,
    rows: int,
) -> Tensor:
    """Index maps ``(B, block, block)`` of ``B`` blocks, with ``rows`` rows of scores at a time."""
    best: tuple[Tensor, Tensor] | None = None
    for top in range(0, geometry.ref_block_height, rows):
        strip = replace(geometry, ref_block_height=min(rows, geometry.ref_block_height - top))
        scores = fine_scores(
            lr, ref, lr_corner, ref_corner + ref_corner.new_tensor((top, 0)), strip
        )
        scores = scores.flatten(3)
        index = scores.argmax(dim=3)
        score = scores.gather(3, index[..., None])[..., 0]
        index += top * geometry.ref_block_width
        if best is not None:
            better = score > best[0]  # of equal scores the first wins
            score = torch.where(better, score, best[0])
            index = torch.where(better, index, best[1])
        best = score, index
    assert best is not None
    return best[1]


@torch.no_grad()
def fine_scores(
    lr: Tensor, ref: Tensor, lr_corner: Tensor, ref_corner: Tensor, geometry: Geometry
) -> Tensor:
    """Cosine similarity of every LR patch with every Ref patch, per block.

    ``lr`` ``(C, h, w)``, ``ref`` ``(C, hr, wr)`` and ``B`` blocks' corners ``(B, 2)`` on either
    grid to ``(B, block, block, ref_block_height, ref_block_width)``. A patch product is a sum of
    pixel products along a diagonal, so one small product of all pixel pairs is summed over
    shifts, first along rows, then along columns.
    """
    patch, rim, block = geometry.patch, geometry.radius, geometry.block
    height, width = geometry.ref_block_height, geometry.ref_block_width
    a = _windows(lr, lr_corner - rim, block + 2 * rim, block + 2 * rim)
    b = _windows(ref, ref_corner, height + 2 * rim, width + 2 * rim)
    products = torch.bmm(a.flatten(1, 2), b.flatten(1, 2).transpose(1, 2))
    products = products.view(*a.shape[:3], *b.shape[1:3])
    rows = sum_shifted([products[:, k : k + block, :, k : k + height] for k in range(patch)])
    scores = sum_shifted([rows[:, :, k : k + block, :, k : k + width] for k in range(patch)])
    return scores.div_(
        _patch_norm(a, patch)[:, :, :, None, None] * _patch_norm(b, patch)[:, None, None]
    )


def patch_similarity(lr: Tensor, ref: Tensor, position: Tensor, patch: int) -> Tensor:
    """Cosine similarity of each LR pixel's patch with the Ref patch around ``position``.

    ``lr`` ``(N, C, h, w)`` (borders replicated), ``ref`` ``(N, C, hr, wr)``, ``position``
    ``(N, 2, h, w)`` with whole patches inside the reference, to ``(N, 1, h, w)``; differentiable
    in both features.
    """
    n, _, h, w = lr.shape
    rim = patch // 2
    padded = F.pad(lr, (rim,) * 4, mode="replicate").permute(0, 2, 3, 1)
    image = ref.permute(0, 2, 3, 1)
    padded_energy, image_energy = padded.square().sum(-1), image.square().sum(-1)
    batch = torch.arange(n, device=lr.device)[:, None, None]
    dot, lr_energy, ref_energy = (lr.new_zeros(n, h, w) for _ in range(3))
    for row in range(patch):
        for column in range(patch):
            here = slice(None), slice(row, row + h), slice(column, column + w)
            there = batch, position[:, 0] + row - rim, position[:, 1] + column - rim
            dot = dot + (padded[here] * image[there]).sum(-1)
            lr_energy = lr_energy + padded_energy[here]
            ref_energy = ref_energy + image_energy[there]
    norms = lr_energy.clamp_min(_EPS**2).sqrt() * ref_energy.clamp_min(_EPS**2).sqrt()
    return (dot / norms)[:, None]


def sum_shifted(views: Sequence[Tensor]) -> Tensor:
    """Sum of equally shaped views in one new tensor."""
    total = views[0] + views[1] if len(views) > 1 else views[0].clone()
    for view in views[2:]:
        total += view
    return total


def _windows(image: Tensor, corner: Tensor, height: int, width: int) -> Tensor:
    """``(C, H, W)`` and ``(B, 2)`` to ``(B, height, width, C)``; outside, the border repeats."""
    rows = corner[:, :1] + torch.arange(height, device=image.device)
    columns = corner[:, 1:] + torch.arange(width, device=image.device)
    rows = rows.clamp(0, image.shape[1] - 1)
    columns = columns.clamp(0, image.shape[2] - 1)
    return image.permute(1, 2, 0)[rows[:, :, None], columns[:, None, :]]


def _patch_norm(windows: Tensor, patch: int) -> Tensor:
    """Norms of all patches inside ``(B, h, w, C)``: ``(B, h - patch + 1, w - patch + 1)``."""
    energy = windows.square().sum(-1)
    height, width = energy.shape[1] - patch + 1, energy.shape[2] - patch + 1
    energy = sum_shifted([energy[:, k : k + height] for k in range(patch)])
    energy = sum_shifted([energy[:, :, k : k + width] for k in range(patch)])
    return energy.sqrt().clamp_min(_EPS)


def _size(x: Tensor) -> Size:
    return x.shape[2], x.shape[3]
