"""The same part of several networks' results, side by side, to be looked at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from demo.figures.draw import GAP, NORMAL, WIDE, arrange, blank, enlarge, line_height, stack, text
from demo.figures.figure import Drawn
from masa.pictures.photo import Pixels

MOST_PICTURES = 6
"""Beside one another: more would be too small to look at."""

MOST_ROWS = 40
"""With more, the sheet would be higher than a WebP can be."""

_ZOOM = 2  # figure pixels per pixel of a result


@dataclass(frozen=True, eq=False)
class Compared:
    """One photo's results, of which one part is shown."""

    title: str
    """The scene, and how its LR was made."""
    parts: Mapping[str, Pixels]
    """``(side, side, 3)`` of each result, by what is written above."""
    truth: Pixels
    """The same part of the sharp photo."""


def side_shown(pictures: int) -> int:
    """Pixels of a result that fit across one of so many pictures."""
    return (WIDE - GAP * (pictures - 1)) // pictures // _ZOOM


def comparison(found: Sequence[Compared]) -> Drawn:
    """A row for each photo, with as many pictures each."""
    rows = []
    for one in found:
        heading = blank(line_height(NORMAL), WIDE)
        text(heading, one.title, 0, 0, NORMAL, bold=True)
        parts = {**one.parts, "the sharp photo": one.truth}
        shown = [enlarge(part, _ZOOM) for part in parts.values()]
        row, _ = arrange(shown, list(parts), least=_ZOOM * side_shown(len(parts)))
        rows.append(stack([heading, row], gap=4))
    titles = "; ".join(one.title for one in found)
    return Drawn(
        stack(rows),
        f"Enlarged parts of the results of several networks, a row for each photo: {titles}.",
        "Each row shows, enlarged, the part in which bicubic enlargement misses most.",
    )
