"""Charts of a few numbers: horizontal bars, marks over an axis, lines.

They are drawn with :mod:`demo.figures.draw` because matplotlib took 7 to 11 times as long for the
same charts (bars and points, on two CPU cores).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil, floor, isfinite, log10

import numpy as np
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from demo.figures.draw import (
    BLUE,
    INK,
    ORANGE,
    SMALL,
    WHITE,
    WIDTH,
    Box,
    Colour,
    blank,
    dot,
    line,
    line_height,
    outline,
    shape,
    text,
    text_width,
    wrap,
    written,
)
from masa.pictures.photo import Pixels

GREY: Colour = (150, 150, 158)
"""Of bars that are there to compare with."""
RULE: Colour = (225, 225, 230)
"""Of the lines that lead to an axis."""
GREEN: Colour = (0, 135, 95)
PURPLE: Colour = (150, 70, 150)
"""Further colours of lines, each of which has a mark of its own shape as well."""

# ---------------------------------------------------------------------------- bars


@dataclass(frozen=True)
class Bar:
    """One bar of a chart."""

    name: str
    value: float
    words: str
    """The value as it is written beside the bar."""
    colour: Colour = GREY


def bar_chart(
    bars: Sequence[Bar],
    axis: str,
    write: Callable[[float], str],
    logarithmic: bool = False,
    unit: float = 1.0,
) -> Pixels:
    """Horizontal bars, each under its name, over an axis whose ticks ``write`` puts into words.

    Ticks of an even axis are round multiples of ``unit``. A logarithmic axis starts at a power of
    ten clearly below the smallest value, and says how far its lines are apart; zeros have no bar.
    """
    margin, thick, row = 4, 14, line_height(SMALL) + 24
    positive = [bar.value for bar in bars if bar.value > 0] or [1.0]
    if logarithmic:
        first: float = floor(log10(min(positive)) - 0.3)
        last: float = max(ceil(log10(max(positive)) - 1e-9), first + 1)
        step = max(1, ceil((last - first) / 5))
        ticks = [10.0**power for power in range(int(first), int(last) + 1, step)]
        axis += f"; each line is {10**step:,} times the one before"
    else:
        first, last = 0.0, max(positive)
        locator = MaxNLocator(5, steps=[1, 2, 2.5, 5, 10])
        ticks = [unit * tick for tick in locator.tick_values(0, last / unit)]
        ticks = [tick for tick in ticks if 0 <= tick <= last]
    span = WIDTH - 2 * margin - 20

    def across(value: float) -> float:
        if logarithmic:
            return margin + span * (log10(value) - first) / (last - first)
        return margin + span * value / last

    bottom = row * len(bars)
    page = blank(bottom + 2 * line_height(SMALL) + 10, WIDTH)
    for tick in ticks:
        x = round(across(tick))
        page[: bottom + 4, x : x + 1] = RULE
        words = write(tick)
        half = text_width(words) / 2
        text(page, words, min(max(x, half + 1), WIDTH - half - 1), bottom + 5, anchor="ma")
    for number, bar in enumerate(bars):
        top = number * row
        text(page, bar.name, margin, top + 2, halo=WHITE)
        text(page, bar.words, WIDTH - margin, top + 2, anchor="ra", halo=WHITE, bold=True)
        if bar.value > 0:
            right = max(round(across(bar.value)), margin + 2)
            start = top + line_height(SMALL) + 3
            page[start : start + thick, margin:right] = bar.colour
    page[bottom : bottom + 1] = INK
    text(page, axis, margin, bottom + 7 + line_height(SMALL))
    return page


# ---------------------------------------------------------------------------- points


Mark = Callable[[Pixels, tuple[float, float]], object]
"""Draws one mark around (x, y), as :func:`dash` does."""


@dataclass(frozen=True)
class Points:
    """One row of marks in a plot, the same number in each."""

    name: str
    values: NDArray[np.float32]
    """``(n,)``."""
    mark: Mark


def dash(picture: Pixels, place: tuple[float, float]) -> None:
    """A short black line."""
    x, y = place
    line(picture, [(x - 3.5, y), (x + 3.5, y)], INK, 2, halo=None)


def disc(picture: Pixels, place: tuple[float, float]) -> None:
    """A blue disc."""
    dot(picture, place, 3, BLUE)


def triangle(picture: Pixels, place: tuple[float, float]) -> None:
    """An orange triangle, pointing up."""
    x, y = place
    shape(picture, [(x - 4, y + 3), (x + 4, y + 3), (x, y - 4)], ORANGE)


def point_plot(
    series: Sequence[Points], axis: str, height: int = 200, width: int = WIDTH
) -> Pixels:
    """Marks from left to right over a numbered axis called ``axis``; the last lie on top."""
    values = np.concatenate([points.values for points in series])
    low, high = float(values.min()), float(values.max())
    room = max(high - low, 1e-9) * 0.05
    low, high = low - room, high + room
    count = len(series[0].values)
    left, right, top = 62, width - 8, 4
    bottom = top + height
    page = blank(bottom + 2 * line_height(SMALL) + 8, width)

    def place(number: float, value: float) -> tuple[float, float]:
        return (
            left + 8 + (right - left - 16) * number / max(count - 1, 1),
            bottom - height * (value - low) / (high - low),
        )

    for value in MaxNLocator(5, steps=[1, 2, 5, 10]).tick_values(low, high):
        if low <= value <= high:
            y = place(0, value)[1]
            page[round(y), left:right] = RULE
            text(page, written(float(value), high - low), left - 5, y + 0.5, anchor="rm")
    for number in MaxNLocator(6, integer=True).tick_values(0, count - 1):
        if 0 <= number <= count - 1:
            x = place(number, low)[0]
            page[bottom : bottom + 4, round(x)] = INK
            text(page, f"{number:.0f}", x + 0.5, bottom + 5, anchor="ma")
    page[bottom, left:right] = INK
    page[top:bottom, left] = INK
    for points in series:
        for number, value in enumerate(points.values):
            points.mark(page, place(number, float(value)))
    text(page, axis, (left + right) / 2, page.shape[0] - line_height(SMALL), anchor="ma")
    return page


def square(colour: Colour) -> Mark:
    """A mark for an area of that colour."""

    def draw(picture: Pixels, place: tuple[float, float]) -> None:
        x, y = place
        outline(picture, Box(x - 6, y - 6, x + 6, y + 6), INK, 1)
        picture[round(y - 5) : round(y + 5), round(x - 5) : round(x + 5)] = colour

    return draw


def key(entries: Sequence[tuple[Mark, str]], width: int = WIDTH) -> Pixels:
    """What marks mean, in as many rows as that needs."""
    places, x, row = [], 0.0, 0
    for _, words in entries:
        needed = 16 + text_width(words) + 14
        if x and x + needed > width:
            x, row = 0.0, row + 1
        places.append((x, row * line_height(SMALL)))
        x += needed
    page = blank((row + 1) * line_height(SMALL) + 2, width)
    for (mark, words), (x, top) in zip(entries, places, strict=True):
        mark(page, (x + 7, top + line_height(SMALL) / 2))
        text(page, words, x + 17, top)
    return page


# ---------------------------------------------------------------------------- lines


def diamond(picture: Pixels, place: tuple[float, float]) -> None:
    """A purple diamond."""
    x, y = place
    shape(picture, [(x - 4.5, y), (x, y - 4.5), (x + 4.5, y), (x, y + 4.5)], PURPLE)


def ring(picture: Pixels, place: tuple[float, float]) -> None:
    """A green ring."""
    dot(picture, place, 3.5, GREEN, filled=False)


@dataclass(frozen=True)
class Line:
    """Marks joined by lines."""

    places: Sequence[tuple[float, float]]
    """(x, y) in the axes' units, from left to right; infinite and unknown ``y`` are left out."""
    mark: Mark
    colour: Colour
    width: int = 2
    """Pixels."""


