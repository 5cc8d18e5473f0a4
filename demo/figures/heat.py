"""Numbers as colours: maps, their colour bars and histograms."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import cv2
import matplotlib
import numpy as np
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from demo.figures.draw import (
    INK,
    SMALL,
    UNKNOWN,
    WIDTH,
    Box,
    blank,
    enlarge,
    fit_zoom,
    line_height,
    outline,
    stack,
    text,
    text_width,
    wrap,
    written,
)
from masa.pictures.photo import Pixels

_MARGIN = 20  # beside a colour bar, for its pointed ends and outer numbers
_LEAST_COSINE = 0.05  # that a colour bar of cosines spans


def paint(
    values: NDArray[np.floating] | NDArray[np.integer],
    low: float,
    high: float,
    cmap: str = "viridis",
) -> Pixels:
    """``(H, W)`` numbers as colours; beyond ``low`` and ``high`` none are added, NaN is grey.

    If these are equal, numbers get the middle colour, where a colour bar has its only tick.
    """
    numbers = np.asarray(values, np.float32)
    known = np.isfinite(numbers)
    if high > low:
        levels = (np.where(known, numbers, low) - low) / (high - low) * 255
    else:
        levels = np.full(numbers.shape, 127.5)
    picture = _table(cmap)[np.clip(levels.round(), 0, 255).astype(np.uint8)]
    picture[~known] = UNKNOWN
    return picture


def cosine_range(low: float, high: float, count: int = 1) -> tuple[float, float]:
    """Ends of a colour bar for sums of ``count`` cosines from ``low`` to ``high``.

    They are so far apart that cosines which differ by next to nothing look alike.
    """
    return min(low, high - count * _LEAST_COSINE), high


def heat_map(
    values: NDArray[np.floating] | NDArray[np.integer],
    label: str,
    unit: str = "",
    low: float | None = None,
    high: float | None = None,
    cmap: str = "viridis",
    width: int = WIDTH,
    zoom: float | None = None,
    mark: Callable[[Pixels], object] | None = None,
) -> Pixels:
    """``(H, W)`` numbers as a map with its colour bar below; NaN is grey.

    The bar is titled ``label`` (and ``unit`` in brackets) and reaches from ``low`` to ``high``, by
    default the smallest and largest value; pointed ends say that values lie beyond. The map starts
    at the figure's top left corner, enlarged by ``zoom``, by default ``fit_zoom(H, W, width)``;
    ``mark`` may draw on the enlarged map.
    """
    numbers = np.asarray(values, np.float32)
    known = numbers[np.isfinite(numbers)]
    least, most = (float(known.min()), float(known.max())) if known.size else (0.0, 1.0)
    low, high = least if low is None else low, most if high is None else high
    if zoom is None:
        zoom = fit_zoom(numbers.shape[0], numbers.shape[1], width)
    picture = enlarge(paint(numbers, low, high, cmap), zoom)
    if mark is not None:
        mark(picture)
    bar = colour_bar(
        f"{label} ({unit})" if unit else label,
        low,
        high,
        cmap,
        width,
        below=least < low,
        above=most > high,
        unknown=known.size < numbers.size,
    )
    return stack([picture, bar], gap=6)


def colour_bar(
    label: str,
    low: float,
    high: float,
    cmap: str = "viridis",
    width: int = WIDTH,
    below: bool = False,
    above: bool = False,
    unknown: bool = False,
) -> Pixels:
    """A horizontal bar from ``low`` to ``high`` with numbers and a title, ``(h, width, 3)``.

    ``below`` and ``above`` point the ends, for values beyond them; ``unknown`` explains the grey
    of values that do not exist.
    """
    margin, tip, thick = _MARGIN, 10, 14
    remark = wrap(label, width - 4 - (100 if unknown else 0))
    picture = blank(2 + thick + 8 + line_height(SMALL) * (2 + remark.count("\n")), width)
    span = max(width - 2 * margin, 2)
    shades = _table(cmap)[np.linspace(0, 255, span).round().astype(np.uint8)]
    picture[2 : 2 + thick, margin : margin + span] = shades
    for wanted, edge, out, colour in (
        (below, margin, margin - tip, shades[0]),
        (above, margin + span, margin + span + tip, shades[-1]),
    ):
        if wanted:
            corners = np.array([[edge, 2], [edge, 1 + thick], [out, 2 + thick // 2]], np.int32)
            cv2.fillPoly(picture, [corners], colour.tolist(), cv2.LINE_AA)
    if high > low:
        most = max(2, min(5, span // 60))
        ticks = MaxNLocator(nbins=most, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
        slack = 1e-6 * (high - low)
        ticks = [tick for tick in ticks if low - slack <= tick <= high + slack]
    else:
        ticks = [low]
    for tick in ticks:
        share = (tick - low) / (high - low) if high > low else 0.5
        x = margin + share * (span - 1)
        picture[2 + thick : 6 + thick, round(x) : round(x) + 1] = INK
        text(picture, written(float(tick), high - low), x + 0.5, 6 + thick, anchor="ma")
    bottom = picture.shape[0] - line_height(SMALL) * (1 + remark.count("\n"))
    text(picture, remark, 2, bottom)
    if unknown:
        start = width - 2 - text_width("unknown")
        text(picture, "unknown", start, bottom)
        key = Box(start - 18, bottom + 2, start - 5, bottom + 15)
        picture[int(key.top) : int(key.bottom), int(key.left) : int(key.right)] = UNKNOWN
        outline(picture, key, INK, 1)
    return picture


def histogram(
    values: NDArray[np.floating] | NDArray[np.integer],
    low: float,
    high: float,
) -> Pixels:
    """Columns that count values, each in its colour, to be set on a ``colour_bar`` of the same
    range. Values beyond the range count in the first or last column."""
    span, height = WIDTH - 2 * _MARGIN, 70
    picture = blank(height, WIDTH)
    known = np.asarray(values, np.float32)
    known = known[np.isfinite(known)]
    if not known.size:
        return picture
    share = (known - low) / (high - low) if high > low else np.full_like(known, 0.5)
    columns = min(64, span // 5)
    at = np.clip((share * columns).astype(np.intp), 0, columns - 1)
    count = np.bincount(at, minlength=columns)
    tops = height - np.ceil(count / count.max() * (height - 2)).astype(np.intp)
    edges = _MARGIN + np.linspace(0, span, columns + 1).round().astype(np.intp)
    shades = _table("viridis")[np.linspace(0, 255, columns).round().astype(np.uint8)]
    for left, right, top, shade in zip(edges[:-1], edges[1:], tops, shades, strict=True):
        picture[top:, left : right - 1] = shade
    # A dark base line, as the lightest colours hardly show on white.
    picture[-1, _MARGIN : _MARGIN + span] = INK
    return picture


@lru_cache(maxsize=16)
def _table(cmap: str) -> NDArray[np.uint8]:
    """``(256, 3)`` colours of a matplotlib colour map."""
    colours = matplotlib.colormaps[cmap](np.linspace(0, 1, 256))
    return (np.asarray(colours)[:, :3] * 255).round().astype(np.uint8)
