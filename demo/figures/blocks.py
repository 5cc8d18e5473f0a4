"""Where in the reference does each block look? Blocks in colours in both (section 3.2)."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from demo.figures.draw import (
    BLACK,
    ORANGE,
    WHITE,
    WIDTH,
    Box,
    Colour,
    arrange,
    blend,
    emphasise,
    emphasise_polygon,
    enlarge,
    grey,
    outline_polygon,
)
from demo.figures.figure import Drawn
from demo.figures.places import (
    RefView,
    block_corner,
    coarse_place,
    lr_panel,
    lr_zoom,
    own_blocks,
    own_numbers,
    place_words,
    ref_block,
    ref_view,
    reference_words,
)
from demo.figures.view import View, lr_pixel
from demo.runs.exploration import Exploration
from masa.pictures.photo import Pixels
from masa.reference.canvas import Area

TINT = 0.55
"""Share of a block's colour over the photo."""
OUTLINED = 512
"""Blocks up to which each is outlined in the reference; more would hide it."""

_CORNERS: tuple[Colour, Colour, Colour, Colour] = (
    (120, 205, 255),
    (255, 226, 110),
    (78, 48, 170),
    (176, 52, 16),
)  # sky, yellow, violet, rust: sides differ in blueness, top and bottom in lightness


_MIDDLE = 34  # added along CIELAB's green-red axis


def lr_blocks(x: Exploration, view: View) -> Drawn:
    """The visitor's photo cut into blocks, each in its colour. Panel ``lr`` is in LR pixels."""
    geometry = x.matches.geometry
    zoom = lr_zoom(x)
    colours = block_colours(geometry.rows, geometry.columns)
    rows, columns = own_blocks(x)
    field = colours.reshape(geometry.rows, geometry.columns, 3)
    field = x.lr.crop(np.repeat(np.repeat(field, geometry.block, 0), geometry.block, 1))
    picture = grey(enlarge(x.lr.crop(x.lr.rgb), zoom))
    size = (picture.shape[1], picture.shape[0])
    over = cv2.resize(np.ascontiguousarray(field), size, interpolation=cv2.INTER_NEAREST)
    picture = blend(picture, over, TINT)
    if zoom * geometry.block >= 6:
        # Rounding may put the line of a last block that is hardly visible outside the picture.
        last_row, last_column = (side - 1 for side in picture.shape[:2])
        for row in range(1, rows):
            picture[min(round(row * geometry.block * zoom), last_row)] //= 2
        for column in range(1, columns):
            picture[:, min(round(column * geometry.block * zoom), last_column)] //= 2
    selected = view.block(x)
    top, left = block_corner(x, selected)
    box = Box(left, top, left + geometry.block, top + geometry.block)
    emphasise(picture, box.scaled(zoom), BLACK)
    count = f"{columns} x {rows} blocks of {geometry.block} x {geometry.block} pixels"
    image, ((left, top),) = arrange([picture], [f"Small photo: {count}"], least=WIDTH)
    return Drawn(
        image,
        "The small photo divided into square blocks, each tinted by its position.",
        f"The photo of {x.lr.width} x {x.lr.height} pixels is matched in {count}. "
        f"{block_words(x, selected)} is framed. A block keeps its colour in the reference.",
        (lr_panel(x, zoom, left, top),),
    )


def ref_blocks(x: Exploration, view: View) -> Drawn:
    """The reference with every LR block's footprint around its coarse match, in its colour.

    Where footprints overlap, their mean colour is seen. Panels ``ref 1``, ... are in each
    reference's own pixels.
    """
    ground = ref_view(x)
    colour, count = footprints(x)
    seen = ground.gathered(np.concatenate((colour * count[..., None], count[..., None]), 2))
    many = seen[..., 3]
    # Places that no block matched stay pale grey.
    picture = grey(ground.picture, 0.75)
    over = seen[..., :3] / np.maximum(many, 1)[..., None]
    picture = blend(picture, over, TINT * (many > 0))
    if len(own_numbers(x)) <= OUTLINED:
        _outline_footprints(x, ground, picture)
    ground = replace(ground, picture=picture)
    ground.number()
    words = _mark_selected(x, ground, picture, view.block(x))
    places = sum(
        round(zoom * rows) * round(zoom * columns)
        for zoom, (rows, columns) in zip(ground.zooms, ground.sizes, strict=True)
    )
    covered = float((many > 0).sum()) / places
    most = int(max(many.max(), count[x.ref.is_own].max()))  # cells may be smaller than pixels here
    title = "Reference: where the blocks matched"
    if len(x.refs) > 1:
        title = f"{len(x.refs)} references: where the blocks matched"
    image, ((left, top),) = arrange([picture], [title], least=WIDTH)
    together = "the references" if len(x.refs) > 1 else reference_words(x, 0)
    return Drawn(
        image,
        "The reference with the place that each block of the small photo matched, in that "
        "block's colour.",
        f"The blocks' matches cover {covered:.0%} of {together}; no place is under "
        f"more than {most} of them. {words}",
        ground.panels(left, top),
    )


def matched_block(x: Exploration, view: View, panel: str, row: int, column: int) -> View | None:
    """Of panels in a reference's own pixels: the middle of the block that matched nearest."""
    block = block_near(x, panel, row, column)
    if block is None:
        return None
    top, left = block_corner(x, block)
    half = x.matches.geometry.block // 2
    return lr_pixel(x, view, panel, top + half, left + half)


