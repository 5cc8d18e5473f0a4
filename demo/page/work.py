"""What runs the network for a visitor: each is a generator of steps, then of results.

All of them raise ``gr.Error`` with one sentence for the visitor.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from demo.figures.cost import rematch_figure
from demo.figures.figure import Drawn
from demo.figures.result import decibels
from demo.page.form import Inputs
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


def enlarge(
    inputs: Inputs,
    showcase: Showcase,
    before: Exploration | None = None,
    admitted: bool = False,
) -> Steps[Exploration]:
    """The first step of a run, to the enlarged picture; an example that is ready is given at once.

    Parts of ``before``, the visitor's last exploration, that stay the same are used again. With
    ``admitted`` a long line refuses nobody: the run replaces one that was in the line already.
    """
    with as_visible_errors():
        request = inputs.request()
        ready = showcase.get(request)
        if ready is not None:
            yield Finished(ready)
            return
        example = showcase.example_of(request)
        yield from follow(
            lambda progress: taken_over(paint(request, progress=progress, example=example), before),
            admitted,
        )


def complete(x: Exploration) -> Steps[Exploration]:
    """The steps after a picture, each in a turn of its own; what ``x`` has is left out."""
    with as_visible_errors():
        for add in later_steps(x):
            for step in follow(partial(_added, add, x), admitted=True):
                yield step
                if isinstance(step, Finished):
                    x = step.value


def _added(add: Callable[..., Exploration], x: Exploration, progress: Progress) -> Exploration:
    return add(x, progress=progress)


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
    x: Exploration,
    dense: DenseMatch | None,
    block: int,
    factor: float,
    dilations: Sequence[int],
) -> Steps[MatchingTrial]:
    """Match again with other settings, beside dense matching.

    Where the sharp photo is known, the result is then painted and measured too, and the trial is
    given a second time.
    """

    def match_again(progress: Progress) -> MatchingTrial:
        def densely(share: float) -> None:
            progress(0.9 * share, "Dense matching, for comparison")

        every = dense or dense_match(x, on_share=densely)
        progress(0.9, "Matching again")
        found = rematch(x, config, every)
        return MatchingTrial(found, every, rematch_figure(x, found, every), "")

    with as_visible_errors():
        if not dilations:
            raise UserError("Choose at least one dilation.")
        try:
            config = MASAConfig(
                lr_block=int(block), ref_factor=float(factor), dilations=tuple(sorted(dilations))
            )
        except ValueError as error:
            raise UserError(f"These settings do not work: {error}.") from None
        rematch_cost(x, config)  # raises for settings that do not fit, before there is any waiting
        for step in follow(match_again):
            yield step
            if isinstance(step, Finished) and x.hr is not None:
                yield from follow(partial(_painted, x, step.value), admitted=True)


def _painted(x: Exploration, trial: MatchingTrial, progress: Progress) -> MatchingTrial:
    """The trial with what its matches are worth; the HR of ``x`` is known."""
    predictor = predictor_for(x.weights)
    matching = replace(
        predictor.config,
        lr_block=trial.found.config.lr_block,
        ref_factor=trial.found.config.ref_factor,
        dilations=trial.found.config.dilations,
    )
    again = predictor.run(x.visitors_lr(), x.references, progress, matching=matching, align=x.align)
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
