"""What happens when a visitor does something: plain typed functions, without a page around them.

The page calls them, and so do tests. Only these turn errors into messages.
"""

from __future__ import annotations

import html
import math
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeGuard, TypeVar
from weakref import WeakKeyDictionary

import gradio as gr
from PIL import Image

from demo.figures import result as result_figures
from demo.figures.cost import rematch_figure
from demo.figures.figure import Drawn, Panel, pick
from demo.figures.places import padding_words
from demo.figures.tabs import FIGURES
from demo.figures.view import View
from demo.page.front import GONE
from demo.runs.exploration import Exploration
from demo.runs.jobs import EASEL, Finished, Rank, Step, Steps, Stopped, follow, rank
from demo.runs.rematch import DenseMatch, Rematch, dense_match, rematch, rematch_cost
from demo.runs.request import Request, predictor_for
from demo.runs.served import in_use, serve_png
from demo.runs.showcase import Showcase
from demo.runs.steps import paint, taken_over, without_branches, without_reference
from demo.settings import LIMITS
from masa.config import SCALE, MASAConfig
from masa.errors import UserError
from masa.network.matching import Matches
from masa.pictures.metrics import psnr_y
from masa.pictures.shifts import PRESETS, RANGES, Shift
from masa.predictor import Progress

Value = TypeVar("Value")

HR_MODE = "It is sharp: make the small photo from it"
LR_MODE = "It is small: enlarge it"
CUSTOM = "custom"
SHIFTS = [*PRESETS, CUSTOM]

PICTURES = {
    "bicubic": "Bicubic",
    "plain": "MASA without the reference",
    "result": "MASA with the reference",
    "hr": "The sharp photo",
}
"""Pictures that can be compared: field of an exploration, and its name for visitors."""


@dataclass(frozen=True)
class Inputs:
    """The left column of the page."""

    photo: str | None
    gallery: Sequence[tuple[str, str | None]] | None
    mode: str
    weights: str
    shift: str
    """A preset's name, or ``custom``, which is made of the numbers below."""
    gain: float
    offset: float
    contrast: float
    gamma: float
    temperature: float
    saturation: float

    def request(self) -> Request:
        """What is asked for. Raises ``UserError``, and ``OSError`` for files that are gone."""
        if not self.photo:
            raise UserError("Add a photo first, or click one of the examples.")
        refs = tuple(path for path, _ in self.gallery or () if path)
        if self.mode not in (HR_MODE, LR_MODE):
            raise UserError("Say whether the photo is small or sharp.")
        shift = chosen_shift(self.shift, {name: getattr(self, name) for name in RANGES})
        for path in (self.photo, *refs):
            in_use(path)
        return Request(self.photo, refs, self.mode == HR_MODE, self.weights, shift)


class Newest:
    """Which of a visitor's wishes of one kind is the newest: only that one is followed."""

    def __init__(self) -> None:
        self.number = 0
        """Of the newest; 0 before the first."""
        self._taken = 0

    def take(self) -> int:
        """A number that was not given before, for what may turn out to be no wish at all."""
        self._taken += 1
        return self._taken

    def accept(self, number: int) -> bool:
        """Make ``number`` the newest, unless a newer one is."""
        self.number = max(number, self.number)
        return self.number == number

    def begin(self) -> int:
        """The number of a new one."""
        self.number = self.take()
        return self.number

    def only(
        self, number: int, steps: Generator[Value, None, None]
    ) -> Generator[Value, None, None]:
        """``steps`` for as long as ``number`` is the newest; after that they are closed."""
        with closing(steps):
            if number == self.number:
                for step in steps:
                    if number != self.number:
                        return
                    yield step


class Looks(Newest):
    """What a visitor looks at: clicks on figures, and moves of the controls above them.

    A newer one ends what is drawn for an older one, and draws the rest of that too.
    """

    def __init__(self) -> None:
        super().__init__()
        self.view: View | None = None
        """The newest choice; ``None`` while what is shown was not looked at yet."""
        self._due: set[str] = set()

    def look(self, number: int, view: View, what: str) -> frozenset[str]:
        """All fields to draw for look ``number``, which changed the view's field ``what``.

        Empty if a newer look was accepted.
        """
        if not self.accept(number):
            return frozenset()
        self.view = view
        self._due.add(what)
        return frozenset(self._due)

    def done(self, number: int) -> None:
        """All figures of look ``number`` are drawn."""
        if number == self.number:
            self._due.clear()


