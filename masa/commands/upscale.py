"""``python -m masa upscale``."""

from __future__ import annotations

import argparse
import os.path
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from masa.commands.options import add_align, add_device, add_memory, add_weights, predictor
from masa.errors import UserError
from masa.pictures.degradation import lr_from_hr
from masa.pictures.folders import pictures_in
from masa.pictures.metrics import psnr_y, ssim_y
from masa.pictures.photo import Photo
from masa.pictures.read import read_photo
from masa.pictures.sharp import read_sharp
from masa.pictures.write import WRITTEN, write_photo
from masa.predictor import Predictor, Progress, Result
from masa.weights import choose_weights

EPILOG = """examples:
  one photo:            python -m masa upscale small.jpg --ref sharp.jpg --out large.png
  several references:   python -m masa upscale small.jpg --ref a.jpg b.jpg --out large.png
  as in the paper:      python -m masa upscale small.jpg --ref a.jpg --align off --out large.png
  no reference:         python -m masa upscale small.jpg --out large.png
  several photos:       python -m masa upscale a.jpg b.jpg --ref sharp.jpg --out results/
  folders, same names:  python -m masa upscale photos/ --ref references/ --out results/
  a test with known HR: python -m masa upscale sharp.png --hr --ref other.png --out large.png
"""


class Job(NamedTuple):
    """One photo to enlarge."""

    lr: Path
    refs: list[Path]
    out: Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Photos, references, and where results go."""
    parser.add_argument(
        "lr", nargs="+", type=Path, metavar="LR", help="photos to enlarge, or one folder of them"
    )
    parser.add_argument(
        "--ref",
        nargs="+",
        type=Path,
        default=[],
        metavar="REF",
        help="up to five reference photos, or a folder with one reference per photo, named alike; "
        "without any, each photo is its own reference",
    )
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="FILE_OR_DIR",
        help="the picture to write (.png, .jpg, .webp, .tif, .bmp), or a folder for NAME_x4.png",
    )
    parser.add_argument(
        "--hr",
        action="store_true",
        help="the photos are high-resolution: reduce them four times first, and print PSNR and "
        "SSIM of what comes back",
    )
    parser.add_argument(
        "--no-exif",
        action="store_false",
        dest="exif",
        help="do not take over what the camera noted: its name, time, place and settings "
        "(BMP cannot hold it)",
    )
    add_weights(parser, chosen=True)
    add_align(parser, default="auto")
    add_device(parser)
    add_memory(parser)


def run(arguments: argparse.Namespace) -> int:
    """Enlarge every photo; a photo that cannot be used does not stop the others."""
    jobs = plan(arguments.lr, arguments.ref, arguments.out)
    arguments.weights = choose_weights(arguments.hr, arguments.weights)
    ready = predictor(arguments)
    failed = 0
    with tqdm(total=len(jobs), unit="photo", disable=None) as bar:
        for done, job in enumerate(jobs):
            bar.set_description(job.lr.name)

            def progress(share: float, doing: str, done: int = done) -> None:
                bar.n = round(done + share, 3)
                bar.set_postfix_str(doing)

            try:
                message = _upscale(ready, job, arguments, progress)
                bar.write(message)
            except UserError as error:
                if len(jobs) == 1:
                    raise
                bar.write(f"{job.lr.name}: {error}")
                failed += 1
        bar.n = len(jobs)
    return 2 if failed else 0


def plan(photos: Sequence[Path], refs: Sequence[Path], out: Path) -> list[Job]:
    """Which photo is enlarged with which references, and written where.

    Raises ``UserError`` if the paths do not fit together.
    """
    if any(map(os.path.isdir, photos)):  # unlike a Path's method, it never raises
        if len(photos) > 1:
            raise UserError("Give either one folder of photos or several files, not both.")
        photos = _pictures(photos[0])
    to_folder = os.path.isdir(out) or not out.suffix
    if len(photos) > 1 and not to_folder:
        raise UserError(f"{len(photos)} photos cannot all be written to '{out}': give a folder.")
    if not to_folder and out.suffix.lower() not in WRITTEN:
        raise UserError(f"'{out.name}' should end in one of {', '.join(WRITTEN)}.")
    by_name: dict[str, Path] | None = None
    if any(map(os.path.isdir, refs)):
        if len(refs) > 1:
            raise UserError("Give either one folder of references or several files, not both.")
        by_name = _by_name(_pictures(refs[0]))
        missing = [photo.name for photo in photos if photo.stem not in by_name]
        if missing:
            raise UserError(
                f"The folder of references has no picture named like '{missing[0]}'"
                + (f" and {len(missing) - 1} more" if len(missing) > 1 else "")
                + "; name each reference as its photo."
            )
    if to_folder:
        _by_name(photos)  # two results must not have one name
    return [
        Job(
            photo,
            list(refs) if by_name is None else [by_name[photo.stem]],
            out / f"{photo.stem}_x4.png" if to_folder else out,
        )
        for photo in photos
    ]


def _by_name(pictures: Sequence[Path]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for picture in pictures:
        if picture.stem in found:
            raise UserError(
                f"'{found[picture.stem]}' and '{picture}' have one name: rename one of them."
            )
        found[picture.stem] = picture
    return found


def _pictures(folder: Path) -> list[Path]:
    found = pictures_in(folder)
    if not found:
        raise UserError(f"The folder '{folder}' holds no pictures: name a folder with some.")
    return found


def _upscale(ready: Predictor, job: Job, arguments: argparse.Namespace, progress: Progress) -> str:
    """Enlarge one photo and write the result; returns what is to be said of it."""
    if arguments.hr:
        sharp = read_sharp(job.lr, ready.limits)
        rgb, hr = lr_from_hr(sharp.rgb)
        alpha = None if sharp.alpha is None else lr_from_hr(sharp.alpha)[0]
        photo = replace(sharp, rgb=rgb, alpha=alpha)
    else:
        photo = read_photo(job.lr, "small photo", ready.limits)
    # An LR that was made here is within the limits of its sharp photo, not always of a given one.
    align = arguments.align == "auto"
    refs = ready.read_references(job.refs, photo.rgb if align else None)
    result = ready.upscale_photos(photo, refs, progress, align=align)
    _write(job.out, result, photo.exif if arguments.exif else None)
    report = _report(job, photo, result, arguments.weights)
    if not arguments.hr:
        return report
    scores = [
        f"{name} {psnr_y(picture, hr):.2f} dB, SSIM {ssim_y(picture, hr):.4f}"
        for name, picture in (("MASA", result.rgb), ("bicubic", result.bicubic))
    ]
    return f"{report}\n  PSNR on Y, no border cropped: {'; '.join(scores)}"


def _write(path: Path, result: Result, exif: bytes | None) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"The folder '{path.parent}' could not be made ({error.strerror}): choose another."
        ) from None
    write_photo(path, result.rgb, result.alpha, exif)


def _report(job: Job, photo: Photo, result: Result, weights: str) -> str:
    height, width = result.rgb.shape[:2]
    seconds = sum(result.seconds.values())
    notes = dict.fromkeys(result.notes)  # each once
    done = f"{job.out}: {width}x{height} in {seconds:.1f} s with {weights}"
    return "\n  ".join((done, *notes))
