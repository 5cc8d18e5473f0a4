"""What a visitor looks at, and what a click chooses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from demo.figures.figure import Drawn
from demo.figures.places import block_at, clip_pixel
from demo.runs.exploration import Exploration
from masa.config import SCALE


@dataclass(frozen=True)
class View:
    """What a visitor has chosen to look at."""

    row: int = 0
    column: int = 0
    """LR pixel; its block is the chosen block."""
    scale: int = 4
    """Of the adaptation and aggregation tabs: 1, 2 or 4."""
    channel: int | None = None
    """Single feature channel, or ``None`` for all as colours."""

    @classmethod
    def opening(cls, x: Exploration) -> View:
        """What is shown first: the middle of the picture, and the largest scale kept."""
        return cls(x.lr.height // 2, x.lr.width // 2, max(x.scales))

    def clipped(self, x: Exploration) -> View:
        """The nearest choice that exists in ``x``."""
        row, column = self.pixel(x)
        scale = self.scale if self.scale in x.scales else max(x.scales)
        return replace(self, row=row, column=column, scale=scale)

    def pixel(self, x: Exploration) -> tuple[int, int]:
        """(row, column) of the chosen LR pixel, moved into the visitor's own picture."""
        return clip_pixel(x, self.row, self.column)

    def block(self, x: Exploration) -> int:
        """Number of the chosen LR block."""
        return block_at(x, self.row, self.column)


Draw = Callable[[Exploration, View], Drawn | None]
"""Draws one figure; ``None`` if it is not to be had for this run, or not computed yet."""

Choose = Callable[[Exploration, View, str, int, int], View | None]
"""The view after a click on pixel (row, column) of a figure's panel, given by its name.

``None`` if nothing that can be chosen lies there.
"""


def lr_pixel(x: Exploration, view: View, panel: str, row: int, column: int) -> View:
    """Of panels in LR pixels: the pixel under the click."""
    return replace(view, row=row, column=column).clipped(x)


def result_pixel(x: Exploration, view: View, panel: str, row: int, column: int) -> View:
    """Of panels in pixels of the result: the LR pixel that holds the one under the click."""
    return lr_pixel(x, view, panel, row // SCALE, column // SCALE)