class Latest(Newest):
    """Which of a visitor's runs is the newest: older ones end, and nothing follows them."""

    def __init__(self) -> None:
        super().__init__()
        self.shown = Newest()
        """The run whose picture is shown, which a newer one may yet replace, or not, if stopped."""
        self.asked: Inputs | None = None
        """What it was started with, while it is under way."""
        self.touched = False
        """The visitor chose pictures, which no example must replace unasked."""
        self.told_mode = False
        """The visitor said what the photo is, which need not be guessed."""
        self.filled = -1
        """The run whose figures are drawn, or being drawn: the browser has its picture."""
        self.completing: int | None = None
        """The run that is being completed, for which nobody need ask again."""
        self.looks = Looks()
        self.trials = Newest()
        """Other settings of the matching."""
        self.packs = Newest()
        """Archives."""

    def start(self, inputs: Inputs) -> int:
        """The number of a new run."""
        self.asked = inputs
        return self.begin()

    def show(self, number: int) -> None:
        """The picture of run ``number`` is shown from now on."""
        self.shown.number = number
        self.looks.view = None

    def end(self, number: int) -> None:
        """Nothing is under way any more, if run ``number`` is the newest."""
        if number == self.number:
            self.asked = None

    def fail(self, number: int) -> None:
        """What follows the picture that is shown goes on, if run ``number`` is the newest."""
        if number == self.number:
            self.number, self.asked = self.shown.number, None

    def halt(self) -> None:
        """Whatever is under way ends at its next step."""
        for wishes in (self, self.trials, self.packs):
            wishes.begin()
        self.asked = None


def chosen_shift(name: str, amounts: Mapping[str, float]) -> Shift:
    """The preset called ``name``, or the shift by ``amounts`` if it is ``custom``.

    Raises ``UserError``.
    """
    if name == CUSTOM:
        return Shift(**amounts)
    if name not in PRESETS:
        raise UserError(f"Choose one of these changes of light: {', '.join(SHIFTS)}.")
    return PRESETS[name]


def enlarge(
    inputs: Inputs,
    showcase: Showcase,
    before: Exploration | None = None,
    admitted: bool = False,
) -> Steps[Exploration]:
    """The first step of a run, to the enlarged picture; an example that is ready is given at once.

    ``before`` is the visitor's last exploration, of which what stays the same is used again.
    ``admitted`` is who stands in the line already, with a run that this one replaces. Raises
    ``gr.Error`` with one sentence for the visitor.
    """
    with told_kindly():
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
    """The steps after a picture, each in a turn of its own: the same network without the reference,
    then with either branch of DRAM switched off. What is known is not computed again.
    """
    compared = x
    with told_kindly():
        if x.plain is None:
            for step in follow(lambda told: without_reference(x, progress=told), admitted=True):
                yield step
                if isinstance(step, Finished):
                    compared = step.value
        if not x.switched_off:
            yield from follow(lambda told: without_branches(compared, progress=told), admitted=True)


def made(x: Exploration | None) -> Exploration:
    """``x``, which may have been forgotten. Raises ``gr.Error``."""
    if x is None:
        raise _spoken("There is no run to show: press Enlarge (a run is kept for a while only).")
    return x


@contextmanager
def told_kindly() -> Iterator[None]:
    """Turns what goes wrong inside the block into one sentence for the visitor."""
    try:
        yield
    except UserError as error:
        raise _spoken(str(error)) from None
    except Stopped:
        raise _spoken("Nobody waited for this run any more, so it was ended.") from None
    except MemoryError:
        raise _spoken(
            "There is not enough memory for these pictures now: try smaller ones."
        ) from None
    except RuntimeError as error:  # torch has no type of its own for the processor's memory
        if "memory" not in str(error):
            raise
        raise _spoken(
            "There is not enough memory for these pictures now: try smaller ones."
        ) from None
    except OSError:
        raise _spoken(GONE) from None


def _spoken(sentence: str) -> gr.Error:
    return gr.Error(html.escape(sentence, quote=False), print_exception=False)


def progress_bar(step: Step) -> str:
    """HTML of a progress bar with what is being done and the time left."""
    left = "" if step.seconds_left is None else f", about {step.seconds_left:.0f} s left"
    return (
        f'<div class="progress"><progress max="1" value="{step.share:.3f}" aria-label="Progress">'
        f'</progress> <span role="status">{html.escape(step.doing)}</span>{left}</div>'
    )


_PANELS: WeakKeyDictionary[Matches, dict[str, tuple[Panel, ...]]] = WeakKeyDictionary()
"""Where pictures lie in a run's figures that were drawn, so that a click need not draw them again;
neither what is chosen nor what is computed later moves any. (A run keeps its matches.)"""


