"""What a reference is still worth when it is turned, or seen from nearer or farther.

Each reference is changed as a whole, by the functions of :mod:`masa.measuring.ladder`: turned in a
picture that grows so that no corner is lost, and resized with an antialiased bicubic filter. So
the changed reference shows all that the upright one shows, and what a result loses is lost by
matching, or, below a scale of 1, because there are fewer pixels to take from.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from masa.errors import UserError
from masa.measuring.evaluate import SceneScores, Upscale
from masa.measuring.ladder import rotated, scaled
from masa.pictures.photo import Pixels

AS_IT_IS, ALIGNED = "masa", "aligned"
"""The methods of the unchanged reference, by their names in scores."""

LEAST_GAIN = 0.1
"""dB that an upright reference has to bring before shares of it are told."""

_SCALES = (0.25, 4.0)


@dataclass(frozen=True)
class Geometry:
    """One change of a reference. Raises ``UserError`` for numbers that are out of range."""

    turn: float = 0
    """Degrees, counter-clockwise."""
    scale: float = 1
    """How many times as long and as wide the reference becomes: 2 is seen from twice as near."""

    def __post_init__(self) -> None:
        if not math.isfinite(self.turn) or not abs(self.turn) <= 180:
            raise UserError(f"A turn of {self.turn:g} degrees is not offered: give -180 to 180.")
        low, high = _SCALES
        if not math.isfinite(self.scale) or not low <= self.scale <= high:
            raise UserError(f"A scale of {self.scale:g} is not offered: give {low:g} to {high:g}.")
        if (self.turn, self.scale) == (0, 1):
            raise UserError("This change of the reference changes nothing: leave it out.")

    @property
    def name(self) -> str:
        """As it is written on the command line."""
        parts = [f"turn={self.turn:g}"] if self.turn else []
        return ",".join([*parts, f"scale={self.scale:g}"] if self.scale != 1 else parts)

    @property
    def title(self) -> str:
        """For reading."""
        parts = [f"turned {self.turn:g}°"] if self.turn else []
        return ", ".join([*parts, f"seen at {self.scale:g}"] if self.scale != 1 else parts)

    def apply(self, rgb: Pixels) -> Pixels:
        """The changed copy of a reference ``(H, W, 3)``."""
        if self.scale != 1:
            rgb = scaled(rgb, self.scale, whole=True)
        if self.turn:
            rgb = rotated(rgb, self.turn, whole=True)
        return np.ascontiguousarray(rgb)


USUAL = (
    Geometry(turn=25),
    Geometry(turn=90),
    Geometry(scale=0.7),
    Geometry(scale=1.5),
    Geometry(scale=2),
)
"""What is measured unless changes are named."""


def geometry_called(text: str) -> Geometry:
    """The change that is written as ``turn=25``, ``scale=2`` or both. Raises ``UserError``."""
    found: dict[str, float] = {}
    for part in text.split(","):
        name, _, number = part.partition("=")
        try:
            if name not in ("turn", "scale") or name in found:
                raise ValueError
            found[name] = float(number)
        except ValueError:
            raise UserError(
                f"'{text}' is no change of a reference: write turn=25, scale=2 or both, as "
                "turn=20,scale=1.5."
            ) from None
    return Geometry(**found)


def geometry_methods(
    plain: Upscale, aligning: Upscale, changes: Sequence[Geometry]
) -> dict[str, Upscale]:
    """Methods for :func:`masa.measuring.evaluate.evaluate`, by name.

    The reference aligned, and each of its changes as it is and aligned. ``plain`` and ``aligning``
    are the network without and with alignment.
    """
    methods = {ALIGNED: aligning}
    for change in changes:
        for align, upscale in ((False, plain), (True, aligning)):
            methods[_method(change, align)] = _changed(upscale, change)
    return methods


def _method(change: Geometry, aligned: bool) -> str:
    return f"{change.name} {ALIGNED}" if aligned else change.name


def _changed(upscale: Upscale, change: Geometry) -> Upscale:
    def method(lr: Pixels, ref: Pixels | None) -> Pixels:
        return upscale(lr, None if ref is None else change.apply(ref))

    return method


# ---------------------------------------------------------------------------- the table


@dataclass(frozen=True)
class _Case:
    """A scene, or the mean of all, as it is or aligned; PSNR in dB."""

    name: str
    alone: float
    unaligned: float
    """With the reference upright and as it is: what gains are compared with."""
    upright: float
    changed: tuple[float, ...]

    def kept(self, psnr: float) -> float | None:
        """The share of the upright, unaligned reference's gain; ``None`` if that is too small, or
        a result is equal to the truth."""
        gain = self.unaligned - self.alone
        share = (psnr - self.alone) / gain if gain >= LEAST_GAIN else math.nan
        return share if math.isfinite(share) else None


def _case(
    name: str, psnr: Mapping[str, float], changes: Sequence[Geometry], aligned: bool
) -> _Case:
    return _Case(
        name,
        psnr["self"],
        psnr[AS_IT_IS],
        psnr[ALIGNED if aligned else AS_IT_IS],
        tuple(psnr[_method(change, aligned)] for change in changes),
    )


def geometry_table(rows: Sequence[SceneScores], changes: Sequence[Geometry]) -> str:
    """Markdown: PSNR of each scene and of their mean, and in brackets the share of the gain kept.

    ``rows`` have the scores of ``self``, ``masa`` and :func:`geometry_methods`.
    """
    titles = ["no reference", "upright", *(change.title for change in changes)]
    lines = ["| PSNR, dB | " + " | ".join(titles) + " |", "|---|" + "---:|" * len(titles)]
    scenes = [{name: score.psnr for name, score in row.scores.items()} for row in rows]
    mean = {name: fmean(scene[name] for scene in scenes) for name in scenes[0]}
    words = []
    for aligned, how in ((False, "as it is"), (True, "aligned")):
        cases = [
            _case(row.name, scene, changes, aligned)
            for row, scene in zip(rows, scenes, strict=True)
        ]
        total = _case("mean", mean, changes, aligned)
        lines += [_line(case, how) for case in [*cases, total]]
        words.append(f"- {how}: {_words(cases, total, changes)}")
    return "\n".join(
        [
            *lines,
            "",
            "Share kept of what the upright reference, not aligned, gains over no reference:",
            *words,
        ]
    )


def _line(case: _Case, how: str) -> str:
    cells = [f"{case.alone:.2f}", *(_cell(case, psnr) for psnr in (case.upright, *case.changed))]
    return f"| {case.name}, {how} | " + " | ".join(cells) + " |"


def _cell(case: _Case, psnr: float) -> str:
    kept = case.kept(psnr)
    return f"{psnr:.2f}" if kept is None else f"{psnr:.2f} ({_percent(kept)})"


def _percent(share: float) -> str:
    return f"{round(100 * share)}%"  # never -0%


def _words(cases: Sequence[_Case], total: _Case, changes: Sequence[Geometry]) -> str:
    """The share of the mean gain, as the mean over changes, and the lowest of any scene."""
    kept = [share for psnr in total.changed if (share := total.kept(psnr)) is not None]
    each = [
        (share, case.name, change.title)
        for case in cases
        for change, psnr in zip(changes, case.changed, strict=True)
        if (share := case.kept(psnr)) is not None
    ]
    if not kept or not each:
        return f"not told, as the upright reference gains less than {LEAST_GAIN:g} dB"
    lowest, name, title = min(each)
    mean = f"{_percent(fmean(kept))} of the mean gain over all changes"
    return f"{mean}; the lowest is {_percent(lowest)} ({name}, {title})"
