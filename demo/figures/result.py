"""What did the reference give? The result against the truth, and against itself without it."""

from __future__ import annotations

from dataclasses import dataclass
from math import isinf

import numpy as np
from numpy.typing import NDArray

from demo.figures.figure import Drawn
from demo.figures.parts import (
    CHANGE,
    THIRD,
    Place,
    busiest,
    compose,
    high_of,
    luma_change,
    map_part,
    minus,
    picture_part,
)
from demo.figures.view import View
from demo.runs.exploration import Exploration
from demo.runs.request import Likeness, likeness
from masa.config import SCALE
from masa.pictures.photo import Pixels

CLEAR_DB = 0.3
"""Decibels from which on a difference between two results is called clear."""
SLIGHT_DB = 0.05
"""Decibels below which two results are called equally good."""
SLIGHT_CHANGE = 0.5
"""Mean change in grey levels below which a result counts as unchanged."""
SIMILAR = 0.8
"""Cosine similarity from which on a matched place is called similar."""
PALE = 2.0
"""Grey levels that the map of gains spans at least, so that invisible gains look pale."""
DETAIL = 96
"""Most result pixels a side of the part that is shown enlarged."""


@dataclass(frozen=True)
class Scores:
    """How close each picture comes to the known sharp photo."""

    masa: Likeness
    plain: Likeness | None
    """Of the same network without the reference; ``None`` until that is computed."""
    bicubic: Likeness


def measure(x: Exploration) -> Scores | None:
    """PSNR and SSIM on Y, no border cropped; ``None`` if the sharp photo is unknown.

    This is slow: measure once, and give the scores to :func:`verdict` and :func:`scores_table`.
    """
    if x.hr is None:
        return None
    plain = None if x.plain is None else likeness(x.plain, x.hr)
    return Scores(likeness(x.result, x.hr), plain, likeness(x.bicubic, x.hr))


def gain_db(better: float, worse: float) -> float:
    """Decibels from a PSNR ``worse`` to one ``better``; 0 if both are infinite."""
    return 0.0 if better == worse else better - worse


# ---------------------------------------------------------------------------- words


def verdict(x: Exploration, scores: Scores | None) -> str:
    """Markdown: whether the reference helped, in plain words with this run's numbers.

    ``scores`` are those of :func:`measure`. If the sharp photo is unknown, nothing is said about
    quality.
    """
    if scores is None:
        return _verdict_unmeasured(x)
    against_bicubic = (
        f"Plain bicubic enlargement has {decibels(scores.bicubic.psnr)}"
        f"{_distance(gain_db(scores.masa.psnr, scores.bicubic.psnr))}."
    )
    if x.self_reference:
        return (
            "**No reference was given**, so the photo served as its own. "
            f"The result comes to {decibels(scores.masa.psnr)} of PSNR. {against_bicubic}"
        )
    if scores.plain is None:
        return (
            f"The result comes to {decibels(scores.masa.psnr)} of PSNR. {against_bicubic} "
            "What the same network does without the reference is not computed yet."
        )
    gain = gain_db(scores.masa.psnr, scores.plain.psnr)
    return (
        f"**{_judgement(gain)}.** With it the result has {decibels(scores.masa.psnr)} of PSNR, "
        f"without it the same network has {decibels(scores.plain.psnr)}: {_gain_in_words(gain)}. "
        f"{against_bicubic}\n\n"
        f"A difference counts as clear from {CLEAR_DB} dB on; below {SLIGHT_DB} dB it counts as "
        "none. PSNR measures closeness to the sharp photo, which is not the same as good looks."
    )


def scores_table(x: Exploration, scores: Scores | None) -> str:
    """Markdown table of PSNR and SSIM; an empty string if the sharp photo is unknown."""
    if scores is None:
        return ""
    rows = [("MASA with the reference", scores.masa)]
    if x.self_reference:
        rows = [("MASA without a reference", scores.masa)]
    elif scores.plain is not None:
        rows.append(("MASA without the reference", scores.plain))
    rows.append(("bicubic", scores.bicubic))
    lines = ["| picture | PSNR on Y | SSIM on Y |", "|---|---:|---:|"]
    for name, row in rows:
        lines.append(f"| {name} | {decibels(row.psnr)} | {row.ssim:.4f} |")
    return "\n".join([*lines, "", "Against the sharp photo, on Y (BT.601), no border cropped."])


