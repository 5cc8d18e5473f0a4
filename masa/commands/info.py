"""``masa info``: multiply-adds and memory of a run, and the weights."""

from __future__ import annotations

import argparse

import numpy as np

from masa.commands.options import add_device, add_memory, add_weights, predictor, size
from masa.config import SCALE
from masa.machine.cost import dense_matching_cost, executed_cost, paper_cost
from masa.pictures.photo import check_size
from masa.reference.canvas import canvas_sizes

EPILOG = """examples:
  python -m masa info
  python -m masa info --lr 320x240 --ref 1280x960 --references 3
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Sizes, and the shared options."""
    parser.add_argument(
        "--lr", type=size, default=(128, 128), metavar="WxH", help="LR size (default: 128x128)"
    )
    parser.add_argument(
        "--ref", type=size, default=(512, 512), metavar="WxH", help="Ref size (default: 512x512)"
    )
    parser.add_argument("--references", type=int, choices=range(1, 6), default=1, metavar="1..5")
    add_weights(parser)
    add_device(parser)
    add_memory(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print what a run of these sizes will cost; returns 0. Raises ``UserError`` as a run would."""
    ready = predictor(arguments)
    # Before there are that many pixels.
    check_size(arguments.lr[::-1], "small photo", ready.limits)
    check_size(arguments.ref[::-1], "reference", ready.limits)
    blank = [np.zeros((*size, 3), np.uint8) for size in (arguments.lr, arguments.ref)]
    photo, refs = ready.read(blank[0], blank[1:] * arguments.references)
    lr_size, down_size = canvas_sizes(
        photo.rgb.shape[:2], [ref.rgb.shape[:2] for ref in refs], ready.config
    )
    tile = ready.choose_tile(lr_size, down_size)
    cost = executed_cost(lr_size, down_size, ready.config)
    paper = paper_cost(lr_size, down_size, ready.config)
    dense = dense_matching_cost(lr_size, down_size, ready.config)

    def line(name: str, value: str) -> None:
        print(f"  {name:<34}{value}")

    parameters = sum(p.numel() for p in ready.model.parameters())
    print(f"Weights {arguments.weights}: {parameters:,} parameters, {ready.config}")
    print(f"Runs on {ready.device} in {str(ready.dtype).removeprefix('torch.')}.")
    print("Sizes (width x height):")
    line("LR", f"{arguments.lr[1]}x{arguments.lr[0]}, padded to {lr_size[1]}x{lr_size[0]}")
    line(
        "reference, all stacked and padded",
        f"{down_size[1] * SCALE}x{down_size[0] * SCALE}",
    )
    for note in dict.fromkeys(note for ref in refs for note in ref.notes):
        print(f"  {note}")
    line("result", f"{arguments.lr[1] * SCALE}x{arguments.lr[0] * SCALE}")
    print("Multiply-adds (10^9):           executed   as the paper counts")
    for name in ("encode_lr", "encode_ref", "coarse", "fine", "decode", "total"):
        line(name, f"{getattr(cost, name) / 1e9:8.2f} {getattr(paper, name) / 1e9:12.2f}")
    line("dense matching instead", f"{dense / 1e9:8.2f}")
    print("Memory:")
    line(
        "predicted peak of a run",
        f"{ready.predicted_bytes(lr_size, down_size, tile) / 2**20:.0f} MB",
    )
    line("tiles", "none needed" if tile is None else f"of {tile} LR pixels a side")
    width, height = (SCALE * side for side in arguments.lr[::-1])
    print(
        "All this is without alignment, as with --align off: each reference that is aligned may "
        f"add a view of {width}x{height} pixels."
    )
    return 0
