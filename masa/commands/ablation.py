"""``masa ablation``: networks side by side, as in the paper's tables 3 and 4."""

from __future__ import annotations

import argparse
from functools import partial

from tqdm import tqdm

from masa.commands import study
from masa.commands.options import named_weights, write
from masa.commands.study import Study
from masa.measuring.ablation import (
    ALONE,
    NEAREST,
    Network,
    Reached,
    light_cases,
    measure_case,
    tables,
)

EPILOG = """examples:
  python -m masa ablation CUFED5 --refs 1 --networks lab-sam lab-adain lab-none --out tables/
  python -m masa ablation CUFED5 --refs 1 --networks runs/a/final.safetensors --out tables/

Each network is measured with the references as they are, without, and with each change of their
light. Files called 'best' or 'final' go by their folder's name. Networks called NAME, NAME-seed2
and so on are given as one, with the spread over seeds. Writes ablation.json and ablation.md. What
--out already holds of the same weights and scenes is not measured again.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    study.add_arguments(parser)
    parser.add_argument(
        "--networks", nargs="+", required=True, metavar="NAME_OR_FILE", help="weights to compare"
    )


def run(args: argparse.Namespace) -> int:
    """Measure, print, write; returns 0."""
    paths = named_weights(args.networks)
    found = Study(args, "ablation.json", study.scenes_with_references(args))
    cases = light_cases()
    every = [NEAREST, ALONE, *cases]
    networks = []
    with tqdm(total=len(paths) * len(every), unit="case", disable=None) as bar:
        for name, path in paths.items():
            predictor = found.predictor(path)
            reached = {}
            for case in every:
                measure = partial(measure_case, case, predictor, found.scenes)
                reached[case.name] = found.reached(path, case.name, Reached, measure)
                bar.update()
            parameters = sum(p.numel() for p in predictor.model.parameters())
            networks.append(Network(name, predictor.config, parameters, reached))
    text = f"{found.protocol}\n\n{tables(networks, cases)}"
    print(text)
    write(args.out / "ablation.md", text)
    return 0
