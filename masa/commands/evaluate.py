"""``masa evaluate``: how close results come to a test set's truth, with the protocol beside."""

from __future__ import annotations

import argparse
import csv
import io
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from itertools import chain
from pathlib import Path
from typing import Any, get_args

from tqdm import tqdm

from masa.commands.options import (
    add_align,
    add_device,
    add_memory,
    add_refs,
    add_weights,
    predictor,
    write,
)
from masa.config import SCALE
from masa.errors import UserError
from masa.measuring.evaluate import (
    Against,
    SceneScores,
    Score,
    Upscale,
    evaluate,
    finite,
    mean_gain,
    mean_scores,
    predictor_upscale,
    protocol,
    reduction,
)
from masa.measuring.geometry import (
    ALIGNED,
    USUAL,
    Geometry,
    geometry_called,
    geometry_methods,
    geometry_table,
)
from masa.measuring.scenes import (
    Layout,
    Scene,
    check_refs,
    check_single,
    detect_layout,
    find_scenes,
    positions,
)
from masa.pictures.degradation import PRESETS

EPILOG = """examples:
  CUFED5, five references stitched:  python -m masa evaluate CUFED5 --border 0
  its most similar reference:        python -m masa evaluate CUFED5 --refs 1
  Sun80, Urban100:                   python -m masa evaluate Sun80; python -m masa evaluate Urban100
  what does the reference bring?     python -m masa evaluate CUFED5 --against self shuffled
  other papers leave out 4 pixels:   python -m masa evaluate CUFED5 --border 4
  keep the numbers:                  python -m masa evaluate pairs --csv all.csv --json all.json
  LRs as a messenger sends them:     python -m masa evaluate CUFED5 --degrade "messenger JPEG 50"
  clean and all degraded kinds:      python -m masa evaluate CUFED5 --degrade all --against self
  what does alignment bring?         python -m masa evaluate CUFED5 --refs 1 --against self aligned
  the page's examples, one by one:   python -m masa evaluate assets/examples --each
  references turned and scaled:      python -m masa evaluate CUFED5 --refs 1 --geometry
  changes of your own, few pictures: python -m masa evaluate pairs --only a b --geometry scale=3

The command 'published' measures CUFED5, Sun80 and Urban100 together, as the paper's table 1.

PSNR and SSIM are on luma. Seams: the error along the edges of blocks relative to elsewhere.
Sharpness: the energy above a quarter of the sampling frequency relative to the truth's. Colour: how
far the mean colour is from the truth's, in levels of 255, of the channel that is farthest. Grid:
the strength, in levels, of a pattern that repeats every two or four pixels over the result and
is not in the truth; without one, about as much as bicubic has.

--geometry changes each reference as a whole, with bicubic filters. "turn" turns it
counter-clockwise in a picture that grows with it; what comes in at the corners is mirrored.
"scale" resizes it: 2 gives twice the width and height, as seen from nearer, and 0.7 fewer pixels.
Nothing is cropped, so an aligned reference can keep everything but what fewer pixels cannot hold.
Each cell is PSNR and, in brackets, the share of the gain that is kept: of what the upright
reference gains over no reference, not aligned.
"""

_TITLES = {
    "bicubic": "bicubic",
    "masa": "MASA",
    "self": "with the LR as reference",
    "unrelated": "with another scene's reference",
    ALIGNED: "with the reference aligned",
}

_AGAINST: dict[str, Against] = {"self": "self", "shuffled": "unrelated"}
"""Comparisons that need no other way to run the network, by their names on the command line."""

_ALL = "all"  # in place of a preset's name


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("folder", type=Path, metavar="DIR", help="folder of the test set")
    parser.add_argument(
        "--layout",
        choices=get_args(Layout),
        help="cufed5: NNN_0 and references NNN_1...; sun80: the two published folders; pairs: "
        "input/ and ref/; examples: as examples.json lists them; images, urban100: pictures that "
        "are their own reference (default: recognised)",
    )
    add_refs(parser)
    parser.add_argument(
        "--against",
        nargs="+",
        choices=("none", *_AGAINST, ALIGNED),
        default=["none"],
        help="also measure with the LR itself, with another scene's reference, or with the "
        "reference aligned",
    )
    parser.add_argument(
        "--geometry",
        nargs="*",
        metavar="turn=DEGREES,scale=FACTOR",
        help="instead: a table of references that are turned or resized, as they are and aligned "
        f"(default: {' '.join(change.name for change in USUAL)})",
    )
    parser.add_argument("--only", nargs="+", metavar="NAME", help="measure these pictures alone")
    parser.add_argument("--each", action="store_true", help="also print PSNR of each picture")
    parser.add_argument(
        "--border", type=int, default=0, help="pixels left out on each side (default: 0)"
    )
    parser.add_argument("--seed", type=int, default=0, help="draws Sun80's references (default: 0)")
    parser.add_argument(
        "--degrade",
        choices=(*PRESETS, _ALL),
        default="clean",
        metavar="NAME|all",
        help=f"how LRs are made: {', '.join(PRESETS)}; or each of these in turn, all (default: "
        "clean)",
    )
    parser.add_argument("--csv", type=Path, help="write the scores of each picture")
    parser.add_argument("--json", type=Path, help="write protocol, means and all scores")
    add_weights(parser)
    add_align(parser, default="off")
    add_device(parser)
    add_memory(parser)