@dataclass(frozen=True)
class DashedLine:
    """A dashed line across the whole plot, at one height."""

    height: float
    colour: Colour
    dash: int
    """Pixels of each dash."""
    mark: Mark | None = None
    """Drawn at its right end, so that lines are not told apart by colour alone."""


@dataclass(frozen=True, eq=False)
class LinePlot:
    """A plot, and where its marks came to lie."""

    image: Pixels
    places: tuple[tuple[tuple[float, float] | None, ...], ...]
    """For each line, (x, y) in figure pixels of each of its places; ``None`` if left out."""


def line_plot(
    lines: Sequence[Line],
    dashed_lines: Sequence[DashedLine],
    axes: tuple[str, str],
    ticks: Sequence[tuple[float, str]] = (),
    least: float = 0,
    across: tuple[float, float] | None = None,
    height: int = 230,
    width: int = WIDTH,
) -> LinePlot:
    """Lines over two numbered axes called ``axes`` (across, up); later lines lie on top.

    ``ticks`` names places of the lower axis instead of numbers. The upright axis spans ``least``
    at least, so that what is nearly equal looks so. ``across`` are the ends of the lower axis, by
    default those of the lines.
    """
    heights = [y for line_ in lines for _, y in line_.places if isfinite(y)]
    heights += [line_.height for line_ in dashed_lines if isfinite(line_.height)]
    low, high = (min(heights), max(heights)) if heights else (0.0, 1.0)
    room = max(0.06 * (high - low), (least - (high - low)) / 2, 1e-6)
    low, high = low - room, high + room
    first, last = across or _ends([x for line_ in lines for x, _ in line_.places])
    left, right, top = 62, width - 14, 8 + line_height(SMALL)
    bottom = top + height

    def place(x: float, y: float) -> tuple[float, float]:
        share = (x - first) / (last - first) if last > first else 0.5
        return (
            left + 10 + (right - left - 20) * share,
            bottom - height * (y - low) / (high - low),
        )

    if ticks:
        most = (right - left) / max(len(ticks), 1) - 4
        words = [(x, wrap(name, most)) for x, name in ticks]
    else:
        numbers = MaxNLocator(6, steps=[1, 2, 5, 10]).tick_values(first, last)
        words = [(x, written(float(x), last - first)) for x in numbers if first <= x <= last]
    rows = 1 + max((name.count("\n") for _, name in words), default=0)
    page = blank(bottom + (rows + 1) * line_height(SMALL) + 8, width)
    text(page, axes[1], 2, 0)
    for value in MaxNLocator(5, steps=[1, 2, 5, 10]).tick_values(low, high):
        if low <= value <= high:
            y = place(first, value)[1]
            page[round(y), left:right] = RULE
            text(page, written(float(value), high - low), left - 5, y + 0.5, anchor="rm")
    for x, name in words:
        at = place(x, low)[0]
        page[bottom : bottom + 4, round(at)] = INK
        text(page, name, at + 0.5, bottom + 5, anchor="ma")
    page[bottom, left:right] = INK
    page[top:bottom, left] = INK
    for dashed_line in dashed_lines:
        if isfinite(dashed_line.height):
            y = round(place(first, dashed_line.height)[1])
            for start in range(left + 1, right, 2 * dashed_line.dash):
                end = min(start + dashed_line.dash, right)
                page[y - 1 : y + 1, start:end] = dashed_line.colour
            if dashed_line.mark is not None:
                dashed_line.mark(page, (right - 4, y))
    found = []
    for line_ in lines:
        spots = [place(x, y) if isfinite(y) else None for x, y in line_.places]
        known = [spot for spot in spots if spot is not None]
        if len(known) > 1:
            line(page, known, line_.colour, line_.width)
        for spot in known:
            line_.mark(page, spot)
        found.append(tuple(spots))
    text(page, axes[0], (left + right) / 2, page.shape[0] - line_height(SMALL), anchor="ma")
    return LinePlot(page, tuple(found))


def dashed(colour: Colour, dash: int) -> Mark:
    """A mark for a :class:`DashedLine`."""

    def draw(picture: Pixels, place: tuple[float, float]) -> None:
        x, y = place
        for start in range(round(x - 7), round(x + 7), 2 * dash):
            end = min(start + dash, round(x + 7))
            picture[round(y) - 1 : round(y) + 1, max(start, 0) : end] = colour

    return draw


def overlaid(first: Mark, second: Mark) -> Mark:
    """A mark of two, the second on top."""

    def draw(picture: Pixels, place: tuple[float, float]) -> None:
        first(picture, place)
        second(picture, place)

    return draw


def _ends(values: Sequence[float]) -> tuple[float, float]:
    return (min(values), max(values)) if values else (0.0, 1.0)
