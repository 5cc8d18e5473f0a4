"""The same part of several networks' results, side by side, to be looked at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from demo.figures.draw import GAP, NORMAL, WIDE, arrange, blank, enlarge, line_height, stack, text
from demo.figures.figure import Drawn
from demo.figures.parts import Place
from masa.pictures.photo import Pixels

MOST_PICTURES = 6
"""Beside one another: more would be too small to look at."""

_ZOOM = 2  # figure pixels per pixel of a result


@dataclass(frozen=True, eq=False)
class Compared:
    """One photo's results."""

    title: str
    """The scene, and how its LR was made."""
    place: Place
    """The part that is shown."""
    pictures: Mapping[str, Pixels]
    """``(4H, 4W, 3)`` each, by what is written above."""


def side_shown(pictures: int) -> int:
    """Pixels of a result that fit across one of so many pictures."""
    return (WIDE - GAP * (pictures - 1)) // pictures // _ZOOM


def comparison(found: Sequence[Compared]) -> Drawn:
    """A row for each of ``found``, all with the same titles but for their numbers."""
    rows = []
    for one in found:
        heading = blank(line_height(NORMAL), WIDE)
        text(heading, one.title, 0, 0, NORMAL, bold=True)
        parts = [enlarge(one.place.cut(picture), _ZOOM) for picture in one.pictures.values()]
        least = side_shown(len(parts)) * _ZOOM
        row, _ = arrange(parts, list(one.pictures), least=least)
        rows.append(stack([heading, row], gap=4))
    names = ", ".join(one.title for one in found)
    return Drawn(
        stack(rows),
        f"Enlarged parts of the results of several networks, a row for each photo: {names}.",
        "Each row shows, enlarged, the part in which bicubic enlargement misses most.",
    )
