"""``masa bench``: seconds and memory, against the network's convolutions alone."""

from __future__ import annotations

import argparse
import io
import json
import platform
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from tqdm import tqdm

from masa.bench import AnyCase, Case, Measured, PhotosCase, TrainingCase, measure
from masa.commands.options import write
from masa.errors import UserError
from masa.machine.device import resolve_device
from masa.network.fused import has_bf16

EPILOG = """examples:
  what masa/BENCHMARKS.md shows:  python -m masa bench --runs 3 --plot assets/bench.png
  one size:                       python -m masa bench --lr 256 --ref 1024 --precision bf16
  five references, as JSON:       python -m masa bench --lr 128 --references 5 --json bench.json
  photos, with alignment:         python -m masa bench --photos small.png ref.jpg other.jpg

The floor is the time of the network's convolutions alone, with nothing between them. Nothing else
should keep the processor busy meanwhile.
"""

_LR_SIDES = (64, 128, 256, 512)
_REF_SIDES = (256, 512, 1024, 2048)
_PLOTTED_LR, _PLOTTED_REF = 128, 512  # the side that is not varied
_USUAL_REF = 512
_MB = 1e6


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--lr", type=int, metavar="PIXELS", help="side of the LR, one case only")
    parser.add_argument(
        "--ref",
        type=int,
        metavar="PIXELS",
        help="with --lr: side of each reference (512)",
    )
    parser.add_argument(
        "--references",
        type=int,
        choices=range(1, 6),
        metavar="1..5",
        help="with --lr: how many references (1)",
    )
    parser.add_argument(
        "--photos",
        nargs="+",
        metavar="FILE",
        help="a small photo and its references, with the first and with all, as they are and "
        "aligned",
    )
    parser.add_argument(
        "--precision",
        choices=("fp32", "bf16", "fp16"),
        help="with --lr or --photos (fp32)",
    )
    parser.add_argument("--runs", type=int, default=5, help="runs the median is of (default: 5)")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda", "mps"), default="auto")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every number there")
    parser.add_argument(
        "--plot",
        type=Path,
        metavar="FILE.png",
        help="also measure LR sides 64 to 512 and Ref sides 256 to 2048 and draw them",
    )


def run(args: argparse.Namespace) -> int:
    """Measure, print, write; returns 0."""
    if args.runs < 1:
        raise UserError(f"{args.runs} runs have no median: give --runs 1 or more.")
    if args.lr is not None and args.photos is not None:
        raise UserError("Either one size or photos are measured: leave out --lr or --photos.")
    if args.lr is None and (args.ref, args.references) != (None, None):
        raise UserError("--ref and --references are of the case that --lr names: give --lr too.")
    if args.lr is None and args.photos is None and args.precision:
        raise UserError("The usual cases have precisions of their own: leave out --precision.")
    ref = _USUAL_REF if args.ref is None else args.ref
    if args.lr is not None and min(args.lr, ref) < 16:
        raise UserError("Sides below 16 pixels tell nothing: give larger ones.")
    if args.photos is not None and len(args.photos) < 2:
        raise UserError("A photo alone has nothing to be aligned: name its references after it.")
    if args.plot and args.plot.suffix.lower() != ".png":
        raise UserError(f"The figure is a PNG: give '{args.plot}' a name that ends in .png.")
    half = "bf16" if has_bf16(resolve_device(args.device)) else "fp32"
    precision = args.precision or "fp32"
    cases = _usual_cases(half)
    if args.lr is not None:
        cases = [Case(args.lr, ref, args.references or 1, precision)]
    if args.photos is not None:
        cases = _photo_cases(*args.photos, precision=precision)
    plotted = _plotted_cases(half) if args.plot else []
    measured: list[tuple[AnyCase, Measured]] = []
    points: list[tuple[Case, Measured]] = []
    with tqdm(total=len(cases) + len(plotted), unit="case", disable=None) as bar:
        for case in cases:
            measured.append((case, measure(case, args.runs, args.device)))
            bar.update()
        for case in plotted:
            points.append((case, measure(case, 1, args.device, stages=False)))
            bar.update()
    print(_machine(measured[0][1].device))
    print(_table(measured))
    for case, found in measured:
        if found.stages:
            print(f"\n{title(case)}, by stage:\n\n{_stage_table(found)}")
    if args.json:
        write(args.json, _json([*measured, *points]))
    if args.plot:
        picture = io.BytesIO()
        figure(points).savefig(picture, dpi=100)
        write(args.plot, picture.getvalue())
    return 0


def title(case: AnyCase) -> str:
    """A case in a few words."""
    if isinstance(case, TrainingCase):
        return f"training step, batch {case.batch} of {case.crop}x{case.crop}, {case.precision}"
    if isinstance(case, PhotosCase):
        count = f"{len(case.refs)} references" if len(case.refs) > 1 else Path(case.refs[0]).name
        how = "aligned" if case.align else "as it is" if len(case.refs) == 1 else "as they are"
        return f"{Path(case.photo).name} with {count} {how}, {case.precision}"
    many = f"{case.references} references of " if case.references > 1 else "Ref "
    return f"LR {case.lr}x{case.lr}, {many}{case.ref}x{case.ref}, {case.precision}"


