"""From pictures of any size to what the network takes, and coordinates back again.

Four grids meet here, and this file maps between them. (From the photo's frame to own pixels, the
homography is :mod:`masa.reference.alignment`'s.) On all of them, (row, column) are those
of pixel centres, from (0, 0):

- *LR*: the network's LR, which is the visitor's padded at the bottom and right: LR pixel (r, c) is
  the visitor's own pixel (r, c) wherever that exists;
- *canvas*: the network's Ref, all views of references stacked from top to bottom, each padded at
  its bottom and right;
- *cells*: the pixels of Ref-down, each made of 4 x 4 pixels of the canvas;
- *own pixels* of one reference: as the visitor gave it, or, if it is too large and alignment was
  not asked for, as it was reduced when it was read.

A *view* is a reference as the network sees it: as it is, perhaps reduced, or aligned
(:mod:`masa.reference.views`).

A cell's place in own pixels need not be a whole number, and a rectangle of cells need not be a
rectangle there: it is given as its corners.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from masa.config import SCALE, MASAConfig, Size
from masa.network.blocks import smallest_ref_side
from masa.pictures.photo import Pixels
from masa.pictures.resize import pad_replicate, reduce_x4

_TO_CENTRE = (SCALE - 1) / 2
"""From a cell's first pixel to its centre, which lies between the second and the third."""

_REF_MULTIPLE = SCALE * SCALE  # so that the sides of Ref-down are multiples of 4, like the LR's


@dataclass(frozen=True, eq=False)
class View:
    """A reference as the network sees it."""

    number: int
    """Which reference, from 0."""
    size: Size
    """Rows and columns of the reference's own pixels."""
    rgb: Pixels
    """``(H, W, 3)``: the reference as it is, whole but perhaps with fewer pixels than it has of its
    own, or ``(4h, 4w, 3)``: in the photo's frame."""
    own: NDArray[np.float32] | None = None
    """``(h, w, 2)``: (row, column), in own pixels, of the centre of each cell of an aligned view;
    ``None`` for a reference as it is."""
    detail: float = 1.0
    """Own pixels to a pixel of the view, along a side, at most 1. Below 1, the view was enlarged:
    it has less detail than its size suggests, which its reduced picture does not show."""


