"""What a visitor looks at: figures, drawn for a view, and the view after a click on one."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeGuard, TypeVar
from weakref import WeakKeyDictionary

from demo.figures.figure import Drawn, Panel, pick
from demo.figures.tabs import FIGURES
from demo.figures.view import View
from demo.runs.exploration import Exploration
from demo.runs.jobs import DRAWING, Rank, rank
from masa.network.matching import Matches

Value = TypeVar("Value")

_PANELS: WeakKeyDictionary[Matches, dict[str, tuple[Panel, ...]]] = WeakKeyDictionary()
"""Where pictures lie in the figures of a run, by figure: a click then need not draw it again.

They are the same for every view and after later steps of a run, which keeps its matches.
"""


def in_turn(make: Callable[[], Value], place: Rank | None = None) -> Value:
    """What ``make`` returns, called when its ``place`` among all that are asked for comes.

    For what takes a moment, such as a figure: of many that ask at once, one is served at a time.
    """
    with DRAWING.held(place or rank()):
        return make()


def drawn(x: Exploration, view: View, name: str, place: Rank | None = None) -> Drawn | None:
    """The figure called ``name``, drawn :func:`in_turn`.

    ``None`` if the exploration lacks what it shows. Every figure of a run that the page shows is
    drawn here; those of an archive, which nobody clicks on, :mod:`demo.export` draws behind them.
    """
    found = in_turn(lambda: FIGURES[name].draw(x, view.clipped(x)), place)
    if found is not None:
        _PANELS.setdefault(x.matches, {})[name] = found.panels
    return found


def is_pixel(at: object) -> TypeGuard[tuple[int, int]]:
    """Whether ``at``, as a browser sent it, are the two coordinates of a click."""
    return (
        isinstance(at, (list, tuple))
        and len(at) == 2
        and all(isinstance(v, (int, float)) and math.isfinite(v) for v in at)
    )


def click(x: Exploration, view: View, name: str, at: tuple[int, int]) -> View | None:
    """The view after a click at figure pixel ``(x, y)`` of the figure called ``name``.

    ``None`` if nothing that can be chosen lies there.
    """
    view = view.clipped(x)
    known = _PANELS.get(x.matches, {})
    if name in known:
        panels = known[name]
    else:
        figure = drawn(x, view, name)
        panels = () if figure is None else figure.panels
    picked, choose = pick(panels, *at), FIGURES[name].click
    return None if picked is None or choose is None else choose(x, view, *picked)
