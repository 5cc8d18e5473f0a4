"""How steady networks stay when reference or photo change: sweeps over a ladder of changes.

Each network paints the LR with the reference as both are first, then with one of them changed, so
that whatever differs comes from the change alone. Where the photo changes, the baselines are
measured anew for each of its versions. Where the reference is turned or scaled, each network runs
twice: as the paper has it, and with references aligned. In figures, each of the two is a *line*.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from statistics import fmean
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from masa.measuring.ladder import ALIGNING, FAMILIES, NAMED, Rung, Substitutes, changed_by
from masa.network.adaptation import ChannelStats, channel_stats
from masa.network.decoder import ScaleTrace
from masa.network.matching import Matches
from masa.pictures.metrics import psnr_y
from masa.pictures.photo import Pixels
from masa.predictor import Predictor, Progress, Result


@dataclass(frozen=True, eq=False)
class Subject:
    """What a sweep is made on."""

    lr: Pixels
    """``(h, w, 3)``."""
    refs: tuple[Pixels, ...]
    """One or more, ``(H, W, 3)``; all are changed alike."""
    hr: Pixels | None = None
    """``(4h, 4w, 3)`` if the truth is known."""
    other: Pixels | None = None
    """A photo of something else, for the family that replaces the reference by it."""


@dataclass(frozen=True)
class Statistics:
    """Channels of the features that adaptation works on, at the LR's own size (x1).

    On the CPU; each of ``(1, C, 1, 1)``.
    """

    lr: ChannelStats
    before: ChannelStats
    """Of the reference's features as they were transferred."""
    after: ChannelStats
    """Of the same, adapted."""


def line_of(network: str, aligned: bool) -> str:
    """What a network's results are called, by whether references were aligned."""
    return f"{network} with alignment" if aligned else network


def ways(rungs: Sequence[Rung]) -> tuple[bool, ...]:
    """Whether references are aligned: ``False``, and also ``True`` if a change asks for it."""
    return (False, True) if any(rung.aligns for rung in rungs) else (False,)


@dataclass(frozen=True, eq=False)
class Point:
    """One network's result with one change of the reference."""

    network: str
    rung: Rung | None
    """``None``: photo and reference as they are."""
    rgb: Pixels
    """``(4h, 4w, 3)``."""
    psnr: float
    """dB on Y, no border left out: against the HR or, where that is unknown, against the same
    line's result before any change (infinite for that result itself)."""
    similarity: float
    """Mean cosine similarity of the matches over the LR's pixels, -1 to 1."""
    moved: float | None
    """Share of LR pixels that are matched with another place of the reference than without the
    change, 0 to 1; ``None`` where the change itself moves places."""
    clipped: float
    """Share of the changed references' pixels of which a channel was clipped, 0 to 1."""
    statistics: Statistics | None
    """``None`` unless asked for."""
    baseline: Baseline | None = None
    """Of the same changed photo; ``None`` where the photo is as it is."""
    aligned: bool = False
    """References were aligned."""
    notes: tuple[str, ...] = ()
    """What became of each reference where they were to be aligned, a sentence each."""


@dataclass(frozen=True, eq=False)
class Baseline:
    """What a network is worth without any reference, measured as :attr:`Point.psnr`."""

    network: str
    alone: float
    """dB of the same network with the LR as its own reference."""
    bicubic: float
    """dB of bicubic enlargement."""
    rgb: Pixels
    """``(4h, 4w, 3)``: the network's result without a reference."""
    enlarged: Pixels
    """``(4h, 4w, 3)``: bicubic enlargement."""
    aligned: bool = False
    """For the line with alignment, to which it only matters if the HR is unknown."""


@dataclass(frozen=True)
class Pinned:
    """One network's result with a change of the reference, matched as without the change.

    The places and similarities are those of the unchanged reference. The unchanged reference's PSNR
    minus this one is what the changed features cost; this one minus the PSNR of the :class:`Point`
    with the same change is what matching cost.
    """

    network: str
    rung: Rung
    psnr: float
    """As :attr:`Point.psnr`."""


