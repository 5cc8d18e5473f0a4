"""Test sets: which pictures of a folder belong together, and their references."""

from __future__ import annotations

import json
import os.path
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np

from masa.errors import UserError
from masa.pictures.folders import find_pairs, pictures_in
from masa.pictures.photo import DATA_LIMITS, Pixels
from masa.pictures.read import read_photo
from masa.pictures.resize import resize_to_fit

Layout = Literal["cufed5", "sun80", "urban100", "images", "pairs", "examples"]
Refs = int | Literal["all"]
"""Which references of a scene to use: one, counted from 1, or all."""

STITCHED_SIDE = 512
"""Side to which each of several references is padded, as MASA was tested on CUFED5."""

_NUMBERED = re.compile(r"(?P<scene>.+)_(?P<number>\d+)")  # 003_0 is a picture, 003_1 its reference
_EXAMPLES = "examples.json"
_SUN80 = ("*groundtruth*", "*scenematches*")  # what the published archive calls its two folders


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
    references for each picture), ``pairs`` (``input`` and ``ref``), ``examples`` (the page's: an
    ``examples.json`` that lists ``name``, ``hr`` and ``refs``) or else ``images``, which like
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
        "examples": partial(_examples, folder),
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


def positions(scenes: Sequence[Scene], names: Sequence[str] | None) -> list[int]:
    """Positions of the scenes of these names, or of all. Raises ``UserError``."""
    if names is None:
        return list(range(len(scenes)))
    known = {scene.name: number for number, scene in enumerate(scenes)}
    if unknown := [name for name in names if name not in known]:
        raise UserError(
            f"There is no picture '{unknown[0]}' for --only: choose from {', '.join(known)}."
        )
    return sorted({known[name] for name in names})


def detect_layout(folder: Path) -> Layout:
    """The layout that a folder's names speak for; ``images`` where none is recognisable.

    Raises ``UserError`` if there is no such folder.
    """
    _check_folder(folder)
    if (folder / "input").is_dir() and (folder / "ref").is_dir():
        return "pairs"
    if (folder / _EXAMPLES).is_file():
        return "examples"
    if all(_sun80_folders(folder)):
        return "sun80"
    scenes = [set(paths) for paths in _numbered(folder).values() if 0 in paths]
    # More than five references are frames of a film or the like.
    if any(len(numbers) > 1 for numbers in scenes) and max(map(max, scenes)) <= 5:
        return "cufed5"
    return "images"


def _check_folder(folder: Path) -> None:
    if not os.path.isdir(folder):  # unlike a Path's method, it never raises
        raise UserError(f"There is no folder '{folder}': give the folder of a test set.")


def check_refs(layout: Layout, refs: Refs) -> None:
    """Raises ``UserError`` if references are chosen by number where there is no such choice."""
    if refs != "all" and layout != "cufed5":
        raise UserError(
            f"--refs {refs} chooses among the references of CUFED5's layout, but this folder was "
            f"taken for {layout}: leave out --refs, or name the pictures NNN_0, NNN_1 and so on."
        )


def check_single(scenes: Sequence[Scene]) -> None:
    """Raises ``UserError`` if a scene has several references, where each is aligned, turned or
    scaled: they are measured as one picture, see :func:`stitch`."""
    if any(len(scene.refs) > 1 for scene in scenes):
        raise UserError(
            "A scene here has several references, which cannot be aligned, turned or scaled as one "
            "picture: choose one of them, as with --refs 1."
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
            numbers = ", ".join(str(number) for number in sorted(set(paths) - {0}))
            missing = f"reference {refs}, only {numbers}" if numbers else "reference"
            choice = "reference or folder" if numbers else "folder"
            raise UserError(
                f"The scene {name} in '{folder}' has no {missing}: choose another {choice}."
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


def _examples(folder: Path) -> list[Scene]:
    path = folder / _EXAMPLES
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        return [
            Scene(e["name"], folder / e["hr"], tuple(folder / ref for ref in e["refs"]))
            for e in entries
        ]
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(
            f"'{path}' is no list of examples: it needs a name, an hr and refs for each."
        ) from None


def _images(folder: Path) -> list[Scene]:
    return [Scene(path.stem, path) for path in pictures_in(folder)]


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