@dataclass
class PresetScores:
    """The scores of all scenes with LRs of one preset."""

    degradation: str
    """The preset's name."""
    rows: list[SceneScores] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    """Names of scenes without scores."""
    stopped: bool = False
    """Whether Ctrl-C ended it."""

    def to_dict(self) -> dict[str, Any]:
        """Means and the scores of each picture, for JSON; what is infinite is ``None``."""
        return {
            "left_out": self.left_out,
            "mean": _plain(mean_scores(self.rows)),
            "pictures": [{"name": row.name, **_plain(row.scores)} for row in self.rows],
        }


def run(args: argparse.Namespace) -> int:
    """Measure, print, write; returns 0, or 2 if pictures had to be left out, 130 if stopped."""
    if args.border < 0:
        raise UserError(f"--border is {args.border}: give 0 or more pixels.")
    if args.seed < 0:
        raise UserError(f"--seed is {args.seed}: give 0 or more.")
    layout = args.layout or detect_layout(args.folder)
    check_refs(layout, args.refs)
    scenes = find_scenes(args.folder, layout, args.refs, args.seed)
    numbers = positions(scenes, args.only)
    changes = _changes(args, [scenes[number] for number in numbers])
    against = [method for word, method in _AGAINST.items() if word in args.against]
    if changes and "self" not in against:
        against.append("self")
    network = predictor(args)
    plain, aligning = (predictor_upscale(network, align=align) for align in (False, True))
    others = geometry_methods(plain, aligning, changes)
    todo = _Todo(
        aligning if args.align == "auto" else plain,
        scenes,
        numbers,
        against,
        others if changes or ALIGNED in args.against else {},
        args.border,
        SCALE * network.config.lr_block,
    )
    measured: list[PresetScores] = []
    for name in PRESETS if args.degrade == _ALL else [args.degrade]:
        measured.append(_measure(name, todo))
        if measured[-1].stopped:
            break
    stopped = measured[-1].stopped
    groups = [group for group in measured if group.rows]
    if not groups:
        if stopped:
            raise KeyboardInterrupt
        raise UserError(f"None of the pictures in '{args.folder}' can be measured: see why above.")
    made_by = "each preset in turn" if args.degrade == _ALL else reduction(PRESETS[args.degrade])
    how: dict[str, Any] = {
        "folder": str(args.folder),
        "layout": layout,
        "protocol": protocol(
            layout, args.refs, args.border, args.seed, made_by, args.align == "auto"
        ),
        "degradation": args.degrade,
        "weights": str(args.weights),
        "device": network.device.type,
        "precision": str(network.dtype).removeprefix("torch."),
    }
    print(table(groups, how, changes, args.each))
    if args.csv:
        write(args.csv, csv_text(groups))
    if args.json:
        write(args.json, json_text(groups, how))
    if stopped:
        return 130
    return 2 if any(group.left_out for group in measured) else 0


def _changes(args: argparse.Namespace, scenes: Sequence[Scene]) -> tuple[Geometry, ...]:
    """Those that ``--geometry`` asks for; none without it. Raises ``UserError``."""
    measures_both = args.geometry is not None or ALIGNED in args.against
    if measures_both and args.align == "auto":
        raise UserError("This measures with and without alignment: leave out --align.")
    if measures_both or args.align == "auto":
        if not all(scene.refs for scene in scenes):
            raise UserError(
                "A picture here has no reference to align: give a folder in which each has one."
            )
        check_single(scenes)
    if args.geometry is None:
        return ()
    return tuple(geometry_called(text) for text in dict.fromkeys(args.geometry)) or USUAL


@dataclass(frozen=True)
class _Todo:
    """What is measured with each preset; fields are those of ``evaluate``."""

    upscale: Upscale
    scenes: Sequence[Scene]
    numbers: Sequence[int]
    against: Sequence[Against]
    others: Mapping[str, Upscale]
    border: int
    seams: int


def _measure(name: str, todo: _Todo) -> PresetScores:
    """The chosen scenes with LRs of one preset, or those until Ctrl-C."""
    found = PresetScores(name)

    def leave_out(scene: Scene, error: UserError) -> None:
        found.left_out.append(scene.name)
        tqdm.write(f"{scene.name} is left out: {error}", file=sys.stderr)

    scores = evaluate(
        todo.upscale,
        todo.scenes,
        todo.against,
        todo.border,
        todo.numbers,
        leave_out=leave_out,
        seams=todo.seams,
        degradations=[PRESETS[name]],
        others=todo.others,
    )
    try:
        for row in tqdm(scores, desc=name, total=len(todo.numbers), unit="picture"):
            found.rows.append(row)
    except KeyboardInterrupt:  # what was measured is not lost
        found.stopped = True
        names = [todo.scenes[number].name for number in todo.numbers]
        found.left_out += names[len(found.rows) + len(found.left_out) :]
    return found


