"""Running the network for a visitor: one job at a time, with progress, and stoppable.

A plain Gradio callback runs to its end whatever the visitor does, and Gradio closes a generator
only where it yields. So the work runs in a thread of its own while the generator reports, and a
closed generator tells the thread to stop at its next step.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

from masa.predictor import Progress

Value = TypeVar("Value")


class Turns:
    """Who may run the network: one at a time, and visitors before background work.

    Gradio's queue lets in one visitor at a time already; this also covers examples that are
    prepared in the background and a stopped job's last step.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._taken = False
        self._visitors = 0  # waiting for their turn

    @contextmanager
    def take(self, patient: bool = False) -> Iterator[None]:
        """Wait for a turn and keep it inside the block; the patient let all others go first."""
        with self._changed:
            self._visitors += not patient
            try:
                self._changed.wait_for(lambda: not self._taken and not (patient and self._visitors))
            finally:
                self._visitors -= not patient
            self._taken = True
        try:
            yield
        finally:
            with self._changed:
                self._taken = False
                self._changed.notify_all()


NETWORK = Turns()
"""Taken by whoever runs the network in this process."""

_PERIOD = 0.2  # seconds between reports


class Stopped(Exception):  # noqa: N818 - a wish, not an error
    """Raised inside a job whose visitor pressed Stop or left."""


@dataclass(frozen=True)
class Step:
    """How far a job is."""

    share: float
    """0 to 1."""
    doing: str
    """What it does now, in a few words."""
    seconds_left: float | None
    """Estimated from the share done so far; ``None`` while too little is known."""


@dataclass(frozen=True)
class Finished(Generic[Value]):
    """A job's last report."""

    value: Value


def follow(job: Callable[[Progress], Value]) -> Iterator[Step | Finished[Value]]:
    """Run ``job(progress)`` in a thread; yields its steps, then what it returned.

    What the job raises is raised here. Closing the iterator stops the job at its next step.
    """
    outcome: list[Value] = []
    failure: list[BaseException] = []
    stop = threading.Event()
    latest = ("Waiting for the network", 0.0)
    started = time.monotonic()

    def progress(share: float, doing: str) -> None:
        nonlocal latest
        if stop.is_set():
            raise Stopped
        latest = (doing, share)

    def work() -> None:
        nonlocal started
        try:
            with NETWORK.take():
                progress(0.0, "Starting")
                started = time.monotonic()
                outcome.append(job(progress))
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        while thread.is_alive():
            thread.join(_PERIOD)
            doing, share = latest
            yield Step(share, doing, _seconds_left(share, time.monotonic() - started))
    finally:
        stop.set()
    if failure:
        raise failure[0]
    yield Finished(outcome[0])


def _seconds_left(share: float, elapsed: float) -> float | None:
    return elapsed * (1 - share) / share if share > 0.05 else None