def sweep(
    subject: Subject,
    rungs: Sequence[Rung],
    networks: Mapping[str, Predictor],
    progress: Progress,
    statistics: bool = False,
    pin: bool = False,
) -> Iterator[Point | Baseline | Pinned]:
    """Every network's results, each as soon as it is there.

    The unchanged reference comes first, then the baselines, then ``rungs`` in their order, each
    for all networks. If any of the rungs asks for alignment, unchanged references are aligned too.
    With ``pin``, where the HR is known, the networks' :class:`Pinned` results come last, with the
    change that costs them most together, of those that keep places.
    An LR is encoded once per network. ``progress`` is told of the whole sweep; what it raises ends
    it. Raises ``UserError`` for pictures that cannot be used.

    No features are held while the next result is not asked for; with ``pin``, matches are.
    """
    substitutes = Substitutes(subject.other, subject.hr)
    for rung in rungs:
        rung.check(substitutes)
    photos = sum(rung.changes == "the photo" for rung in rungs)
    each = 1 + len(ways(rungs)) + photos + sum(len(ways([rung])) for rung in rungs)
    to_pin = [r for r in rungs if r.keeps_places and r.changes == "the reference"]
    if not pin or subject.hr is None:
        to_pin = []
    each += bool(to_pin)
    runs = len(networks) * each
    done = 0

    def run(
        name: str,
        lr: Pixels,
        refs: Sequence[Pixels],
        doing: str,
        aligned: bool = False,
        matches: Matches | None = None,
    ) -> Result:
        nonlocal done
        result = networks[name].run(
            lr,
            refs,
            lambda share, _: progress((done + share) / runs, doing),
            keep=(1,) if statistics else (),
            align=aligned,
            matches=matches,
        )
        done += 1
        return result

    def alone(name: str, lr: Pixels, doing: str) -> list[Baseline]:
        """One for each line; without a reference their results are the same."""
        result = run(name, lr, (), doing)
        return [
            Baseline(
                name,
                psnr_y(result.rgb, truth[name, aligned]),
                psnr_y(result.bicubic, truth[name, aligned]),
                result.rgb,
                result.bicubic,
                aligned,
            )
            for aligned in ways(rungs)
        ]

    unchanged: dict[str, NDArray[np.int64]] = {}
    matches: dict[str, Matches] = {}
    scores = dict.fromkeys(to_pin, 0.0)  # PSNR of all networks together
    truth: dict[tuple[str, bool], Pixels] = {}
    for name in networks:
        for aligned in ways(rungs):
            doing = f"{line_of(name, aligned)}: the reference as it is"
            result = run(name, subject.lr, subject.refs, doing, aligned)
            if not aligned:
                unchanged[name] = _places(result)
                if to_pin:
                    matches[name] = result.trace.matches
            known = truth[name, aligned] = result.rgb if subject.hr is None else subject.hr
            point = _point(name, aligned, None, result, known, 0.0, 0.0)
            del result
            yield point
    for name in networks:
        yield from alone(name, subject.lr, f"{name}: no reference")
    for rung in rungs:
        lr, refs, clipped = subject.lr, subject.refs, 0.0
        if rung.changes == "the photo":
            lr = rung.apply(lr, substitutes).rgb
        else:
            changed = [rung.apply(ref, substitutes) for ref in refs]
            pixels = sum(ref.rgb.shape[0] * ref.rgb.shape[1] for ref in changed)
            clipped = sum(ref.clipped for ref in changed) / pixels
            refs = tuple(ref.rgb for ref in changed)
        for name in networks:
            for aligned in ways([rung]):
                doing = f"{line_of(name, aligned)}: {rung.title}"
                result = run(name, lr, refs, doing, aligned)
                moved = None
                if rung.keeps_places:
                    moved = float((_places(result) != unchanged[name]).any(0).mean())
                known = truth[name, aligned]
                point = _point(name, aligned, rung, result, known, moved, clipped)
                del result
                if rung.changes == "the photo":
                    doing = f"{name}: {rung.title}, no reference"
                    point = replace(point, baseline=alone(name, lr, doing)[0])
                if rung in scores:
                    scores[rung] += point.psnr
                yield point
    if to_pin:
        hardest = min(to_pin, key=scores.__getitem__)
        refs = tuple(hardest.apply(ref, substitutes).rgb for ref in subject.refs)
        for name in networks:
            doing = f"{name}: {hardest.title}, matched as before"
            result = run(name, subject.lr, refs, doing, matches=matches[name])
            pinned = Pinned(name, hardest, psnr_y(result.rgb, truth[name, False]))
            del result
            yield pinned