def draw(
    x: Exploration, view: View, names: Sequence[str], place: Rank | None = None
) -> list[tuple[str | None, str, str]]:
    """Draw figures by name, each in its ``place``: for each, its file, alternative text, summary.

    Where a figure is not to be had, the file is ``None`` and the summary says why.
    """
    view = view.clipped(x)
    place = place or rank()
    found: list[tuple[str | None, str, str]] = []
    for name in names:
        figure = FIGURES[name]
        with EASEL.place(place):
            drawn = figure.draw(x, view)
        if drawn is None:
            found.append((None, "", figure.missing(x, view)))
        else:
            _PANELS.setdefault(x.matches, {})[name] = drawn.panels
            found.append((serve_png(drawn.image, f"{name}.png"), drawn.alt, drawn.summary))
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
    known = _PANELS.setdefault(x.matches, {})
    if name not in known:
        with EASEL.place(rank()):
            figure = FIGURES[name].draw(x, view)
        known[name] = () if figure is None else figure.panels
    panels = known[name]
    picked, choose = pick(panels, *at), FIGURES[name].click
    return None if picked is None or choose is None else choose(x, view, *picked)


@dataclass(frozen=True, eq=False)
class Trial:
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
) -> Steps[Trial]:
    """Match again with other settings, beside dense matching.

    Where it can be measured, the result is then painted too, and the trial given a second time.
    Raises ``gr.Error`` with one sentence for the visitor.
    """

    def match_again(progress: Progress) -> Trial:
        def densely(share: float) -> None:
            progress(0.9 * share, "Dense matching, for comparison")

        every = dense or dense_match(x, on_share=densely)
        progress(0.9, "Matching again")
        found = rematch(x, config, every)
        return Trial(found, every, rematch_figure(x, found, every), "")

    with told_kindly():
        if not dilations:
            raise UserError("Choose at least one dilation.")
        try:
            config = MASAConfig(
                lr_block=int(block), ref_factor=float(factor), dilations=tuple(sorted(dilations))
            )
        except ValueError as error:
            raise UserError(f"These settings do not work: {error}.") from None
        rematch_cost(x, config)  # what cannot be done is said before it is waited for
        for step in follow(match_again):
            yield step
            if isinstance(step, Finished) and x.hr is not None:
                yield from follow(partial(_painted, x, step.value), admitted=True)


def _painted(x: Exploration, trial: Trial, progress: Progress) -> Trial:
    """The trial with what its matches are worth; the HR of ``x`` is known."""
    predictor = predictor_for(x.weights)
    matching = replace(
        predictor.config,
        lr_block=trial.found.config.lr_block,
        ref_factor=trial.found.config.ref_factor,
        dilations=trial.found.config.dilations,
    )
    again = predictor.run(x.visitors_lr(), x.visitors_refs(), progress, matching=matching)
    assert x.hr is not None
    found, own = (result_figures.decibels(psnr_y(p, x.hr)) for p in (again.rgb, x.result))
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


def pictures_of(x: Exploration) -> dict[str, str]:
    """Names of the pictures that exist in ``x``, by field."""
    names = dict(PICTURES)
    if x.self_reference:  # with and without one are the same picture
        del names["plain"]
        names["result"] = "MASA without a reference"
    return {field: name for field, name in names.items() if getattr(x, field) is not None}


def likely_mode(photo: str) -> str | None:
    """What a photo is, by its size: small, if it may be enlarged as it is; ``None`` if unreadable.

    What is wrong with it is said when it is used.
    """
    try:
        with Image.open(photo) as picture:
            width, height = picture.size
    except Exception:  # arbitrary bytes make a reader raise nearly every built-in exception
        return None
    return LR_MODE if width * height <= LIMITS.max_lr_pixels else HR_MODE


def compared_files(x: Exploration, left: str, right: str) -> tuple[str, str]:
    """Files of the two named pictures, for the slider."""
    by_name = {name: field for field, name in pictures_of(x).items()}
    chosen = (by_name.get(left, "bicubic"), by_name.get(right, "result"))
    first, second = (serve_png(getattr(x, f), f"{f}_x4.png") for f in chosen)
    return first, second


def report(x: Exploration) -> str:
    """Markdown: sizes, time, scores, verdict and notes."""
    height, width = x.result.shape[:2]
    scores = result_figures.measure(x)
    lines = [
        f"**{width // SCALE} x {height // SCALE} to {width} x {height} pixels in "
        f"{sum(x.seconds.values()):.1f} s.**",
        result_figures.verdict(x, scores),
        result_figures.scores_table(x, scores),
    ]
    if x.hint:
        lines.insert(0, f"*{x.hint}*")
    notes = [*x.notes, padding_words(x)]
    lines += [f"- {html.escape(note)}" for note in notes if note]
    return "\n\n".join(line for line in lines if line)
