"""How does the reference lie on the photo? One homography for each, and what came of it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from demo.figures.draw import (
    BLACK,
    GAP,
    NORMAL,
    ORANGE,
    TALL,
    WHITE,
    WIDE,
    WIDTH,
    Box,
    arrange,
    arrow,
    blank,
    blend,
    dot,
    emphasise_polygon,
    enlarge,
    fit_zoom,
    grey,
    line,
    outline,
    stack,
    text,
    wrap,
)
from demo.figures.figure import Drawn, Panel
from demo.figures.parts import THIRD
from demo.figures.places import (
    aligned_share,
    coarse_views,
    lr_panel,
    lr_zoom,
    own_blocks,
    own_pixels,
    reference_words,
    view_words,
)
from demo.figures.plots import key, square
from demo.figures.view import View, lr_pixel
from demo.runs.exploration import Exploration
from masa.config import SCALE
from masa.pictures.photo import Pixels
from masa.reference.alignment import Alignment

NOTHING_IN_COMMON = "Not aligned: nothing in common was found."
AS_IT_IS_FITS = "Not used: the reference as it is fits as well, or has more detail."
ADDS_NOTHING = "Not used: this reference adds nothing to the others."
NO_MEMORY = "Not used: the run would need more memory than is allowed."

LINES = 5, 4
"""The photo is divided into so many columns and rows, of each of which one feature is shown."""
_ACROSS = 80  # figure pixels between the two pictures that lines join
_TALL = 320  # figure pixels down, at most, of pictures in a row

_COLOURS = (
    (0, 114, 178),
    (230, 120, 0),
    (0, 140, 110),
    (204, 100, 160),
    (120, 80, 30),
    (86, 170, 225),
    (190, 60, 0),
    (90, 90, 100),
    (150, 120, 220),
    (60, 60, 160),
)
"""Of views and lines, for all kinds of colour vision; five references have ten views at most."""


def why_not_aligned(x: Exploration, view: View) -> str:
    """In a sentence, why there is nothing to see of an alignment."""
    if x.self_reference:
        return "No reference was given, so there is nothing to align."
    if not x.align:
        return (
            "Alignment was switched off: every reference was used as it is, which is the paper's "
            "method."
        )
    if not any(x.alignments):
        return NOTHING_IN_COMMON
    if any(number in x.beyond for number, found in enumerate(x.alignments) if found):
        return "No aligned view was used: the run would need more memory than is allowed."
    return "No aligned view was used: the reference as it is fits as well, or has more detail."


# ---------------------------------------------------------------------------- how it lies


def alignment(x: Exploration, view: View) -> Drawn | None:
    """The photo, each reference with the photo's frame in it, and its aligned view.

    ``None`` if nothing was to be aligned. Rings mark the chosen pixel where the alignment puts it.
    Panels ``lr`` are in LR pixels, ``ref 1``, ... in own pixels of a reference.
    """
    if not x.alignments:
        return None
    rows, panels, top = [], [], 0
    for number, found in enumerate(x.alignments):
        image, of_row = _row(x, view, number, found)
        rows.append(image)
        panels += [Panel(p.name, p.left, p.top + top, p.rows, p.columns, p.zoom) for p in of_row]
        top += image.shape[0] + GAP
    sentences = [_in_words(x, number, found) for number, found in enumerate(x.alignments)]
    return Drawn(
        stack(rows),
        "The small photo, each reference with the photo's frame drawn into it, and the reference "
        "as the photo sees it.",
        " ".join([*sentences, _shares_in_words(x)]),
        tuple(panels),
    )


def _row(
    x: Exploration, view: View, number: int, found: Alignment | None
) -> tuple[Pixels, list[Panel]]:
    ref = x.refs[number]
    lr_factor = min(lr_zoom(x, THIRD, _TALL), 8.0)
    ref_factor = fit_zoom(ref.shape[0], ref.shape[1], THIRD, _TALL)
    photo = enlarge(x.lr.crop(x.lr.rgb), lr_factor)
    reference = enlarge(ref, ref_factor)
    ref_factor /= own_pixels(x, number)
    row, column = view.pixel(x)
    at = lr_factor * (column + 0.5), lr_factor * (row + 0.5)
    dot(photo, at, 5, ORANGE, filled=False)
    seen = aligned_view_of(x, number)
    if found is not None:
        _draw_frame(reference, ref_factor, found)
        own = _own_of(x, number, found, row, column)
        across, down = _drawn(own, ref_factor)
        dot(reference, (float(across), float(down)), 5, ORANGE, filled=False)
    if seen is not None:
        zoom = lr_factor / SCALE
        aligned, title = enlarge(seen, zoom), "As the photo sees it"
        dot(aligned, at, 5, ORANGE, filled=False)
    else:
        aligned, title = _words_alone(_why_unused(x, number, found)), ""
    name = _capital(reference_words(x, number))
    titles = ["Your photo", name if found is None else f"{name}: {found.words}", title]
    image, corners = arrange([photo, reference, aligned], titles, least=THIRD)
    panels = [lr_panel(x, lr_factor, *corners[0])]
    if found is not None:
        panels.append(Panel(f"ref {number + 1}", *corners[1], *x.ref_sizes[number], ref_factor))
    if seen is not None:
        panels.append(lr_panel(x, lr_factor, *corners[2]))
    return image, panels


def pixel_under(x: Exploration, view: View, panel: str, row: int, column: int) -> View | None:
    """Of panels ``lr``: the pixel under the click; of ``ref 1``, ...: what the photo has there.

    ``None`` beyond the photo's frame.
    """
    if panel == "lr":
        return lr_pixel(x, view, panel, row, column)
    number = int(panel.removeprefix("ref ")) - 1
    found = x.alignments[number]
    assert found is not None  # others have no panel
    position = position_of(x, number, aligned=True)
    if position is None:
        across, down = found.to_frame(np.array([(column, row)], np.float64))[0]
    else:  # as exactly as matches are placed, flow included; not a number where nothing shows it
        place = x.ref.placements[position]
        down, across = place.from_own(np.array(float(row)), np.array(float(column)))
        down -= place.top
    height, width = found.size
    if not (-0.5 <= down < height - 0.5 and -0.5 <= across < width - 0.5):
        return None
    return lr_pixel(x, view, panel, int((down + 0.5) // SCALE), int((across + 0.5) // SCALE))


def position_of(x: Exploration, number: int, aligned: bool) -> int | None:
    """Position on the canvas of a view of a reference; ``None`` if matching did not choose it."""
    for position, place in enumerate(x.ref.placements):
        if place.number == number and (place.own is not None) == aligned:
            return position
    return None


def aligned_view_of(x: Exploration, number: int) -> Pixels | None:
    """``(4h, 4w, 3)``: a reference as the photo sees it; ``None`` if that was not used."""
    position = position_of(x, number, aligned=True)
    return None if position is None else x.ref.seen(x.ref.rgb, position)


def _why_unused(x: Exploration, number: int, found: Alignment | None) -> str:
    if found is None:
        return NOTHING_IN_COMMON
    if number in x.beyond:
        return NO_MEMORY
    return AS_IT_IS_FITS if position_of(x, number, aligned=False) is not None else ADDS_NOTHING


def _own_of(
    x: Exploration, number: int, found: Alignment, row: int, column: int
) -> NDArray[np.float64]:
    """(x, y) in a reference's own pixels of the middle of an LR pixel."""
    position = position_of(x, number, aligned=True)
    if position is None:
        middle = SCALE * np.array([(column, row)], np.float64) + (SCALE - 1) / 2
        return found.to_own(middle)[0]
    at = x.ref.locate(x.ref.rows[position].start + row, column, clip=False)
    return np.array([float(at.column), float(at.row)])


