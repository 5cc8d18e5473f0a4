"""Endpoints for programs: stateless, named, and waiting in line for the network like visitors.

They are wired to components that nobody sees, because Gradio then checks choices and that every
file was really uploaded, and describes each field to its clients, to ``curl`` and over MCP.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any, TypeVar

import gradio as gr

from demo.export import alignments, for_json, pack, run_numbers
from demo.laboratory import (
    MOST_POINTS,
    SweepRequest,
    default_networks,
    robustness_report,
    robustness_rows,
)
from demo.page.form import CLEAN, CUSTOM, SHIFTS, chosen_shift
from demo.page.front import client_left, photos_field
from demo.page.messages import as_visible_errors
from demo.runs.exploration import Exploration
from demo.runs.jobs import Finished, Steps, finish, follow, follow_each
from demo.runs.request import FinishedRun, Request, expected_work, likeness, run
from demo.runs.served import in_use, serve, serve_png
from demo.runs.steps import explore_each
from demo.runs.zerogpu import borrows, seconds_on_gpu
from demo.settings import LIMITS
from masa.errors import UserError
from masa.measuring.ladder import FAMILIES
from masa.pictures.degradation import PRESETS
from masa.pictures.photo import Pixels
from masa.pictures.shifts import RANGES
from masa.predictor import Progress, unwatched
from masa.weights import AUTO, shipped_weights

FIELDS = """Args:
        photo: the photo to enlarge.
        references: sharp photos of something similar; without any, the photo is its own.
        is_hr: the photo is a sharp one; the small one is made from it, and the result is scored.
        shift: change of the references' light: a preset, or "custom" for the six numbers below.
        gain: for "custom": levels are multiplied by it.
        offset: for "custom": added to levels, of 255.
        contrast: for "custom": distances from middle grey are multiplied by it.
        gamma: for "custom": above 1 darkens the middle tones.
        temperature: for "custom": above 0 warmer, below 0 cooler.
        saturation: for "custom": 0 is grey.
        weights: shipped weights by name, or auto for those that fit; the numbers say which.
        degradation: for a sharp photo: how the small one is made, clean or as the web sends it.
        align: also use turned, nearer or farther references as the photo sees them; off: as in the
            paper.
