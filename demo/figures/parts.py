"""Maps and pictures over the visitor's photo, and figures put together from them.

Every map or picture here covers the photo, so its panel is called ``lr`` and counts in LR pixels:
a click anywhere names the LR pixel under it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil, floor, log10

import cv2
import numpy as np
from numpy.typing import NDArray

from demo.figures.draw import GAP, WIDE, WIDTH, Box, arrange, emphasise, enlarge, grey, stack
from demo.figures.figure import Drawn, Panel
from demo.figures.heat import heat_map
from demo.figures.places import lr_panel, lr_zoom
from demo.runs.exploration import Exploration
from masa.pictures.metrics import luma
from masa.pictures.photo import Pixels

AMOUNT = "magma"
"""Colour map of sizes that start at 0."""
CHANGE = "PuOr"
"""Colour map of signed values, white in its middle: orange below, purple above."""
VALUE = "viridis"
"""Colour map of values that are neither."""
HALF, THIRD = (WIDE - GAP) // 2, (WIDE - 2 * GAP) // 3
"""Figure pixels across one of two and of three parts in a row."""


_NARROWEST = 160  # figure pixels that a title gets at least


@dataclass(frozen=True, eq=False)
class Part:
    """One map or picture with its title and panel, before it has a place in a figure."""

    image: Pixels
    title: str
    panel: Panel
    """As if ``image`` were the figure."""


@dataclass(frozen=True)
class Place:
    """A part of the result, in result pixels."""

    top: int
    left: int
    height: int
    width: int

    @property
    def box(self) -> Box:
        """The same as a box."""
        return Box(self.left, self.top, self.left + self.width, self.top + self.height)

    def cut(self, picture: Pixels) -> Pixels:
        """That part of ``(4H, 4W, 3)``."""
        part = picture[self.top : self.top + self.height, self.left : self.left + self.width]
        return np.ascontiguousarray(part)


def map_part(
    x: Exploration,
    values: NDArray,
    label: str,
    unit: str = "",
    low: float | None = None,
    high: float | None = None,
    cmap: str = AMOUNT,
    title: str = "",
    width: int = WIDTH,
    ground: Pixels | None = None,
) -> Part:
    """``(rows, columns)`` numbers that cover the visitor's photo, with a colour bar.

    The shades of ``ground``, a picture of the same scene in any size, show through so that places
    can be recognised.
    """
    zoom = lr_zoom(x, width)
    size = (max(1, round(zoom * x.lr.width)), max(1, round(zoom * x.lr.height)))
    numbers = np.asarray(values, np.float32)
    if numbers.shape[0] > size[1] or numbers.shape[1] > size[0]:
        # Numbers are averaged, not their colours, so that what is shown agrees with the bar.
        numbers = np.asarray(cv2.resize(numbers, size, interpolation=cv2.INTER_AREA), np.float32)

    def shade(picture: Pixels) -> None:
        if ground is not None:
            shades = cv2.resize(grey(ground), picture.shape[1::-1], interpolation=cv2.INTER_AREA)
            picture[:] = (picture * (0.6 + 0.4 / 255 * shades)).astype(np.uint8)

    factor = min(size[0] / numbers.shape[1], size[1] / numbers.shape[0])
    image = heat_map(numbers, label, unit, low, high, cmap, width, factor, shade)
    return Part(image, title, lr_panel(x, zoom))


def picture_part(
    x: Exploration, picture: Pixels, title: str, width: int = WIDTH, place: Place | None = None
) -> Part:
    """A picture that covers the visitor's photo; a ``place`` of it is repeated enlarged below."""
    zoom = lr_zoom(x, width)
    factor = min(zoom * x.lr.height / picture.shape[0], zoom * x.lr.width / picture.shape[1])
    shown = enlarge(picture, factor)
    if place is not None:
        emphasise(shown, place.box.scaled(factor), thickness=2)
        larger = min(shown.shape[1] / place.width, width / place.height)
        shown = stack([shown, enlarge(place.cut(picture), larger)])
    return Part(shown, title, lr_panel(x, zoom))


def compose(parts: Sequence[Part], alt: str, summary: str, columns: int = 1) -> Drawn:
    """A figure of ``parts`` in rows, each under its title if it has one."""
    least = max(_NARROWEST, *(part.image.shape[1] for part in parts))
    rows, panels, top = [], [], 0
    for first in range(0, len(parts), columns):
        row = parts[first : first + columns]
        image, corners = arrange(
            [part.image for part in row], [part.title for part in row], least=least
        )
        for part, (left, down) in zip(row, corners, strict=True):
            panels.append(replace(part.panel, left=left, top=top + down))
        rows.append(image)
        top += image.shape[0] + GAP
    return Drawn(stack(rows), alt, summary, tuple(panels))


def luma_change(a: Pixels, b: Pixels) -> NDArray[np.float32]:
    """Absolute difference of two pictures' luma in grey levels, ``(H, W)``."""
    return np.abs(luma(a) - luma(b)).astype(np.float32)


def high_of(*values: NDArray) -> float:
    """A round upper end for a colour bar: few values of all these maps together lie above it."""
    top = float(np.percentile(np.concatenate([v.ravel() for v in values]), 99.5))
    if top <= 1e-9:
        return 1.0
    step = 10.0 ** floor(log10(top)) / 2
    return ceil(top / step) * step


def busiest(values: NDArray[np.float32], height: int, width: int) -> Place:
    """The window of ``(rows, columns)`` numbers, at most that large, with the largest sum."""
    height, width = min(height, values.shape[0]), min(width, values.shape[1])
    sums = np.pad(values.cumsum(0, dtype=np.float64).cumsum(1), ((1, 0), (1, 0)))
    windows = sums[height:, width:] - sums[:-height, width:] - sums[height:, :-width]
    windows = windows + sums[:-height, :-width]
    top, left = np.unravel_index(int(windows.argmax()), windows.shape)
    return Place(int(top), int(left), height, width)


def minus(words: str) -> str:
    """Numbers in ``words`` with a true minus sign instead of a hyphen."""
    return words.replace("-", "−")
