"""``masa compare``: the same part of several networks' results, to be looked at."""

from __future__ import annotations

import argparse
from pathlib import Path

from tqdm import tqdm

from demo.figures.parts import Place, busiest, luma_change
from demo.figures.sheet import MOST_PICTURES, Compared, comparison, side_shown
from masa.commands.options import add_align, add_device, add_memory, add_refs, write
from masa.errors import UserError
from masa.measuring.evaluate import evaluate, predictor_upscale
from masa.measuring.scenes import check_refs, detect_layout, find_scenes, positions
from masa.pictures.degradation import PRESETS
from masa.pictures.write import WRITTEN, encode
from masa.predictor import Predictor
from masa.weights import find_weights, load_model

EPILOG = """examples:
  python -m masa compare CUFED5 --refs 1 --networks masa-rec masa-photo --out sheet.png
  python -m masa compare CUFED5 --refs 1 --only 001 009 --networks masa-photo \\
      --degrade clean "web JPEG 75" --out sheet.png

DIR holds scenes, as for 'evaluate'. Each row is a scene and a way to make its LR, with bicubic
enlargement first and the sharp photo last. It shows the part in which bicubic enlargement of the
clean LR misses most. The numbers are PSNR on Y of whole results.
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
    numbers = positions(scenes, args.only)
    methods = {}
    for path in dict.fromkeys(find_weights(given) for given in args.networks):
        if path.stem in methods:
            raise UserError(
                f"Two of the networks are called '{path.stem}': rename one of the files."
            )
        model = load_model(path)
        network = Predictor(model, args.device, args.precision, memory=args.memory)
        methods[path.stem] = predictor_upscale(network, align=args.align == "auto")
    columns = len(methods) + 2
    if columns > MOST_PICTURES:
        raise UserError(
            f"{len(methods)} networks are too many: choose {MOST_PICTURES - 2} or fewer."
        )
    (first, upscale), *others = methods.items()
    found: list[Compared] = []
    for number in tqdm(numbers, unit="picture", disable=None):
        place: Place | None = None
        # The clean LR first: the part shown is chosen by it, and is the same for all.
        for name in sorted(set(args.degrade), key=list(PRESETS).index):
            (row,) = evaluate(
                upscale,
                scenes,
                numbers=[number],
                keep=len(scenes),
                degradations=[PRESETS[name]],
                others=dict(others),
            )
            results, hr = row.pictures, row.pictures["hr"]
            if place is None:
                side = side_shown(columns)
                place = busiest(luma_change(hr, results["bicubic"]), side, side)
            called = {"bicubic": "bicubic", "masa": first} | {other: other for other, _ in others}
            shown = {
                f"{called[method]} {score.psnr:.2f} dB": results[method]
                for method, score in row.scores.items()
            }
            found.append(Compared(f"{row.name}, {name}", place, {**shown, "the sharp photo": hr}))
    drawn = comparison(found)
    write(args.out, encode(args.out.suffix, drawn.image))
    for one in found:
        print(f"{one.title}: {', '.join(list(one.pictures)[:-1])}")
    print(f"Wrote {args.out}.")
    return 0
