"""``python -m masa explain``."""

from __future__ import annotations

import argparse
from pathlib import Path

from tqdm import tqdm

from demo.export import export
from demo.runs.request import Request
from demo.runs.steps import explore_whole
from masa.commands.options import AUTO_HELP, add_align, write
from masa.weights import AUTO, shipped_weights

EPILOG = """examples:
  python -m masa explain small.jpg --ref sharp.jpg --out explained/
  python -m masa explain sharp.png --hr --ref other.png --out explained/
  as in the paper: python -m masa explain small.jpg --ref sharp.jpg --align off --out explained/
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The photo, its references, and where everything goes."""
    parser.add_argument("lr", metavar="LR", help="the photo to enlarge")
    parser.add_argument("--ref", nargs="+", default=[], metavar="REF", help="up to five references")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write to")
    parser.add_argument(
        "--hr", action="store_true", help="the photo is high-resolution: make the LR from it"
    )
    parser.add_argument(
        "--weights", choices=[AUTO, *shipped_weights()], default=AUTO, help=AUTO_HELP
    )
    add_align(parser, default="auto")


def run(arguments: argparse.Namespace) -> int:
    """Write the result, every figure, the maps and the settings."""
    request = Request(
        arguments.lr,
        tuple(arguments.ref),
        arguments.hr,
        arguments.weights,
        align=arguments.align == "auto",
    )
    with tqdm(total=100, unit="%", disable=None) as bar:

        def progress(share: float, doing: str) -> None:
            bar.set_description(doing)
            bar.n = round(100 * share)
            bar.refresh()

        x = explore_whole(request, progress=progress)
    for name, data in export(x):
        write(arguments.out / name, data)
    print(f"Wrote the result of {x.weights}, figures, maps and settings to {arguments.out}.")
    return 0
