"""Measuring a network on test sets, with the protocol stated beside the numbers.

The low-resolution picture is made from the high-resolution one, so that there is a truth to
compare with. Training validates with the same code.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from statistics import fmean
from typing import Literal, get_args

from masa.config import SCALE, MASAConfig
from masa.errors import UserError
from masa.measuring.scenes import Layout, Refs, Scene, read_references
from masa.pictures.degradation import CLEAN, Degradation, lr_from_hr
from masa.pictures.metrics import (
    colour_drift,
    grid_strength,
    high_frequency_ratio,
    psnr_y,
    seam_ratio,
    ssim_y,
)
from masa.pictures.photo import DATA_LIMITS, Pixels
from masa.pictures.read import read_photo
from masa.pictures.resize import enlarge_x4
from masa.predictor import Predictor

Against = Literal["self", "unrelated"]
"""Comparisons: with the LR itself as the reference, or with another scene's reference."""
Upscale = Callable[[Pixels, Pixels | None], Pixels]
"""LR ``(h, w, 3)`` and reference ``(H, W, 3)``, or ``None`` for the LR itself, to the result
``(4h, 4w, 3)``, all uint8 RGB."""

SEAMS = SCALE * MASAConfig().lr_block
"""Side of a usual LR block in the result. Across its edges, matches may come from other places."""


@dataclass(frozen=True)
class Score:
    """How close a result is to the truth, on luma but for its colour."""

    psnr: float
    """dB; infinite for equal luma."""
    ssim: float
    """At most 1."""
    seams: float
    """Error along the edges of blocks relative to elsewhere; 1 if no grid of blocks shows."""
    sharpness: float
    """Energy at high frequencies relative to the truth's; 1 for a result as sharp."""
    colour: float
    """How far its mean colour lies from the truth's, in levels."""
    grid: float
    """Strength, in levels, of a pattern of two or four pixels that the truth does not have."""


@dataclass(frozen=True)
class SceneScores:
    """The scores of one scene."""

    name: str
    scores: dict[str, Score]
    """By method: ``bicubic``, ``masa``, those of ``Against`` that were asked for, and any others
    that were given."""
    pictures: dict[str, Pixels]
    """The results by method, and ``hr`` and, unless the LR is its own, ``ref``; each
    ``(H, W, 3)``. Empty unless kept."""


def evaluate(
    upscale: Upscale,
    scenes: Sequence[Scene],
    against: Sequence[Against] = (),
    border: int = 0,
    numbers: Sequence[int] | None = None,
    keep: int = 0,
    leave_out: Callable[[Scene, UserError], None] | None = None,
    seams: int = SEAMS,
    degradations: Sequence[Degradation] = (CLEAN,),
    others: Mapping[str, Upscale] | None = None,
) -> Iterator[SceneScores]:
    """Measure scenes one after the other, yielding each when it is done.

    ``against`` repeats the network with the LR as its own reference (``self``) or with the next
    scene's reference (``unrelated``). ``others`` are further methods by name, each given the
    scene's own reference too. ``border`` pixels are left out on every side. ``numbers``
    picks scenes by position, all of them by default. The pictures of the first ``keep`` scenes are
    kept, and ``seams`` is the side of a block in the result. Scenes' LRs are made by the
    ``degradations`` in turn. If ``leave_out`` is given, it is called with each scene that cannot be
    read, enlarged or measured, and the others are measured. Otherwise such a scene raises
    ``UserError``, and so does ``unrelated`` for fewer than two scenes with references.
    """
    if not set(against) <= set(get_args(Against)):
        raise UserError(f"There is no such comparison: use {' or '.join(get_args(Against))}.")
    if "unrelated" in against and (len(scenes) < 2 or not all(scene.refs for scene in scenes)):
        raise UserError(
            "References can be shuffled among two or more scenes that have some: leave out "
            "--against shuffled."
        )
    for number in range(len(scenes)) if numbers is None else numbers:
        scene = scenes[number]
        try:
            hr = read_photo(scene.hr, "sharp photo", DATA_LIMITS).rgb
            lr, hr = lr_from_hr(hr, degradations[number % len(degradations)], seed=number)
            references = {"masa": read_references(scene)}
            if "self" in against:
                references["self"] = None
            if "unrelated" in against:
                references["unrelated"] = read_references(scenes[(number + 1) % len(scenes)])
            results = {"bicubic": enlarge_x4(lr)}
            scores = {"bicubic": measure(results["bicubic"], hr, border, seams)}
            methods = [(name, upscale, reference) for name, reference in references.items()]
            own = references["masa"]
            methods += [(name, other, own) for name, other in (others or {}).items()]
            for method, enlarge, reference in methods:
                results[method] = enlarge(lr, reference)
                scores[method] = measure(results[method], hr, border, seams)
        except UserError as error:
            if leave_out is None:
                raise
            leave_out(scene, error)
            continue
        known = {"hr": hr} if own is None else {"hr": hr, "ref": own}
        yield SceneScores(scene.name, scores, {**results, **known} if number < keep else {})


