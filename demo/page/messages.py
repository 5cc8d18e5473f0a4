"""What visitors are told: how far a run is, and in one sentence what went wrong."""

from __future__ import annotations

import html
from collections.abc import Iterator
from contextlib import contextmanager

import gradio as gr

from demo.page.front import GONE
from demo.runs.exploration import Exploration
from demo.runs.jobs import Step, Stopped
from demo.runs.served import full_disk
from masa.errors import UserError

_NO_MEMORY = "There is not enough memory for these pictures now: try smaller ones."


@contextmanager
def as_visible_errors() -> Iterator[None]:
    """Turns errors that a visitor can do something about into ``gr.Error`` with one sentence."""
    try:
        yield
    except UserError as error:
        raise _visible_error(str(error)) from None
    except Stopped:
        raise _visible_error(
            "This run was stopped because nobody waited for it: press Enlarge again."
        ) from None
    except MemoryError:
        raise _visible_error(_NO_MEMORY) from None
    except RuntimeError as error:  # torch has no error class of its own for full CPU memory
        if "memory" not in str(error):
            raise
        raise _visible_error(_NO_MEMORY) from None
    except OSError as error:
        raise _visible_error(full_disk(error) or GONE) from None


def existing(x: Exploration | None) -> Exploration:
    """``x``, if the session has one. Raises ``gr.Error`` if not."""
    if x is None:
        raise _visible_error(
            "There is no run to show: press Enlarge (a run is kept for a while only)."
        )
    return x


def _visible_error(sentence: str) -> gr.Error:
    return gr.Error(html.escape(sentence, quote=False), print_exception=False)


def progress_bar(step: Step) -> str:
    """HTML of a progress bar with what is being done and the time left."""
    left = "" if step.seconds_left is None else f", about {step.seconds_left:.0f} s left"
    return (
        f'<div class="progress"><progress max="1" value="{step.share:.3f}" aria-label="Progress">'
        f'</progress> <span role="status">{html.escape(step.doing)}</span>{left}</div>'
    )