def _gain(groups: Sequence[PresetScores]) -> dict[str, float]:
    """Mean gain over bicubic, dB; empty unless all presets were measured, on the same scenes."""
    scenes = {tuple(row.name for row in group.rows) for group in groups}
    if len(groups) < len(PRESETS) or len(scenes) > 1:
        return {}
    return mean_gain({group.degradation: mean_scores(group.rows) for group in groups}, PRESETS)


def table(
    groups: Sequence[PresetScores],
    how: dict[str, Any],
    changes: Sequence[Geometry] = (),
    each: bool = False,
) -> str:
    """The means, for reading; with ``each`` also PSNR of each picture, in Markdown.

    With ``changes`` of references, their table takes the place of both.
    """
    several = how["degradation"] == _ALL
    lines = [
        f"{how['folder']} ({how['layout']}, {_count(groups[0])} pictures), {how['weights']}, "
        f"{how['device']} {how['precision']}",
        how["protocol"],
    ]
    if not changes:
        lines.append(
            f"{'':32}{'PSNR':>8}{'SSIM':>9}{'seams':>8}{'sharpness':>11}{'colour':>8}{'grid':>7}"
        )
    for group in groups:
        if several:
            made_by = reduction(PRESETS[group.degradation])
            lines.append(f"{group.degradation} ({_count(group)} pictures; {made_by})")
        if changes:
            lines += ["", geometry_table(group.rows, changes), ""]
            continue
        for method, score in mean_scores(group.rows).items():
            lines.append(
                f"{'  ' * several + _TITLES[method]:32}{score.psnr:8.3f}{score.ssim:9.4f}"
                f"{score.seams:8.3f}{score.sharpness:11.3f}{score.colour:8.2f}{score.grid:7.2f}"
            )
        if each:
            lines += ["", _each(group.rows), ""]
    if several and not changes and (gain := _gain(groups)):
        lines.append("mean gain over bicubic of the degraded presets, dB")
        lines += [f"{'  ' + _TITLES[method]:32}{value:+8.3f}" for method, value in gain.items()]
    return "\n".join(lines)


def _each(rows: Sequence[SceneScores]) -> str:
    """Markdown: PSNR of each picture by method, and the means."""
    titles = [_TITLES[method] for method in rows[0].scores]
    lines = ["| PSNR, dB | " + " | ".join(titles) + " |", "|---|" + "---:|" * len(titles)]
    for name, scores in [*((row.name, row.scores) for row in rows), ("mean", mean_scores(rows))]:
        cells = (f"{score.psnr:.2f}" for score in scores.values())
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _count(group: PresetScores) -> str:
    """How many pictures were measured, for reading."""
    measured = len(group.rows)
    return f"{measured} of {measured + len(group.left_out)}" if group.left_out else str(measured)


def csv_text(groups: Sequence[PresetScores]) -> str:
    """A line per picture: name, preset, then each kind of score of each method."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    methods = list(groups[0].rows[0].scores)
    kinds = [kind.name for kind in fields(Score)]
    columns = (f"{method}_{kind}" for method in methods for kind in kinds)
    writer.writerow(["name", "degradation", *columns])
    for group in groups:
        for row in group.rows:
            scores = [row.scores[method] for method in methods]
            numbers = (
                (
                    f"{s.psnr:.4f}",
                    f"{s.ssim:.6f}",
                    f"{s.seams:.4f}",
                    f"{s.sharpness:.4f}",
                    f"{s.colour:.4f}",
                    f"{s.grid:.4f}",
                )
                for s in scores
            )
            writer.writerow([row.name, group.degradation, *chain.from_iterable(numbers)])
    return text.getvalue()


def json_text(groups: Sequence[PresetScores], how: dict[str, Any]) -> str:
    """Everything, for programs; an infinite PSNR (of equal pictures) is null.

    With ``--degrade all``, ``presets`` holds by name what is else at the top, and ``gain`` the mean
    gain over bicubic of the degraded ones in dB, empty if not all of them were measured.
    """
    if how["degradation"] == _ALL:
        presets = {
            group.degradation: {
                "lr": reduction(PRESETS[group.degradation]),
                **group.to_dict(),
            }
            for group in groups
        }
        gain = {method: finite(value) for method, value in _gain(groups).items()}
        content = {**how, "presets": presets, "gain": gain}
    else:
        content = {**how, **groups[0].to_dict()}
    return json.dumps(content, indent=2, allow_nan=False) + "\n"


def _plain(scores: dict[str, Score]) -> dict[str, dict[str, float | None]]:
    return {
        method: {kind: finite(value) for kind, value in asdict(score).items()}
        for method, score in scores.items()
    }
