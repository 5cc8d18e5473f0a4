"""The laboratory: sweeps over changes of a visitor's pictures, without any web framework.

The reference alone or the photo alone is changed, network by network, so that a visitor sees which
network stays steady, and whether matching or adaptation gave way.
"""

from __future__ import annotations

import filecmp
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from demo.figures import robustness as figures
from demo.figures.draw import WIDE
from demo.figures.figure import Drawn
from demo.figures.parts import Place, busiest, luma_change, minus
from demo.figures.result import DETAIL, decibels
from demo.figures.steadiness import table
from demo.runs.examples import load_examples
from demo.runs.exploration import ChannelStatistics
from demo.runs.jobs import Turns
from demo.runs.request import Request, predictor_for, prepare
from demo.runs.served import serve_png
from demo.settings import PREVIEW_QUEUE
from masa.config import SCALE
from masa.errors import UserError
from masa.measuring.ladder import (
    FAMILIES,
    NAMED,
    Rung,
    Substitutes,
    changed_by,
    family_called,
    named_rungs,
)
from masa.measuring.robustness import (
    UNCHANGED,
    Baseline,
    Curve,
    Pinned,
    Point,
    Row,
    Statistics,
    Subject,
    curves,
    line_of,
    neutral_value,
    rows_of,
    sweep,
)
from masa.pictures.photo import Pixels
from masa.pictures.read import read_photo
from masa.pictures.resize import enlarge_x4
from masa.pictures.shifts import Shift, Shifted
from masa.predictor import Predictor, Progress, unwatched
from masa.weights import DEFAULT_WEIGHTS, shipped_weights

LR_SIDE = 128
"""Of a larger LR, the middle so many pixels a side are used: many runs are to be made."""
MOST_POINTS = 11
TWINS = {"lab-sam": "SAM", "lab-spade": "SPADE", "lab-adain": "AdaIN", "lab-none": "no adaptation"}
"""Weights that differ in adaptation, and by what."""
FOR_COMPARISON = TWINS | {
    "lab-sam-seed2": "SAM, another seed",
    "lab-none-seed2": "no adaptation, another seed",
    "lab-dram1": "DRAM Model 1",
    "lab-dram2": "DRAM Model 2",
    "lab-dram3": "DRAM Model 3",
    "lab-sam-plain": "SAM, trained without changes of light",
}
"""Weights that are of use beside one another only, and what they are."""
KEPT_BYTES = 4 * 2**20
"""Bound on what a visitor's session keeps of a sweep; whole results lie in files."""


def twins() -> list[str]:
    """Those of :data:`TWINS` that are shipped; none unless there are two to compare."""
    found = [name for name in TWINS if name in shipped_weights()]
    return found if len(found) > 1 else []


def default_networks() -> list[str]:
    """The weights to compare first."""
    return twins() or [DEFAULT_WEIGHTS]


# ---------------------------------------------------------------------------- what is asked


@dataclass(frozen=True)
class SweepRequest:
    """A sweep that a visitor asked for."""

    request: Request
    """The pair; its own change of light and its weights play no part, nor does its degradation
    where the family changes the photo."""
    family: str
    """A family's name, or ``named changes``."""
    networks: tuple[str, ...]
    points: int = 7
    """Values along the family, the neutral one included."""
    shifts: Mapping[str, Shift] | None = None
    """The named changes by name."""

    @property
    def pair(self) -> Request:
        """The request for the pictures before any change."""
        if changed_by(self.family) == "the photo":
            return replace(self.request, degradation="clean")
        return self.request

    def rungs(self) -> list[Rung]:
        """The changes, from the slightest on. Raises ``UserError``."""
        if self.family == NAMED:
            rungs = named_rungs(self.shifts or {})
            if not rungs:
                raise UserError("Choose at least one change of light that changes something.")
            return rungs
        family = family_called(self.family)
        if not 3 <= self.points <= MOST_POINTS:
            raise UserError(f"{self.points} values are not offered: choose 3 to {MOST_POINTS}.")
        rungs = family.rungs(family.values(int(self.points)))
        return sorted(rungs, key=lambda rung: abs(rung.value - family.neutral))

    def check(self) -> None:
        """Raises ``UserError`` for what can be told before any picture is read."""
        _check_refs(self.request)
        self.names()
        for rung in self.rungs():
            if rung.replaced_by == "hr" and not self.request.is_hr:
                rung.check(Substitutes())

    def names(self) -> list[str]:
        """Those of the networks. Raises ``UserError``."""
        names = list(dict.fromkeys(self.networks))
        if not names:
            raise UserError("Choose at least one network.")
        if len(names) > figures.MOST_NETWORKS:
            raise UserError(f"Choose at most {figures.MOST_NETWORKS} networks.")
        return names

    def predictors(self) -> dict[str, Predictor]:
        """The networks by name. Raises ``UserError``."""
        return {name: predictor_for(name) for name in self.names()}


