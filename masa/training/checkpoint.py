"""A run's checkpoint, ``last.pt``: read and written whole."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import torch

from masa.errors import UserError
from masa.files import write_whole

CHECKPOINT = "last.pt"
FORMAT = 1
"""Version of the checkpoint's layout."""


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write ``state`` so that at any time either the old or the new file is whole.

    Raises ``OSError``, in which case the old file remains.
    """
    buffer = io.BytesIO()
    torch.save(state, buffer)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, buffer.getbuffer())


def load_checkpoint(path: Path) -> dict[str, Any] | None:
    """The state in ``path``, read without running any code in it; ``None`` if there is no file.

    Raises ``UserError`` if it cannot be used.
    """
    if not os.path.exists(path):  # unlike a Path's method, it never raises
        return None
    advice = "move it away to start anew, or choose another --out"
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        version = state["format"]
    except Exception:  # arbitrary bytes make a reader raise nearly every built-in exception
        raise UserError(f"The checkpoint '{path}' is damaged: {advice}.") from None
    if version != FORMAT:
        raise UserError(f"The checkpoint '{path}' is of another version ({version}): {advice}.")
    return state
