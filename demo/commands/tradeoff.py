"""``masa tradeoff``: PSNR against the cost of matching, as in the paper's figure 5."""

from __future__ import annotations

import argparse
from functools import partial

from tqdm import tqdm

from demo.figures.tradeoff import tradeoff
from demo.runs.served import png
from masa.commands import study
from masa.commands.options import write
from masa.commands.study import Study
from masa.measuring.ablation import Tradeoff, measure_setting, settings, tradeoff_table
from masa.weights import DEFAULT_WEIGHTS, find_weights

EPILOG = """examples:
  python -m masa tradeoff CUFED5 --refs 1 --out figure5/
  python -m masa tradeoff CUFED5 --refs 1 --limit 3 --weights masa-photo --out figure5/

Varies the side of LR blocks, the side of Ref blocks and the dilations, one at a time. Writes
tradeoff.json, tradeoff.md and tradeoff.png. What --out already holds of the same weights and scenes
is not measured again.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    study.add_arguments(parser)
    parser.add_argument(
        "--weights",
        default=DEFAULT_WEIGHTS,
        metavar="NAME_OR_FILE",
        help="the network to measure (default: %(default)s)",
    )


def run(args: argparse.Namespace) -> int:
    """Measure, print, write; returns 0."""
    path = find_weights(args.weights)
    made = Study(args, "tradeoff.json", study.scenes_with_references(args))
    predictor = made.predictor(path)
    found = []
    for setting in tqdm(settings(predictor.config), unit="setting", disable=None):
        measure = partial(measure_setting, setting, predictor, made.scenes)
        found.append((setting, made.reached(path, setting.key, Tradeoff, measure)))
    drawn = tradeoff(path.stem, found)
    text = f"{made.protocol}\n\n{tradeoff_table(found)}\n{drawn.summary}\n"
    print(text)
    write(args.out / "tradeoff.md", text)
    write(args.out / "tradeoff.png", png(drawn.image))
    return 0