def _verdict_unmeasured(x: Exploration) -> str:
    unknown = (
        "Whether that is closer to the truth cannot be measured: the sharp photo is not known."
    )
    if x.self_reference:
        return f"**No reference was given**, so the photo served as its own. {unknown}"
    similarity = _own_similarity(x)
    similar = float((similarity >= SIMILAR).mean())
    found = (
        f"For {similar:.0%} of the photo's pixels the reference holds a similar place (similarity "
        f"of {SIMILAR} or more; {similarity.mean():.2f} on average, 1 is identical)."
    )
    if x.plain is None:
        return f"{found} What it changed is not computed yet. {unknown}"
    change = luma_change(x.result, x.plain)
    changed = "hardly changed" if change.mean() < SLIGHT_CHANGE else "changed"
    return (
        f"**The reference {changed} the result**: by {change.mean():.1f} grey levels on average, "
        f"and by more than {np.percentile(change, 95):.0f} in the 5 % of pixels it changed most. "
        f"{found} {unknown} A similar place is no proof that its detail is the true one, so look "
        "for yourself."
    )


def _judgement(gain: float) -> str:
    if abs(gain) < SLIGHT_DB:
        return "The reference made no difference"
    if gain > 0:
        return (
            "The reference helped clearly" if gain >= CLEAR_DB else "The reference helped a little"
        )
    return "The reference hurt clearly" if -gain >= CLEAR_DB else "The reference hurt a little"


def _gain_in_words(gain: float) -> str:
    """Decibels, and what they mean for the squared error."""
    if isinf(gain):
        return "one of the two is exact"
    share = 1 - 10 ** (-gain / 10)
    if abs(gain) < SLIGHT_DB:
        return f"{signed(gain)} dB"
    less = f"{share:.0%} less" if share > 0 else f"{-share:.0%} more"
    return f"{signed(gain)} dB, that is {less} squared error"


def _distance(gain: float) -> str:
    """How far below MASA something is that MASA beats by ``gain`` dB; the rest of a sentence."""
    if gain == 0:
        return ", the same as MASA"
    if isinf(gain):
        return ", where MASA is exact" if gain > 0 else ": it is exact"
    return f", {abs(gain):.2f} dB {'less' if gain > 0 else 'more'} than MASA"


def decibels(psnr: float) -> str:
    """A PSNR in words; infinite for equal pictures."""
    return f"{amount(psnr)} dB"


def amount(value: float) -> str:
    """A number of 0 or more with two digits, or the sign for an infinite one."""
    return "∞" if isinf(value) else f"{value:.2f}"


def signed(value: float) -> str:
    """A number with its sign and two digits; no sign if it rounds to 0."""
    words = ("+" if value >= 0 else "−") + amount(abs(value))
    return "0.00" if words.endswith("0.00") and abs(value) < 1 else words


def _own_similarity(x: Exploration) -> NDArray[np.float32]:
    return x.lr.crop(x.matches.similarity[0, 0].numpy())


# ---------------------------------------------------------------------------- figures


def error_map(x: Exploration, view: View) -> Drawn | None:
    """Where the result differs from the sharp photo; ``None`` if that is unknown."""
    if x.hr is None:
        return None
    error, before = luma_change(x.result, x.hr), luma_change(x.bicubic, x.hr)
    part = map_part(
        x, error, "difference to the sharp photo on Y", "grey levels", 0, high_of(error)
    )
    return compose(
        [part],
        "Map of the absolute error of the result; bright where it is far from the sharp photo.",
        f"The result is off by {error.mean():.1f} grey levels on average (bicubic: "
        f"{before.mean():.1f}). The worst 1 % of pixels are off by more than "
        f"{np.percentile(error, 99):.0f}.",
    )


