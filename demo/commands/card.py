"""``masa card``: what weights were trained on and reach, from logs and evaluations."""

from __future__ import annotations

import argparse
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from masa.commands.options import write
from masa.config import MASAConfig
from masa.errors import UserError
from masa.training.history import TrainingRun, history_json, read_history, read_run, total_hours
from masa.weights import DEFAULT_WEIGHTS

EPILOG = """examples:
  python -m masa evaluate SCENES --refs 1 --against self shuffled --json scores.json
  python -m masa card runs/mine --name masa-rec --evaluation scores.json
  python -m masa evaluate SCENES --refs 1 --against self --degrade all --json presets.json
  python -m masa card runs/photo --name masa-photo --before weights/masa-rec.json \\
      --evaluation presets.json

An evaluation with --degrade all makes a table of PSNR by preset instead of the usual one.

Writes weights/NAME.json (the runs, from their logs), weights/NAME.png (the curve) and the part of
weights/README.md between the lines '<!-- NAME -->' and '<!-- end of NAME -->'. The runs of the
weights that the run started from are taken from --before.
"""

_CURVES = {
    "val_ref": ("nearest reference", "o-"),
    "val_self": ("the LR as its own reference", "s-"),
    "val_unrelated": ("another scene's reference", "^-"),
    "bicubic": ("bicubic", "--"),
}
_ROWS = {
    "masa": "nearest reference",
    "self": "the LR as its own reference",
    "unrelated": "another scene's reference",
    "bicubic": "bicubic",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("folder", type=Path, nargs="?", metavar="RUN", help="folder of the run")
    parser.add_argument(
        "--name", default=DEFAULT_WEIGHTS, help="of the weights (default: %(default)s)"
    )
    parser.add_argument(
        "--before", type=Path, metavar="NAME.json", help="history of the weights it started from"
    )
    parser.add_argument(
        "--evaluation", type=Path, metavar="FILE", help="JSON of 'evaluate' with these weights"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("weights"), metavar="DIR", help="(default: %(default)s)"
    )


def run(args: argparse.Namespace) -> int:
    """Read, draw, write; returns 0."""
    runs = read_history(args.before) if args.before else []
    if args.folder:
        new, init = read_run(args.folder)
        runs = [run for run in runs if not any(_is_part_of(run, other) for other in new)]
        if init and not runs:
            raise UserError(
                f"The run started from '{init}': give that one's history with --before, or its "
                "hours would be missing."
            )
        if runs and not init:
            raise UserError("The run started from nothing: leave out --before.")
        runs += new
    if not runs:
        raise UserError(
            "There are no runs to describe: name a run's folder, or a history with --before."
        )
    evaluation = _evaluation(args.evaluation) if args.evaluation else None
    card = args.out / "README.md"
    try:
        text = card.read_text("utf-8")
    except OSError:
        text = "# Weights\n"
    write(args.out / f"{args.name}.json", history_json(runs))
    picture = io.BytesIO()
    curve(runs).savefig(picture, dpi=90)
    write(args.out / f"{args.name}.png", picture.getvalue())
    write(card, with_part(text, args.name, part(args.name, runs, evaluation)))
    print(f"{args.name}: {total_hours(runs):.1f} hours, runs: {len(runs)}; see '{card}'.")
    return 0


@dataclass(frozen=True)
class Evaluation:
    """What a card takes from an evaluation."""

    protocol: str
    scenes: str
    """How many there were, in words."""
    means: dict[str, dict[str, dict[str, float | None]]]
    """By preset (of ``--degrade all``; otherwise the only one has no name), method and kind of
    score; what is infinite is ``None``."""
    gain: dict[str, float | None] = field(default_factory=dict)
    """Mean gain over bicubic of the degraded presets, dB, by method."""


def _evaluation(path: Path) -> Evaluation:
    try:
        found = json.loads(path.read_text("utf-8"))
        if found.get("degradation") == "all":
            presets = found["presets"]
            scenes = [[scene["name"] for scene in group["pictures"]] for group in presets.values()]
            if any(names != scenes[0] for names in scenes):
                raise UserError(
                    f"The presets in '{path}' were not measured on the same scenes: evaluate again."
                )
            means = {name: group["mean"] for name, group in presets.items()}
            (first, *_) = presets.values()
            return Evaluation(found["protocol"], _scenes(first), means, found["gain"])
        mean = found["mean"]
        if "shuffled" in mean:  # its name in older files
            mean["unrelated"] = mean.pop("shuffled")
        return Evaluation(found["protocol"], _scenes(found), {"": mean})
    except UserError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise UserError(
            f"'{path}' holds no evaluation: name what 'evaluate --json' wrote."
        ) from None


def _scenes(group: dict[str, Any]) -> str:
    """How many scenes a mean is of, and how many are missing in it."""
    left_out = len(group.get("left_out", ()))
    return f"{len(group['pictures'])} scenes" + f" ({left_out} left out)" * bool(left_out)


def part(name: str, runs: Sequence[TrainingRun], evaluation: Evaluation | None) -> str:
    """The card of one file of weights, in Markdown."""
    steps = sum(run.steps for run in runs)
    lines = [
        f"### {name}",
        "",
        *_network(runs),
        f"Trained for {total_hours(list(runs)):.1f} hours of wall-clock time in {steps:,} steps:",
        "",
        "| run | hours | steps | samples a step | learning rate | from the log |",
        "|---|---:|---:|---|---|---|",
    ]
    for run in runs:
        crop, batch = run.settings.get("crop"), run.settings.get("batch")
        samples = f"{batch} of {crop}x{crop}" if crop and batch else ""
        augmentation = run.settings.get("augmentation", {})
        degrade, align = augmentation.get("degrade", "off"), augmentation.get("align", 0)
        if degrade != "off":
            samples += f", LRs degraded ({degrade})"
        if not augmentation.get("luminance", True):
            samples += ", no changes of light"
        if align:
            samples += f", {align:.0%} of references aligned"
        rates = [run.settings.get(key) for key in ("lr", "lr_final")]
        rate = f"{rates[0]:g} to {rates[1]:g}" if None not in rates else ""
        rate += f", {run.settings['optimizer']}" if "optimizer" in run.settings else ""
        numbers = [run.name, f"{run.seconds / 3600:.1f}", f"{run.steps:,}", samples, rate]
        lines.append(f"| {' | '.join([*numbers, run.note or _reached(run)])} |")
    lines += _losses(runs)
    lines += ["", f"![PSNR on the validation scenes over hours of training]({name}.png)", ""]
    if evaluation:
        means = evaluation.means
        lines += [f"{evaluation.scenes}; {evaluation.protocol}", ""]
        lines += _table(means[""]) if "" in means else _preset_table(evaluation)
        lines.append("")
    return "\n".join(lines)


def _network(runs: Sequence[TrainingRun]) -> list[str]:
    """What the network is, unless it is the paper's final one; a run's settings say what changed.

    Raises ``UserError`` for settings that are no network's.
    """
    changed = {key: value for run in runs for key, value in run.settings.get("config", {}).items()}
    try:
        config = MASAConfig.from_dict(changed)
    except (ValueError, TypeError):
        raise UserError(
            "A run's settings describe no network of this version: make its card with the version "
            "that trained it."
        ) from None
    return [] if config == MASAConfig() else [f"The network: {config.in_words()}.", ""]


def _is_part_of(before: TrainingRun, run: TrainingRun) -> bool:
    """Whether ``before`` is ``run`` as an earlier card told it, perhaps with fewer steps."""
    starts = [(each.name, each.settings, each.validations[:1]) for each in (before, run)]
    return starts[0] == starts[1]


def _reached(run: TrainingRun) -> str:
    """What a run's last validation found; nothing if there was none."""
    if not run.validations:
        return ""
    last = run.validations[-1]
    reached = f"{last['val_ref']:.2f} dB with the nearest reference"
    if last["step"] == 0:
        return f"{reached} before its first step; not measured at its end"
    return reached if last["step"] == run.steps else f"{reached} at step {last['step']:,}"


def _losses(runs: Sequence[TrainingRun]) -> list[str]:
    """What each run of the stage ``full`` minimised."""
    told = [
        f"{run.name} minimised L1, the perceptual loss on {run.settings['perceptual_features']} "
        f"(weight {run.settings['perceptual_weight']:g}) and the adversarial loss (weight "
        f"{run.settings['adversarial_weight']:g})"
        + (f", and a loss of a grid (weight {grid:g})." if grid else ".")
        for run in runs
        if "perceptual_features" in run.settings
        for grid in [run.settings.get("grid_weight", 0)]
    ]
    return ["", *told] if told else []


def _table(mean: dict[str, dict[str, float | None]]) -> list[str]:
    """Every kind of score by method; newer ones only where they were measured."""
    kinds = ["seams", "sharpness", "colour", "grid"]
    kinds = [kind for kind in kinds if all(kind in scores for scores in mean.values())]
    lines = [f"| | PSNR | SSIM | {' | '.join(kinds)} |", "|---|---:|---:|" + "---:|" * len(kinds)]
    for method, words in _ROWS.items():
        if method in mean:
            found = mean[method]
            cells = [_cell(found["psnr"]) + " dB", f"{found['ssim']:.4f}"]
            cells += [_cell(found[kind]) for kind in kinds]
            lines.append(f"| {words} | {' | '.join(cells)} |")
    return lines


def _preset_table(evaluation: Evaluation) -> list[str]:
    """PSNR in dB by preset and method."""
    first, *_ = evaluation.means.values()
    methods = [method for method in _ROWS if method in first]
    lines = [
        f"| PSNR, dB | {' | '.join(_ROWS[method] for method in methods)} |",
        "|---|" + "---:|" * len(methods),
    ]
    for name, mean in evaluation.means.items():
        lines.append(f"| {name} | {' | '.join(_cell(mean[m]['psnr']) for m in methods)} |")
    if evaluation.gain:
        found = [evaluation.gain.get(method) for method in methods]
        gains = ["" if value is None else f"{value:+.2f}" for value in found]
        lines.append(f"| degraded ones, mean gain over bicubic | {' | '.join(gains)} |")
    return lines


def _cell(number: float | None) -> str:
    return "∞" if number is None else f"{number:.2f}"  # infinite; JSON has no infinity


def with_part(text: str, name: str, new: str) -> str:
    """``text`` with the part called ``name`` replaced, or added at the end."""
    start, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    block = f"{start}\n{new}{end}"
    before, found, rest = text.partition(start)
    if not found:
        return f"{text.rstrip()}\n\n{block}\n"
    _, found, after = rest.partition(end)
    if not found:
        raise UserError(f"The card lacks the line '{end}': put it back where the part ends.")
    return before + block + after


def curve(runs: Sequence[TrainingRun]) -> Figure:
    """PSNR of every validation over the hours of all runs."""
    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.subplots()
    start = 0.0
    colours = dict(zip(_CURVES, ("C0", "C1", "C2", "0.5"), strict=True))
    for number, run in enumerate(runs):
        hours = [start + line["seconds"] / 3600 for line in run.validations]
        for key, (words, style) in _CURVES.items():
            values = [line[key] for line in run.validations]
            label = None if number < len(runs) - 1 else words
            axes.plot(hours, values, style, color=colours[key], label=label, markersize=4)
        start += run.seconds / 3600
        if number < len(runs) - 1:
            axes.axvline(start, color="0.8", linewidth=1)
    axes.set_xlim(0, max(start, 1e-3))
    axes.set_xlabel("hours of training")
    axes.set_ylabel("PSNR on Y, dB")
    axes.grid(True, alpha=0.3)
    figure.legend(loc="outside upper center", ncols=2)  # over no curve
    return figure
