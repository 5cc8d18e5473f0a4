"""Running a local operation over an image in overlapping pieces, with the same result."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map_only

from masa.network.progress import OnShare, between


class Tile(NamedTuple):
    """A rectangle of grid cells: rows ``top`` to ``bottom``, columns ``left`` to ``right``."""

    top: int
    bottom: int
    left: int
    right: int

    def grow(self, halo: int, height: int, width: int) -> Tile:
        """Larger by ``halo`` cells on each side, inside a grid of ``height`` x ``width``."""
        return Tile(
            max(self.top - halo, 0),
            min(self.bottom + halo, height),
            max(self.left - halo, 0),
            min(self.right + halo, width),
        )

    def scale_of(self, x: Tensor) -> int:
        """Pixels per cell of a map ``(N, C, H, W)`` that covers just this tile."""
        return x.shape[2] // (self.bottom - self.top)

    def cut(self, x: Tensor, scale: int, origin: Tile | None = None) -> Tensor:
        """The view of ``x`` ``(N, C, ...)`` under this tile, ``scale`` pixels to a cell.

        ``x`` covers the grid from its first cell on, or from ``origin``'s corner.
        """
        top, left = (origin.top, origin.left) if origin else (0, 0)
        return x[
            :,
            :,
            (self.top - top) * scale : (self.bottom - top) * scale,
            (self.left - left) * scale : (self.right - left) * scale,
        ]


def tiles(height: int, width: int, side: int | None) -> Iterator[Tile]:
    """Disjoint tiles of at most ``side`` x ``side`` cells; the whole grid for ``None``."""
    return tiles_of(Tile(0, height, 0, width), side)


def tiles_of(whole: Tile, side: int | None) -> Iterator[Tile]:
    """:func:`tiles` of a rectangle of the grid."""
    side = side or max(whole.bottom, whole.right)
    for top in range(whole.top, whole.bottom, side):
        for left in range(whole.left, whole.right, side):
            yield Tile(top, min(top + side, whole.bottom), left, min(left + side, whole.right))


_Maps = TypeVar("_Maps")
"""Feature maps ``(N, C, H, W)``: a tensor, or a tuple of such (named or not, nested, with
``None`` where there is no map)."""


def run_tiled(
    function: Callable[..., _Maps],
    inputs: Sequence[tuple[Tensor, int]],
    side: int | None,
    halo: int,
    on_share: OnShare,
) -> _Maps:
    """``function(*inputs, on_share)``, computed in tiles of at most ``side`` x ``side`` cells.

    ``inputs`` are ``(tensor, pixels per grid cell)``. Each tile is handed over with ``halo`` more
    cells on each side, which must cover the function's receptive field: then the result does not
    depend on ``side``. The function may return maps of any number of pixels per cell. Its last
    argument takes the share that is done of a tile's work; it goes on to ``on_share`` as a share of
    the whole work.

    Tiles are written into new tensors, so without gradients only. A single tile that covers
    everything is not copied. The function may write over its inputs: tiles that overlap are
    copies.
    """
    tensor, scale = inputs[0]
    height, width = tensor.shape[2] // scale, tensor.shape[3] // scale
    grid = list(tiles(height, width, side))
    if len(grid) == 1:
        return function(*(x for x, _ in inputs), on_share)
    whole: Any = None
    for number, tile in enumerate(grid):
        grown = tile.grow(halo, height, width)
        on_part = between(on_share, number / len(grid), (number + 1) / len(grid))
        result = function(*(grown.cut(x, s).clone() for x, s in inputs), on_part)
        if whole is None:
            whole = tree_map_only(Tensor, partial(_whole_map, grown, height, width), result)
        for target, new in zip(tree_leaves(whole), tree_leaves(result), strict=True):
            if new is not None:
                s = grown.scale_of(new)
                tile.cut(target, s).copy_(tile.cut(new, s, origin=grown))
    return whole


def _whole_map(tile: Tile, height: int, width: int, part: Tensor) -> Tensor:
    """A new map of ``height`` x ``width`` cells, of which ``part`` is what lies under ``tile``."""
    scale = tile.scale_of(part)
    return torch.empty(
        (part.shape[0], part.shape[1], height * scale, width * scale),
        dtype=part.dtype,
        device=part.device,
        memory_format=torch.channels_last,
    )


_STRIP = 2**15  # pixels worked on at a time: enough for two cores


def write_over(target: Tensor, function: Callable[[slice], Tensor], halo: int) -> Tensor:
    """``target`` becomes ``function`` of itself, in strips of rows: no second map is needed.

    ``function`` is given a range of ``target``'s rows, ``(N, C, H, W)``, and returns as many new
    ones. The first and last ``halo`` of these may be wrong, except at the image's own border. The
    rows that it is given are still unchanged. Returns ``target``.
    """
    height, width = target.shape[2:]
    count = max(1, min(-(-target.shape[0] * height * width // _STRIP), height // (2 * halo + 1)))
    held: Tensor | None = None  # results for rows that the next strip still has to read
    for strip in range(count):
        top, bottom = height * strip // count, height * (strip + 1) // count
        first = max(top - halo, 0)
        new = function(slice(first, min(bottom + halo, height)))
        if held is not None:
            target[:, :, first:top] = held
        last = bottom - halo if bottom < height else height
        target[:, :, top:last] = new[:, :, top - first : last - first]
        held = new[:, :, last - first : bottom - first].clone()
    return target
