"""The steps of a visitor's run, each of which the page shows as soon as it is done."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from demo.runs.examples import Example
from demo.runs.exploration import Exploration, explore
from demo.runs.request import Request, expected_work, predictor_for, run
from demo.runs.zerogpu import borrows, seconds_on_gpu
from masa.network.aggregation import Branches
from masa.predictor import Progress, unwatched
from masa.weights import invents_detail

_RUNNING = 0.9  # of painting's time, the network's share
_OFF = {"ref": Branches(ref=False), "lr": Branches(lr=False)}


def _noted(x: Exploration, note: str) -> Exploration:
    return x if note in x.notes else replace(x, notes=(*x.notes, note))


def _seconds_again(x: Exploration) -> int:
    return seconds_on_gpu(2 * x.cost.total)


@borrows(lambda request, **_: seconds_on_gpu(expected_work(request)), _noted)
def paint(
    request: Request,
    progress: Progress = unwatched,
    example: Example | None = None,
) -> Exploration:
    """Enlarge a visitor's photo and keep what can be explored. Raises ``UserError``."""
    x = explore(
        run(request, part(progress, 0, _RUNNING), keep=True),
        lambda share: progress(_RUNNING + share * (1 - _RUNNING), "Keeping what the tabs show"),
    )
    if example is None:
        return x
    return replace(x, disparity=example.true_disparity(), hint=example.look_for)


def taken_over(x: Exploration, before: Exploration | None) -> Exploration:
    """``x`` with what does not depend on its references from an earlier run of the same photo."""
    if before is None or before.plain is None:
        return x
    sizes = [(e.lr.height, e.lr.width, e.weights) for e in (x, before)]
    same = sizes[0] == sizes[1] and np.array_equal(x.lr.rgb, before.lr.rgb)
    return replace(x, plain=before.plain) if same else x


@borrows(_seconds_again, _noted)
def without_reference(x: Exploration, progress: Progress = unwatched) -> Exploration:
    """Add the result of the same network with the LR as its own reference."""
    if x.plain is not None:
        return x
    if x.self_reference:
        return replace(x, plain=x.result)
    result = predictor_for(x.weights).run(x.visitors_lr(), (), _as(progress, "Without reference"))
    return replace(x, plain=result.rgb)


@borrows(_seconds_again, _noted)
def without_branches(x: Exploration, progress: Progress = unwatched) -> Exploration:
    """Add the results with each branch of DRAM that the network has switched off."""
    if x.switched_off:
        return x
    predictor = predictor_for(x.weights)
    off = {name: branches for name, branches in _OFF.items() if getattr(x.branches, name)}
    results = {}
    for number, (name, branches) in enumerate(off.items()):

        def half(share: float, _: str, number: int = number) -> None:
            progress((number + share) / len(off), "Without a branch of DRAM")

        results[name] = predictor.run(x.visitors_lr(), x.views(), half, branches=branches).rgb
    return replace(x, switched_off=results)


@borrows(_seconds_again, _noted)
def without_invention(x: Exploration, progress: Progress = unwatched) -> Exploration:
    """Add what the weights of ``auto`` make of the same views, for comparison."""
    predictor = predictor_for(x.auto)
    told = _as(progress, "Without invented detail")
    found = predictor.run(x.visitors_lr(), x.views(), told)
    return replace(x, faithful=found.rgb)


def later_steps(x: Exploration) -> list[Callable[..., Exploration]]:
    """What is still to be added to an enlarged picture, in this order.

    Each takes the exploration and a ``progress``, and returns it with more.
    """
    invents = invents_detail(x.weights) and not invents_detail(x.auto)
    steps = {
        without_reference: x.plain is None,
        without_invention: invents and x.faithful is None,
        without_branches: any(x.branches) and not x.switched_off,
    }
    return [step for step, is_missing in steps.items() if is_missing]


def explore_each(request: Request, progress: Progress = unwatched) -> Iterator[Exploration]:
    """The enlarged picture, then the same with one more step each time; the last one is whole.

    ``progress`` is told the share of all steps. Raises ``UserError``.
    """
    x = paint(request, progress=part(progress, 0, 0.5))
    steps = later_steps(x)
    for number, step in enumerate(steps):
        yield x
        start, end = (0.5 + 0.5 * n / len(steps) for n in (number, number + 1))
        x = step(x, progress=part(progress, start, end))
    progress(1.0, "Done")
    yield x


def explore_whole(request: Request, progress: Progress = unwatched) -> Exploration:
    """All steps at once. Raises ``UserError``."""
    *_, x = explore_each(request, progress)
    return x


def part(progress: Progress, start: float, end: float) -> Progress:
    """A :data:`Progress` for a part of the work, from share ``start`` to ``end`` of the whole."""

    def report(share: float, doing: str) -> None:
        progress(start + share * (end - start), doing)

    return report


def _as(progress: Progress, doing: str) -> Progress:
    def renamed(share: float, _: str) -> None:
        progress(share, doing)

    return renamed
