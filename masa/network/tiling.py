"""Running a local operation over an image in overlapping pieces, with the same result."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

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
    side = side or max(height, width)
    for top in range(0, height, side):
        for left in range(0, width, side):
            yield Tile(top, min(top + side, height), left, min(left + side, width))


def run_tiled(
    function: Callable[..., tuple[Tensor, ...]],
    inputs: Sequence[tuple[Tensor, int]],
    scales: Sequence[int],
    side: int | None,
    halo: int,
    on_share: OnShare,
) -> tuple[Tensor, ...]:
    """``function(*inputs)``, computed in tiles.

    ``inputs`` are ``(tensor, pixels per grid cell)``; ``scales`` are the outputs' pixels per
    cell. Each tile is handed over with ``halo`` more cells on each side, which must cover the
    function's receptive field: then the result does not depend on ``side``. ``on_share`` goes on
    to the function, as its last argument, for each tile's part of the work. Tiles are written
    into new tensors, so without gradients only; one tile that covers everything is passed
    through as it is. The function may write over its inputs: tiles that overlap are copies.
    """
    tensor, scale = inputs[0]
    height, width = tensor.shape[2] // scale, tensor.shape[3] // scale
    whole: list[Tensor] = []
    grid = list(tiles(height, width, side))
    for number, tile in enumerate(grid, start=1):
        grown = tile.grow(halo, height, width)
        part = between(on_share, (number - 1) / len(grid), number / len(grid))
        if tile == Tile(0, height, 0, width):
            return function(*(x for x, _ in inputs), part)
        results = function(*(grown.cut(x, s).clone() for x, s in inputs), part)
        if not whole:
            whole = [
                torch.empty(
                    (r.shape[0], r.shape[1], height * s, width * s),
                    dtype=r.dtype,
                    device=r.device,
                    memory_format=torch.channels_last,
                )
                for r, s in zip(results, scales, strict=True)
            ]
        for target, result, s in zip(whole, results, scales, strict=True):
            tile.cut(target, s).copy_(tile.cut(result, s, origin=grown))
    return tuple(whole)


_STRIP = 2**15  # pixels worked on at a time: enough for two cores


def write_over(target: Tensor, function: Callable[[slice], Tensor], halo: int) -> Tensor:
    """``target`` becomes ``function`` of itself, in strips of rows: no second map is needed.

    ``function`` is given a range of ``target``'s rows, ``(N, C, H, W)``, and returns as many new
    ones, of which the first and last ``halo`` need not be right unless they are the image's own.
    It reads ``target`` (and what else it likes) unchanged there. Returns ``target``.
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
