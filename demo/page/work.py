"""What runs the network for a visitor: each is a generator of steps, then of results.

All of them raise ``gr.Error`` with one sentence for the visitor. They may wait long, and earlier
runs that they go on from take megabytes: meanwhile the visitor's session alone holds these, as it
may have to forget them to keep within the memory.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from demo.figures.cost import rematch_figure
from demo.figures.figure import Drawn
from demo.figures.result import decibels
from demo.page.form import Inputs
from demo.page.front import FORGOTTEN
from demo.page.messages import as_visible_errors
from demo.runs.exploration import Exploration
from demo.runs.jobs import Finished, Steps, follow
from demo.runs.rematch import DenseMatch, Rematch, dense_match, rematch, rematch_cost
from demo.runs.request import predictor_for
from demo.runs.showcase import Showcase
from demo.runs.steps import later_steps, paint, taken_over
from masa.config import MASAConfig
from masa.errors import UserError
from masa.pictures.metrics import psnr_y
from masa.predictor import Progress

Held = Callable[[], Exploration | None]
"""Gives what is known of a run that somebody else holds, as a weak reference does; ``None`` if it
was forgotten."""


def still(run: Held) -> Exploration:
    """The run. Raises ``UserError`` if it was forgotten."""
    x = run()
    if x is None:
        raise UserError(FORGOTTEN[Exploration])
    return x


def enlarge(
    inputs: Inputs,
    showcase: Showcase,
    before: Held | None = None,
    admitted: bool = False,
) -> Steps[Exploration]:
    """The first step of a run, to the enlarged picture; an example that is ready is given at once.

    Parts of ``before``, the visitor's last exploration, that stay the same are used again, unless
    it was forgotten meanwhile. With ``admitted`` a long line refuses nobody: the run replaces one
    that was in the line already.
    """
    with as_visible_errors():
        request = inputs.request()
        ready = showcase.get(request)
        if ready is not None:
            yield Finished(ready)
            return
        example = showcase.example_of(request)

        def painted(progress: Progress) -> Exploration:
            x = paint(request, progress=progress, example=example)
            return taken_over(x, before() if before else None)

        yield from follow(painted, admitted)


def complete(run: Held) -> Steps[Exploration]:
    """The steps after a picture, each in a turn of its own; what the run has is left out.

    Whoever asks has to hold each result as long as the next step is to be made of it.
    """
    with as_visible_errors():
        for add in later_steps(still(run)):
            for step in follow(partial(_added, add, run), admitted=True):
                yield step
                if isinstance(step, Finished):
                    run = weakref.ref(step.value)


def _added(add: Callable[..., Exploration], run: Held, progress: Progress) -> Exploration:
    return add(still(run), progress=progress)


@dataclass(frozen=True, eq=False)
class MatchingTrial:
    """Matching with other settings."""

    found: Rematch
    dense: DenseMatch
    """To be kept for the next trial of the same run."""
    figure: Drawn
    painted: str
    """Markdown: what the result would score; empty if that is unknown or not computed yet."""


def try_matching(
    run: Held,
    dense: DenseMatch | None,
    block: int | None,
    factor: float | None,
    dilations: Sequence[int],
    admitted: bool = False,
) -> Steps[MatchingTrial]:
    """Match again with other settings, beside dense matching.

    Where the sharp photo is known, the result is then painted and measured too, and the trial is
    given a second time. ``admitted`` as in :func:`enlarge`.
    """

    def match_again(progress: Progress) -> MatchingTrial:
        def densely(share: float) -> None:
            progress(0.9 * share, "Dense matching, for comparison")

        x = still(run)
        every = dense or dense_match(x, on_share=densely)
        progress(0.9, "Matching again")
        found = rematch(x, config, every)
        return MatchingTrial(found, every, rematch_figure(x, found, every), "")

    with as_visible_errors():
        if block is None or factor is None or not dilations:
            raise UserError("Choose a block, a factor and at least one dilation.")
        try:
            config = MASAConfig(
                lr_block=int(block), ref_factor=float(factor), dilations=tuple(sorted(dilations))
            )
        except ValueError as error:
            raise UserError(f"These settings do not work: {error}.") from None
        # Raises for settings that do not fit, before there is any waiting.
        rematch_cost(still(run), config)
        for step in follow(match_again, admitted):
            yield step
            if isinstance(step, Finished) and still(run).hr is not None:
                yield from follow(partial(_painted, run, step.value), admitted=True)


def _painted(run: Held, trial: MatchingTrial, progress: Progress) -> MatchingTrial:
    """The trial with what its matches are worth; the HR of the run is known."""
    x = still(run)
    predictor = predictor_for(x.weights)
    matching = replace(
        predictor.config,
        lr_block=trial.found.config.lr_block,
        ref_factor=trial.found.config.ref_factor,
        dilations=trial.found.config.dilations,
    )
    again = predictor.run(x.visitors_lr(), x.views(), progress, matching=matching)
    assert x.hr is not None
    found, own = (decibels(psnr_y(picture, x.hr)) for picture in (again.rgb, x.result))
    words = (
        f"Painted with these settings the result has **{found}**; "
        f"with the network's own settings {own}."
    )
    geometry = again.trace.matches.geometry
    if geometry != trial.found.geometry:
        words += (
            " To paint, the photo is first padded to whole blocks: the Ref blocks were "
            f"{geometry.ref_block_height} x {geometry.ref_block_width} then, and some matches are "
            "others than in the map."
        )
    return replace(trial, painted=words)
