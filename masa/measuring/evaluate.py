"""Measuring a network on test sets, with the protocol stated beside the numbers.

The low-resolution picture is made from the high-resolution one, so that there is a truth to
compare with. Training validates with the same code.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Literal, get_args

import numpy as np

from masa.config import SCALE, MASAConfig
from masa.errors import UserError
from masa.pictures.degradation import CLEAN, Degradation, lr_from_hr
from masa.pictures.folders import find_pairs, pictures_in
from masa.pictures.metrics import psnr_y, seam_ratio, ssim_y
from masa.pictures.photo import DATA_LIMITS, Pixels
from masa.pictures.read import read_photo
from masa.pictures.resize import enlarge_x4, resize_to_fit
from masa.predictor import Predictor

Layout = Literal["cufed5", "sun80", "urban100", "images", "pairs"]
Refs = int | Literal["all"]
Against = Literal["self", "unrelated"]
"""Comparisons: with the LR itself as the reference, or with another scene's reference."""
Upscale = Callable[[Pixels, Pixels | None], Pixels]
"""LR ``(h, w, 3)`` and reference ``(H, W, 3)``, or ``None`` for the LR itself, to the result
``(4h, 4w, 3)``, all uint8 RGB."""

STITCHED_SIDE = 512
"""Side to which each of several references is padded, as MASA was tested on CUFED5."""

SEAMS = SCALE * MASAConfig().lr_block
"""Side of a usual block in the result: where matches of neighbours may not belong together."""

_NUMBERED = re.compile(r"(?P<scene>.+)_(?P<number>\d+)")  # 003_0 is a picture, 003_1 its reference
_SUN80 = ("*groundtruth*", "*scenematches*")  # what the published archive calls its two folders


# ---------------------------------------------------------------------------- test sets


@dataclass(frozen=True)
class Scene:
    """One picture of a test set."""

    name: str
    hr: Path
    refs: tuple[Path, ...] = ()
    """The references to use, stitched if several; none stands for the LR picture itself."""


def find_scenes(
    folder: str | Path, layout: Layout | None = None, refs: Refs = "all", seed: int = 0
) -> list[Scene]:
    """The scenes of a test set, sorted by name.

    ``layout`` is recognised if not given: ``cufed5`` (``NNN_0`` with references ``NNN_1``, ...),
    ``sun80`` (a ``*groundtruth*`` folder, and a ``*scenematches*`` folder with a folder of
    references for each picture), ``pairs`` (``input`` and ``ref``) or else ``images``, which like
    ``urban100`` is a folder of pictures whose reference is their own LR. ``refs`` takes one
    reference of each CUFED5 scene, counted from 1, or all of them; each Sun80 picture gets one,
    drawn with ``seed``. Raises ``UserError`` if there are no scenes or too few references.
    """
    folder = Path(folder)
    _check_folder(folder)
    finders: dict[str, Callable[[], list[Scene]]] = {
        "cufed5": partial(_cufed5, folder, refs),
        "sun80": partial(_sun80, folder, seed),
        "pairs": partial(_pairs, folder),
        "images": partial(_images, folder),
        "urban100": partial(_images, folder),
    }
    layout = layout or detect_layout(folder)
    if layout not in finders:
        raise UserError(f"There is no layout '{layout}': use one of {', '.join(finders)}.")
    scenes = finders[layout]()
    if not scenes:
        raise UserError(
            f"There are no pictures of the layout {layout} in '{folder}': check the folder and "
            "--layout."
        )
    return scenes


def detect_layout(folder: Path) -> Layout:
    """The layout that a folder's names speak for; ``images`` where none is recognisable.

    Raises ``UserError`` if there is no such folder.
    """
    _check_folder(folder)
    if (folder / "input").is_dir() and (folder / "ref").is_dir():
        return "pairs"
    if all(_sun80_folders(folder)):
        return "sun80"
    scenes = [set(paths) for paths in _numbered(folder).values() if 0 in paths]
    # More than five references are frames of a film or the like.
    if any(len(numbers) > 1 for numbers in scenes) and max(map(max, scenes)) <= 5:
        return "cufed5"
    return "images"


