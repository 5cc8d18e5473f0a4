"""What weights went through: the runs they were trained in, from the runs' own logs.

A run is one call of training in one folder, continued as often as need be. Weights that start
from others take on those others' runs, so that hours and curve reach back to the first step.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from masa.errors import UserError
from masa.train import CHECKPOINT, LOG, load_checkpoint

_TOLD = ("crop", "batch", "optimizer", "lr", "lr_final", "stage", "seed", "config", "augmentation")


@dataclass(frozen=True)
class Run:
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


def read_run(folder: Path) -> tuple[Run, str | None]:
    """A run from its folder, and the weights that it started from, if any.

    Raises ``UserError`` if there is no log or checkpoint to read.
    """
    saved = load_checkpoint(folder / CHECKPOINT)
    try:
        lines = [json.loads(line) for line in (folder / LOG).read_text("utf-8").splitlines()]
    except (OSError, ValueError):
        lines = []
    if saved is None or not lines:
        raise UserError(
            f"'{folder}' holds no run: name the folder that 'train' was given as --out, with its "
            f"{LOG} and {CHECKPOINT}."
        )
    settings = saved["settings"]
    run = Run(
        folder.name,
        max(line["seconds"] for line in lines),
        int(max(line["step"] for line in lines)),
        {key: settings[key] for key in _TOLD if key in settings},
        [line for line in lines if "val_ref" in line],
    )
    return run, settings.get("init")


def read_history(path: Path) -> list[Run]:
    """Runs, first to last, from a file with :func:`history_json`'s text. Raises ``UserError``."""
    try:
        return [Run(**run) for run in json.loads(path.read_text("utf-8"))["runs"]]
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(
            f"'{path}' is not a history of weights: name one that 'card' wrote."
        ) from None


def history_json(runs: list[Run]) -> str:
    """The text of a history's file."""
    return json.dumps({"runs": [asdict(run) for run in runs]}, indent=1) + "\n"


def total_hours(runs: list[Run]) -> float:
    """Wall-clock hours of all runs together."""
    return sum(run.seconds for run in runs) / 3600