@dataclass(frozen=True)
class Placement:
    """Where one view lies on the canvas, in canvas pixels; it begins at the canvas's left side."""

    top: int
    height: int
    width: int
    number: int
    """Of the reference, like ``own_size`` and ``own`` from its :class:`View`."""
    own_size: Size
    own: NDArray[np.float32] | None = field(default=None, compare=False)

    @property
    def area(self) -> Area:
        """The cells that hold some of the view's pixels."""
        top, right = self.top // SCALE, -(-self.width // SCALE)
        return Area(top, 0, -(-(self.top + self.height) // SCALE), right)

    def to_own(self, row: NDArray[np.floating], column: NDArray[np.floating]) -> NDArray:
        """``(..., 2)``: (row, column) in own pixels, for canvas pixels (row, column) of one shape.

        Between the centres of an aligned view's cells, and beyond the outermost, places are
        interpolated linearly.
        """
        if self.own is None:
            down, right = self.own_size[0] / self.height, self.own_size[1] / self.width
            return np.stack(((row - self.top + 0.5) * down - 0.5, (column + 0.5) * right - 0.5), -1)
        return _interpolated(
            self.own,
            (row - self.top - _TO_CENTRE) / SCALE,
            (column - _TO_CENTRE) / SCALE,
        )

    def from_own(self, row: NDArray[np.floating], column: NDArray[np.floating]) -> NDArray:
        """``(..., 2)``: (row, column) on the canvas of own pixels; NaN where the view has none.

        The way back from :meth:`to_own`, for own pixels (row, column) of one shape.
        """
        if self.own is None:
            down, right = self.height / self.own_size[0], self.width / self.own_size[1]
            return np.stack(((row + 0.5) * down - 0.5 + self.top, (column + 0.5) * right - 0.5), -1)
        wanted = np.stack((row, column), -1)
        cells, shown = _where(self.own, wanted)
        found = SCALE * cells + _TO_CENTRE + (self.top, 0)
        return np.where(shown[..., None], found, np.nan)


@dataclass(frozen=True)
class Area:
    """A rectangle of whole cells; ``bottom`` and ``right`` are the first ones beyond it.

    It may reach beyond the canvas.
    """

    top: int
    left: int
    bottom: int
    right: int

    @property
    def height(self) -> int:
        """Cells from top to bottom."""
        return self.bottom - self.top

    @property
    def width(self) -> int:
        """Cells from left to right."""
        return self.right - self.left

    def within(self, other: Area) -> Area | None:
        """The common part, ``None`` if there is none."""
        part = Area(
            max(self.top, other.top),
            max(self.left, other.left),
            min(self.bottom, other.bottom),
            min(self.right, other.right),
        )
        return part if part.height > 0 and part.width > 0 else None


class OwnPixels(NamedTuple):
    """Places in references; three arrays of one shape."""

    number: NDArray[np.intp]
    """Which reference, from 0."""
    row: NDArray[np.float64]
    """In that reference's own pixels."""
    column: NDArray[np.float64]


class Outline(NamedTuple):
    """The part of a rectangle of cells that lies in one reference."""

    number: int
    """Which reference, from 0."""
    corners: NDArray[np.float64]
    """``(4, 2)``: (row, column) in own pixels, in order around it. Pixel 0 reaches from -0.5 to
    0.5."""


@dataclass(frozen=True, eq=False)
class LRCanvas:
    """The network's LR."""

    rgb: Pixels
    """``(h, w, 3)``, sides multiples of the LR block."""
    height: int
    """The visitor's rows; those below are padding."""
    width: int
    """The visitor's columns; those to the right are padding."""

    def crop(self, picture: NDArray) -> NDArray:
        """``(rows, columns, ...)`` over the padded LR, of any size, without the padding's part.

        A pixel that the visitor's picture and the padding share stays.
        """
        rows, columns = (
            -(-side * own // padded)
            for side, own, padded in zip(
                picture.shape, (self.height, self.width), self.rgb.shape, strict=False
            )
        )
        return picture[:rows, :columns]


@dataclass(frozen=True, eq=False)
class RefCanvas:
    """The network's Ref and Ref-down."""

    rgb: Pixels
    """``(4 hr, 4 wr, 3)``, sides multiples of 16."""
    down: Pixels
    """``(hr, wr, 3)``."""
    placements: tuple[Placement, ...]

    @property
    def count(self) -> int:
        """How many views there are."""
        return len(self.placements)

    @property
    def sizes(self) -> tuple[Size, ...]:
        """Rows and columns of each view."""
        return tuple((place.height, place.width) for place in self.placements)

    @property
    def areas(self) -> tuple[Area, ...]:
        """The cells that hold some of each view's pixels."""
        return tuple(place.area for place in self.placements)

    @property
    def rows(self) -> list[slice]:
        """The rows of Ref-down that each view takes, with its padding."""
        tops = [place.top // SCALE for place in self.placements]
        return [slice(*both) for both in pairwise([*tops, self.down.shape[0]])]

    @cached_property
    def is_own(self) -> NDArray[np.bool_]:
        """``(hr, wr)``: which cells hold pixels of a reference, and not its repeated edge alone.

        That edge is repeated in padding, and where an aligned view reaches beyond the reference.
        """
        own = np.zeros(self.down.shape[:2], bool)
        for place in self.placements:
            area = place.area
            here = own[area.top : area.bottom, area.left : area.right]
            here[:] = True
            if place.own is not None:
                ends = np.array(place.own_size) - 0.5
                here[:] = ((place.own >= -0.5) & (place.own < ends)).all(-1)
        own.setflags(write=False)
        return own

    def seen(self, picture: NDArray, position: int) -> NDArray:
        """The part of a picture over the canvas that covers one view, without padding.

        ``(k hr, k wr, ...)`` to ``(H, W, ...)``; ``k`` is 4, or 1, where cells are repeated.
        ``position`` is the view's, from 0, counted from the top of the canvas.
        """
        area, (height, width) = self.areas[position], self.sizes[position]
        k = picture.shape[0] // self.down.shape[0]
        part = picture[k * area.top : k * area.bottom, k * area.left : k * area.right]
        if k < SCALE:
            part = part.repeat(SCALE // k, 0).repeat(SCALE // k, 1)
        return part[:height, :width]

    def pixels(self, area: Area) -> Pixels:
        """``(4 h, 4 w, 3)``: the canvas's pixels under an area inside the canvas."""
        return self.rgb[
            SCALE * area.top : SCALE * area.bottom, SCALE * area.left : SCALE * area.right
        ]

    def cells(self, area: Area) -> Pixels:
        """``(h, w, 3)``: the pixels of Ref-down in an area inside the canvas."""
        return self.down[area.top : area.bottom, area.left : area.right]

    def view_at(self, row: NDArray | float) -> NDArray[np.intp]:
        """Positions of the views whose rows, with their padding, hold these rows of cells."""
        # A row may lie between two cells: on the border of two views it is the lower one's.
        tops = [place.top / SCALE - 0.5 for place in self.placements]
        return np.asarray(np.searchsorted(tops, row, side="right") - 1, np.intp)

    def is_aligned(self, row: NDArray | float) -> NDArray[np.bool_]:
        """Whether these rows of cells are those of an aligned view."""
        return np.array([place.own is not None for place in self.placements])[self.view_at(row)]

    def locate(self, row: NDArray | float, column: NDArray | float, clip: bool = True) -> OwnPixels:
        """Which reference, and where in it, for the centres of cells (row, column).

        They may be fractional, for places between centres. Cells of padding, and what an aligned
        view shows beyond the reference, are moved to the reference's edge; without ``clip``, they
        lie beyond it.
        """
        y, x = np.broadcast_arrays(*(np.asarray(v) * SCALE + _TO_CENTRE for v in (row, column)))
        which = np.broadcast_to(self.view_at(row), y.shape)
        number, own = np.zeros(y.shape, np.intp), np.zeros((*y.shape, 2))
        for position, place in enumerate(self.placements):
            here = which == position
            number[here], own[here] = place.number, place.to_own(y[here], x[here])
            if clip:
                height, width = place.own_size
                own[here] = own[here].clip(0, (height - 1, width - 1))
        return OwnPixels(number, own[..., 0], own[..., 1])

    def outlines(self, area: Area) -> list[Outline]:
        """An area in the own pixels of each view's reference that it reaches into.

        Padding is left out.
        """
        found = []
        for place in self.placements:
            if (part := area.within(place.area)) is not None:
                top, bottom = SCALE * part.top, min(SCALE * part.bottom, place.top + place.height)
                left, right = SCALE * part.left, min(SCALE * part.right, place.width)
                corners = [(top, left), (top, right), (bottom, right), (bottom, left)]
                row, column = np.array(corners).T - 0.5
                found.append(Outline(place.number, place.to_own(row, column)))
        return found


def lr_canvas(rgb: Pixels, config: MASAConfig) -> LRCanvas:
    """Pad ``(h, w, 3)`` by replication to whole blocks, two a side at least.

    With one block a side, a Ref block would be larger than any reference.
    """
    height, width = rgb.shape[:2]
    return LRCanvas(pad_replicate(rgb, *_lr_size((height, width), config)), height, width)


def as_it_is(refs: Sequence[Pixels], lr: LRCanvas) -> list[View]:
    """The plain views of references ``(H, W, 3)``.

    Without a reference, the LR itself is the reference, as in the paper's test on Urban100.
    """
    given = list(refs) or [lr.crop(lr.rgb)]
    return [View(number, rgb.shape[:2], rgb) for number, rgb in enumerate(given)]


def ref_canvas(
    refs: Sequence[Pixels] | Sequence[View], lr: LRCanvas, config: MASAConfig
) -> RefCanvas:
    """Stack views, or references as they are, of any sizes, each padded by replication.

    Sides become multiples of 16 and so large that a Ref block fits.
    """
    views = [ref for ref in refs if isinstance(ref, View)]
    views = views or as_it_is([ref for ref in refs if not isinstance(ref, View)], lr)
    heights, width = _ref_sides([v.rgb.shape[:2] for v in views], lr.rgb.shape[:2], config)
    placements, padded, top = [], [], 0
    for view, height in zip(views, heights, strict=True):
        rows, columns = view.rgb.shape[:2]
        placements.append(Placement(top, rows, columns, view.number, view.size, view.own))
        padded.append(pad_replicate(view.rgb, height, width))
        top += height
    down = np.concatenate([reduce_x4(rgb) for rgb in padded])
    return RefCanvas(np.concatenate(padded), down, tuple(placements))


def choose_views(views: Sequence[View], scores: NDArray[np.floating], dilations: int) -> list[int]:
    """Numbers of the views that are worth reading, those that add most first.

    ``scores`` ``(views, blocks)`` are the best coarse scores of LR blocks in each view, sums of
    ``dilations`` cosines. The view that fits best comes first. Another is added as long as it
    raises the blocks' best scores by ``WORTH_READING`` on average. Aligned views have to fit better
    by ``SOFTENED``, and those of less detail by up to ``LACKING_DETAIL``.
    """
    behind = [
        SOFTENED * (view.own is not None) + LACKING_DETAIL * (1 - view.detail) for view in views
    ]
    scores = scores - dilations * np.array(behind)[:, None]
    chosen: list[int] = []
    best = np.full(scores.shape[1], -np.inf)
    while len(chosen) < len(scores):
        means = np.maximum(scores, best).mean(1)
        if chosen and means.max() - best.mean() < WORTH_READING * dilations:
            break
        chosen.append(int(means.argmax()))
        best = np.maximum(best, scores[chosen[-1]])
    return chosen


WORTH_READING = 0.01
"""Mean cosine similarity that a further view has to add: to read it is a third of a run's work."""

SOFTENED = 0.01
"""Mean cosine similarity that an aligned view has to be ahead: sampling softens it a little."""

LACKING_DETAIL = 0.1
"""The same for one without any detail: of two photos of one scene, the sharper one is used."""


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


_STEPS = 3  # of the search for a place in an aligned view: few, as optical flow is smooth


def _where(
    grid: NDArray[np.float32], wanted: NDArray[np.floating]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Where a grid ``(h, w, 2)`` has the values ``wanted`` ``(..., 2)``, and whether it has them.

    Places are fractional (row, column), ``(..., 2)``. A homography through the grid's corners gives
    the first guess. Each guess is then corrected by the difference between the grid there and what
    is wanted.
    """
    height, width = grid.shape[:2]
    corners = np.array([(0, 0), (0, width - 1), (height - 1, width - 1), (height - 1, 0)])
    there = grid[corners[:, 0], corners[:, 1]]
    matrix = cv2.getPerspectiveTransform(there.astype(np.float32), corners.astype(np.float32))

    def flat(places: NDArray[np.floating]) -> NDArray[np.float64]:
        points = np.asarray(places, np.float64).reshape(-1, 1, 2)
        moved = cv2.perspectiveTransform(points, matrix)
        return np.asarray(moved, np.float64).reshape(places.shape)

    first = place = flat(wanted)
    for _ in range(_STEPS):
        place = place.clip(-1, (height, width))
        place = place + first - flat(_interpolated(grid, place[..., 0], place[..., 1]))
    inside = ((place >= -0.5) & (place < (height - 0.5, width - 0.5))).all(-1)
    missed = np.abs(_interpolated(grid, place[..., 0], place[..., 1]) - wanted).max(-1)
    return place, inside & (missed < SCALE)


def _round_up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple


def _interpolated(
    grid: NDArray[np.float32], row: NDArray[np.floating], column: NDArray[np.floating]
) -> NDArray[np.float64]:
    """``(h, w, 2)`` at fractional places: bilinear, and linear beyond the outermost points."""

    def before(place: NDArray[np.floating], count: int) -> NDArray[np.intp]:
        return np.floor(place).clip(0, max(0, count - 2)).astype(np.intp)

    top, left = before(row, grid.shape[0]), before(column, grid.shape[1])
    down, right = (row - top)[..., None], (column - left)[..., None]
    upper = grid[top, left] * (1 - right) + grid[top, left + 1] * right
    lower = grid[top + 1, left] * (1 - right) + grid[top + 1, left + 1] * right
    return np.asarray(upper * (1 - down) + lower * down, np.float64)