def _point(
    name: str,
    aligned: bool,
    rung: Rung | None,
    result: Result,
    truth: Pixels,
    moved: float | None,
    clipped: float,
) -> Point:
    similarity = result.lr.crop(result.trace.matches.similarity[0, 0].cpu().numpy())
    return Point(
        network=name,
        rung=rung,
        rgb=result.rgb,
        psnr=psnr_y(result.rgb, truth),
        similarity=float(similarity.mean()),
        moved=moved,
        clipped=clipped,
        statistics=None if result.trace.x1 is None else _statistics(result.trace.x1),
        aligned=aligned,
        notes=result.notes,
    )


def _places(result: Result) -> NDArray[np.int64]:
    """``(2, h, w)``: where on the Ref-down grid each of the LR's own pixels is matched."""
    rows, columns = result.trace.matches.position[0].cpu().numpy()
    return np.stack((result.lr.crop(rows), result.lr.crop(columns)))


def _statistics(trace: ScaleTrace) -> Statistics:
    def of(features: Tensor) -> ChannelStats:
        stats = channel_stats([features])
        return ChannelStats(stats.mean.cpu(), stats.var.cpu(), stats.pixels)

    return Statistics(of(trace.lr), of(trace.ref), of(trace.adapted.out))


# ---------------------------------------------------------------------------- numbers

UNCHANGED, ALONE, BICUBIC = "unchanged", "no reference", "bicubic"
"""What stands for a family in the rows of the unchanged reference and of the baselines."""


@dataclass(frozen=True)
class Row:
    """The numbers of one result."""

    scene: str
    network: str
    family: str
    value: float
    """0 for the unchanged reference and the baselines."""
    title: str
    psnr: float
    similarity: float | None = None
    moved: float | None = None
    clipped: float | None = None
    alone: float | None = None
    """dB without a reference and of bicubic, of the same changed photo; ``None`` where the photo is
    as it is."""
    bicubic: float | None = None
    aligned: bool = False
    """References were aligned. Baselines, which have none, come once for each line."""
    pinned: bool = False
    """The result is a :class:`Pinned` one."""

    @property
    def line(self) -> str:
        """The network's name, and whether references were aligned."""
        return line_of(self.network, self.aligned)


def rows_of(found: Point | Baseline | Pinned, scene: str = "") -> list[Row]:
    """The numbers of a sweep's step; fields are those of :class:`Point`."""
    if isinstance(found, Pinned):
        rung = found.rung
        change = rung.family, rung.value, rung.title
        return [Row(scene, found.network, *change, found.psnr, pinned=True)]
    if isinstance(found, Baseline):
        return [
            Row(scene, found.network, kind, 0, kind, psnr, aligned=found.aligned)
            for kind, psnr in ((ALONE, found.alone), (BICUBIC, found.bicubic))
        ]
    family, value, title = UNCHANGED, 0.0, UNCHANGED
    if found.rung is not None:
        family, value, title = found.rung.family, found.rung.value, found.rung.title
    numbers = found.psnr, found.similarity, found.moved, found.clipped
    row = Row(scene, found.network, family, value, title, *numbers, aligned=found.aligned)
    if found.baseline is not None:
        row = replace(row, alone=found.baseline.alone, bicubic=found.baseline.bicubic)
    return [row]


@dataclass(frozen=True)
class Level:
    """Means over scenes at one value of a family."""

    value: float
    title: str
    psnr: float
    similarity: float
    moved: float | None
    alone: float | None = None
    """As in :class:`Row`, and of the unchanged photo where a family changes the photo."""
    bicubic: float | None = None


