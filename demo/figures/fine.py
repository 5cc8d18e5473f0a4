"""Which patch fits best? Fine matching, one LR pixel at a time (section 3.2)."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from demo.figures.draw import (
    BLUE,
    GAP,
    INK,
    ORANGE,
    SMALL,
    WHITE,
    WIDE,
    WIDTH,
    Box,
    arrange,
    arrow,
    blank,
    blend,
    emphasise,
    enlarge,
    fit_zoom,
    grey,
    line_height,
    outline,
    stack,
    text,
    wrap,
)
from demo.figures.figure import Drawn, Panel
from demo.figures.heat import colour_bar, cosine_range, heat_map, histogram, paint
from demo.figures.places import (
    aligned_words,
    block_at,
    block_corner,
    in_view,
    lr_panel,
    lr_zoom,
    matched_cells,
    moves,
    place_words,
    ref_block,
    reference_words,
)
from demo.figures.view import View
from demo.runs.exploration import Exploration
from masa.config import SCALE
from masa.network.matching import fine_scores
from masa.pictures.photo import Pixels
from masa.reference.canvas import Area

JUMP = 1
"""Neighbouring pixels' matches may be this many cells away from lying side by side, and still count
as connected."""

FULL = 90
"""Percentile of the moves' lengths that gets the strongest colour."""

LEAST_FULL = 1.0
"""Length in pixels of the small photo below which the strongest colour is never given."""

LONGEST = 1.6
"""Arrows reach at most this many steps of their grid."""

_MIDDLE = (SCALE - 1) / 2
"""From an LR pixel's first HR pixel to its middle."""

ERROR_SHOWN = 16.0
"""HR pixels: larger errors share the last colour."""


def displacement(x: Exploration, view: View) -> Drawn:
    """Where each LR pixel's match lies, seen from the pixel. Panel ``lr`` is in LR pixels."""
    move = moves(x)
    # If the photo is its own reference, a cell is 4 x 4 of its pixels; moves lead to their middle.
    at_home = (np.abs(move) < (SCALE / 2 if x.self_reference else 0.5)).all(0)
    length = np.hypot(move[0], move[1])
    # A percentile, as a few wrong matches far away would make all other colours pale.
    full = max(float(np.percentile(length, FULL)), LEAST_FULL)
    zoom = lr_zoom(x)
    picture = enlarge(direction_colours(move[0] / full, move[1] / full), zoom)
    shortened = _draw_arrows(picture, move, full, zoom)
    key = _direction_key(full, shortened)
    image, ((left, top),) = arrange([picture], ["Move from each pixel to its match"], least=WIDTH)
    middle = np.median(move.reshape(2, -1), axis=1)
    where = "their reference" if len(x.refs) > 1 else reference_words(x, 0)
    return Drawn(
        stack([image, key], gap=8),
        "The small photo's pixels coloured by direction and length of the way to their match, "
        "with arrows.",
        f"The median move is {move_words(middle[0], middle[1])}, in pixels of the small photo; "
        f"{FULL} % of the pixels move by at most {np.percentile(length, FULL):.1f}, and "
        f"{at_home.mean():.0%} find their match at their own place in {where}."
        + aligned_words(x, "the move is measured"),
        (lr_panel(x, zoom, left, top),),
    )


def similarity(x: Exploration, view: View) -> Drawn:
    """How much each LR pixel's patch resembles its match. Panel ``lr`` is in LR pixels."""
    values = x.lr.crop(x.matches.similarity[0, 0].detach().numpy())
    low, high = cosine_range(float(np.percentile(values, 1)), float(values.max()))
    zoom = lr_zoom(x)
    picture = enlarge(paint(values, low, high), zoom)
    bar = colour_bar("similarity of matched patches (cosine)", low, high, below=True)
    image = stack([picture, stack([histogram(values, low, high), bar], gap=0)], gap=8)
    return Drawn(
        image,
        "The small photo's pixels coloured by the similarity of their match, with a histogram.",
        f"Half of all pixels found a patch of cosine similarity {np.median(values):.3f} or more "
        f"(1 is alike); the least similar twentieth stays below {np.percentile(values, 5):.3f}.",
        (lr_panel(x, zoom),),
    )