def _check_folder(folder: Path) -> None:
    if not folder.is_dir():
        raise UserError(f"There is no folder '{folder}': give the folder of a test set.")


def check_refs(layout: Layout, refs: Refs) -> None:
    """Raises ``UserError`` if references are chosen by number where there is no such choice."""
    if refs != "all" and layout != "cufed5":
        raise UserError(
            f"--refs {refs} chooses among the references of CUFED5's layout, but this folder was "
            f"taken for {layout}: leave out --refs, or name the pictures NNN_0, NNN_1 and so on."
        )


def _numbered(folder: Path) -> dict[str, dict[int, Path]]:
    """Pictures by scene and number."""
    scenes: dict[str, dict[int, Path]] = {}
    for path in pictures_in(folder):
        if match := _NUMBERED.fullmatch(path.stem):
            scenes.setdefault(match["scene"], {})[int(match["number"])] = path
    return scenes


def _cufed5(folder: Path, refs: Refs) -> list[Scene]:
    scenes = []
    for name, paths in sorted(_numbered(folder).items()):
        if 0 not in paths:
            continue
        wanted = sorted(set(paths) - {0}) if refs == "all" else [refs]
        if not wanted or not set(wanted) <= set(paths):
            missing = f"reference {refs}" if refs != "all" else "a reference"
            raise UserError(
                f"The scene {name} in '{folder}' has no {missing}: choose --refs from "
                f"{', '.join(str(n) for n in sorted(set(paths) - {0})) or 'another folder'}."
            )
        scenes.append(Scene(name, paths[0], tuple(paths[number] for number in wanted)))
    return scenes


def _sun80(folder: Path, seed: int) -> list[Scene]:
    pictures, matches = _sun80_folders(folder)
    if pictures is None or matches is None:
        raise UserError(
            f"'{folder}' is not Sun80 as published: it needs a folder with 'groundtruth' and one "
            "with 'scenematches' in its name."
        )
    scenes = []
    for number, path in enumerate(pictures_in(pictures)):
        own = next((matches / n for n in (path.name, path.stem) if (matches / n).is_dir()), None)
        choices = pictures_in(own) if own else []
        if not choices:
            raise UserError(
                f"There are no references for '{path.name}' in '{matches}': add a folder of that "
                "name with pictures."
            )
        draw = np.random.default_rng((seed, number)).integers(len(choices))
        scenes.append(Scene(path.stem, path, (choices[int(draw)],)))
    return scenes


def _sun80_folders(folder: Path) -> list[Path | None]:
    """The one of pictures and the one of their references; ``None`` for what is missing."""
    return [
        min((path for path in folder.glob(pattern) if path.is_dir()), default=None)
        for pattern in _SUN80
    ]


def _pairs(folder: Path) -> list[Scene]:
    return [Scene(hr.stem, hr, (ref,)) for hr, ref in find_pairs(folder)]


def _images(folder: Path) -> list[Scene]:
    return [Scene(path.stem, path) for path in pictures_in(folder)]


# ---------------------------------------------------------------------------- measuring


@dataclass(frozen=True)
class Score:
    """How close a result is to the truth, on luma."""

    psnr: float
    """dB; infinite for equal luma."""
    ssim: float
    """At most 1."""
    seams: float
    """Error along the edges of blocks relative to elsewhere; 1 if no grid of blocks shows."""


