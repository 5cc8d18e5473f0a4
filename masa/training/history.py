"""The history of weights: the runs they were trained in, read from the runs' own logs.

A run is training in one folder with the same settings, in as many sessions as need be. Weights that
start from others take on those others' runs, so that hours and curve reach back to the first step.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from masa.errors import UserError
from masa.training.checkpoint import CHECKPOINT, load_checkpoint
from masa.training.runlog import LOG, read_log
from masa.training.settings import recorded_settings


@dataclass(frozen=True)
class TrainingRun:
    """One run, thinned to what a card shows."""

    name: str
    seconds: float
    """Wall-clock time of all its sessions."""
    steps: int
    settings: dict[str, Any] = field(default_factory=dict)
    """Those of its settings that say what was learned from what."""
    validations: list[dict[str, float]] = field(default_factory=list)
    """Lines of the log with ``step``, ``seconds``, ``val_ref``, ``val_self``,
    ``val_unrelated`` and ``bicubic``, PSNR in dB."""
    note: str = ""
    """For a run without a log: where its numbers are from."""


def read_run(folder: Path) -> tuple[list[TrainingRun], str | None]:
    """A folder's runs, and the weights that the first started from, if any.

    Raises ``UserError`` if there is no log or checkpoint to read.
    """
    saved = load_checkpoint(folder / CHECKPOINT)
    lines = sorted(read_log(folder / LOG), key=lambda line: line["seconds"])
    if saved is None or not lines:
        raise UserError(
            f"'{folder}' holds no run: name the folder that 'train' was given as --out, with its "
            f"{LOG} and {CHECKPOINT}."
        )
    if not any("settings" in line for line in lines):  # an older log
        lines = [
            {"step": 0, "seconds": 0.0, "settings": recorded_settings(saved["settings"])},
            *lines,
        ]
    starts = [place for place, line in enumerate(lines) if "settings" in line]
    runs = []
    for first, after in pairwise([*starts, len(lines)]):
        start, end = lines[first], lines[min(after, len(lines) - 1)]
        validations = [_since(start, line) for line in lines[first:after] if "val_ref" in line]
        last = _since(start, end)
        runs.append(
            TrainingRun(
                folder.name, last["seconds"], int(last["step"]), start["settings"], validations
            )
        )
    return [run for run in runs if run.steps] or runs[-1:], saved["settings"].get("init")


def _since(start: dict[str, Any], line: dict[str, Any]) -> dict[str, Any]:
    """A line of the log with its place counted from ``start``."""
    return {**line, **{key: line[key] - start[key] for key in ("step", "seconds")}}


def read_history(path: Path) -> list[TrainingRun]:
    """Runs, first to last, from a file with :func:`history_json`'s text. Raises ``UserError``."""
    try:
        return [TrainingRun(**run) for run in json.loads(path.read_text("utf-8"))["runs"]]
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(
            f"'{path}' is not a history of weights: name one that 'card' wrote."
        ) from None


def history_json(runs: list[TrainingRun]) -> str:
    """The text of a history's file."""
    return json.dumps({"runs": [asdict(run) for run in runs]}, indent=1) + "\n"


def total_hours(runs: list[TrainingRun]) -> float:
    """Wall-clock hours of all runs together."""
    return sum(run.seconds for run in runs) / 3600