@dataclass(frozen=True, eq=False)
class Jumps:
    """Where neighbouring LR pixels were sent to places that do not lie side by side."""

    across: NDArray[np.bool_]
    """``(H, W - 1)``: between a pixel and its right neighbour."""
    down: NDArray[np.bool_]
    """``(H - 1, W)``: between a pixel and the one below."""
    block: int

    def share(self, at_borders: bool) -> float | None:
        """Share of neighbours that jump, over pairs in two blocks or in one; ``None`` if none."""
        columns, rows = self.borders()
        chosen = np.concatenate(
            (
                self.across[:, columns == at_borders].ravel(),
                self.down[rows == at_borders].ravel(),
            )
        )
        return float(chosen.mean()) if chosen.size else None

    def borders(self) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """``(W - 1,)`` and ``(H - 1,)``: whether the step lies between two LR blocks."""
        columns, rows = self.across.shape[1], self.down.shape[0]
        return (
            np.arange(1, columns + 1) % self.block == 0,
            np.arange(1, rows + 1) % self.block == 0,
        )


def find_jumps(x: Exploration) -> Jumps:
    """Compare the matches of all neighbouring pixels of the visitor's LR."""
    cell = matched_cells(x)
    position = x.ref.view_at(cell[0])
    move = cell - np.indices(position.shape)
    found = []
    for axis in (1, 0):
        apart = np.abs(np.diff(move, axis=axis + 1)).max(0) > JUMP
        found.append(apart | (np.diff(position, axis=axis) != 0))
    return Jumps(found[0], found[1], x.matches.geometry.block)


def discontinuities(x: Exploration, view: View) -> Drawn:
    """Where the moved texture is torn. Panel ``lr`` is in LR pixels."""
    jumps = find_jumps(x)
    zoom = lr_zoom(x)
    cell = max(3, int(np.ceil(zoom)))
    rows, columns = x.lr.height, x.lr.width
    border_columns, border_rows = jumps.borders()
    picture = grey(enlarge(x.lr.crop(x.lr.rgb), zoom), 0.6)
    size = (picture.shape[1], picture.shape[0])
    for at_borders, colour in ((False, BLUE), (True, ORANGE)):
        # Jumps lie between pixels: draw them into the last rows and columns of enlarged pixels.
        lines = np.zeros((rows, cell, columns, cell), np.float32)
        across = jumps.across & (border_columns == at_borders)
        down = jumps.down & (border_rows == at_borders)[:, None]
        thick = 1 + cell // 6
        lines[:, :, :-1, -thick:] += across[:, None, :, None]
        lines[:-1, -thick:] += down[:, None, :, None]
        share = cv2.resize(
            lines.clip(0, 1).reshape(rows * cell, columns * cell),
            size,
            interpolation=cv2.INTER_AREA,
        )
        # Where a large photo is reduced, thin lines would fade: draw them stronger.
        picture = blend(picture, colour, np.clip(share * max(1.0, 1.5 / zoom), 0, 1))
    key = blank(line_height(SMALL) + 4, WIDTH)
    left = 2.0
    for colour, words in ((BLUE, "torn inside a block"), (ORANGE, "torn between blocks")):
        box = Box(left, 5, left + 22, 10)
        key[int(box.top) : int(box.bottom), int(box.left) : int(box.right)] = colour
        text(key, words, left + 28, 0)
        left += 200
    image, ((image_left, image_top),) = arrange(
        [picture], ["Where the moved texture is torn"], least=WIDTH
    )
    inside, between = jumps.share(False), jumps.share(True)
    parts = [
        f"**{share:.1%}** of neighbours {where}"
        for share, where in ((inside, "inside a block"), (between, "across a block's border"))
        if share is not None
    ]
    return Drawn(
        stack([image, key], gap=8),
        "The small photo with lines wherever two neighbouring pixels got texture from places "
        "that are not neighbours.",
        f"{' and '.join(parts)} got patches that do not lie side by side (more than {JUMP} pixel "
        "off): there the moved texture is torn.",
        (lr_panel(x, zoom, image_left, image_top),),
    )


