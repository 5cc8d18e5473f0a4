"""Where the things of an exploration lie: LR pixels, LR blocks, and places in the references.

All (row, column) count from 0. A *cell* is a pixel of Ref-down; what it is in a reference's own
pixels, only the canvas knows (:mod:`masa.reference.canvas`). Whatever a visitor picks is moved into
the visitor's own picture, so that a selection left from another run never fails.
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
    Corners,
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
from masa.reference.canvas import Area, RefCanvas

MOST_ZOOM = 24
"""Figure pixels per picture pixel at most: tiny pictures need not fill a figure."""


def clip_pixel(x: Exploration, row: int, column: int) -> tuple[int, int]:
    """The LR pixel of the visitor's own picture that is nearest to (row, column)."""
    return min(max(row, 0), x.lr.height - 1), min(max(column, 0), x.lr.width - 1)


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
    """(row, column) of the cell that is most similar to a block's centre."""
    row, column = divmod(int(x.matches.coarse.index[0, number]), x.matches.geometry.ref_width)
    return row, column


def ref_block(x: Exploration, number: int, rim: int = 0) -> Area:
    """The cells of a block's Ref block, with ``rim`` more on each side."""
    geometry = x.matches.geometry
    top, left = (int(v) + geometry.radius - rim for v in x.matches.corner[0, number])
    return Area(
        top,
        left,
        top + geometry.ref_block_height + 2 * rim,
        left + geometry.ref_block_width + 2 * rim,
    )


def matched_cells(x: Exploration) -> NDArray[np.int64]:
    """``(2, H, W)``: (row, column) of the cell that each of the visitor's LR pixels matched."""
    position = x.lr.crop(x.matches.position[0].permute(1, 2, 0).numpy())
    return position.transpose(2, 0, 1)


def moves(x: Exploration) -> NDArray[np.float64]:
    """``(2, H, W)``: (rows, columns) from each LR pixel to its match, in LR pixels.

    A reference's own pixel is a quarter of an LR pixel, or one LR pixel where the LR is its own
    reference. Matches in the padding are where they would be if the reference went on.
    """
    cell = matched_cells(x)
    _, row, column = x.ref.locate(cell[0], cell[1], clip=False)
    if not x.self_reference:
        row, column = ((v - (SCALE - 1) / 2) / SCALE for v in (row, column))
    return np.stack((row, column)) - np.indices(row.shape)


def place_words(x: Exploration, row: int, column: int) -> str:
    """A cell in words, by the reference's own pixels."""
    number, own_row, own_column = x.ref.locate(row, column)
    place = f"row {own_row:.0f}, column {own_column:.0f} of {reference_words(x, int(number))}"
    return place if x.ref.is_own[row, column] else f"the repeated edge at {place}"


def padding_share(x: Exploration) -> float:
    """Share of the visitor's LR pixels that are matched with padding, 0 to 1.

    References are stacked for matching, and where one is narrower or shorter than the space it
    takes, its edge is repeated.
    """
    return 1 - float(x.ref.is_own[tuple(matched_cells(x))].mean())


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
    return "the reference" if x.ref.count == 1 else f"reference {number + 1}"


def lr_zoom(x: Exploration, width: float = WIDTH, height: float = TALL) -> float:
    """Factor at which the visitor's LR fills a space."""
    return min(MOST_ZOOM, fit_zoom(x.lr.height, x.lr.width, width, height))


def lr_panel(x: Exploration, zoom: float, left: int = 0, top: int = 0) -> Panel:
    """The visitor's LR in a figure, under the name ``lr``."""
    return Panel("lr", left, top, x.lr.height, x.lr.width, zoom)


@dataclass(frozen=True, eq=False)
class RefView:
    """All references as they are, without padding, laid out to be seen together."""

    picture: Pixels
    zoom: float
    """Figure pixels per own pixel of a reference."""
    canvas: RefCanvas
    corners: tuple[tuple[int, int], ...]
    """(left, top) of each reference in ``picture``."""

    def point(self, row: int, column: int) -> tuple[float, float]:
        """(x, y) in ``picture`` of a cell's centre; cells of padding move to the edge."""
        number, own_row, own_column = self.canvas.locate(row, column)
        left, top = self.corners[int(number)]
        across, down = self.zoom * (float(own_column) + 0.5), self.zoom * (float(own_row) + 0.5)
        return left + across, top + down

    def outlines(self, area: Area) -> list[Corners]:
        """The parts of an area that can be seen, by their corners in ``picture``.

        An area may reach from one stacked reference into the next, and into padding.
        """
        return [
            self.zoom * (outline.corners[:, ::-1] + 0.5) + self.corners[outline.number]
            for outline in self.canvas.outlines(area)
        ]

    def number(self) -> None:
        """Write 1, 2, ... into the corners of several references."""
        if self.canvas.count > 1:
            for number, (left, top) in enumerate(self.corners, start=1):
                words, place = f"{number}", (left + 5, top + 2)
                text(self.picture, words, *place, NORMAL, halo=WHITE, bold=True)

    def panels(self, left: int = 0, top: int = 0) -> tuple[Panel, ...]:
        """Panels ``ref 1``, ``ref 2``, ... of a view drawn at (left, top), in own pixels."""
        return tuple(
            Panel(f"ref {number}", left + corner[0], top + corner[1], *size, self.zoom)
            for number, (size, corner) in enumerate(
                zip(self.canvas.sizes, self.corners, strict=True), start=1
            )
        )


def ref_view(x: Exploration, picture: NDArray, width: int = WIDTH, height: int = TALL) -> RefView:
    """Lay out the references' parts of a picture ``(k hr, k wr, 3)`` over the canvas, k 1 or 4."""
    zoom, corners = shelve(x.ref.sizes, width, height, MOST_ZOOM / SCALE)
    parts = [enlarge(x.ref.seen(picture, number), zoom) for number in range(x.ref.count)]
    page = blank(
        max(top + part.shape[0] for part, (_, top) in zip(parts, corners, strict=True)),
        max(left + part.shape[1] for part, (left, _) in zip(parts, corners, strict=True)),
    )
    for part, (left, top) in zip(parts, corners, strict=True):
        page[top : top + part.shape[0], left : left + part.shape[1]] = part
    return RefView(page, zoom, x.ref, tuple(corners))
