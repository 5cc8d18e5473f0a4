"""The result in words and pictures: the report, and the two pictures in the slider."""

from __future__ import annotations

import html

from demo.figures import result
from demo.figures.places import padding_words
from demo.runs.exploration import Exploration
from demo.runs.served import serve_png
from masa.config import SCALE
from masa.weights import invents_detail

PICTURES = {
    "bicubic": "Bicubic",
    "plain": "MASA without the reference",
    "result": "MASA with the reference",
    "faithful": "MASA without invented detail",
    "hr": "The sharp photo",
}
"""Pictures that can be compared: field of an exploration, and its name for visitors."""

INVENTED = (
    "These weights were trained for sharp results, with perceptual and adversarial losses. Where "
    "neither photo nor reference shows detail, they invent some: it looks real, but need not be "
    "what was there, and PSNR is lower for it. Faces in particular may come out wrong."
)
"""What a visitor should know of weights that invent detail."""

BESIDE = "The slider can show the result of {} beside it, which invents none."
"""Added as soon as there is such a result."""


def pictures_of(x: Exploration) -> dict[str, str]:
    """Names of the pictures that exist in ``x``, by field."""
    names = dict(PICTURES)
    if x.self_reference:  # "plain" and "result" are the same picture
        del names["plain"]
        names["result"] = "MASA without a reference"
    return {field: name for field, name in names.items() if getattr(x, field) is not None}


def compared_files(x: Exploration, left: str, right: str) -> tuple[str, str]:
    """Files of the two named pictures, for the slider."""
    by_name = {name: field for field, name in pictures_of(x).items()}
    chosen = (by_name.get(left, "bicubic"), by_name.get(right, "result"))
    first, second = (serve_png(getattr(x, f), f"{f}_x4.png") for f in chosen)
    return first, second


def report(x: Exploration) -> str:
    """Markdown: sizes, time, scores, verdict and notes."""
    height, width = x.result.shape[:2]
    scores = result.measure(x)
    lines = [
        f"**{width // SCALE} x {height // SCALE} to {width} x {height} pixels in "
        f"{sum(x.seconds.values()):.1f} s with {x.weights}.**",
        result.verdict(x, scores),
        result.scores_table(x, scores),
    ]
    if invents_detail(x.weights):
        beside = "" if x.faithful is None else f" {BESIDE.format(x.auto)}"
        lines.insert(2, INVENTED + beside)
    if x.hint:
        lines.insert(0, f"*{x.hint}*")
    notes = [*x.notes, padding_words(x)]
    lines += [f"- {html.escape(note)}" for note in notes if note]
    return "\n\n".join(line for line in lines if line)
