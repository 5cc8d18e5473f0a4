"""Running the network for a visitor: one job at a time, in the order of asking, and stoppable.

A plain Gradio callback runs to its end whatever the visitor does, and Gradio closes a generator
only where it yields. So the work runs in a thread of its own while the generator reports, and a
closed generator tells the thread to stop at its next step. The line is kept here and not by
Gradio's queue, which cannot tell a page's own progress bar who is waiting.
"""

from __future__ import annotations

import contextvars
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

from demo.settings import QUEUE
from masa.errors import UserError
from masa.predictor import Progress

Value = TypeVar("Value")


class Turns:
    """Who may run the network: one at a time, first come first served, visitors first."""

    def __init__(self, most_waiting: int = QUEUE) -> None:
        self._most_waiting = most_waiting
        self._changed = threading.Condition()
        self._line: list[Turn] = []
        self._holder: object | None = None
        self._began = 0.0
        self._lasted: deque[float] = deque(maxlen=8)  # seconds of visitors' latest turns

    def ask(self) -> Turn:
        """A place at the end of the line. Raises ``UserError`` if it is too long."""
        with self._changed:
            turn = Turn(self)
            if len(self._line) >= self._most_waiting:
                wait = self._seconds_before(len(self._line))
                later = "later" if wait is None else f"in about {wait:.0f} seconds"
                raise UserError(
                    f"{len(self._line)} runs are waiting already, as many as this page takes: "
                    f"please come back {later}."
                )
            self._line.append(turn)
            return turn

    @contextmanager
    def take(self, patient: bool = False) -> Iterator[None]:
        """Wait for a turn and keep it inside the block; the patient let all others go first."""
        if not patient:
            turn = self.ask()
            try:
                turn.wait()
                yield
            finally:
                turn.end()
            return
        with self._changed:
            self._changed.wait_for(lambda: self._holder is None and not self._line)
            self._holder, self._began = object(), time.monotonic()
        try:
            yield
        finally:
            with self._changed:
                self._holder = None
                self._changed.notify_all()

    def _seconds_before(self, place: int) -> float | None:
        """Until a turn comes that has ``place`` others before it in the line."""
        if not self._lasted:
            return None
        typical = sum(self._lasted) / len(self._lasted)
        running = 0.0 if self._holder is None else time.monotonic() - self._began
        rest = 0.0 if self._holder is None else max(typical - running, 0.0)
        return rest + place * typical


class Turn:
    """One place in the line of :class:`Turns`; whoever asked for it has to end it."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns

    def wait(self, seconds: float | None = None) -> bool:
        """Wait so long at most; whether the turn has come."""
        turns = self._turns
        with turns._changed:
            turns._changed.wait_for(
                lambda: turns._holder is None and turns._line[0] is self, seconds
            )
            if turns._holder is None and turns._line[0] is self:
                turns._line.pop(0)
                turns._holder, turns._began = self, time.monotonic()
                turns._changed.notify_all()
            return turns._holder is self

    def before(self) -> tuple[int, float | None]:
        """Visitors before this one, the running one included, and the seconds they should take."""
        turns = self._turns
        with turns._changed:
            place = turns._line.index(self)
            running = isinstance(turns._holder, Turn)
            return place + running, turns._seconds_before(place)

    def end(self) -> None:
        """Leave the line, or let the next one run; a second call does nothing."""
        turns = self._turns
        with turns._changed:
            if self in turns._line:
                turns._line.remove(self)
            if turns._holder is self:
                turns._lasted.append(time.monotonic() - turns._began)
                turns._holder = None
            turns._changed.notify_all()


NETWORK = Turns()
"""Taken by whoever runs the network in this process."""

_PERIOD = 0.2  # seconds between reports
_PERIOD_IN_LINE = 1.0


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
    """Wait for a turn, run ``job(progress)`` in a thread; yields its steps, then what it returned.

    What the job raises is raised here. Closing the iterator stops the job at its next step.
    Raises ``UserError`` if too many are waiting.
    """
    outcome: list[Value] = []
    failure: list[BaseException] = []
    stop = threading.Event()
    latest = ("Starting", 0.0)
    turn = NETWORK.ask()

    def progress(share: float, doing: str) -> None:
        nonlocal latest
        if stop.is_set():
            raise Stopped
        latest = (doing, share)

    def work() -> None:
        try:
            outcome.append(job(progress))
        except BaseException as error:
            failure.append(error)
        finally:
            turn.end()

    # In the visitor's context: whoever lends a GPU asks there for whom.
    thread = threading.Thread(target=contextvars.copy_context().run, args=(work,), daemon=True)
    try:
        while not turn.wait(_PERIOD_IN_LINE):
            yield _in_line(turn)
        started = time.monotonic()
        thread.start()
        while thread.is_alive():
            thread.join(_PERIOD)
            doing, share = latest
            yield Step(share, doing, _seconds_left(share, time.monotonic() - started))
    finally:
        stop.set()
        if thread.ident is None:  # it will not end the turn
            turn.end()
    if failure:
        if not isinstance(failure[0], Exception):  # it must not end more than its own thread
            raise RuntimeError("The thread of this job ended.") from failure[0]
        raise failure[0]
    yield Finished(outcome[0])


def finish(job: Callable[[Progress], Value]) -> Value:
    """:func:`follow` to the end, for callers who cannot be told of steps."""
    *_, last = follow(job)
    assert isinstance(last, Finished)
    return last.value


def _in_line(turn: Turn) -> Step:
    visitors, seconds = turn.before()
    if not visitors:
        return Step(0.0, "Waiting for the network", seconds)
    return Step(0.0, f"{visitors} visitor{'s' * (visitors > 1)} before you", seconds)


def _seconds_left(share: float, elapsed: float) -> float | None:
    return elapsed * (1 - share) / share if share > 0.05 else None
