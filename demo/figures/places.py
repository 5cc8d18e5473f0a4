"""Where the things of an exploration lie: LR pixels, LR blocks, and places in the references.

All (row, column) count from 0. A *cell* is a pixel of Ref-down; what it is in a reference's own
pixels, only the canvas knows (:mod:`masa.reference.canvas`). Whatever a visitor picks is moved into
the visitor's own picture, so that a selection left from another run never fails.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
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
from masa.config import SCALE, Size
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


def own_numbers(x: Exploration) -> NDArray[np.intp]:
    """Numbers of the blocks with pixels of the visitor's own."""
    rows, columns = own_blocks(x)
    all_columns = x.matches.geometry.columns
    return (np.arange(rows)[:, None] * all_columns + np.arange(columns)).reshape(-1)


def coarse_views(x: Exploration) -> NDArray[np.intp]:
    """``(rows, columns)`` of own blocks: the position of the view that each block matched in."""
    row = x.matches.coarse.index[0].numpy()[own_numbers(x)] // x.matches.geometry.ref_width
    return x.ref.view_at(row).reshape(own_blocks(x))


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

    They are counted in the view that was matched, a cell of which is as large as an LR pixel: in
    an aligned view, what the photo shows has not moved. Where the LR is its own reference, a cell
    is 4 x 4 LR pixels. Matches in the padding are where they would be if the reference went on.
    """
    row, column = matched_cells(x)
    tops = np.array([rows.start for rows in x.ref.rows])
    place = np.stack((row - tops[x.ref.view_at(row)], column)).astype(np.float64)
    if x.self_reference:
        place = SCALE * place + (SCALE - 1) / 2
    return place - np.indices(row.shape)


def aligned_share(x: Exploration) -> float:
    """Share of the visitor's LR pixels that were matched in an aligned view, 0 to 1."""
    return float(x.ref.is_aligned(matched_cells(x)[0]).mean())


def aligned_words(x: Exploration, what: str) -> str:
    """What share of the photo's pixels has ``what`` in an aligned view; empty if none has."""
    share = aligned_share(x)
    if not share:
        return ""
    return f" For {share:.0%} of the photo's pixels {what} in an aligned view of a reference."


def in_view(x: Exploration, row: int) -> str:
    """Added to what is drawn of the canvas around a row of cells, if an aligned view lies there."""
    return ", as the photo sees it" if x.ref.is_aligned(row) else ""


def place_words(x: Exploration, row: int, column: int) -> str:
    """A cell in words, by the reference's own pixels."""
    number, own_row, own_column = x.ref.locate(row, column)
    place = f"row {own_row:.0f}, column {own_column:.0f} of {reference_words(x, int(number))}"
    return place if x.ref.is_own[row, column] else f"the repeated edge at {place}"


def padding_share(x: Exploration) -> float:
    """Share of the visitor's LR pixels that are matched with padding, 0 to 1.

    References are stacked for matching, and where one is narrower or shorter than the space it
    takes, its edge is repeated; so it is where an aligned view reaches beyond its reference.
    """
    return 1 - float(x.ref.is_own[tuple(matched_cells(x))].mean())


def padding_words(x: Exploration) -> str:
    """What :func:`padding_share` means for a visitor, in a sentence; empty if next to nothing."""
    share = padding_share(x)
    if share < 0.005:
        return ""
    beside = "the photo itself" if x.self_reference else "a reference"
    return (
        f"{share:.1%} of the photo's pixels matched padding beside {beside}, where its edge is "
        "repeated: there is no real texture to take."
    )


def own_pixels(x: Exploration, number: int) -> float:
    """Own pixels of a reference that a pixel of its picture in ``x.refs`` is long."""
    return x.ref_sizes[number][1] / x.refs[number].shape[1]


def reference_words(x: Exploration, number: int) -> str:
    """What a reference is called in a sentence."""
    if x.self_reference:
        return "the photo itself"
    return "the reference" if len(x.refs) == 1 else f"reference {number + 1}"


def view_words(x: Exploration, position: int) -> str:
    """What one of the canvas's views is called in a sentence."""
    place = x.ref.placements[position]
    name = reference_words(x, place.number)
    if place.own is not None:
        return f"the aligned view of {name}"
    return f"{name} as it is" if x.align and not x.self_reference else name


def lr_zoom(x: Exploration, width: float = WIDTH, height: float = TALL) -> float:
    """Factor at which the visitor's LR fills a space."""
    return min(MOST_ZOOM, fit_zoom(x.lr.height, x.lr.width, width, height))


def lr_panel(x: Exploration, zoom: float, left: int = 0, top: int = 0) -> Panel:
    """The visitor's LR in a figure, under the name ``lr``."""
    return Panel("lr", left, top, x.lr.height, x.lr.width, zoom)