def given(x: Exploration, view: View) -> Drawn:
    """The reference's own pixels where the index map puts them. Panel ``hr`` is in HR pixels."""
    picture = x.lr.crop(x.moved)
    rows, columns = picture.shape[:2]
    # At its own size, unless it is wider than a page or too small to see.
    zoom = min(1.0, fit_zoom(rows, columns, WIDE, 2 * WIDE))
    if zoom == 1 and columns < WIDTH:
        zoom = float(max(1, min(WIDTH // columns, WIDE // rows)))
    own = x.ref.is_own
    used = np.zeros_like(own)
    used[tuple(matched_cells(x))] = True
    places, cells = int((used & own).sum()), int(own.sum())
    apart = float(np.abs(picture.astype(np.float32) - x.bicubic).mean())
    several = len(x.refs) > 1
    return Drawn(
        enlarge(picture, zoom),
        "The photo put together from pieces of the reference alone.",
        f"Nothing but pixels of {'the references' if several else reference_words(x, 0)}, moved "
        "to where the index map puts them and averaged where patches overlap. The matches lie at "
        f"{places} different places ({places / cells:.0%} of all that were searched). The moved "
        f"pixels differ from the small photo, enlarged bicubically, by {apart:.1f} of 255 levels "
        "on average." + aligned_words(x, "the match was found"),
        (Panel("hr", 0, 0, rows, columns, zoom),),
    )


def patch_search(x: Exploration, view: View) -> Drawn:
    """One LR pixel's search: its patch, all patches compared with it, and what is copied."""
    row, column = view.pixel(x)
    geometry = x.matches.geometry
    rim, patch = geometry.radius, geometry.patch
    number = block_at(x, row, column)
    top, left = block_corner(x, number)
    scores = pixel_scores(x, row, column)
    index = int(x.matches.index[0, row, column])
    best_row, best_column = divmod(index, geometry.ref_block_width)
    at_row, at_column = (int(v) for v in x.matches.position[0, :, row, column])
    best = float(x.matches.similarity[0, 0, row, column])
    half = (WIDTH - GAP) // 2

    window = np.arange(-rim, geometry.block + rim)
    rows = (top + window).clip(0, geometry.lr_height - 1)
    columns = (left + window).clip(0, geometry.lr_width - 1)
    zoom = half / len(window)
    lr = enlarge(x.lr.rgb[rows[:, None], columns], zoom)
    outline(lr, Box(rim, rim, rim + geometry.block, rim + geometry.block).scaled(zoom), WHITE, 1)
    emphasise(lr, _patch_box(row - top, column - left, patch).scaled(zoom))
    outline(lr, _patch_box(row - top + rim, column - left + rim, 1).scaled(zoom), ORANGE, 2)

    crop = ref_block(x, number, rim)
    ref_zoom = fit_zoom(crop.height, crop.width, half, 300)
    ref = enlarge(x.ref.cells(crop), ref_zoom)
    emphasise(ref, _patch_box(best_row, best_column, patch).scaled(ref_zoom))

    low, high = float(scores.min()), float(scores.max())
    ends = cosine_range(low, high)
    scored = enlarge(paint(scores, *ends), ref_zoom)
    box = Box(best_column, best_row, best_column + 1, best_row + 1).scaled(ref_zoom)
    emphasise(scored, box, thickness=2)
    bar = colour_bar("similarity (cosine)", *ends, width=half)

    copied = Area(at_row - rim, at_column - rim, at_row + rim + 1, at_column + rim + 1)
    side = SCALE * patch
    piece_zoom = half / side
    piece = enlarge(x.ref.pixels(copied), piece_zoom)
    own = Box(SCALE * rim, SCALE * rim, SCALE * (rim + 1), SCALE * (rim + 1))
    emphasise(piece, own.scaled(piece_zoom), thickness=2)

    count = f"{geometry.ref_block_height} x {geometry.ref_block_width}"
    upper, _ = arrange(
        [lr, ref],
        ["Block and the pixel's patch", f"Ref block and the best patch{in_view(x, at_row)}"],
        least=half,
    )
    lower, _ = arrange(
        [stack([scored, bar], gap=6), piece],
        [f"All {count} similarities", f"Copied from {side} x {side} pixels"],
        least=half,
    )
    return Drawn(
        stack([upper, lower]),
        "A pixel's patch in its block, the part of the reference it was compared with, a map of "
        "the similarities and the full-size pixels whose features are copied.",
        f"Pixel (row {row}, column {column}) compared its patch with {count} patches and chose "
        f"{place_words(x, at_row, at_column)}, with a cosine similarity of **{best:.3f}** (all of "
        f"them: {low:.3f} to {high:.3f}). The framed {SCALE} x {SCALE} of the copied pixels are "
        "its own; the others count for its neighbours in the block.",
    )


def disparity_error(x: Exploration, view: View) -> Drawn | None:
    """How far matches are from the truth, where that is known. Panel ``lr`` is in LR pixels.

    ``None`` without a truth, or if it cannot be that of the one reference.
    """
    error = match_error(x)
    if error is None:
        return None
    known = error[np.isfinite(error)]
    if not known.size:
        return None
    zoom = lr_zoom(x)
    image = heat_map(error, "distance from the true match", "HR pixels", 0, ERROR_SHOWN, zoom=zoom)
    return Drawn(
        image,
        "The small photo's pixels coloured by how far their match is from the true one.",
        f"The median match is **{np.median(known):.1f}** HR pixels from the measured truth, and "
        f"{np.mean(known < SCALE):.0%} are closer than {SCALE}, which is one pixel of the small "
        f"photo. Matches move in steps of {SCALE}, so up to {SCALE / 2:.0f} is rounding; "
        f"{np.mean(~np.isfinite(error)):.0%} are unknown or outside the reference.",
        (lr_panel(x, zoom),),
    )


def match_error(x: Exploration) -> NDArray[np.float32] | None:
    """``(H, W)`` on the LR grid: distance of each match from the true one, in HR pixels.

    NaN where the truth is unknown or lies outside the reference; ``None`` where there is no truth
    at all. HR column ``c`` is truly at column ``c - disparity`` of the reference, in the same row.
    """
    if x.disparity is None or x.self_reference or len(x.refs) != 1:
        return None
    rows, columns = x.lr.height, x.lr.width
    if x.disparity.shape != (SCALE * rows, SCALE * columns):
        return None
    cells = x.disparity.reshape(rows, SCALE, columns, SCALE).transpose(0, 2, 1, 3)
    # The median over an LR pixel, if half of it is known: where two depths meet, a mean is neither.
    cells = np.sort(cells.reshape(rows, columns, -1), axis=2)  # NaN comes last
    count = np.isfinite(cells).sum(2)
    truth = np.take_along_axis(cells, np.maximum(count - 1, 0)[..., None] // 2, 2)[..., 0]
    truth = np.where(count >= SCALE * SCALE / 2, truth, np.nan)
    row, centre = SCALE * np.arange(rows)[:, None] + _MIDDLE, SCALE * np.arange(columns) + _MIDDLE
    cell = matched_cells(x)
    at = x.ref.locate(cell[0], cell[1], clip=False)
    error = np.hypot(at.row - row, at.column - (centre - truth))
    _, width = x.ref_sizes[0]
    outside = (centre - truth < 0) | (centre - truth > width - 1)
    return np.where(outside, np.nan, error).astype(np.float32)


@torch.inference_mode()
def pixel_scores(x: Exploration, row: int, column: int) -> NDArray[np.float32]:
    """``(ref_block_height, ref_block_width)`` similarities of one LR pixel's patch, by the code
    that matched it."""
    number = block_at(x, row, column)
    corner = torch.tensor([block_corner(x, number)])
    geometry = x.matches.geometry
    scores = fine_scores(
        x.lr_features, x.ref_features, corner, x.matches.corner[0, number][None], geometry
    )
    return scores[0, row % geometry.block, column % geometry.block].numpy()


def move_words(rows: float, columns: float) -> str:
    """A move in words: '2 down, 3 left'."""
    parts = [
        f"{abs(value):g} {forward if value > 0 else back}"
        for value, back, forward in ((rows, "up", "down"), (columns, "left", "right"))
        if value
    ]
    return ", ".join(parts) or "0"


def direction_colours(down: NDArray[np.floating], across: NDArray[np.floating]) -> Pixels:
    """Moves ``(H, W)`` as colours ``(H, W, 3)``: hue is direction, strength is length.

    A length of 1 or more has full strength. Made in CIELAB, where equal steps look about equal;
    the longer, the darker too, for eyes that tell few hues apart.
    """
    length = np.hypot(down, across)
    strength = np.minimum(length, 1.0)
    unit = np.where(length > 0, strength / np.maximum(length, 1e-9), 0)
    lab = np.stack((93 - 33 * strength, 52 * unit * across, -52 * unit * down), axis=-1)
    rgb = cv2.cvtColor(np.ascontiguousarray(lab, np.float32), cv2.COLOR_LAB2RGB)
    return (rgb.clip(0, 1) * 255).round().astype(np.uint8)


def _draw_arrows(picture: Pixels, move: NDArray, full: float, zoom: float) -> float:
    """Sparse arrows of moves ``(2, H, W)``; returns their length relative to the truth."""
    rows, columns = move.shape[1:]
    step = max(1, round(36 / zoom))
    factor = min(1.0, step / full)
    for row in range(min(step, rows) // 2, rows, step):
        for column in range(min(step, columns) // 2, columns, step):
            down, across = (float(v) for v in move[:, row, column])
            start = (zoom * (column + 0.5), zoom * (row + 0.5))
            cut = min(1.0, LONGEST * step / max(factor * np.hypot(down, across), 1e-9))
            end = (start[0] + cut * factor * zoom * across, start[1] + cut * factor * zoom * down)
            arrow(picture, start, end, INK, 1, 6)
    return factor


def _direction_key(full: float, shortened: float) -> Pixels:
    """The wheel of directions with what its edge stands for."""
    side = 92
    y, x = (np.mgrid[:side, :side] - (side - 1) / 2) / (side / 2 - 1)
    wheel = direction_colours(y, x)
    wheel[np.hypot(y, x) > 1] = WHITE
    for angle in range(0, 360, 90):
        turn = np.deg2rad(angle)
        end = (side / 2 + 0.8 * side / 2 * np.cos(turn), side / 2 + 0.8 * side / 2 * np.sin(turn))
        arrow(wheel, (side / 2, side / 2), (float(end[0]), float(end[1])), INK, 1, 6)
    lines = [
        f"Hue: direction. Strength: length, full from {full:.3g} pixels of the small photo on"
        + (f" ({FULL}th percentile)." if full > LEAST_FULL else "."),
        "Arrows: single pixels"
        + ("" if shortened == 1 else f" at {shortened:.2g} of their length")
        + ", the longest cut.",
    ]
    words = "\n".join(wrap(part, WIDTH - side - 14) for part in lines)
    key = blank(side, WIDTH)
    key[:, :side] = wheel
    text(key, words, side + 12, side / 2, anchor="lm")
    return key


def _patch_box(row: int, column: int, patch: int) -> Box:
    """The patch whose first pixel is (row, column)."""
    return Box(column, row, column + patch, row + patch)
