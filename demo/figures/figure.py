"""A drawn figure: the picture, what it says in words, and what lies under a click."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from masa.pictures.photo import Pixels


@dataclass(frozen=True)
class Panel:
    """A picture inside a figure, enlarged by a whole or fractional factor."""

    name: str
    left: int
    top: int
    """Of the panel's first pixel in the figure."""
    rows: int
    columns: int
    """Size of the picture in its own pixels."""
    zoom: float
    """Figure pixels per picture pixel."""

    def pixel_at(self, x: float, y: float) -> tuple[int, int] | None:
        """(row, column) in the picture under figure pixel ``(x, y)``; ``None`` outside."""
        row, column = (y - self.top) / self.zoom, (x - self.left) / self.zoom
        if 0 <= row < self.rows and 0 <= column < self.columns:
            return int(row), int(column)
        return None


@dataclass(frozen=True, eq=False)
class Drawn:
    """One figure, ready to be shown or saved."""

    image: Pixels
    """``(H, W, 3)``."""
    alt: str
    """Alternative text: what kind of picture this is and what is in it, in one sentence."""
    summary: str
    """Markdown: what is seen in this run's figure, in one to three sentences with its numbers."""
    panels: tuple[Panel, ...] = ()
    """Where pictures lie in it that can be clicked."""


def pick(panels: Sequence[Panel], x: float, y: float) -> tuple[str, int, int] | None:
    """Panel's name, row and column under a click at pixel ``(x, y)`` of a figure."""
    for panel in panels:
        if (found := panel.pixel_at(x, y)) is not None:
            return panel.name, *found
    return None
