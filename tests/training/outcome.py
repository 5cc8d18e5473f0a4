"""What a run left behind."""

import json
from pathlib import Path

import torch

from masa.training.checkpoint import load_checkpoint


def log_of(settings, without=("seconds",)):
    """The log's numbers."""
    lines = [json.loads(line) for line in (Path(settings.out) / "log.jsonl").open()]
    lines = [line for line in lines if "settings" not in line]
    return [{k: v for k, v in line.items() if k not in without} for line in lines]


def checkpoint_of(settings):
    return load_checkpoint(Path(settings.out) / "last.pt")


def equal(a, b):
    """Whether two nested states hold equal numbers, bit for bit."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(equal, a, b))
    return a == b


def same_run(a, b):
    """Whether two checkpoints are equal but for folders and times."""
    a, b = (
        {k: v for k, v in c.items() if k not in ("settings", "seconds", "validated")}
        for c in (a, b)
    )
    return equal(a, b)