@dataclass(frozen=True)
class Row:
    """The scores of one scene."""

    name: str
    scores: dict[str, Score]
    """By method: ``bicubic``, ``masa`` and those of ``Against`` that were asked for."""
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
) -> Iterator[Row]:
    """Measure scenes one after the other, yielding each when it is done.

    ``against`` repeats the network with the LR as its own reference (``self``) or with the next
    scene's reference (``unrelated``). ``border`` pixels are left out on every side. ``numbers``
    picks scenes by position, all of them by default. The pictures of the first ``keep`` scenes are
    kept, and ``seams`` is the side of a block in the result. Scenes' LRs are made by the
    ``degradations`` in turn. A scene that cannot be read, enlarged
    or measured is told to ``leave_out`` and left out, if that is given. Otherwise, and for
    shuffling fewer than two references, raises ``UserError``.
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
            hr = read_photo(scene.hr, "high-resolution photo", DATA_LIMITS).rgb
            lr, hr = lr_from_hr(hr, degradations[number % len(degradations)], seed=number)
            references = {"masa": read_references(scene)}
            if "self" in against:
                references["self"] = None
            if "unrelated" in against:
                references["unrelated"] = read_references(scenes[(number + 1) % len(scenes)])
            results = {"bicubic": enlarge_x4(lr)}
            scores = {"bicubic": measure(results["bicubic"], hr, border, seams)}
            for method, reference in references.items():
                results[method] = upscale(lr, reference)
                scores[method] = measure(results[method], hr, border, seams)
        except UserError as error:
            if leave_out is None:
                raise
            leave_out(scene, error)
            continue
        ref = references["masa"]
        known = {"hr": hr} if ref is None else {"hr": hr, "ref": ref}
        yield Row(scene.name, scores, {**results, **known} if number < keep else {})


def measure(result: Pixels, truth: Pixels, border: int = 0, seams: int = SEAMS) -> Score:
    """Score of a uint8 picture ``(H, W, 3)`` against the truth of the same size.

    Raises ``UserError`` if the border leaves too little to measure.
    """
    try:
        return Score(
            psnr_y(result, truth, border),
            ssim_y(result, truth, border),
            seam_ratio(result, truth, seams, border),
        )
    except ValueError as error:
        raise UserError(f"The result cannot be measured ({error}): use a smaller border.") from None


def mean_scores(rows: Sequence[Row]) -> dict[str, Score]:
    """Means over scenes, by method."""
    return {
        name: Score(
            *(fmean(getattr(row.scores[name], f.name) for row in rows) for f in fields(Score))
        )
        for name in rows[0].scores
    }


def predictor_upscale(predictor: Predictor, check: Callable[[], None] = lambda: None) -> Upscale:
    """A predictor as a function of pictures.

    ``check`` is called many times during each; what it raises ends the work.
    """

    def upscale(lr: Pixels, ref: Pixels | None) -> Pixels:
        refs = [] if ref is None else [ref]
        return predictor.run(lr, refs, lambda done, doing: check()).rgb

    return upscale


def read_references(scene: Scene) -> Pixels | None:
    """A scene's references as one picture ``(H, W, 3)``; ``None`` if it has none.

    Very large ones are reduced first, as for any run.
    """
    if not scene.refs:
        return None
    photos = (read_photo(path, "reference", DATA_LIMITS) for path in scene.refs)
    return stitch([resize_to_fit(photo, DATA_LIMITS.max_ref_pixels).rgb for photo in photos])


def stitch(refs: Sequence[Pixels]) -> Pixels:
    """References as one picture, as MASA was tested; a single one stays as it is.

    Each is placed in the middle of 512 x 512 pixels (more, if one is larger), its border is
    repeated around it, and they are put one below the other.
    """
    if len(refs) == 1:
        return refs[0]
    height, width = (max(STITCHED_SIDE, *(ref.shape[axis] for ref in refs)) for axis in (0, 1))

    def centred(ref: Pixels) -> Pixels:
        above, left = (height - ref.shape[0]) // 2, (width - ref.shape[1]) // 2
        below, right = height - ref.shape[0] - above, width - ref.shape[1] - left
        return np.pad(ref, [(above, below), (left, right), (0, 0)], mode="edge")

    return np.concatenate([centred(ref) for ref in refs])


def protocol(layout: Layout, refs: Refs, border: int, seed: int = 0) -> str:
    """One line that says how the numbers were made; ``seed`` drew Sun80's references."""
    reference = {
        "cufed5": f"{'all references, stitched' if refs == 'all' else f'reference {refs}'}",
        "sun80": f"one reference, drawn at random with seed {seed}",
        "pairs": "the pair's reference",
    }.get(layout, "the LR picture itself as its reference")
    return (
        f"Y of BT.601 (16-235) on 8-bit results, {border or 'no'} border pixels cropped; "
        f"{reference}; LR by antialiased bicubic reduction (Pillow), HR cropped to multiples of 4"
    )


def finite(value: float) -> float | None:
    """The number, or ``None`` if it is infinite, which JSON has no word for."""
    return value if math.isfinite(value) else None
