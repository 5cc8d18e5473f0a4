"""Options that several commands share."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from masa.errors import UserError
from masa.files import write_whole
from masa.machine.device import Device, Precision
from masa.machine.memory import AMPLE, memory_bound, memory_limit
from masa.measuring.scenes import Refs
from masa.predictor import DEFAULT_MEMORY, Predictor
from masa.weights import AUTO, DEFAULT_WEIGHTS, find_weights, load_model

AUTO_HELP = (
    "auto takes masa-photo for a photo that is small already, and masa-rec with --hr "
    "(default: %(default)s)"
)


def add_weights(parser: argparse.ArgumentParser, chosen: bool = False) -> None:
    """``--weights`` and ``--bgr``; if ``chosen``, the default is ``auto``."""
    words = "shipped weights by name, or a .safetensors or .pth file"
    parser.add_argument(
        "--weights",
        default=AUTO if chosen else DEFAULT_WEIGHTS,
        metavar="NAME_OR_FILE",
        help=f"{words}; {AUTO_HELP}" if chosen else f"{words} (default: %(default)s)",
    )
    parser.add_argument(
        "--bgr",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="the weights file was trained on BGR pictures, as the authors' checkpoints were "
        "(default: recognised by the names masa_rec.pth and masa.pth)",
    )


def add_device(parser: argparse.ArgumentParser) -> None:
    """``--device`` and ``--precision``."""
    parser.add_argument(
        "--device", choices=get_args(Device), default="auto", help="(default: %(default)s)"
    )
    parser.add_argument(
        "--precision",
        choices=get_args(Precision),
        default="auto",
        help="auto takes bfloat16 where it is faster than float32 (default: %(default)s)",
    )


def add_align(parser: argparse.ArgumentParser, default: str) -> None:
    """``--align``."""
    parser.add_argument(
        "--align",
        choices=("auto", "off"),
        default=default,
        help="auto: references that are turned, tilted or seen from nearer or farther are also "
        "looked at as the photo's camera saw them; off: as in the paper (default: %(default)s)",
    )


def add_memory(parser: argparse.ArgumentParser) -> None:
    """``--memory``."""
    parser.add_argument(
        "--memory",
        type=positive_gigabytes,
        default=memory_bound(memory_limit(), DEFAULT_MEMORY),
        metavar="GB",
        help="most memory a picture may take; less means tiles "
        f"(default: {DEFAULT_MEMORY / 2**30:g}, and the same share of it where the machine or its "
        f"container has a share of {AMPLE / 2**30:g})",
    )


def positive_gigabytes(text: str) -> int:
    """Bytes for a number of gigabytes given as text."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 2**20:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number of gigabytes such as 8 or 0.5")
    return int(value * 2**30)


def size(text: str) -> tuple[int, int]:
    """``(height, width)`` for ``WIDTHxHEIGHT`` or one number for a square."""
    try:
        width, _, height = text.lower().partition("x")
        result = int(height or width), int(width)
    except ValueError:
        result = (0, 0)
    if min(result) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not a size such as 128 or 160x120")
    return result


def add_refs(parser: argparse.ArgumentParser) -> None:
    """Which of a scene's references are used."""
    parser.add_argument(
        "--refs",
        type=references,
        default="all",
        metavar="1..5|all",
        help="CUFED5: the reference to use, or all of them stitched (default: all)",
    )


def references(text: str) -> Refs:
    """Which of a scene's references: ``all`` or a number from 1."""
    if text == "all":
        return "all"
    number = int(text) if text.isdecimal() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is neither all nor a number from 1")
    return number


def named_weights(given: Sequence[str]) -> dict[str, Path]:
    """Files of weights by the names that tables and figures call them.

    ``best`` and ``final`` are called as their folder is. Raises ``UserError`` for two of one name.
    """
    named: dict[str, Path] = {}
    for file, path in {path.resolve(): path for path in map(find_weights, given)}.items():
        name = file.parent.name if path.stem in ("best", "final") else path.stem
        if name in named:
            raise UserError(
                f"Two of the networks are called '{name}', which names their results: rename one "
                "of the files."
            )
        named[name] = path
    return named


def write(path: Path, content: str | bytes) -> None:
    """Write a file, whole or not at all, and the folders above it. Raises ``UserError``."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, content.encode() if isinstance(content, str) else content)
    except OSError as error:
        raise UserError(
            f"'{path}' could not be written ({error.strerror}): choose another folder."
        ) from None


def predictor(arguments: argparse.Namespace) -> Predictor:
    """The predictor that the options ask for."""
    model = load_model(arguments.weights, arguments.bgr)
    return Predictor(model, arguments.device, arguments.precision, memory=arguments.memory)