def _machine(device: str) -> str:
    return f"PyTorch {torch.__version__}, {device}, {platform.machine()}\n"


def _table(measured: Sequence[tuple[AnyCase, Measured]]) -> str:
    lines = [
        "| | seconds | floor | times the floor | peak MB | same references | same LR |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for case, found in measured:
        peak = "" if found.peak is None else f"{found.peak / _MB:.0f}"
        floor, ratio, *again = (
            "" if value is None else f"{value:.2f}"
            for value in (found.floor, found.ratio, found.same_references, found.same_lr)
        )
        numbers = [f"{found.seconds:.2f}", floor, ratio, peak, *again]
        lines.append(f"| {' | '.join([title(case), *numbers])} |")
    return "\n".join(lines)


def _stage_table(found: Measured) -> str:
    lines = ["| stage | seconds | 10^9 multiply-adds | GFLOP/s |", "|---|---:|---:|---:|"]
    for stage, seconds in found.stages.items():
        operations = found.operations[stage]
        speed = f"{2 * operations / seconds / 1e9:.0f}" if operations else ""
        count = f"{operations / 1e9:.1f}" if operations else ""
        lines.append(f"| {stage} | {seconds:.3f} | {count} | {speed} |")
    return "\n".join(lines)


def _json(measured: Sequence[tuple[AnyCase, Measured]]) -> str:
    rows = [
        {"case": title(case), **asdict(case), **asdict(found), "ratio": found.ratio}
        for case, found in measured
    ]
    return json.dumps({"pytorch": torch.__version__, "measured": rows}, indent=1) + "\n"


def _usual_cases(half: str) -> list[AnyCase]:
    """The table of ``masa/BENCHMARKS.md``; ``half`` is bf16, or fp32 where that is all there is."""
    cases: list[AnyCase] = [
        Case(128, 512),
        Case(128, 512, precision=half),
        Case(256, 1024),
        Case(256, 1024, precision=half),
        Case(128, 512, references=5),
        TrainingCase(precision=half),
    ]
    return list(dict.fromkeys(cases))


def _photo_cases(photo: str, *refs: str, precision: str) -> list[AnyCase]:
    """With the first reference and with all, each as they are and aligned."""
    cases = [
        PhotosCase(photo, some, align, precision)
        for some in (refs[:1], refs)
        for align in (False, True)
    ]
    return list(dict.fromkeys(cases))


def _plotted_cases(half: str) -> list[Case]:
    cases = [
        *(Case(side, _PLOTTED_REF, precision=half) for side in _LR_SIDES),
        *(Case(_PLOTTED_LR, side, precision=half) for side in _REF_SIDES),
    ]
    return list(dict.fromkeys(cases))


def figure(points: Sequence[tuple[Case, Measured]]) -> Figure:
    """Seconds (with the floor) and peak memory against the LR's and the reference's side."""
    drawn = Figure(figsize=(9, 6), layout="constrained")
    axes = drawn.subplots(2, 2, sharex="col")
    rows = dict(points)
    columns = [
        (f"side of the LR, pixels (Ref {_PLOTTED_REF})", "lr", {"ref": _PLOTTED_REF}),
        (f"side of the reference, pixels (LR {_PLOTTED_LR})", "ref", {"lr": _PLOTTED_LR}),
    ]
    for column, (name, varied, fixed) in enumerate(columns):
        (key, value), *_ = fixed.items()
        chosen = sorted(
            (getattr(case, varied), found)
            for case, found in rows.items()
            if getattr(case, key) == value
        )
        sides = [side for side, _ in chosen]
        top, bottom = axes[0, column], axes[1, column]
        top.plot(sides, [found.seconds for _, found in chosen], "o-", label="a run")
        top.plot(sides, [found.floor for _, found in chosen], "s--", label="its convolutions alone")
        memory = [(side, found.peak / _MB) for side, found in chosen if found.peak is not None]
        if memory:
            bottom.plot(*zip(*memory, strict=True), "o-", label="peak above import torch")
        top.set_ylabel("seconds")
        bottom.set_ylabel("MB")
        bottom.set_xlabel(name)
        for axis in (top, bottom):
            _logarithmic(axis, sides)
    return drawn


def _logarithmic(axis: Axes, sides: Sequence[int]) -> None:
    axis.set_xscale("log", base=2)
    axis.set_yscale("log")
    axis.set_xticks(sides, [str(side) for side in sides])
    axis.grid(True, which="both", alpha=0.3)
    if axis.get_legend_handles_labels()[0]:
        axis.legend()
