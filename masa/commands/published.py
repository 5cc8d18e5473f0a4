"""``masa published``: networks on the paper's test sets, as in its table 1."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from statistics import fmean

from tqdm import tqdm

from masa.commands import study
from masa.commands.options import named_weights, write
from masa.commands.study import Chosen, Study
from masa.errors import UserError
from masa.measuring.ablation import NEAREST, Reached, measure_case
from masa.measuring.published import PUBLISHED, published_table
from masa.measuring.scenes import find_scenes
from masa.weights import DEFAULT_WEIGHTS

EPILOG = """examples:
  python -m masa published --cufed5 CUFED5 --sun80 Sun80 --urban100 Urban100 --out table1/
  python -m masa published --urban100 Urban100 --networks masa-rec masa-photo --out table1/

Measures each set as the paper did: CUFED5 with all references stitched, Sun80 with one reference of
each picture drawn at random, Urban100 with the LR as its own reference. Writes published.md, and a
JSON file per set. Ctrl-C loses nothing: pictures that --out holds of the same weights are not
measured again.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    for one in PUBLISHED:
        parser.add_argument(
            f"--{one.layout}", type=Path, metavar="DIR", help=f"{one.name}, as published"
        )
    parser.add_argument(
        "--networks",
        nargs="+",
        default=[DEFAULT_WEIGHTS],
        metavar="NAME_OR_FILE",
        help=f"weights to measure (default: {DEFAULT_WEIGHTS})",
    )
    parser.add_argument("--seed", type=int, default=0, help="draws Sun80's references (default: 0)")
    study.add_places(parser)


def run(args: argparse.Namespace) -> int:
    """Measure, print, write; returns 0."""
    folders = {one: getattr(args, one.layout) for one in PUBLISHED}
    if not any(folders.values()):
        options = " or ".join(f"--{one.layout}" for one in PUBLISHED)
        raise UserError(
            f"There is nothing to measure: give the folder of a test set with {options}."
        )
    if args.seed < 0:
        raise UserError(f"--seed is {args.seed}: give 0 or more.")
    paths = named_weights(args.networks)
    studies = {}
    for one, folder in folders.items():
        if folder is not None:
            scenes = find_scenes(folder, one.layout, seed=args.seed)
            chosen = Chosen(folder, one.layout, "all", scenes, args.seed)
            studies[one] = Study(args, f"{one.layout}.json", chosen)
    reached: dict[str, dict[str, Reached]] = {one.name: {} for one in studies}
    pictures = sum(len(made.scenes) for made in studies.values())
    with tqdm(total=pictures * len(paths), unit="picture", disable=None) as bar:
        for name, path in paths.items():
            for one, made in studies.items():
                predictor = made.predictor(path)
                each = []
                for scene in made.scenes:  # one by one, so that none is measured twice
                    measure = partial(measure_case, NEAREST, predictor, [scene])
                    each.append(made.reached(path, scene.hr.name, Reached, measure))
                    bar.update()
                reached[one.name][name] = Reached(
                    fmean(found.psnr for found in each), fmean(found.ssim for found in each)
                )
    protocols = {
        one.name: made.protocol
        if len(made.scenes) == one.pictures
        else f"of {one.pictures} pictures only {made.protocol}"
        for one, made in studies.items()
    }
    text = published_table(reached, protocols)
    print(text)
    write(args.out / "published.md", text)
    return 0
