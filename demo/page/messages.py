"""What visitors are told: how far a run is, and in one sentence what went wrong."""

from __future__ import annotations

import html
from collections.abc import Iterator
from contextlib import contextmanager

import gradio as gr

from demo.runs.exploration import Exploration
from demo.runs.jobs import Step, Stopped
from demo.runs.served import full_disk
from masa.errors import UserError

GONE = "A picture is no longer on the server: upload it again."

_NO_MEMORY = "There is not enough memory for these pictures now: try smaller ones."


def sentence_for(error: Exception) -> str | None:
    """What a visitor is told of an error that is not our fault, as HTML; ``None`` if it is."""
    if isinstance(error, UserError):
        return html.escape(str(error), quote=False)
    if isinstance(error, Stopped):
        return "This run was stopped because nobody waited for it: press Enlarge again."
    if isinstance(error, OSError):
        return full_disk(error)
    # torch has no error class of its own for full CPU memory
    is_memory = isinstance(error, RuntimeError) and "memory" in str(error)
    return _NO_MEMORY if is_memory or isinstance(error, MemoryError) else None


@contextmanager
def as_visible_errors() -> Iterator[None]:
    """Turns errors that a visitor can do something about into ``gr.Error`` with one sentence.

    To be used where pictures are read: one that cannot be opened was deleted meanwhile.
    """
    try:
        yield
    except Exception as error:
        sentence = sentence_for(error)
        if sentence is None and isinstance(error, OSError):
            sentence = GONE
        if sentence is None:
            raise
        raise gr.Error(sentence, print_exception=False) from None


def existing(x: Exploration | None) -> Exploration:
    """``x``, if the session has one. Raises ``gr.Error`` if not."""
    if x is None:
        raise gr.Error(
            "There is no run to show: press Enlarge (a run is kept for a while only).",
            print_exception=False,
        )
    return x


def progress_bar(step: Step) -> str:
    """HTML of a progress bar with what is being done and the time left."""
    left = "" if step.seconds_left is None else f", about {step.seconds_left:.0f} s left"
    return (
        f'<div class="progress"><progress max="1" value="{step.share:.3f}" aria-label="Progress">'
        f'</progress> <span role="status">{html.escape(step.doing)}</span>{left}</div>'
    )
