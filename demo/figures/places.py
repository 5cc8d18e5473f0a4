"""Where the things of an exploration lie: LR pixels, LR blocks, and places in the references.

All (row, column) count from 0. Whatever a visitor picks is moved into the visitor's own picture,
so that a selection left from another run never fails.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from demo.figures.draw import (
    NORMAL,
    TALL,
    WHITE,
    WIDTH,
    Box,
    blank,
    enlarge,
    fit_zoom,
    shelve,
    text,
)
from demo.figures.figure import Panel
from demo.runs.exploration import Exploration
from masa.config import SCALE
from masa.pictures.photo import Pixels

MOST_ZOOM = 24
"""Figure pixels per picture pixel at most: tiny pictures need not fill a figure."""


def clip_pixel(x: Exploration, row: int, column: int) -> tuple[int, int]:
    """The LR pixel of the visitor's own picture that is nearest to (row, column)."""
    return min(max(row, 0), x.lr.height - 1), min(max(column, 0), x.lr.width - 1)


def clip_block(x: Exploration, number: int) -> int:
    """The LR block nearest to block ``number`` that holds some of the visitor's own pixels."""
    geometry = x.matches.geometry
    row, column = divmod(min(max(number, 0), geometry.blocks - 1), geometry.columns)
    return block_at(x, row * geometry.block, column * geometry.block)


def block_at(x: Exploration, row: int, column: int) -> int:
    """Number of the LR block that holds LR pixel (row, column), moved into the picture."""
    row, column = clip_pixel(x, row, column)
    geometry = x.matches.geometry
    return row // geometry.block * geometry.columns + column // geometry.block


