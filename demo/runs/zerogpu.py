"""The GPU that a ZeroGPU Space lends for one call at a time; elsewhere nothing here happens.

There, a decorated function runs in a process forked for it: what goes in and comes out is
copied, and only in that process is there a GPU. So steps that take and return light arrays are
lent to it as a whole, and the network is on the CPU everywhere else.
"""

from __future__ import annotations

import logging
import os
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any, TypeVar

import gradio as gr
import torch
from gradio.context import LocalContext

from masa.errors import UserError
from masa.predictor import Progress, unwatched

log = logging.getLogger(__name__)

ON_ZEROGPU = os.environ.get("SPACES_ZERO_GPU", "").lower() in ("1", "t", "true")
"""Whether this is such a Space, as its own package ``spaces`` finds out."""

NOTE = "No GPU was free for you, so this was computed on the CPU, which takes longer."

if ON_ZEROGPU:
    import spaces  # it must be imported before anything uses CUDA

_lent = False  # true only in the forked process

Step = TypeVar("Step", bound=Callable[..., Any])


def device() -> str:
    """Where this process should compute, for :class:`masa.Predictor`."""
    return "cpu" if ON_ZEROGPU and not _lent else "auto"


def seconds_on_gpu(multiply_adds: int) -> int:
    """GPU time to ask for: the fork and the copies, and the network at a modest speed.

    A visitor needs 1.5 times as much left of the daily quota, so ask for no more than is needed.
    """
    return min(60, 6 + round(multiply_adds / 1e12))


def borrows(
    seconds: Callable[..., int], noted: Callable[[Any, str], Any]
) -> Callable[[Step], Step]:
    """Decorates a step that should run on a lent GPU, where there are such.

    The step is a module's function with a keyword ``progress``, which is not passed to a lent GPU.
    Everything else it takes and returns can be pickled, and is on the CPU. ``seconds`` is called
    with the same arguments. If no GPU is lent, the step runs here and ``noted(result, note)`` is
    returned.
    """

    def decorate(step: Step) -> Step:
        return _borrowing(step, seconds, noted, spaces.GPU) if ON_ZEROGPU else step

    return decorate


@dataclass(frozen=True)
class _Refused:
    """Carries a sentence out of the other process, which would replace its exception."""

    sentence: str


def _borrowing(
    step: Any, seconds: Callable[..., int], noted: Callable[[Any, str], Any], lend: Any
) -> Any:
    @wraps(step)
    def lent(seconds: int, asked: bytes) -> bytes:
        global _lent
        _lent = True
        torch.set_num_threads(1)  # the parent's other threads do not exist in a forked process
        args, options = pickle.loads(asked)
        try:
            return pickle.dumps(step(*args, **options))
        except UserError as error:
            return pickle.dumps(_Refused(str(error)))

    # As bytes: tensors would be shared by handles that end with the process that made them.
    borrowed = lend(duration=lambda seconds, asked: seconds)(lent)

    @wraps(step)
    def either(*args: Any, progress: Progress = unwatched, **options: Any) -> Any:
        if LocalContext.request.get(None) is None:  # no visitor's request: no quota to borrow from
            return step(*args, progress=progress, **options)
        progress(0.05, "Computing on a GPU")
        try:
            asked = pickle.dumps((args, options))
            outcome = pickle.loads(borrowed(seconds(*args, **options), asked))
        except gr.Error as refusal:
            log.warning("No GPU was lent: %s", refusal)
            return noted(step(*args, progress=progress, **options), NOTE)
        if isinstance(outcome, _Refused):
            raise UserError(outcome.sentence)
        return outcome

    return either