@dataclass(frozen=True)
class Curve:
    """How one network does along one family, as means over scenes."""

    network: str
    aligned: bool
    """References were aligned."""
    family: str
    levels: tuple[Level, ...]
    """By value, the neutral one included."""
    unchanged: Level
    """With photo and reference as they are; one of ``levels``."""
    alone: float | None
    """dB without any reference, of the photo as it is; ``None`` if not measured yet, like
    ``bicubic``."""
    bicubic: float | None
    pinned: Level | None = None
    """The :class:`Pinned` result at one of the ``levels``; ``None`` if there is none, and for
    several scenes, which may differ in the change that is the hardest."""

    @property
    def line(self) -> str:
        """The network's name, and whether references were aligned."""
        return line_of(self.network, self.aligned)

    def drop(self, level: Level) -> float:
        """dB lost by the change; below 0 if the change helped."""
        return 0.0 if level.psnr == self.unchanged.psnr else self.unchanged.psnr - level.psnr

    @property
    def worst(self) -> Level:
        """Where most is lost."""
        return min(self.levels, key=lambda level: level.psnr)

    @property
    def mean_drop(self) -> float:
        """Mean loss over the changes, dB; 0 if there are none yet."""
        return fmean(self._drops)

    @property
    def mean_change(self) -> float:
        """The same without signs: where some changes help and some hurt, they do not cancel."""
        return fmean(map(abs, self._drops))

    @property
    def _drops(self) -> list[float]:
        return [self.drop(lv) for lv in self.levels if lv is not self.unchanged] or [0.0]


def neutral_value(family: str) -> float:
    """The value at which a family changes nothing."""
    return 0.0 if family == NAMED else FAMILIES[family].neutral


def curves(rows: Sequence[Row], families: Sequence[str] | None = None) -> list[Curve]:
    """Every line's curve along every family, in the order they come in ``rows``.

    ``families`` are those in ``rows`` unless given. Rows may be those of a sweep that still runs:
    a value counts once every scene has it.
    """
    scenes = len({row.scene for row in rows})
    pins = {(r.network, r.aligned, r.family): _mean([r]) for r in rows if r.pinned}
    rows = [row for row in rows if not row.pinned]
    groups: dict[tuple[str, bool, str, float], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.network, row.aligned, row.family, row.value), []).append(row)
    means = {key: _mean(group) for key, group in groups.items() if len(group) == scenes}
    if families is None:
        kinds = {UNCHANGED, ALONE, BICUBIC}
        families = list(dict.fromkeys(row.family for row in rows if row.family not in kinds))
    found = []
    for family in families:
        for line in dict.fromkeys((row.network, row.aligned) for row in rows):
            network, aligned = line
            if (*line, UNCHANGED, 0.0) not in means or (aligned and family not in ALIGNING):
                continue
            unchanged = replace(means[*line, UNCHANGED, 0.0], value=neutral_value(family))
            levels = [level for key, level in means.items() if key[:3] == (*line, family)]
            alone, bicubic = (
                None if mean is None else mean.psnr
                for mean in (means.get((*line, kind, 0.0)) for kind in (ALONE, BICUBIC))
            )
            if changed_by(family) == "the photo":
                unchanged = replace(unchanged, alone=alone, bicubic=bicubic)
            found.append(
                Curve(
                    network,
                    aligned,
                    family,
                    tuple(sorted([*levels, unchanged], key=lambda level: level.value)),
                    unchanged,
                    alone,
                    bicubic,
                    pins.get((*line, family)) if scenes == 1 else None,
                )
            )
    return found


def _mean(rows: Sequence[Row]) -> Level:
    def mean(name: Literal["similarity", "moved", "alone", "bicubic"]) -> float | None:
        known = [value for row in rows if (value := getattr(row, name)) is not None]
        return fmean(known) if known else None

    similarity = mean("similarity")
    return Level(
        rows[0].value,
        rows[0].title,
        fmean(row.psnr for row in rows),
        math.nan if similarity is None else similarity,
        mean("moved"),
        mean("alone"),
        mean("bicubic"),
    )


def csv_text(rows: Sequence[Row]) -> str:
    """A line per result, for a table calculator; what is not known is empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in fields(Row)], lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow(
            {k: f"{v:.5g}" if isinstance(v, float) else v for k, v in asdict(row).items()}
        )
    return text.getvalue()