def _draw_frame(picture: Pixels, zoom: float, found: Alignment) -> None:
    """The photo's frame, and an arrow from its middle to the middle of its upper side."""
    height, width = found.size
    corners = np.array([(0, 0), (width, 0), (width, height), (0, height)]) - 0.5
    middles = np.array([(width / 2, height / 2), (width / 2, height / 10)]) - 0.5
    emphasise_polygon(picture, _drawn(found.to_own(corners), zoom), ORANGE, 2)
    start, end = _drawn(found.to_own(middles), zoom)
    arrow(picture, (start[0], start[1]), (end[0], end[1]), BLACK, 2, 9)


def _drawn(own: NDArray[np.float64], zoom: float) -> NDArray[np.float64]:
    """Own pixels (x, y) in a picture of the reference that is enlarged by ``zoom``."""
    return zoom * (own + 0.5)


def _words_alone(words: str) -> Pixels:
    """A sentence in the place of a picture."""
    page = blank(80, THIRD)
    return text(page, wrap(words, THIRD - 20, NORMAL), 10, 40, NORMAL, anchor="lm")


def _in_words(x: Exploration, number: int, found: Alignment | None) -> str:
    name = _capital(reference_words(x, number))
    if found is None:
        return f"{name} was {_inside(NOTHING_IN_COMMON)}"
    words = (
        f"{name} is **{found.words}**: {len(found.frame_points)} of {found.found} features that "
        "resemble each other agree on that."
    )
    if aligned_view_of(x, number) is None:
        return f"{words} The aligned view was {_inside(_why_unused(x, number, found))}"
    height, width = found.size
    corners = np.array([(0, 0), (width, 0), (width, height), (0, height)]) - 0.5
    own = found.to_own(corners)
    ends = np.array(x.ref_sizes[number][::-1]) - 0.5
    if ((own < -0.5 - SCALE) | (own > ends + SCALE)).any():
        words += " Where the photo's frame reaches beyond it, its edge is repeated."
    return words


