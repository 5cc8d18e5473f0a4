"""A run's log: ``log.jsonl`` and TensorBoard's files in the run's folder."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from masa.files import write_whole
from masa.measuring.evaluate import SceneScores
from masa.pictures.photo import Pixels
from masa.training.console import say

LOG = "log.jsonl"


def read_log(path: Path) -> list[dict[str, Any]]:
    """The lines of a log, each with ``step`` and ``seconds``; none if there is no such file.

    Lines that were cut off, by a full disk or a crash, are left out.
    """
    try:
        text = path.read_text("utf-8", errors="replace")
    except OSError:
        return []
    return [line for line in map(_parsed, text.splitlines()) if line is not None]


def _parsed(line: str) -> dict[str, Any] | None:
    try:
        found = json.loads(line)
        numbers = float(found["step"]), float(found["seconds"])
    except (ValueError, KeyError, TypeError):
        return None
    return found if all(map(math.isfinite, numbers)) else None


class RunLog:
    """Writes a run's log; nothing, unless ``active``.

    Lines after step ``step``, from which the run resumes, are taken out; all of them, if it starts
    anew. If the disk is full, lines are lost, with a message, and the run goes on.
    """

    def __init__(self, folder: Path, step: int | None, active: bool) -> None:
        self._path = folder / LOG
        self._active = active
        self._board: Any = None
        self._whole = False  # whether the file ends with a line that is certainly complete
        self._settings: dict[str, Any] | None = None
        if not active:
            return
        with self._tolerant():
            folder.mkdir(parents=True, exist_ok=True)
            self._forget_after(-1 if step is None else step)
            self._board = _tensorboard(folder, step)

    def write(self, line: dict[str, float]) -> None:
        """Append numbers; ``step`` and ``seconds`` among them place the others."""
        if not self._active:
            return
        self._append(line)
        if self._board:
            with self._tolerant():
                for key in line.keys() - {"step", "seconds"}:
                    self._board.add_scalar(_board_name(key), line[key], int(line["step"]))

    @property
    def tells_settings(self) -> bool:
        """Whether a line of it holds the run's settings."""
        return self._settings is not None

    def settings(self, step: int, seconds: float, settings: dict[str, Any]) -> None:
        """Note the settings from here on, unless they are those that were noted last."""
        if self._active and settings != self._settings:
            self._append({"step": step, "seconds": seconds, "settings": settings})
            self._settings = settings

    def pictures(self, step: int, rows: Sequence[SceneScores]) -> None:
        """Show bicubic enlargement, result, reference and truth of each row side by side."""
        if not self._board:
            return
        with self._tolerant():
            for row in rows:
                images = [
                    row.pictures[k] for k in ("bicubic", "masa", "ref", "hr") if k in row.pictures
                ]
                self._board.add_image(f"scene/{row.name}", strip(images), step, dataformats="HWC")
            self._board.flush()

    def close(self) -> None:
        """Write what is pending."""
        if self._board:
            with self._tolerant():
                self._board.close()

    @contextlib.contextmanager
    def _tolerant(self) -> Iterator[None]:
        """Turns an ``OSError`` of the block into a message."""
        try:
            yield
        except OSError as error:
            say(f"The log in '{self._path.parent}' could not be written ({error.strerror}).")

    def _append(self, line: dict[str, Any]) -> None:
        text = json.dumps(line) + "\n"
        if not self._whole:
            text = "\n" + text  # ends a last line that was cut off, so that this one can be read
        self._whole = False
        with self._tolerant():
            with self._path.open("a", encoding="utf-8") as file:
                file.write(text)
            self._whole = True

    def _forget_after(self, step: int) -> None:
        """Take out what an interrupted session logged after its last checkpoint."""
        kept = [line for line in read_log(self._path) if line["step"] <= step]
        self._settings = next((k["settings"] for k in reversed(kept) if "settings" in k), None)
        text = "".join(json.dumps(line) + "\n" for line in kept).encode()
        if self._path.exists() and self._path.read_bytes() != text:
            write_whole(self._path, text)
        self._whole = True


def strip(images: Sequence[Pixels]) -> Pixels:
    """Pictures ``(H, W, 3)`` side by side, smaller ones padded below with white."""
    height = max(len(image) for image in images)
    return np.concatenate(
        [
            np.pad(image, [(0, height - len(image)), (0, 0), (0, 0)], constant_values=255)
            for image in images
        ],
        axis=1,
    )


def _tensorboard(folder: Path, step: int | None) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        say("TensorBoard is not installed; the log is in log.jsonl alone.")
        return None
    return SummaryWriter(str(folder), purge_step=0 if step is None else step + 1)


def _board_name(key: str) -> str:
    return f"validation/{key}" if key.startswith("val_") or key == "bicubic" else f"train/{key}"
