"""How does a block find its place? Coarse matching, one LR block at a time (section 3.2)."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from demo.figures.blocks import block_words
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
    dot,
    enlarge,
    line_height,
    outline,
    shape,
    stack,
    text,
    text_width,
)
from demo.figures.figure import Drawn
from demo.figures.heat import colour_bar, cosine_range, heat_map, paint
from demo.figures.places import (
    block_corner,
    canvas_view,
    coarse_place,
    in_view,
    lr_panel,
    lr_zoom,
    own_blocks,
    place_words,
    ref_block,
)
from demo.figures.view import View
from demo.runs.exploration import Exploration
from masa.network.matching import PRINCIPAL, coarse_scores
from masa.pictures.photo import Pixels

RIVALS = 3
"""Next best places that are marked."""
MOST_PAIR = 19
"""Figure pixels per picture pixel at most in a block and its Ref block."""

_TAPS: tuple[Colour, ...] = (BLUE, ORANGE, (150, 60, 160))


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
    # Both at one scale, unless a large Ref block would leave the block too small to see.
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
            f"Its Ref block of {inner}, framed{in_view(x, row)}"
            + ("" if same else f", at {ref_scale / lr_scale:.2f}x"),
        ],
    )
    image = stack([image, _tap_legend(x)], gap=8)
    compared = f"{len(x.dilations)} patches" if len(x.dilations) > 1 else "a patch"
    return Drawn(
        image,
        "A block of the small photo beside the part of the reference that it will search, with "
        "the compared pixels marked.",
        f"{block_words(x, selected)} compared {compared} of {geometry.patch} x "
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
        over = canvas_view(x, paint(values, factor * low, factor * high), half, 300)
        picture = over.picture
        over.name()
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
    per_dilation = " + ".join(f"{float(v):.2f}" for v in x.matches.coarse.per_dilation[0, selected])
    summary = (
        f"{block_words(x, selected)} fits best at {place_words(x, *best)}: {per_dilation} = "
        f"**{float(x.matches.coarse.score[0, selected]):.2f}** of at most {len(scores)}."
    )
    if rivals:
        behind = float(total[best] - total[rivals[0]])
        if behind < 0:
            summary += f" Another place would score {-behind:.2f} more, but was not proposed."
        else:
            tie = ": nearly a tie." if behind < 0.03 * len(scores) else "."
            summary += f" The next best place elsewhere is {behind:.2f} behind{tie}"
    if not geometry.full_search:
        summary += (
            f" In pictures as large as these, {PRINCIPAL} channels propose places and all "
            f"{x.lr_features.shape[0]} decide."
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
    # Right of the ring, or left of it where there is no room.
    right = at[0] < picture.shape[1] - 24
    where = (at[0] + 11, at[1]) if right else (at[0] - 11, at[1])
    text(picture, f"{rank}", *where, anchor="lm" if right else "rm", halo=WHITE, bold=rank == 1)