def _shares_in_words(x: Exploration) -> str:
    """What share of the blocks took which view."""
    shares = view_shares(x)
    told = [
        f"**{shares[position]:.0%}** of the photo's blocks took {view_words(x, int(position))}"
        for position in np.argsort(-shares, kind="stable")
    ]
    return f"{'; '.join(told)}."


def _capital(words: str) -> str:
    return words[0].upper() + words[1:]


def _inside(sentence: str) -> str:
    """A sentence as the end of another."""
    return sentence[0].lower() + sentence[1:]


# ---------------------------------------------------------------------------- agreeing features


def agreeing(x: Exploration, view: View) -> Drawn | None:
    """Features that agree with the alignment, joined between photo and reference.

    ``None`` if no reference could be aligned.
    """
    rows, sentences = [], []
    for number, found in enumerate(x.alignments):
        if found is not None:
            shown = spread(found)
            rows.append(_joined(x, number, found, shown))
            sentences.append(
                f"{len(shown)} of the {len(found.frame_points)} features that agree are joined"
                + ("." if len(x.refs) == 1 else f" for {reference_words(x, number)}.")
            )
    if not rows:
        return None
    return Drawn(
        stack(rows),
        "The small photo and the reference side by side, with lines between places that look "
        "alike in both and agree on how the reference lies.",
        " ".join(sentences),
    )


def spread(found: Alignment) -> list[int]:
    """Numbers of a few of the features that agree, spread over the photo."""
    columns, rows = LINES
    height, width = found.size
    cell = np.floor((found.frame_points + 0.5) / (width, height) * LINES).astype(int)
    cell = cell.clip(0, (columns - 1, rows - 1))
    _, first = np.unique(cell[:, 1] * columns + cell[:, 0], return_index=True)
    return [int(number) for number in first]


def _joined(x: Exploration, number: int, found: Alignment, shown: Sequence[int]) -> Pixels:
    ref, half = x.refs[number], (WIDE - _ACROSS) // 2
    lr_factor = min(lr_zoom(x, half, TALL - 100), 8.0)
    ref_factor = fit_zoom(ref.shape[0], ref.shape[1], half, TALL - 100)
    photo, reference = enlarge(x.lr.crop(x.lr.rgb), lr_factor), enlarge(ref, ref_factor)
    titles = ["Your photo", _capital(reference_words(x, number))]
    image, corners = arrange([photo, reference], titles, gap=_ACROSS, least=half)
    frame = lr_factor / SCALE * (found.frame_points + 0.5) + corners[0]
    own = _drawn(found.own_points, ref_factor / own_pixels(x, number)) + corners[1]
    for place, feature in enumerate(shown):
        colour = _COLOURS[place % len(_COLOURS)]
        ends = [(float(point[0]), float(point[1])) for point in (frame[feature], own[feature])]
        line(image, ends, colour, 1)
        for end in ends:
            dot(image, end, 3, colour)
    return image


# ---------------------------------------------------------------------------- what blocks took


def view_shares(x: Exploration) -> NDArray[np.float64]:
    """``(views,)``: share of the visitor's blocks that matched in each view of the canvas."""
    views = coarse_views(x)
    return np.bincount(views.ravel(), minlength=x.ref.count) / views.size


def views(x: Exploration, view: View) -> Drawn | None:
    """Which view of which reference each block matched in. Panel ``lr`` is in LR pixels.

    ``None`` if no aligned view was used.
    """
    if all(place.own is None for place in x.ref.placements):
        return None
    chosen, shares = coarse_views(x), view_shares(x)
    side = x.matches.geometry.block
    zoom = lr_zoom(x, WIDTH, TALL - 100)
    colours = np.array(_COLOURS, np.uint8)
    field = np.repeat(np.repeat(colours[chosen], side, 0), side, 1)
    field = field[: x.lr.height, : x.lr.width]
    picture = grey(enlarge(x.lr.crop(x.lr.rgb), zoom), 0.8)
    picture = blend(picture, enlarge(np.ascontiguousarray(field), zoom), 0.5)
    block = view.block(x)
    row, column = divmod(block, x.matches.geometry.columns)
    box = Box(column * side, row * side, (column + 1) * side, (row + 1) * side).scaled(zoom)
    outline(picture, box, BLACK, 3)
    outline(picture, box, WHITE, 1)
    rows, columns = own_blocks(x)
    image, ((left, top),) = arrange(
        [picture], [f"Which view each of {columns} x {rows} blocks took"], least=WIDTH
    )
    entries = [
        (square(_COLOURS[position]), f"{_capital(view_words(x, position))}: {shares[position]:.0%}")
        for position in range(x.ref.count)
    ]
    return Drawn(
        stack([image, key(entries)], gap=8),
        "The small photo's blocks coloured by the view of a reference that each matched in.",
        f"{_shares_in_words(x)} Counted in pixels, an aligned view gave **{aligned_share(x):.0%}** "
        f"of the photo its texture. The chosen block, in row {row} and column {column}, took "
        f"{view_words(x, int(chosen[row, column]))}.",
        (lr_panel(x, zoom, left, top),),
    )