def _check_refs(request: Request) -> None:
    if not request.refs:
        raise UserError("Add a reference first: every sweep needs one.")


def subject_of(request: Request, progress: Progress = unwatched) -> Subject:
    """The pair as a sweep needs it; of a large LR the middle. Raises ``UserError``.

    The request's own change of light plays no part. ``progress`` is called as by
    :func:`demo.runs.request.prepare`.
    """
    _check_refs(request)
    prepared = prepare(replace(request, shift=Shift(), align=False), progress)
    whole, hr = prepared.lr.rgb, prepared.hr
    top, left = (max(0, (side - LR_SIDE) // 2) for side in whole.shape[:2])
    lr = np.ascontiguousarray(whole[top : top + LR_SIDE, left : left + LR_SIDE])
    if hr is not None:
        place = Place(SCALE * top, SCALE * left, SCALE * lr.shape[0], SCALE * lr.shape[1])
        hr = place.cut(hr)
    return Subject(lr, tuple(ref.rgb for ref in prepared.refs), hr, _something_else(request))


def _something_else(request: Request) -> Pixels:
    """The reference of the first example that has nothing to do with the pair."""
    given = [s for s in (request.photo, *request.refs) if isinstance(s, (str, Path))]
    examples = load_examples()
    for example in examples:
        own = (example.photo, *example.refs)
        if not any(filecmp.cmp(str(g), str(o), shallow=False) for g in given for o in own):
            break
    return read_photo(example.refs[0]).rgb


PREVIEWS = Turns(PREVIEW_QUEUE, "previews", most_each=PREVIEW_QUEUE // 2)
"""Taken by who makes a preview, which decodes pictures as a run does, but beside the network."""


def changed_pictures(asked: SweepRequest) -> list[tuple[str, Shifted]]:
    """The first reference, or the photo, as it is and with each change, in the order of the curve.

    Waits while others are made. Raises ``UserError``, also if too many wait already.
    """
    rungs = asked.rungs()
    with PREVIEWS.held():
        subject = subject_of(replace(asked.pair, refs=asked.request.refs[:1]))
        substitutes = Substitutes(subject.other, subject.hr)
        picture = subject.lr if changed_by(asked.family) == "the photo" else subject.refs[0]
        found = [(rung.value, rung.title, rung.apply(picture, substitutes)) for rung in rungs]
    found.append((neutral_value(asked.family), UNCHANGED, Shifted(picture)))
    found.sort(key=lambda entry: entry[0])
    return [(title, shifted) for _, title, shifted in found]


# ---------------------------------------------------------------------------- what is found


@dataclass(frozen=True, eq=False)
class SweepResult:
    """One result, as a visitor's session keeps it."""

    line: str
    """The network's name, and whether references were aligned."""
    value: float
    title: str
    picture: str
    """Path of the whole result, a PNG that is served for a while."""
    crop: Pixels
    """The part of it that strips show."""
    clipped: float
    statistics: Mapping[str, ChannelStatistics]
    """Of ``lr``, ``before`` and ``after`` the adaptation, at x1."""
    bicubic: str | None = None
    """Path of the changed photo's own bicubic enlargement; ``None`` where the photo is as it is."""
    notes: tuple[str, ...] = ()
    """What became of each reference where they were to be aligned, a sentence each."""


@dataclass(frozen=True, eq=False)
class Sweep:
    """What a sweep has found so far."""

    family: str
    measured: bool
    """The truth is known: PSNR is against it."""
    place: Place
    """The part that strips show, in result pixels."""
    others: Mapping[str, Pixels]
    """That part of bicubic, of the truth if known, and of results without reference, by title; all
    of the photo as it is."""
    bicubic: str
    """Path of the bicubic enlargement of the photo as it is, whole."""
    truth: str | None
    """Path of the sharp photo's part that was used; ``None`` if unknown."""
    rows: tuple[Row, ...] = ()
    results: tuple[SweepResult, ...] = ()

    @property
    def curves(self) -> list[Curve]:
        """One per line, as far as they are."""
        return curves(self.rows, [self.family])

    def result(self, line: str, value: float) -> SweepResult:
        """The result of ``line`` nearest to ``value``. Raises ``LookupError`` without any."""
        own = [kept for kept in self.results if kept.line == line] or list(self.results)
        if not own:
            raise LookupError("no results yet")
        return min(own, key=lambda kept: abs(kept.value - value))

    def unchanged(self, line: str) -> SweepResult:
        """The result of ``line`` before any change."""
        return self.result(line, neutral_value(self.family))

    @property
    def lines(self) -> tuple[str, ...]:
        """Those that have results, in the order asked for."""
        return tuple(dict.fromkeys(row.line for row in self.rows))

    def choices(self) -> list[tuple[str, float]]:
        """Title and value of every change so far, in the order of the values."""
        return list({kept.value: (kept.title, kept.value) for kept in self.results}.values())

    def kept_bytes(self) -> int:
        """Memory that this sweep holds, without the files on disk."""
        crops = [*self.others.values(), *(kept.crop for kept in self.results)]
        numbers = [
            array
            for kept in self.results
            for part in kept.statistics.values()
            for array in (part.mean, part.std)
        ]
        words = 300 * (len(self.rows) + len(self.results))
        words += sum(len(note) for kept in self.results for note in kept.notes)
        held = sum(crop.nbytes for crop in crops) + sum(array.nbytes for array in numbers)
        return held + words


def run_sweep(asked: SweepRequest, progress: Progress) -> Iterator[Sweep]:
    """The sweep, yielded again with each new result; the last one is whole.

    What ``progress`` raises ends it. Raises ``UserError``.
    """
    predictors, rungs = asked.predictors(), asked.rungs()
    subject = subject_of(asked.pair, progress)
    bicubic = enlarge_x4(subject.lr)
    found: Sweep | None = None
    for item in sweep(subject, rungs, predictors, progress, statistics=True, pin=True):
        if found is None:
            assert isinstance(item, Point)  # the unchanged reference comes first
            place = busiest(luma_change(item.rgb, bicubic), DETAIL, DETAIL)
            others = {"bicubic": place.cut(bicubic)}
            if subject.hr is not None:
                others = {"the sharp photo": place.cut(subject.hr), **others}
            found = Sweep(
                asked.family,
                subject.hr is not None,
                place,
                others,
                serve_png(bicubic, "bicubic_x4.png"),
                None if subject.hr is None else serve_png(subject.hr, "sharp.png"),
            )
        found = _with(found, item)
        yield found


def _with(found: Sweep, item: Point | Baseline | Pinned) -> Sweep:
    rows = (*found.rows, *rows_of(item))
    if isinstance(item, Pinned):
        return replace(found, rows=rows)
    crop = found.place.cut(item.rgb)
    if isinstance(item, Baseline):
        if item.aligned:  # the same picture
            return replace(found, rows=rows)
        title = f"{item.network}, no reference"
        return replace(found, rows=rows, others={**found.others, title: crop})
    value, title = neutral_value(found.family), UNCHANGED
    if item.rung is not None:
        value, title = item.rung.value, item.rung.title
    line = line_of(item.network, item.aligned)
    kept = SweepResult(
        line,
        value,
        title,
        serve_png(item.rgb, f"{line} {title}.png"),
        crop,
        item.clipped,
        {} if item.statistics is None else _per_channel(item.statistics),
        None if item.baseline is None else serve_png(item.baseline.enlarged, "bicubic_x4.png"),
        item.notes,
    )
    results = sorted((*found.results, kept), key=lambda k: k.value)
    return replace(found, rows=rows, results=tuple(results))


def _per_channel(statistics: Statistics) -> dict[str, ChannelStatistics]:
    """As the Adaptation tab keeps them."""
    named = {"lr": statistics.lr, "before": statistics.before, "after": statistics.after}
    return {
        name: ChannelStatistics(stats.mean.flatten().numpy(), stats.var.flatten().sqrt().numpy())
        for name, stats in named.items()
    }


def strips(found: Sweep) -> Drawn:
    """The same part of every result so far."""
    crops = [
        (line, [(kept.title, kept.crop) for kept in found.results if kept.line == line])
        for line in found.lines
    ]
    return figures.strips(crops, list(found.others.items()), changed_by(found.family))


def words_on(found: Sweep, kept: SweepResult) -> str:
    """Markdown: one result's numbers."""
    row = next(
        row
        for row in found.rows
        if row.line == kept.line and row.title == kept.title and row.similarity is not None
    )
    what = changed_by(found.family)
    against = "" if found.measured else f" of likeness to the result with {what} unchanged"
    words = [f"**{kept.line}, {minus(kept.title)}: {decibels(row.psnr)}{against}.**"]
    words.append(f"The matches' mean similarity is {row.similarity:.2f}.")
    if row.moved:
        words.append(f"{row.moved:.0%} of the photo's pixels are matched with another place.")
    if row.alone is not None and row.bicubic is not None:
        words.append(
            f"Of the same photo, the network makes {decibels(row.alone)} without a reference, "
            f"and bicubic {decibels(row.bicubic)}{'' if found.measured else ', of likeness too'}."
        )
    if kept.clipped:
        words.append(f"Of the changed reference's pixels {kept.clipped:.1%} are clipped.")
    words += kept.notes
    return " ".join(words)


# ---------------------------------------------------------------------------- as a report


@dataclass(frozen=True, eq=False)
class Report:
    """A whole sweep in numbers and one figure."""

    rows: tuple[Row, ...]
    figure: Drawn
    """``figure.summary`` says in words which network is steadier."""
    table: str
    """Markdown: PSNR of each line at each value, and what the change cost."""


def robustness_rows(asked: SweepRequest, progress: Progress) -> Iterator[tuple[Row, ...]]:
    """How steady networks are in a sweep, in numbers alone: all so far, with each new result.

    They hold the unchanged reference, the result without reference and bicubic as families of their
    own (:class:`masa.measuring.robustness.Row`). Raises ``UserError``; what ``progress`` raises
    ends it.
    """
    rungs, predictors = asked.rungs(), asked.predictors()
    rows: tuple[Row, ...] = ()
    subject = subject_of(asked.pair, progress)
    for item in sweep(subject, rungs, predictors, progress, pin=True):
        rows += tuple(rows_of(item))
        yield rows


def robustness_report(rows: Sequence[Row], measured: bool) -> Report:
    """What all rows of a sweep say; ``measured``: against the sharp photo."""
    found = curves(rows)
    drawn, _ = figures.quality(found, measured, width=WIDE)
    return Report(tuple(rows), drawn, table(found, measured))


FAMILY_NAMES = (NAMED, *FAMILIES)
"""What a visitor may change: single shifts of light by name, or one family."""