def block_near(x: Exploration, panel: str, row: int, column: int) -> int | None:
    """The LR block that matched nearest to pixel (row, column) of ``ref 1``, ``ref 2``, ...

    ``None`` if no block matched in that reference.
    """
    blocks = own_numbers(x)
    found = np.array([coarse_place(x, int(block)) for block in blocks])
    # A block has an even side: its footprint's centre is half a cell before the matched cell's.
    number, own_row, own_column = x.ref.locate(*(found - 0.5).T)
    inside = number == int(panel.removeprefix("ref ")) - 1
    if not inside.any():
        return None
    distance = np.maximum(np.abs(own_row - row), np.abs(own_column - column))
    return int(blocks[inside][distance[inside].argmin()])


@lru_cache(maxsize=32)
def block_colours(rows: int, columns: int) -> NDArray[np.uint8]:
    """A colour for each of ``rows`` x ``columns`` places, ``(rows * columns, 3)``.

    Four corner colours are mixed in CIELAB, so that equal steps look about equally large. Left
    and right differ in blueness, top and bottom in lightness: both are seen without telling red
    from green.
    """
    corners = np.array(_CORNERS, np.float32).reshape(2, 2, 3) / 255
    lab = cv2.cvtColor(corners, cv2.COLOR_RGB2LAB)
    down = np.linspace(0, 1, rows, dtype=np.float32)[:, None, None]
    across = np.linspace(0, 1, columns, dtype=np.float32)[None, :, None]
    top, bottom = (lab[i, 0] + across * (lab[i, 1] - lab[i, 0]) for i in (0, 1))
    plane = np.ascontiguousarray(top + down * (bottom - top))
    # Opposite corners mix to grey in the middle, which would not show on a grey photo: add rose.
    plane[..., 1:2] += _MIDDLE * (4 * down * (1 - down)) * (4 * across * (1 - across))
    mixed = cv2.cvtColor(plane, cv2.COLOR_LAB2RGB)
    colours = (mixed.clip(0, 1) * 255).round().astype(np.uint8).reshape(-1, 3)
    colours.setflags(write=False)  # shared by all visitors
    return colours


def _footprint(x: Exploration, number: int) -> Area:
    """The cells under an LR block that is laid on its coarse match; it may reach beyond them."""
    row, column = coarse_place(x, number)
    block = x.matches.geometry.block
    top, left = row - block // 2, column - block // 2
    return Area(top, left, top + block, left + block)


def footprints(x: Exploration) -> tuple[Pixels, NDArray[np.intp]]:
    """Mean colour ``(hr, wr, 3)`` of the footprints on each Ref-down cell, and their number.

    Each footprint is noted at its four corners alone; running sums along both sides fill it.
    """
    geometry = x.matches.geometry
    numbers = own_numbers(x)
    index = x.matches.coarse.index[0].numpy()[numbers]
    top, left = (v - geometry.block // 2 for v in divmod(index, geometry.ref_width))
    bottom, right = top + geometry.block, left + geometry.block
    top, bottom = (v.clip(0, geometry.ref_height) for v in (top, bottom))
    left, right = (v.clip(0, geometry.ref_width) for v in (left, right))
    colours = block_colours(geometry.rows, geometry.columns)[numbers].astype(np.int64)
    weights = np.concatenate((colours, np.ones((len(numbers), 1), np.int64)), 1)
    noted = np.zeros((geometry.ref_height + 1, geometry.ref_width + 1, 4), np.int64)
    for row, column, sign in (
        (top, left, 1),
        (top, right, -1),
        (bottom, left, -1),
        (bottom, right, 1),
    ):
        np.add.at(noted, (row, column), sign * weights)
    filled = noted.cumsum(0).cumsum(1)[:-1, :-1]
    count = filled[..., 3]
    mean = filled[..., :3] / np.maximum(count, 1)[..., None]
    return mean.round().astype(np.uint8), count


def _outline_footprints(x: Exploration, ground: RefView, picture: Pixels) -> None:
    geometry = x.matches.geometry
    colours = block_colours(geometry.rows, geometry.columns)
    for number in own_numbers(x):
        dark = tuple(int(v) for v in colours[number] * 0.55)
        for corners in ground.outlines(_footprint(x, int(number))):
            outline_polygon(picture, corners, (dark[0], dark[1], dark[2]), 1)


def _mark_selected(x: Exploration, ground: RefView, picture: Pixels, selected: int) -> str:
    """Frame a block's footprint and its Ref block; returns a sentence on it."""
    for corners in ground.outlines(ref_block(x, selected)):
        emphasise_polygon(picture, corners, WHITE, 1)
        outline_polygon(picture, corners, ORANGE, 2, grown=2)
    for corners in ground.outlines(_footprint(x, selected)):
        emphasise_polygon(picture, corners, BLACK, 2)
    score = float(x.matches.coarse.score[0, selected])
    return (
        f"{block_words(x, selected)} (framed) matched {place_words(x, *coarse_place(x, selected))}"
        f" with {score:.2f} of at most {len(x.dilations)}; the orange frame is what it searches "
        "next."
    )


def block_words(x: Exploration, number: int) -> str:
    """An LR block, at the start of a sentence."""
    row, column = divmod(number, x.matches.geometry.columns)
    return f"The block in row {row}, column {column}"
