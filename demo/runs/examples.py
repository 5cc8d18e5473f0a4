"""The example pairs in ``assets/examples``."""

from __future__ import annotations

import base64
import html
import io
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from demo.settings import ASSETS


@dataclass(frozen=True)
class Example:
    """A photo to enlarge and its references."""

    name: str
    title: str
    kind: str
    """What relates reference and photo, in a few words."""
    look_for: str
    """One sentence: where to look, and why."""
    hr: Path
    """The sharp photo."""
    lr: Path | None
    """The small photo as the web sends it; ``None`` where the LR is made of the sharp one."""
    refs: tuple[Path, ...]
    disparity: Path | None

    @property
    def photo(self) -> Path:
        """What is uploaded: the small photo if there is one, else the sharp one."""
        return self.lr or self.hr

    @property
    def is_hr(self) -> bool:
        """Whether that is the sharp photo."""
        return self.lr is None

    def true_disparity(self) -> NDArray[np.float32] | None:
        """``(H, W)`` in HR pixels, NaN where unknown: column ``x`` of the photo is at column
        ``x - disparity`` of the reference. ``None`` where no truth is known."""
        if self.disparity is None:
            return None
        with np.load(self.disparity) as arrays:
            return arrays["disparity"].astype(np.float32)


def load_examples() -> list[Example]:
    """All examples, the one the page opens on first."""
    folder = ASSETS / "examples"
    return [
        Example(
            name=entry["name"],
            title=entry["title"],
            kind=entry["kind"],
            look_for=entry["look_for"],
            hr=folder / entry["hr"],
            lr=folder / entry["lr"] if "lr" in entry else None,
            refs=tuple(folder / ref for ref in entry["refs"]),
            disparity=folder / entry["disparity"] if "disparity" in entry else None,
        )
        for entry in json.loads((folder / "examples.json").read_text())
    ]


THUMBNAIL = (128, 96)
"""Pixels, across and down; twice what the page gives them, for dense screens."""


def card(example: Example) -> str:
    """HTML for the page's list: the photo and its first reference, small, and what they are."""
    pair = "".join(
        f'<img src="{_thumbnail(path)}" alt="">' for path in (example.photo, *example.refs[:1])
    )
    title, kind = html.escape(example.title), html.escape(example.kind)
    return f"{pair}<span>{title}<br><small>{kind}</small></span>"


def _thumbnail(path: Path) -> str:
    """The middle of a picture as a ``data:`` address, so that nothing has to be fetched for it."""
    data = io.BytesIO()
    with Image.open(path) as picture:
        ImageOps.fit(picture.convert("RGB"), THUMBNAIL).save(data, "WEBP", quality=70)
    return "data:image/webp;base64," + base64.b64encode(data.getvalue()).decode()