"""

_NEUTRAL = tuple(neutral for _, neutral, _ in RANGES.values())

Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])


def _described(endpoint: Endpoint) -> Endpoint:
    """Puts the fields that endpoints share into the description that programs are given."""
    endpoint.__doc__ = (endpoint.__doc__ or "").format(fields=FIELDS)
    return endpoint


@_described
def super_resolve(
    photo: str | None = None,
    references: list[str] | None = None,
    is_hr: bool = False,
    shift: str = "off",
    gain: float = 1.0,
    offset: float = 0.0,
    contrast: float = 1.0,
    gamma: float = 1.0,
    temperature: float = 0.0,
    saturation: float = 1.0,
    weights: str = AUTO,
    degradation: str = CLEAN,
    align: bool = True,
) -> tuple[str, dict[str, Any]]:
    """Enlarge a small photo four times, with real texture from up to five sharp reference photos.

    {fields}
    Returns:
        The enlarged photo as a lossless PNG, and settings, sizes, times, notes and scores.
    """
    amounts = (gain, offset, contrast, gamma, temperature, saturation)
    with as_visible_errors():
        request = _request(photo, references, is_hr, shift, amounts, weights, degradation, align)
        # Only the first program in its own line asks for a turn among visitors: always admitted.
        steps = follow(lambda progress: enlarge(request, progress=progress), admitted=True)
        found = finish(steps, _left(request))
        return serve_png(found.rgb, "masa_x4.png", found.alpha), found.numbers


@_described
def explain(
    photo: str | None = None,
    references: list[str] | None = None,
    is_hr: bool = False,
    shift: str = "off",
    gain: float = 1.0,
    offset: float = 0.0,
    contrast: float = 1.0,
    gamma: float = 1.0,
    temperature: float = 0.0,
    saturation: float = 1.0,
    weights: str = AUTO,
    degradation: str = CLEAN,
    align: bool = True,
) -> tuple[str, dict[str, Any]]:
    """Enlarge a small photo four times and explain the result: figures, maps and numbers.

    The network also runs without the references, and with either branch of its aggregation off;
    beside one that invents detail, one that does not runs too.

    {fields}
    Returns:
        A zip of pictures, figures, maps (.npz), settings and code, and the numbers among them.
    """
    amounts = (gain, offset, contrast, gamma, temperature, saturation)
    with as_visible_errors():
        request = _request(photo, references, is_hr, shift, amounts, weights, degradation, align)
        return finish(explained(request), _left(request))


def robustness(
    photo: str | None = None,
    references: list[str] | None = None,
    is_hr: bool = False,
    change: str = "gain",
    networks: list[str] | None = None,
    points: int | None = 7,
) -> tuple[str, dict[str, Any]]:
    """Measure how steady networks are when the references or the photo change, step by step.

    Args:
        photo: the photo to enlarge; of one larger than 128 x 128 pixels (512 x 512 if it is
            sharp), the middle is used.
        references: one to five sharp photos of something similar.
        is_hr: the photo is a sharp one, so that results can be scored.
        change: what changes about the references; those called "photo" change the photo instead.
            With rotation and scale, networks run with and without alignment of the references.
        networks: which shipped weights to compare; those that differ in adaptation if not given.
        points: number of values of the change, 3 to 11.

    Returns:
        A figure of quality against the change, and in the numbers what it says and every point;
        "aligned" and "pinned" tell points of one network and value from each other.
    """
    with as_visible_errors():
        request = _request(photo, references, is_hr, SHIFTS[0], _NEUTRAL, AUTO, CLEAN, False)
        chosen = tuple(networks or default_networks())
        asked = SweepRequest(request, change, chosen, int(points or 0))
        asked.check()
        steps = follow_each(lambda progress: robustness_rows(asked, progress), admitted=True)
        rows = finish(steps, _left(request))
        report = robustness_report(rows, request.is_hr)
        found = {
            "summary": report.figure.summary,
            "table": report.table,
            "points": [asdict(row) for row in report.rows],
        }
        return serve_png(report.figure.image, "robustness.png"), for_json(found)


def explained(request: Request) -> Steps[tuple[str, dict[str, Any]]]:
    """What :func:`explain` returns. Raises ``UserError``.

    Each of the network's runs has a turn among visitors of its own. Drawing and packing take
    seconds too: meanwhile other programs wait; a visitor who clicks waits for one figure at most.
    """
    job = partial(explore_each, request)
    with closing(follow_each(job, admitted=True)) as running:
        for step in running:
            if not isinstance(step, Finished):
                yield step
                continue
            if step.last:
                yield from _packed(step.value)


def _packed(x: Exploration) -> Steps[tuple[str, dict[str, Any]]]:
    for step in pack(lambda: x, admitted=True):
        if isinstance(step, Finished):
            yield Finished((serve(step.value, "masa.zip"), run_numbers(x)))
        else:
            yield step


def _left(request: Request) -> Callable[[], bool]:
    """Whether the caller has left; until then its files are kept, however long it waits."""

    def left() -> bool:
        for path in (request.photo, *request.refs):
            with suppress(OSError):  # deleted, to make room
                in_use(str(path))
        return client_left()

    return left


@dataclass(frozen=True, eq=False)
class Enlarged:
    """What :func:`super_resolve` returns of a run."""

    rgb: Pixels
    alpha: Pixels | None
    numbers: dict[str, Any]


def _noted(found: Enlarged, note: str) -> Enlarged:
    return replace(found, numbers={**found.numbers, "notes": [*found.numbers["notes"], note]})


@borrows(lambda request: seconds_on_gpu(expected_work(request)), _noted)
def enlarge(request: Request, progress: Progress = unwatched) -> Enlarged:
    """The network alone, without what figures need. Raises ``UserError``."""
    finished = run(request, progress)
    return Enlarged(finished.result.rgb, finished.result.alpha, numbers(finished))


def numbers(finished: FinishedRun) -> dict[str, Any]:
    """What is known of a run, as plain values; scores are on Y, no border cropped."""
    request, result = finished.request, finished.result
    pictures = {"result": result.rgb, "bicubic": result.bicubic}
    scores = None
    if finished.hr is not None:
        scores = {name: asdict(likeness(p, finished.hr)) for name, p in pictures.items()}
    return for_json(
        {
            "weights": request.weights,
            "lr": [result.lr.width, result.lr.height],
            "is_hr": request.is_hr,
            "degradation": request.degradation if request.is_hr else None,
            "references": [list(ref.plain.size[::-1]) for ref in result.references],
            "self_reference": result.self_reference,
            "shift": asdict(request.shift),
            "align": request.align,
            "alignments": alignments(result.alignments, result.ref),
            "result": [result.rgb.shape[1], result.rgb.shape[0]],
            "seconds": result.seconds,
            "tile": result.tile,
            "scores_on_y_no_border_cropped": scores,
            "notes": list(result.notes),
        }
    )


def offer_api() -> None:
    """Add the endpoints to the page under construction."""
    with gr.Column(visible=False):
        photo = gr.Image(label="Photo", type="filepath", image_mode=None, format="png")
        references = photos_field(f"References, up to {LIMITS.max_references}")
        is_hr = gr.Checkbox(label="The photo is sharp: make the small one from it")
        shift = gr.Radio(SHIFTS, value=SHIFTS[0], label="Change of the references' light")
        amounts = [
            gr.Number(neutral, label=f"{name.title()}, for {CUSTOM}: {low:g} to {high:g}")
            for name, (low, neutral, high) in RANGES.items()
        ]
        weights = gr.Radio([AUTO, *shipped_weights()], value=AUTO, label="Weights")
        picture = gr.Image(label="Result (PNG)", format="png", type="filepath")
        archive = gr.File(label="Everything (zip)")
        found = gr.JSON(label="Numbers")
        call = gr.Button()
        degradation = gr.Radio(list(PRESETS), value=CLEAN, label="How the small photo is made")
        align = gr.Checkbox(value=True, label="Align the references")
    inputs = [photo, references, is_hr, shift, *amounts, weights, degradation, align]
    # They wait in the line of demo.runs.jobs: in Gradio's queue they would delay clicks too.
    free: dict[str, Any] = {"concurrency_limit": None}
    call.click(super_resolve, inputs, [picture, found], api_name="super_resolve", **free)
    call.click(explain, inputs, [archive, found], api_name="explain", **free)
    with gr.Column(visible=False):
        change = gr.Radio(list(FAMILIES), value="gain", label="What changes")
        networks = gr.CheckboxGroup(shipped_weights(), label="Networks to compare")
        points = gr.Number(7, label=f"Values of the change: 3 to {MOST_POINTS}", precision=0)
        figure = gr.Image(label="Quality against the change", format="png", type="filepath")
    call.click(
        robustness,
        [photo, references, is_hr, change, networks, points],
        [figure, found],
        api_name="robustness",
        **free,
    )


def _request(
    photo: str | None,
    references: Sequence[str] | None,
    is_hr: bool | None,
    shift: str,
    amounts: Sequence[float],
    weights: str,
    degradation: str,
    align: bool | None,
) -> Request:
    if not photo:
        raise UserError("There is no photo in this request: upload one and name it.")
    named = dict(zip(RANGES, amounts, strict=True))
    changed = chosen_shift(shift, named)
    how = degradation if is_hr else CLEAN
    refs = tuple(references or ())
    aligned = align is None or bool(align)
    return Request(photo, refs, bool(is_hr), weights, changed, how, aligned)