def reference_gift(x: Exploration, view: View) -> Drawn | None:
    """Where the result differs from the same network's without the reference.

    ``None`` until that is computed, and if no reference was given.
    """
    if x.plain is None or x.self_reference:
        return None
    change = luma_change(x.result, x.plain)
    most = np.sort(change, axis=None)[-max(1, change.size // 10) :]
    share = float(most.sum() / max(change.sum(), 1e-9))
    words = (
        f"The reference changed the result by {change.mean():.1f} grey levels on average; a tenth "
        f"of the pixels holds {share:.0%} of the change. "
        if change.any()
        else "The reference changed nothing. "
    )
    part = map_part(
        x,
        change,
        "difference to the result without the reference, on Y",
        "grey levels",
        0,
        high_of(change),
    )
    return compose(
        [part],
        "Map of how far the result is from the same network's result without the reference.",
        words + "Whether a change is an improvement, only the sharp photo can tell.",
    )


def gain_map(x: Exploration, view: View) -> Drawn | None:
    """Per LR block, how much closer to the sharp photo the reference brought the result.

    In grey levels of root mean squared error. ``None`` if the sharp photo is unknown, no reference
    was given, or the result without it is not computed.
    """
    if x.hr is None or x.plain is None or x.self_reference:
        return None
    block = x.matches.geometry.block
    gain = block_rms(x.plain, x.hr, block) - block_rms(x.result, x.hr, block)
    peak = max(high_of(np.abs(gain)), PALE)
    helped, hurt = float((gain > 0).mean()), float((gain < 0).mean())
    on_lr = gain.repeat(block, 0).repeat(block, 1)[: x.lr.height, : x.lr.width]
    part = map_part(
        x,
        on_lr,
        "worse  ←  reduction of the error per block  →  better",
        "grey levels",
        -peak,
        peak,
        CHANGE,
        ground=x.hr,
    )
    return compose(
        [part],
        "Map of blocks: purple where the reference brought the result closer to the sharp photo, "
        "orange where it took it further away.",
        minus(
            f"The reference brought {helped:.0%} of the blocks closer to the sharp photo (purple) "
            f"and {hurt:.0%} further away (orange). On average their root mean squared error "
            f"{'fell' if gain.mean() >= 0 else 'rose'} by {abs(gain.mean()):.2f} grey levels; "
            f"best {gain.max():+.1f}, worst {gain.min():+.1f}."
        ),
    )


def block_rms(picture: Pixels, hr: Pixels, block: int) -> NDArray[np.float32]:
    """Root mean squared error on Y of each LR block, ``(rows, columns)`` of blocks.

    Blocks on the right and bottom count the pixels they have.
    """
    squared = luma_change(picture, hr) ** 2
    starts = [np.arange(0, side, SCALE * block) for side in squared.shape]
    sums = np.add.reduceat(np.add.reduceat(squared, starts[0], 0), starts[1], 1)
    sides = [
        np.diff(np.append(start, side)) for start, side in zip(starts, squared.shape, strict=True)
    ]
    return np.sqrt(sums / np.outer(*sides)).astype(np.float32)


def compared(x: Exploration, view: View) -> Drawn | None:
    """The result with and without the reference, and the truth if it is known.

    Where no reference was given, bicubic enlargement stands beside the result instead. All repeat,
    enlarged, the part that the reference changed most, or, if it changed nothing, the part that
    the network did. ``None`` until the result without the reference is computed.
    """
    if x.plain is None:
        return None
    place, summary = _detail(x, x.plain)
    pictures = {"With the reference": x.result, "Without it": x.plain, "The sharp photo": x.hr}
    alt = "The result with the reference, without it, and the sharp photo if it is known."
    if x.self_reference:
        pictures = {"Bicubic": x.bicubic, "The result": x.result, "The sharp photo": x.hr}
        alt = "Bicubic enlargement, the result, and the sharp photo if it is known."
        summary = f"No reference was given. {summary}"
    parts = [
        picture_part(x, picture, title, THIRD, place)
        for title, picture in pictures.items()
        if picture is not None
    ]
    return compose(parts, alt, summary, columns=3)


def _detail(x: Exploration, plain: Pixels) -> tuple[Place | None, str]:
    """A part worth enlarging, and in a sentence which; ``None`` if none is.

    ``plain`` is the result without the reference.
    """
    kinds = [(x.bicubic, "in which the result differs most from bicubic enlargement")]
    if not x.self_reference:
        kinds.insert(0, (plain, "that the reference changed most"))
    for other, what in kinds:
        change = luma_change(x.result, other)
        if change.any():
            place = busiest(change, DETAIL // 2, DETAIL)
            return place, (
                f"Below: the {place.width} x {place.height} pixels {what}, from row {place.top} "
                f"and column {place.left} of the result."
            )
    return None, "The result is the same as bicubic enlargement."
