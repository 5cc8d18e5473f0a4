"""From pictures of any size to what the network takes, and coordinates back again.

Three grids meet here, all with (row, column) of pixel centres from (0, 0):

- *LR*: the network's LR, that is the visitor's padded at the bottom and right, so that LR pixel
  (r, c) is the visitor's own pixel (r, c) wherever that exists;
- *canvas*: the network's Ref, all references stacked from top to bottom, each padded at its bottom
  and right; Ref-down is this grid divided by 4;
- a *reference's own* pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from masa.config import SCALE, MASAConfig, Size
from masa.network.matching import smallest_ref_side
from masa.pictures.photo import Pixels
from masa.pictures.resize import pad_replicate, reduce_x4

_REF_MULTIPLE = SCALE * SCALE  # two halvings of a Ref-down cell's worth of encoder levels


@dataclass(frozen=True)
class Placement:
    """Where one reference lies on the canvas, in the reference's own pixels."""

    top: int
    height: int
    width: int


@dataclass(frozen=True, eq=False)
class LRCanvas:
    """The network's LR."""

    rgb: Pixels
    """``(h, w, 3)``, sides multiples of the LR block."""
    height: int
    """The visitor's rows; those below are padding."""
    width: int
    """The visitor's columns; those to the right are padding."""

    def crop(self, picture: NDArray, scale: int = 1) -> NDArray:
        """``(scale * h, scale * w, ...)`` without what belongs to the padding."""
        return picture[: scale * self.height, : scale * self.width]


@dataclass(frozen=True, eq=False)
class RefCanvas:
    """The network's Ref and Ref-down."""

    rgb: Pixels
    """``(4 hr, 4 wr, 3)``, sides multiples of 16."""
    down: Pixels
    """``(hr, wr, 3)``."""
    placements: tuple[Placement, ...]

    def locate(
        self, row: NDArray[np.integer], column: NDArray[np.integer]
    ) -> tuple[NDArray[np.intp], NDArray[np.float64], NDArray[np.float64]]:
        """Which reference, and where in it, for (row, column) on the Ref-down grid.

        Returns the reference's number from 0, and row and column of the cell's centre in that
        reference's own pixels. Cells of padding are moved to the reference's edge.
        """
        tops = np.array([placement.top for placement in self.placements])
        heights = np.array([placement.height for placement in self.placements])
        widths = np.array([placement.width for placement in self.placements])
        # The centre of a cell of 4 pixels lies between its second and third.
        y, x = (np.asarray(v) * SCALE + (SCALE - 1) / 2 for v in (row, column))
        number = np.searchsorted(tops, y, side="right") - 1
        return (
            number,
            np.minimum(y - tops[number], heights[number] - 1),
            np.minimum(x, widths[number] - 1),
        )


def lr_canvas(rgb: Pixels, config: MASAConfig) -> LRCanvas:
    """Pad ``(h, w, 3)`` by replication to whole blocks, two a side at least.

    With one block a side, a Ref block would be larger than any reference.
    """
    height, width = rgb.shape[:2]
    return LRCanvas(pad_replicate(rgb, *_lr_size((height, width), config)), height, width)


def ref_canvas(refs: Sequence[Pixels], lr: LRCanvas, config: MASAConfig) -> RefCanvas:
    """Stack references ``(H, W, 3)`` of any sizes, each padded by replication.

    Sides become multiples of 16 and so large that a Ref block fits. Without a reference, the LR
    itself is the reference, as in the paper's test on Urban100.
    """
    refs = list(refs) or [lr.crop(lr.rgb)]
    heights, width = _ref_sides([ref.shape[:2] for ref in refs], lr.rgb.shape[:2], config)
    placements, padded, top = [], [], 0
    for ref, height in zip(refs, heights, strict=True):
        placements.append(Placement(top, ref.shape[0], ref.shape[1]))
        padded.append(pad_replicate(ref, height, width))
        top += height
    down = np.concatenate([reduce_x4(ref) for ref in padded])
    return RefCanvas(np.concatenate(padded), down, tuple(placements))


def canvas_sizes(lr: Size, refs: Sequence[Size], config: MASAConfig) -> tuple[Size, Size]:
    """Sizes of the network's LR and Ref-down, from those of the LR and the references.

    What a run will take is known from them before any picture is padded.
    """
    padded = _lr_size(lr, config)
    heights, width = _ref_sides(refs or [lr], padded, config)
    return padded, (sum(heights) // SCALE, width // SCALE)


def _lr_size(size: Size, config: MASAConfig) -> Size:
    """Whole blocks, two a side at least."""
    block = config.lr_block
    height, width = (max(_round_up(side, block), 2 * block) for side in size)
    return height, width


def _ref_sides(refs: Sequence[Size], lr: Size, config: MASAConfig) -> tuple[list[int], int]:
    """Rows of each padded reference, and the columns of all; ``lr`` is the padded LR's size."""
    least = [SCALE * smallest_ref_side(side // config.lr_block, config) for side in lr]
    heights = [max(_round_up(height, _REF_MULTIPLE), least[0]) for height, _ in refs]
    return heights, max(_round_up(max(width for _, width in refs), _REF_MULTIPLE), least[1])


def _round_up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple
