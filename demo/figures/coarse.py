"""Where did each block look? Coarse matching, one LR block at a time (section 3.2)."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from demo.figures.draw import (
    BLACK,
    BLUE,
    GAP,
    ORANGE,
    SMALL,
    TALL,
    WHITE,
    WIDTH,
    Box,
    Colour,
    arrange,
    blank,
    blend,
    colour_bar,
    cosine_range,
    dot,
    emphasise,
    emphasise_polygon,
    enlarge,
    grey,
    heat_map,
    line_height,
    outline,
    outline_polygon,
    paint,
    shape,
    stack,
    text,
    text_width,
)
from demo.figures.figure import Drawn
from demo.figures.places import (
    RefView,
    block_corner,
    coarse_place,
    lr_panel,
    lr_zoom,
    own_blocks,
    place_words,
    ref_block,
    ref_view,
    reference_words,
)
from demo.figures.view import View, lr_pixel
from demo.runs.exploration import Exploration
from masa.config import SCALE
from masa.network.matching import coarse_scores
from masa.pictures.photo import Pixels
from masa.reference.canvas import Area

TINT = 0.55
"""Share of a block's colour over the photo."""

OUTLINED = 512
"""Blocks up to which each is outlined in the reference; more would hide it."""

RIVALS = 3
"""Next best places that are marked."""

_CORNERS: tuple[Colour, Colour, Colour, Colour] = (
    (120, 205, 255),
    (255, 226, 110),
    (78, 48, 170),
    (176, 52, 16),
)  # sky, yellow, violet, rust: sides differ in blueness, top and bottom in lightness
_MIDDLE = 34  # added along CIELAB's green-red axis

MOST_PAIR = 19
"""Figure pixels per picture pixel at most in a block and its Ref block."""

_TAPS: tuple[Colour, ...] = (BLUE, ORANGE, (150, 60, 160))


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
        # The last line of all may be that of a block of which hardly a figure pixel is seen.
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
        f"{_block_words(x, selected)} is framed. A block keeps its colour in the reference.",
        (lr_panel(x, zoom, left, top),),
    )


def ref_blocks(x: Exploration, view: View) -> Drawn:
    """The reference with every LR block's footprint around its coarse match, in its colour.

    Where footprints overlap, their mean colour is seen. Panels ``ref 1``, ... are in each
    reference's own pixels.
    """
    ground = ref_view(x, x.ref.rgb)
    colour, count = footprints(x)
    over = ref_view(x, colour).picture
    share = ref_view(x, np.repeat((count > 0)[:, :, None], 3, 2).astype(np.uint8) * 255).picture
    # Places that nobody looked at stay pale grey.
    picture = grey(ground.picture, 0.75)
    picture = blend(picture, over, TINT * (share[:, :, 0] / 255.0))
    if len(_own_numbers(x)) <= OUTLINED:
        _outline_footprints(x, ground, picture)
    ground = replace(ground, picture=picture)
    ground.number()
    words = _mark_selected(x, ground, picture, view.block(x))
    own = x.ref.is_own
    covered, most = float((count[own] > 0).mean()), int(count[own].max())
    title = "Reference: where the blocks matched"
    if x.ref.count > 1:
        title = f"{x.ref.count} references: where the blocks matched"
    image, ((left, top),) = arrange([picture], [title], least=WIDTH)
    together = "the references" if x.ref.count > 1 else reference_words(x, 0)
    return Drawn(
        image,
        "The reference with the place that each block of the small photo matched, in that "
        "block's colour.",
        f"The blocks' matches cover {covered:.0%} of {together}; at the most wanted spot "
        f"{most} of them overlap. {words}",
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
    blocks = _own_numbers(x)
    found = np.array([coarse_place(x, int(block)) for block in blocks])
    number, own_row, own_column = x.ref.locate(*found.T)
    inside = number == int(panel.removeprefix("ref ")) - 1
    if not inside.any():
        return None
    # A block has an even side: its footprint's centre is half a cell before the matched cell's.
    half = SCALE / 2
    distance = np.maximum(np.abs(own_row - half - row), np.abs(own_column - half - column))
    return int(blocks[inside][distance[inside].argmin()])


def block_pair(x: Exploration, view: View) -> Drawn:
    """A block and the part of the reference it searches, pixel by pixel."""
    selected = view.block(x)
    geometry = x.matches.geometry
    rim = geometry.radius
    top, left = block_corner(x, selected)
    side = geometry.block + 2 * rim
    rows = np.clip(np.arange(top - rim, top + geometry.block + rim), 0, geometry.lr_height - 1)
    columns = np.clip(np.arange(left - rim, left + geometry.block + rim), 0, geometry.lr_width - 1)
    crop = ref_block(x, selected, rim)
    height, width = crop.height, crop.width
    # One scale for both, unless the Ref block is so large that the block would be a speck.
    ref_scale = min(MOST_PAIR, (WIDTH - GAP) / (side + width), TALL / height)
    lr_scale = max(ref_scale, 180 / side)
    ref_scale = min(lr_scale, (WIDTH - GAP - lr_scale * side) / width, TALL / height)
    lr = enlarge(x.lr.rgb[rows[:, None], columns], lr_scale)
    outline(lr, Box(rim, rim, side - rim, side - rim).scaled(lr_scale), WHITE, 2)
    centre = geometry.block // 2
    _draw_taps(lr, lr_scale, rim + centre, rim + centre, x)

    ref = enlarge(x.ref.cells(crop), ref_scale)
    outline(ref, Box(rim, rim, width - rim, height - rim).scaled(ref_scale), WHITE, 2)
    row, column = coarse_place(x, selected)
    _draw_taps(ref, ref_scale, row - crop.top, column - crop.left, x)
    inner = f"{geometry.ref_block_height} x {geometry.ref_block_width}"
    same = ref_scale > 0.99 * lr_scale
    image, _ = arrange(
        [lr, ref],
        [
            f"Block of {geometry.block} x {geometry.block}, framed",
            f"Its Ref block of {inner}, framed"
            + ("" if same else f", at {ref_scale / lr_scale:.2f}x"),
        ],
    )
    image = stack([image, _tap_legend(x)], gap=8)
    compared = f"{len(x.dilations)} patches" if len(x.dilations) > 1 else "a patch"
    return Drawn(
        image,
        "A block of the small photo beside the part of the reference that it will search, with "
        "the compared pixels marked.",
        f"{_block_words(x, selected)} compared {compared} of {geometry.patch} x "
        f"{geometry.patch} pixels around its centre and chose {place_words(x, row, column)}; "
        f"{inner} patches around it are searched next.",
    )


def score_maps(x: Exploration, view: View) -> Drawn:
    """How well each place of the reference suits a block: per dilation, and their sum."""
    selected = view.block(x)
    geometry = x.matches.geometry
    scores = block_scores(x, selected)
    total = scores.sum(0)
    best = coarse_place(x, selected)
    apart = (geometry.ref_block_height, geometry.ref_block_width)
    rivals = runners_up(total, x.ref.is_own, best, apart)
    low, high = cosine_range(float(np.percentile(scores, 1)), float(scores.max()))
    half = (WIDTH - GAP) // 2
    parts, titles = [], []
    for number, values in enumerate([*scores, total]):
        summed = number == len(scores)
        factor = len(scores) if summed else 1
        over = ref_view(x, paint(values, factor * low, factor * high), half, 300)
        picture = over.picture
        over.number()
        if summed:
            for rank, place in enumerate(rivals, start=2):
                _mark_place(picture, over.point(*place), rank, BLACK)
        _mark_place(picture, over.point(*best), 1, ORANGE)
        parts.append(picture)
        at = float(values[best])
        titles.append(f"Sum: {at:.2f}" if summed else f"Dilation {x.dilations[number]}: {at:.2f}")
    rows = [
        arrange(parts[i : i + 2], titles[i : i + 2], least=half)[0] for i in range(0, len(parts), 2)
    ]
    bars, _ = arrange(
        [
            colour_bar("cosine similarity, per dilation", low, high, width=half, below=True),
            colour_bar(
                f"sum of {_cosines(x)}",
                len(scores) * low,
                len(scores) * high,
                width=half,
                below=True,
            ),
        ],
        ["", ""],
    )
    image = stack([*rows, bars])
    parted = " + ".join(f"{float(v):.2f}" for v in x.matches.coarse.per_dilation[0, selected])
    summary = (
        f"{_block_words(x, selected)} fits best at {place_words(x, *best)}: {parted} = "
        f"**{float(x.matches.coarse.score[0, selected]):.2f}** of at most {len(scores)}."
    )
    if rivals:
        behind = float(total[best] - total[rivals[0]])
        summary += f" The next best place elsewhere is {behind:.2f} behind" + (
            ": nearly a tie." if behind < 0.03 * len(scores) else "."
        )
    return Drawn(
        image,
        "Maps over the reference of how similar each place is to the chosen block, for each "
        "dilation and in sum, with the best place ringed.",
        summary,
    )


def score_heat(x: Exploration, view: View) -> Drawn:
    """The coarse score of every block. Panel ``lr`` is in LR pixels."""
    geometry = x.matches.geometry
    score = x.matches.coarse.score[0].reshape(geometry.rows, geometry.columns).numpy()
    field = x.lr.crop(np.repeat(np.repeat(score, geometry.block, 0), geometry.block, 1))
    rows, columns = own_blocks(x)
    own = score[:rows, :columns]
    zoom = lr_zoom(x)
    image = heat_map(
        field,
        "score of a block's best place",
        f"sum of {_cosines(x)}, at most {len(x.dilations)}",
        *cosine_range(float(own.min()), float(own.max()), len(x.dilations)),
        zoom=zoom,
    )
    worst = int(np.argmin(own))
    row, column = divmod(worst, columns)
    return Drawn(
        image,
        "The small photo's blocks coloured by how well each matched the reference.",
        f"Blocks score {np.median(own):.2f} of at most {len(x.dilations)} in the median, from "
        f"{own.min():.2f} (block in row {row}, column {column}) to {own.max():.2f}.",
        (lr_panel(x, zoom),),
    )


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
    # Opposite corners cancel to grey in the middle: make it rose, to stand out from a grey photo.
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


def _own_numbers(x: Exploration) -> NDArray[np.intp]:
    """Numbers of the blocks with pixels of the visitor's own."""
    rows, columns = own_blocks(x)
    all_columns = x.matches.geometry.columns
    return (np.arange(rows)[:, None] * all_columns + np.arange(columns)).reshape(-1)


def footprints(x: Exploration) -> tuple[Pixels, NDArray[np.intp]]:
    """Mean colour ``(hr, wr, 3)`` of the footprints on each Ref-down cell, and their number.

    Each footprint is noted at its four corners alone; running sums along both sides fill it.
    """
    geometry = x.matches.geometry
    numbers = _own_numbers(x)
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
    for number in _own_numbers(x):
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
        f"{_block_words(x, selected)} (framed) matched {place_words(x, *coarse_place(x, selected))}"
        f" with {score:.2f} of at most {len(x.dilations)}; the orange frame is what it searches "
        "next."
    )


def _block_words(x: Exploration, number: int) -> str:
    row, column = divmod(number, x.matches.geometry.columns)
    return f"The block in row {row}, column {column}"


def _cosines(x: Exploration) -> str:
    return "1 cosine" if len(x.dilations) == 1 else f"{len(x.dilations)} cosines"


def _draw_taps(picture: Pixels, zoom: float, row: float, column: float, x: Exploration) -> None:
    """Mark what the dilated patches around pixel (row, column) compare."""
    reach = x.matches.geometry.radius
    size = max(2.0, 0.26 * zoom)
    for number, step in reversed(list(enumerate(x.dilations))):
        for down in range(-reach, reach + 1):
            for across in range(-reach, reach + 1):
                if down or across:
                    at = (zoom * (column + step * across + 0.5), zoom * (row + step * down + 0.5))
                    _tap(picture, at, size, number)
    _tap(picture, (zoom * (column + 0.5), zoom * (row + 0.5)), size, None)


def _tap(picture: Pixels, at: tuple[float, float], size: float, number: int | None) -> None:
    """The mark of dilation ``number``: disc, square or diamond. The common centre is black."""
    if number is None:
        dot(picture, at, size, BLACK)
        return
    colour = _TAPS[number % len(_TAPS)]
    if number % 3 == 0:
        dot(picture, at, size, colour)
        return
    corners = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)], float) * 0.85
    if number % 3 == 2:
        corners = np.array([(0, -1), (1, 0), (0, 1), (-1, 0)], float) * 1.25
    shape(picture, corners * size + at, colour)


def _tap_legend(x: Exploration) -> Pixels:
    picture = blank(line_height(SMALL) + 4, WIDTH)
    left, middle = 8.0, picture.shape[0] / 2
    steps = [(number, f"dilation {step}") for number, step in enumerate(x.dilations)]
    for number, words in [(None, "centre"), *steps]:
        _tap(picture, (left, middle), 5, number)
        text(picture, words, left + 12, middle, anchor="lm")
        left += text_width(words) + 38
    return picture


@torch.inference_mode()
def block_scores(x: Exploration, number: int) -> NDArray[np.float32]:
    """``(dilations, hr, wr)`` scores of one block, by the code that matched it."""
    blocks = torch.tensor([number])
    geometry = x.matches.geometry
    scores = coarse_scores(x.lr_features, x.ref_features, geometry, x.dilations, blocks)
    return scores[:, 0].numpy()


def runners_up(
    total: NDArray[np.float32],
    own: NDArray[np.bool_],
    best: tuple[int, int],
    apart: tuple[int, int],
) -> list[tuple[int, int]]:
    """The next best places of ``own`` cells, none within ``apart`` (rows, columns) of another."""
    left = np.where(own, total, -np.inf)
    found = [best]
    while True:
        row, column = found[-1]
        left[
            max(0, row - apart[0]) : row + apart[0] + 1,
            max(0, column - apart[1]) : column + apart[1] + 1,
        ] = -np.inf
        place = divmod(int(left.argmax()), left.shape[1])
        if len(found) > RIVALS or left[place] == -np.inf:
            return found[1:]
        found.append(place)


def _mark_place(
    picture: Pixels, at: tuple[float, float], rank: int, colour: Colour = ORANGE
) -> None:
    dot(picture, at, 7 if rank == 1 else 5, colour, filled=False)
    # Beside the ring, on the side with room.
    right = at[0] < picture.shape[1] - 24
    where = (at[0] + 11, at[1]) if right else (at[0] - 11, at[1])
    text(picture, f"{rank}", *where, anchor="lm" if right else "rm", halo=WHITE, bold=rank == 1)