def own_blocks(x: Exploration) -> tuple[int, int]:
    """Rows and columns of LR blocks that hold some of the visitor's own pixels."""
    block = x.matches.geometry.block
    return -(-x.lr.height // block), -(-x.lr.width // block)


def block_corner(x: Exploration, number: int) -> tuple[int, int]:
    """First LR pixel (row, column) of a block."""
    geometry = x.matches.geometry
    row, column = divmod(number, geometry.columns)
    return row * geometry.block, column * geometry.block


def coarse_place(x: Exploration, number: int) -> tuple[int, int]:
    """(row, column) on the Ref-down grid that is most similar to a block's centre."""
    row, column = divmod(int(x.matches.coarse.index[0, number]), x.matches.geometry.ref_width)
    return row, column


def ref_block_box(x: Exploration, number: int, rim: int = 0) -> Box:
    """A block's Ref block on the Ref-down grid, with ``rim`` more cells on each side."""
    geometry = x.matches.geometry
    top, left = (int(v) + geometry.radius - rim for v in x.matches.corner[0, number])
    return Box(
        left,
        top,
        left + geometry.ref_block_width + 2 * rim,
        top + geometry.ref_block_height + 2 * rim,
    )


@dataclass(frozen=True, eq=False)
class OwnPlaces:
    """Matched places, seen from the reference they lie in; three maps ``(H, W)`` on the LR grid."""

    number: NDArray[np.intp]
    """The reference, from 0."""
    row: NDArray[np.intp]
    """Ref-down cells from that reference's top; beyond its height in its padding."""
    column: NDArray[np.intp]

    @property
    def move(self) -> NDArray[np.intp]:
        """``(2, H, W)``: (rows, columns) from each LR pixel to its match, in Ref-down cells.

        A cell of a reference is as large as an LR pixel; of the LR as its own reference, it is
        four times as large.
        """
        rows, columns = np.indices(self.row.shape)
        return np.stack((self.row - rows, self.column - columns))


def own_places(x: Exploration) -> OwnPlaces:
    """Where the index map points, for the visitor's own pixels."""
    position = x.lr.crop(x.matches.position[0].permute(1, 2, 0).numpy())
    row, column = position[..., 0], position[..., 1]
    number, _, _ = x.ref.locate(row, column)
    tops = np.array([place.top // SCALE for place in x.ref.placements])
    return OwnPlaces(number, row - tops[number], column)


def place_words(x: Exploration, row: int, column: int) -> str:
    """A Ref-down cell in words, by the reference's own pixels."""
    number, y, x_ = x.ref.locate(np.array(row), np.array(column))
    place = f"row {float(y):.0f}, column {float(x_):.0f} of {reference_words(x, int(number))}"
    return place if own_cells(x)[row, column] else f"the repeated edge at {place}"


def padding_share(x: Exploration) -> float:
    """Share of the visitor's LR pixels that are matched with padding, 0 to 1.

    References are stacked for matching, and where one is narrower or shorter than the space it
    takes, its edge is repeated.
    """
    position = x.lr.crop(x.matches.position[0].permute(1, 2, 0).numpy())
    return 1 - float(own_cells(x)[position[..., 0], position[..., 1]].mean())


def padding_words(x: Exploration) -> str:
    """What :func:`padding_share` means for a visitor, in a sentence; empty if next to nothing."""
    share = padding_share(x)
    if share < 0.005:
        return ""
    return (
        f"{share:.1%} of the photo's pixels matched padding beside a reference, where its edge is "
        "repeated: there is no real texture to take."
    )


def reference_words(x: Exploration, number: int) -> str:
    """What a reference is called in a sentence."""
    if x.self_reference:
        return "the photo itself"
    return "the reference" if len(x.ref.placements) == 1 else f"reference {number + 1}"


def lr_zoom(x: Exploration, width: float = WIDTH, height: float = TALL) -> float:
    """Factor at which the visitor's LR fills a space."""
    return min(MOST_ZOOM, fit_zoom(x.lr.height, x.lr.width, width, height))


def lr_panel(x: Exploration, zoom: float, left: int = 0, top: int = 0) -> Panel:
    """The visitor's LR in a figure, under the name ``lr``."""
    return Panel("lr", left, top, x.lr.height, x.lr.width, zoom)


@dataclass(frozen=True, eq=False)
class RefView:
    """All references, without their padding, laid out to be seen together."""

    picture: Pixels
    zoom: float
    """Figure pixels per Ref-down cell."""
    areas: tuple[Box, ...]
    """Each reference's own cells on the Ref-down grid."""
    corners: tuple[tuple[int, int], ...]
    """(left, top) of each in ``picture``."""

    def point(self, row: float, column: float) -> tuple[float, float]:
        """(x, y) in ``picture`` of a cell's centre; cells of padding move to the edge."""
        tops = np.array([area.top for area in self.areas])
        number = max(0, int(np.searchsorted(tops, row, side="right")) - 1)
        area, (left, top) = self.areas[number], self.corners[number]
        row = min(row, area.bottom - 1) - area.top
        column = min(column, area.right - 1) - area.left
        return left + self.zoom * (column + 0.5), top + self.zoom * (row + 0.5)

    def boxes(self, box: Box) -> list[Box]:
        """The parts of a box on the Ref-down grid that can be seen, in ``picture``'s pixels.

        A box may reach from one stacked reference into the next, and into padding.
        """
        found = []
        for area, (left, top) in zip(self.areas, self.corners, strict=True):
            if (part := box.within(area)) is not None:
                inside = Box(
                    part.left - area.left,
                    part.top - area.top,
                    part.right - area.left,
                    part.bottom - area.top,
                )
                found.append(inside.scaled(self.zoom, left, top))
        return found

    def number(self) -> None:
        """Write 1, 2, ... into the corners of several references."""
        if len(self.areas) > 1:
            for number, (left, top) in enumerate(self.corners, start=1):
                words, place = f"{number}", (left + 5, top + 2)
                text(self.picture, words, *place, NORMAL, halo=WHITE, bold=True)

    def panels(self, left: int = 0, top: int = 0) -> tuple[Panel, ...]:
        """Panels ``ref 1``, ``ref 2``, ... of a view drawn at (left, top), in Ref-down cells."""
        return tuple(
            Panel(
                f"ref {number}",
                left + corner[0],
                top + corner[1],
                round(area.bottom - area.top),
                round(area.right - area.left),
                self.zoom,
            )
            for number, (area, corner) in enumerate(
                zip(self.areas, self.corners, strict=True), start=1
            )
        )


def own_areas(x: Exploration) -> tuple[Box, ...]:
    """Each reference's own cells on the Ref-down grid, without padding."""
    return tuple(
        Box(
            0,
            place.top // SCALE,
            -(-place.width // SCALE),
            place.top // SCALE - (-place.height // SCALE),
        )
        for place in x.ref.placements
    )


def own_cells(x: Exploration) -> NDArray[np.bool_]:
    """``(hr, wr)``: which cells of the Ref-down grid hold pixels of a reference, not padding."""
    own = np.zeros((x.matches.geometry.ref_height, x.matches.geometry.ref_width), bool)
    for area in own_areas(x):
        own[int(area.top) : int(area.bottom), : int(area.right)] = True
    return own


def ref_view(x: Exploration, canvas: Pixels, width: int = WIDTH, height: int = TALL) -> RefView:
    """Lay out a picture ``(k * hr, k * wr, 3)`` over the Ref-down grid, ``k`` whole."""
    areas = own_areas(x)
    sizes = [(round(area.bottom - area.top), round(area.right)) for area in areas]
    zoom, corners = shelve(sizes, width, height, MOST_ZOOM)
    k = canvas.shape[0] // x.matches.geometry.ref_height
    parts = []
    for area in areas:
        top, bottom, right = (round(k * side) for side in (area.top, area.bottom, area.right))
        parts.append(enlarge(canvas[top:bottom, :right], zoom / k))
    picture = blank(
        max(top + part.shape[0] for part, (_, top) in zip(parts, corners, strict=True)),
        max(left + part.shape[1] for part, (left, _) in zip(parts, corners, strict=True)),
    )
    for part, (left, top) in zip(parts, corners, strict=True):
        picture[top : top + part.shape[0], left : left + part.shape[1]] = part
    return RefView(picture, zoom, areas, tuple(corners))