@dataclass(frozen=True, eq=False)
class RefView:
    """All references as the visitor gave them, laid out to be seen together."""

    picture: Pixels
    canvas: RefCanvas
    corners: tuple[tuple[int, int], ...]
    """(left, top) of each reference in ``picture``."""
    sizes: tuple[Size, ...]
    """Rows and columns of each reference, in its own pixels."""
    zooms: tuple[float, ...]
    """Figure pixels per own pixel of each."""

    def point(self, row: int, column: int) -> tuple[float, float]:
        """(x, y) in ``picture`` of a cell's centre; cells of padding move to the edge."""
        number, own_row, own_column = self.canvas.locate(row, column)
        (left, top), zoom = self.corners[int(number)], self.zooms[int(number)]
        return left + zoom * (float(own_column) + 0.5), top + zoom * (float(own_row) + 0.5)

    def outlines(self, area: Area) -> list[Corners]:
        """The parts of an area that can be seen, by their corners in ``picture``.

        An area may reach from one stacked view into the next, and into padding.
        """
        return [
            self.zooms[outline.number] * (outline.corners[:, ::-1] + 0.5)
            + self.corners[outline.number]
            for outline in self.canvas.outlines(area)
        ]

    def gathered(self, values: NDArray) -> NDArray[np.float32]:
        """``(H, W, n)`` over ``picture``: the sum, over all views, of what each has there.

        ``values`` ``(hr, wr, n)`` are over the canvas's cells; 0 stands for nothing.
        """
        total = np.zeros((*self.picture.shape[:2], values.shape[2]), np.float32)
        for place in self.canvas.placements:
            (left, top), (height, width) = self.corners[place.number], place.own_size
            zoom = self.zooms[place.number]
            down, across = (max(1, round(zoom * side)) for side in (height, width))
            # A reduced reference's picture may be a pixel smaller than its own size promises.
            part = total[top : top + down, left : left + across]
            down, across = part.shape[:2]
            row = (np.arange(down) + 0.5) * height / down - 0.5
            column = (np.arange(across) + 0.5) * width / across - 0.5
            on_canvas = place.from_own(*np.meshgrid(row, column, indexing="ij"))
            cell = np.nan_to_num((on_canvas + 0.5) / SCALE - 0.5, nan=-SCALE).astype(np.float32)
            part += cv2.remap(
                values.astype(np.float32), cell[..., 1], cell[..., 0], cv2.INTER_NEAREST
            ).reshape(part.shape)
        return total

    def number(self) -> None:
        """Write 1, 2, ... into the corners of several references."""
        if len(self.corners) > 1:
            for number, corner in enumerate(self.corners, start=1):
                _write(self.picture, f"{number}", corner)

    def panels(self, left: int = 0, top: int = 0) -> tuple[Panel, ...]:
        """Panels ``ref 1``, ``ref 2``, ... of a view drawn at (left, top), in own pixels."""
        return tuple(
            Panel(f"ref {number}", left + corner[0], top + corner[1], *size, zoom)
            for number, (size, corner, zoom) in enumerate(
                zip(self.sizes, self.corners, self.zooms, strict=True), start=1
            )
        )


def ref_view(x: Exploration, width: int = WIDTH, height: int = TALL) -> RefView:
    """Lay out the visitor's references."""
    page, zoom, corners = _laid_out(x.refs, width, height)
    zooms = tuple(zoom / own_pixels(x, number) for number in range(len(x.refs)))
    return RefView(page, x.ref, corners, x.ref_sizes, zooms)


@dataclass(frozen=True, eq=False)
class CanvasView:
    """All views of references, as they were matched, without padding."""

    picture: Pixels
    zoom: float
    """Figure pixels per pixel of the canvas."""
    canvas: RefCanvas
    corners: tuple[tuple[int, int], ...]
    """(left, top) of each view in ``picture``."""

    def point(self, row: int, column: int) -> tuple[float, float]:
        """(x, y) in ``picture`` of a cell's centre; cells of padding move to the edge."""
        position = int(self.canvas.view_at(row))
        (left, top), (height, width) = self.corners[position], self.canvas.sizes[position]
        first = self.canvas.rows[position].start
        down, across = (
            self.zoom * min(SCALE * (v + 0.5), side - 0.5)
            for v, side in ((row - first, height), (column, width))
        )
        return left + across, top + down

    def name(self) -> None:
        """Write into the corners of several views which they are."""
        if self.canvas.count > 1:
            several = len({place.number for place in self.canvas.placements}) > 1
            for place, corner in zip(self.canvas.placements, self.corners, strict=True):
                words = [f"{place.number + 1}"] if several else []
                words += ["aligned"] if place.own is not None else []
                _write(self.picture, " ".join(words) or "as it is", corner)


def canvas_view(x: Exploration, picture: NDArray, width: int, height: int) -> CanvasView:
    """Lay out the views' parts of a picture ``(k hr, k wr, 3)`` over the canvas, k 1 or 4."""
    parts = [x.ref.seen(picture, position) for position in range(x.ref.count)]
    page, zoom, corners = _laid_out(parts, width, height)
    return CanvasView(page, zoom, x.ref, corners)


def _laid_out(
    parts: Sequence[Pixels], width: int, height: int
) -> tuple[Pixels, float, tuple[tuple[int, int], ...]]:
    """Pictures on one page, by what they are enlarged, and (left, top) of each."""
    sizes = [(part.shape[0], part.shape[1]) for part in parts]
    zoom, corners = shelve(sizes, width, height, MOST_ZOOM / SCALE)
    larger = [enlarge(part, zoom) for part in parts]
    page = blank(
        max(top + part.shape[0] for part, (_, top) in zip(larger, corners, strict=True)),
        max(left + part.shape[1] for part, (left, _) in zip(larger, corners, strict=True)),
    )
    for part, (left, top) in zip(larger, corners, strict=True):
        page[top : top + part.shape[0], left : left + part.shape[1]] = part
    return page, zoom, tuple(corners)


def _write(picture: Pixels, words: str, corner: tuple[int, int]) -> None:
    text(picture, words, corner[0] + 5, corner[1] + 2, NORMAL, halo=WHITE, bold=True)
