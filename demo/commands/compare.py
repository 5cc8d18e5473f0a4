"""``masa compare``: the same part of several networks' results, to be looked at."""

from __future__ import annotations

import argparse
from itertools import product
from pathlib import Path

from tqdm import tqdm

from demo.figures.parts import Place, busiest, luma_change
from demo.figures.sheet import MOST_PICTURES, MOST_ROWS, Compared, comparison, side_shown
from masa.commands.options import (
    add_align,
    add_device,
    add_memory,
    add_refs,
    named_weights,
    write,
)
from masa.errors import UserError
from masa.machine.cache import FeatureCache
from masa.measuring.evaluate import evaluate, predictor_upscale
from masa.measuring.scenes import (
    check_refs,
    check_single,
    detect_layout,
    find_scenes,
    positions,
)
from masa.pictures.degradation import PRESETS, lr_from_hr
from masa.pictures.photo import Pixels
from masa.pictures.resize import enlarge_x4
from masa.pictures.write import WRITTEN, encode
from masa.predictor import Predictor
from masa.weights import load_model

EPILOG = """examples:
  python -m masa compare CUFED5 --refs 1 --networks masa-rec masa-photo --out sheet.png
  python -m masa compare CUFED5 --refs 1 --only 001 009 --networks masa-photo \\
      --degrade clean "web JPEG 75" --out sheet.png

DIR holds scenes, as for 'evaluate'. Each row is a scene and a way to make its LR, with bicubic
enlargement first and the sharp photo last. It shows the part in which bicubic enlargement of the
clean LR misses most. The numbers are PSNR on Y of whole results. Files called 'best' or 'final' go
by their folder's name.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("folder", type=Path, metavar="DIR", help="folder of the test set")
    parser.add_argument(
        "--networks", nargs="+", required=True, metavar="NAME_OR_FILE", help="weights to compare"
    )
    parser.add_argument(
        "--degrade",
        nargs="+",
        choices=list(PRESETS),
        default=["clean"],
        metavar="NAME",
        help=f"how LRs are made, one or more of: {', '.join(PRESETS)} (default: clean)",
    )
    parser.add_argument("--only", nargs="+", metavar="NAME", help="show these pictures alone")
    add_refs(parser)
    add_align(parser, default="off")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FILE", help="the sheet: PNG, WebP, ..."
    )
    add_device(parser)
    add_memory(parser)


def run(args: argparse.Namespace) -> int:
    """Enlarge, draw, write, print; returns 0."""
    if args.out.suffix.lower() not in WRITTEN:
        raise UserError(f"'{args.out.name}' should end in one of {', '.join(WRITTEN)}.")
    layout = detect_layout(args.folder)
    check_refs(layout, args.refs)
    scenes = find_scenes(args.folder, layout, args.refs)
    if args.align == "auto":
        check_single(scenes)
    numbers = positions(scenes, args.only)
    presets = [name for name in PRESETS if name in args.degrade]
    if (rows := len(numbers) * len(presets)) > MOST_ROWS:
        raise UserError(
            f"{rows} rows are too many for a sheet: choose {MOST_ROWS} or fewer with --only and "
            "--degrade."
        )
    paths = named_weights(args.networks)
    columns = len(paths) + 2
    if columns > MOST_PICTURES:
        raise UserError(f"{len(paths)} networks are too many: choose {MOST_PICTURES - 2} or fewer.")
    features = FeatureCache(2 * len(paths))
    upscales = [
        predictor_upscale(
            Predictor(
                load_model(path),
                args.device,
                args.precision,
                memory=args.memory,
                features=features,
            ),
            align=args.align == "auto",
        )
        for path in paths.values()
    ]
    # Names of evaluate's own, which no network can have.
    methods = ["bicubic", "masa", *(f"other {n}" for n in range(1, len(paths)))]
    others = dict(zip(methods[2:], upscales[1:], strict=True))
    found: list[Compared] = []
    for number, preset in tqdm([*product(numbers, presets)], unit="picture", disable=None):
        (scene,) = evaluate(
            upscales[0],
            scenes,
            numbers=[number],
            keep=len(scenes),
            degradations=[PRESETS[preset]],
            others=others,
        )
        hr = scene.pictures["hr"]
        place = _busiest(hr, side_shown(columns))
        parts = {
            f"{name} {scene.scores[method].psnr:.2f} dB": place.cut(scene.pictures[method])
            for name, method in zip(["bicubic", *paths], methods, strict=True)
        }
        found.append(Compared(f"{scene.name}, {preset}", parts, place.cut(hr)))
    write(args.out, encode(args.out.suffix, comparison(found).image))
    for one in found:
        print(f"{one.title}: {', '.join(one.parts)}")
    print(f"Wrote {args.out}.")
    return 0


def _busiest(hr: Pixels, side: int) -> Place:
    """Where bicubic enlargement of the clean LR misses most."""
    lr, hr = lr_from_hr(hr)
    return busiest(luma_change(hr, enlarge_x4(lr)), side, side)