def measure(result: Pixels, truth: Pixels, border: int = 0, seams: int = SEAMS) -> Score:
    """Score of a uint8 picture ``(H, W, 3)`` against the truth of the same size.

    Raises ``UserError`` if the border leaves too little to measure.
    """
    try:
        return Score(
            psnr_y(result, truth, border),
            ssim_y(result, truth, border),
            seam_ratio(result, truth, seams, border),
            high_frequency_ratio(result, truth, border),
            colour_drift(result, truth, border),
            grid_strength(result, truth, border),
        )
    except ValueError as error:
        raise UserError(f"The result cannot be measured ({error}): use a smaller border.") from None


def mean_scores(rows: Sequence[SceneScores]) -> dict[str, Score]:
    """Means over scenes, by method."""
    return {
        name: Score(
            *(fmean(getattr(row.scores[name], f.name) for row in rows) for f in fields(Score))
        )
        for name in rows[0].scores
    }


def predictor_upscale(
    predictor: Predictor, check: Callable[[], None] = lambda: None, align: bool = False
) -> Upscale:
    """A predictor as a function of pictures.

    ``check`` is called many times during each; what it raises ends the work. ``align`` is that of
    :meth:`masa.predictor.Predictor.run`.
    """

    def upscale(lr: Pixels, ref: Pixels | None) -> Pixels:
        refs = [] if ref is None else [ref]
        return predictor.run(lr, refs, lambda done, doing: check(), align=align).rgb

    return upscale


def mean_gain(
    means: Mapping[str, Mapping[str, Score]], presets: Mapping[str, Degradation]
) -> dict[str, float]:
    """dB of PSNR that each method gains over bicubic, as the mean over degraded LRs.

    ``means`` are those of :func:`mean_scores` by preset; clean ones do not count. Empty if there
    is no degraded one.
    """
    degraded = [scores for name, scores in means.items() if not presets[name].is_clean]
    if not degraded:
        return {}
    return {
        method: fmean(scores[method].psnr - scores["bicubic"].psnr for scores in degraded)
        for method in degraded[0]
        if method != "bicubic"
    }


def reduction(degradation: Degradation) -> str:
    """How LRs are made, in words."""
    kernel = f"antialiased {degradation.kernel} reduction (Pillow)"
    blur, noise, quality = degradation.blur, degradation.noise, degradation.quality
    steps = [f"Gaussian blur of {blur[0]:g} x {blur[1]:g} LR pixels"] if any(blur) else []
    steps.append(kernel)
    if noise:
        colour = "grey" if degradation.grey else "coloured"
        steps.append(f"{colour} Gaussian noise of {noise:g} levels, seeded by the scene's position")
    if quality is not None:
        steps.append(f"JPEG of quality {quality}, {degradation.chroma}")
    return ", then ".join(steps)


def protocol(
    layout: Layout,
    refs: Refs,
    border: int,
    seed: int = 0,
    made_by: str = reduction(CLEAN),
    align: bool = False,
) -> str:
    """One line that says how the numbers were made.

    ``seed`` drew Sun80's references; ``made_by`` says how the LRs were made.
    ``align``: references were aligned.
    """
    reference = {
        "cufed5": f"{'all references, stitched' if refs == 'all' else f'reference {refs}'}",
        "sun80": f"one reference, drawn at random with seed {seed}",
        "pairs": "the pair's reference",
        "examples": "the example's reference",
    }.get(layout, "the LR picture itself as its reference")
    return (
        f"Y of BT.601 (16-235) on 8-bit results, {border or 'no'} border pixels cropped; "
        f"{reference}{', aligned' if align else ''}; LR by {made_by}, HR cropped to multiples of 4"
    )


def finite(value: float) -> float | None:
    """The number, or ``None`` if it is infinite, as JSON has no infinity."""
    return value if math.isfinite(value) else None
