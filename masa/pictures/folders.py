"""Folders of pictures, and of pictures with their references."""

import os.path
from pathlib import Path

from masa.errors import UserError
from masa.pictures.formats import FORMATS_IN_WORDS, SUFFIXES


def pictures_in(folder: Path) -> list[Path]:
    """Files of a folder that are named like pictures, sorted by name; hidden ones are left out.

    Raises ``UserError`` if the folder cannot be read.
    """
    try:
        return sorted(
            path
            for path in folder.iterdir()
            if path.suffix.lower() in SUFFIXES and path.name[0] != "." and not path.is_dir()
        )
    except OSError as error:
        raise UserError(
            f"The folder '{folder}' cannot be read ({error.strerror}): check that it is there and "
            "may be read."
        ) from None


def find_pairs(folder: Path) -> list[tuple[Path, Path]]:
    """Paths of picture and reference with equal stems, sorted by stem.

    Raises ``UserError`` if a folder is missing or empty, or a picture lacks its partner.
    """
    inputs, refs = (_by_stem(folder / part) for part in ("input", "ref"))
    for here, there, part in ((inputs, refs, "ref"), (refs, inputs, "input")):
        alone = sorted(set(here) - set(there))
        if alone:
            more = f" (and {len(alone) - 1} more)" if len(alone) > 1 else ""
            raise UserError(
                f"'{here[alone[0]].name}'{more} has no partner in '{folder / part}': add a picture "
                "of that name there, or remove this one."
            )
    return [(inputs[stem], refs[stem]) for stem in sorted(inputs)]


def _by_stem(folder: Path) -> dict[str, Path]:
    if not os.path.isdir(folder):  # unlike a Path's method, it never raises
        raise UserError(
            f"There is no folder '{folder}': training data are two folders, input and ref, with "
            "pictures of equal names."
        )
    paths: dict[str, Path] = {}
    for path in pictures_in(folder):
        if path.stem in paths:
            raise UserError(
                f"'{paths[path.stem].name}' and '{path.name}' in '{folder}' have the same name: "
                "rename one."
            )
        paths[path.stem] = path
    if not paths:
        raise UserError(f"There are no pictures in '{folder}': put {FORMATS_IN_WORDS} files there.")
    return paths
