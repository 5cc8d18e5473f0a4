"""Charts of a few numbers, built from :mod:`demo.draw`: lying bars, and marks over an axis."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil, floor, log10

import numpy as np
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from demo.draw import (
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
)
from masa.images import Pixels

GREY: Colour = (150, 150, 158)
"""Of bars that are there to compare with."""
RULE: Colour = (225, 225, 230)
"""Of the lines that lead to an axis."""

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
    width: int = WIDTH,
) -> Pixels:
    """Lying bars, each under its name, over an axis whose ticks ``write`` puts into words.

    A logarithmic axis starts at a power of ten clearly below the smallest value; zeros have no
    bar.
    """
    margin, thick, row = 4, 14, line_height(SMALL) + 24
    positive = [bar.value for bar in bars if bar.value > 0] or [1.0]
    if logarithmic:
        first: float = floor(log10(min(positive)) - 0.3)
        last: float = max(ceil(log10(max(positive)) - 1e-9), first + 1)
        step = max(1, ceil((last - first) / 5))
        ticks = [10.0**power for power in range(int(first), int(last) + 1, step)]
    else:
        first, last = 0.0, max(positive)
        locator = MaxNLocator(5, steps=[1, 2, 2.5, 5, 10])
        ticks = [tick for tick in locator.tick_values(0, last) if 0 <= tick <= last]
    span = width - 2 * margin - 20

    def across(value: float) -> float:
        if logarithmic:
            return margin + span * (log10(value) - first) / (last - first)
        return margin + span * value / last

    bottom = row * len(bars)
    page = blank(bottom + 2 * line_height(SMALL) + 10, width)
    for tick in ticks:
        x = round(across(tick))
        page[: bottom + 4, x : x + 1] = RULE
        words = write(tick)
        half = text_width(words) / 2
        text(page, words, min(max(x, half + 1), width - half - 1), bottom + 5, anchor="ma")
    for number, bar in enumerate(bars):
        top = number * row
        text(page, bar.name, margin, top + 2, halo=WHITE)
        text(page, bar.words, width - margin, top + 2, anchor="ra", halo=WHITE, bold=True)
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


def written(value: float, span: float) -> str:
    """A number of an axis ``span`` long, with as many digits as tell its ticks apart."""
    digits = min(max(0, ceil(1 - log10(span))), 9) if span > 0 else 2
    words = f"{value:.{digits}f}" if span > 1e-5 else f"{value:.1e}"
    return words.replace("-", "−")
