"""``masa evaluate``: PSNR and SSIM of a test set, with the protocol they were measured by."""

from __future__ import annotations

import argparse
import csv
import io
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, fields
from itertools import chain
from pathlib import Path
from typing import Any, get_args

from tqdm import tqdm

from masa.commands.options import add_device, add_memory, add_weights, predictor, references, write
from masa.config import SCALE
from masa.errors import UserError
from masa.measuring.evaluate import (
    Against,
    SceneScores,
    Score,
    evaluate,
    finite,
    mean_scores,
    predictor_upscale,
    protocol,
)
from masa.measuring.scenes import Layout, Scene, check_refs, detect_layout, find_scenes

EPILOG = """examples:
  CUFED5, five references stitched:  python -m masa evaluate CUFED5 --border 0
  its most similar reference:        python -m masa evaluate CUFED5 --refs 1
  Sun80, Urban100:                   python -m masa evaluate Sun80; python -m masa evaluate Urban100
  what does the reference bring?     python -m masa evaluate CUFED5 --against self shuffled
  other papers leave out 4 pixels:   python -m masa evaluate CUFED5 --border 4
  keep the numbers:                  python -m masa evaluate pairs --csv all.csv --json all.json
"""

_TITLES = {
    "bicubic": "bicubic",
    "masa": "MASA",
    "self": "with the LR as reference",
    "unrelated": "with another scene's reference",
}


_AGAINST: dict[str, Against] = {"self": "self", "shuffled": "unrelated"}
"""Methods by their names on the command line."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("folder", type=Path, metavar="DIR", help="folder of the test set")
    parser.add_argument(
        "--layout",
        choices=get_args(Layout),
        help="cufed5: NNN_0 and references NNN_1...; sun80: the two published folders; pairs: "
        "input/ and ref/; images, urban100: pictures that are their own reference (default: "
        "recognised)",
    )
    parser.add_argument(
        "--refs",
        type=references,
        default="all",
        metavar="1..5|all",
        help="CUFED5: the reference to use, or all of them stitched (default: all)",
    )
    parser.add_argument(
        "--against",
        nargs="+",
        choices=("none", *_AGAINST),
        default=["none"],
        help="also measure with the LR itself, or with another scene's reference",
    )
    parser.add_argument(
        "--border", type=int, default=0, help="pixels left out on each side (default: 0)"
    )
    parser.add_argument("--seed", type=int, default=0, help="draws Sun80's references (default: 0)")
    parser.add_argument("--csv", type=Path, help="write the scores of each picture")
    parser.add_argument("--json", type=Path, help="write protocol, means and all scores")
    add_weights(parser)
    add_device(parser)
    add_memory(parser)


def run(args: argparse.Namespace) -> int:
    """Measure, print, write; returns 0, or 2 if pictures had to be left out, 130 if stopped."""
    if args.border < 0:
        raise UserError(f"--border is {args.border}: give 0 or more pixels.")
    if args.seed < 0:
        raise UserError(f"--seed is {args.seed}: give 0 or more.")
    layout = args.layout or detect_layout(args.folder)
    check_refs(layout, args.refs)
    scenes = find_scenes(args.folder, layout, args.refs, args.seed)
    against = [method for word, method in _AGAINST.items() if word in args.against]
    network = predictor(args)
    left_out: list[str] = []

    def leave_out(scene: Scene, error: UserError) -> None:
        left_out.append(scene.name)
        tqdm.write(f"{scene.name} is left out: {error}", file=sys.stderr)

    measured = evaluate(
        predictor_upscale(network),
        scenes,
        against,
        args.border,
        leave_out=leave_out,
        seams=SCALE * network.config.lr_block,
    )
    rows: list[SceneScores] = []
    stopped = False
    try:
        for row in tqdm(measured, total=len(scenes), unit="picture"):
            rows.append(row)
    except KeyboardInterrupt:  # what was measured is not lost
        if not rows:
            raise
        stopped = True
        left_out += [scene.name for scene in scenes[len(rows) + len(left_out) :]]
    if not rows:
        raise UserError(f"None of the pictures in '{args.folder}' can be measured.")
    how: dict[str, Any] = {
        "folder": str(args.folder),
        "layout": layout,
        "protocol": protocol(layout, args.refs, args.border, args.seed),
        "left_out": left_out,
        "weights": str(args.weights),
        "device": network.device.type,
        "precision": str(network.dtype).removeprefix("torch."),
    }
    print(table(rows, how))
    if args.csv:
        write(args.csv, csv_text(rows))
    if args.json:
        write(args.json, json_text(rows, how))
    if stopped:
        return 130
    return 2 if left_out else 0


def table(rows: Sequence[SceneScores], how: dict[str, Any]) -> str:
    """The means, for reading."""
    count = f"{len(rows)} of {len(rows) + len(how['left_out'])}" if how["left_out"] else len(rows)
    lines = [
        f"{how['folder']} ({how['layout']}, {count} pictures), {how['weights']}, "
        f"{how['device']} {how['precision']}",
        how["protocol"],
        f"{'':32}{'PSNR':>8}{'SSIM':>9}{'seams':>8}",
    ]
    for name, score in mean_scores(rows).items():
        lines.append(f"{_TITLES[name]:32}{score.psnr:8.3f}{score.ssim:9.4f}{score.seams:8.3f}")
    return "\n".join(lines)


def csv_text(rows: Sequence[SceneScores]) -> str:
    """A line per picture: name, then PSNR, SSIM and seams of each method."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    methods = list(rows[0].scores)
    kinds = [field.name for field in fields(Score)]
    writer.writerow(["name", *(f"{method}_{kind}" for method in methods for kind in kinds)])
    for row in rows:
        scores = [row.scores[method] for method in methods]
        numbers = ((f"{s.psnr:.4f}", f"{s.ssim:.6f}", f"{s.seams:.4f}") for s in scores)
        writer.writerow([row.name, *chain.from_iterable(numbers)])
    return text.getvalue()


def json_text(rows: Sequence[SceneScores], how: dict[str, Any]) -> str:
    """Everything, for programs; an infinite PSNR (of equal pictures) is null."""

    def plain(row_scores: dict[str, Any]) -> dict[str, Any]:
        return {
            name: {key: finite(value) for key, value in asdict(score).items()}
            for name, score in row_scores.items()
        }

    content = {
        **how,
        "mean": plain(mean_scores(rows)),
        "pictures": [{"name": row.name, **plain(row.scores)} for row in rows],
    }
    return json.dumps(content, indent=2, allow_nan=False) + "\n"
