"""Running the network for visitors: one job at a time, in a line that is fair, stoppable.

A plain Gradio callback runs to its end whatever the visitor does, and Gradio closes a generator
only where it yields. So the work runs in a thread of its own while the generator reports, and a
closed generator tells the thread to stop at its next step. The line is kept here and not by
Gradio's queue, which cannot tell a page's own progress bar who is waiting.
"""

from __future__ import annotations

import contextvars
import itertools
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from demo.settings import QUEUE
from masa.errors import UserError
from masa.predictor import Progress

Value = TypeVar("Value")

ASKING: ContextVar[str] = ContextVar("ASKING", default="")
"""The address of whoever asks for what is done now; empty if that is nobody in particular."""

_PAUSE = 2.0  # seconds after a turn in which work in spare time does not start


class Stopped(Exception):  # noqa: N818 - it ends a job, and is no error
    """Raised inside a job that nobody wants any more, or that a visitor's job replaces."""


class Turns:
    """Who may run the network: one at a time, visitors first.

    First come, first served, but an address that waits already comes after those that do not: its
    second place in line is behind the first ones of all others.
    """

    def __init__(
        self, most_waiting: int = QUEUE, name: str = "runs", most_each: int | None = None
    ) -> None:
        """``name``: what is waited for, in the plural. ``most_each``: places of one address."""
        self._most_waiting, self._name, self._most_each = most_waiting, name, most_each
        self._changed = threading.Condition()
        self._line: list[Turn] = []
        self._holder: object | None = None
        self._began, self._ended = 0.0, -_PAUSE
        self._lasted: deque[float] = deque(maxlen=8)  # seconds of visitors' latest turns

    def ask(self, admitted: bool = False) -> Turn:
        """A place in the line, for the address that is :data:`ASKING`.

        Raises ``UserError`` if it is too long, unless who asks was ``admitted`` before.
        """
        with self._changed:
            turn = Turn(self, ASKING.get())
            own = sum(other.address == turn.address for other in self._line if turn.address)
            if self._most_each is not None and own >= self._most_each and not admitted:
                raise UserError(
                    f"{own} {self._name} of your address are waiting already: please wait for one "
                    "of them."
                )
            if len(self._line) >= self._most_waiting and not admitted:
                wait = self._seconds_before(len(self._line))
                later = "later" if wait is None else f"in about {wait:.0f} seconds"
                raise UserError(
                    f"{len(self._line)} {self._name} are waiting already, as many as this page "
                    f"takes: please come back {later}."
                )
            running = isinstance(self._holder, Turn) and self._holder.address == turn.address
            turn.before_it = own + (running and turn.address != "")
            behind = (n for n, other in enumerate(self._line) if other.before_it > turn.before_it)
            self._line.insert(next(behind, len(self._line)), turn)
            return turn

    @contextmanager
    def held(self) -> Iterator[None]:
        """Ask, wait for the turn and keep it inside the block. Raises ``UserError`` as ``ask``."""
        turn = self.ask()
        try:
            turn.wait()
            yield
        finally:
            turn.end()

    @contextmanager
    def spare(self) -> Iterator[Progress]:
        """Wait until nobody else wants a turn, and keep it inside the block.

        The work there has to call what is yielded often: it raises :class:`Stopped` when a visitor
        has come, who waits until then.
        """

        def progress(share: float, doing: str) -> None:
            if self._line:
                raise Stopped

        with self._changed:
            # A visitor's next step often follows at once: without a pause it would stop this work.
            while self._holder is not None or self._line or self._just_ended():
                self._changed.wait(_PAUSE)
            self._holder, self._began = object(), time.monotonic()
        try:
            yield progress
        finally:
            with self._changed:
                self._holder = None
                self._changed.notify_all()

    def are_wanted(self) -> bool:
        """Whether a visitor's run goes on or waits."""
        return isinstance(self._holder, Turn) or bool(self._line)

    def _just_ended(self) -> bool:
        return time.monotonic() - self._ended < _PAUSE

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

    def __init__(self, turns: Turns, address: str) -> None:
        self._turns, self.address = turns, address
        self.before_it = 0
        """Places that its address had before it when it asked."""

    def wait(self, seconds: float | None = None) -> bool:
        """Wait for at most ``seconds`` (``None``: no limit); whether the turn has come."""
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

    @property
    def waits_for(self) -> str:
        """What those in this line wait for, in the plural."""
        return self._turns._name

    def before(self) -> tuple[int, float | None]:
        """Those before this one, the running one included, and the seconds they should take."""
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
                turns._ended = time.monotonic()
                turns._lasted.append(turns._ended - turns._began)
                turns._holder = None
            turns._changed.notify_all()


NETWORK = Turns()
"""Taken by whoever runs the network in this process."""

PROGRAMS = Turns()
"""Where programs wait: only the first of them is in the line of visitors."""


class Share:
    """Keeps programs to one part of the time in ``parts`` while visitors want to run.

    Programs can ask for long runs, one straight after the other. Without this, visitors would wait
    for each of them.
    """

    def __init__(
        self, visitors: Turns, parts: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._visitors, self._parts, self._clock = visitors, parts, clock
        self._used_until = self._wanted = -math.inf

    def is_used_up(self) -> bool:
        """Whether the next program has to wait, because visitors want the time.

        Ask often: between two steps of a visitor's run, nobody wants it for a moment.
        """
        now = self._clock()
        if self._visitors.are_wanted():
            self._wanted = now
        return now < self._used_until and now - self._wanted < _PAUSE

    @contextmanager
    def counted(self) -> Iterator[Callable[[], None]]:
        """Counts the seconds of the block; to call what it yields sets the count back to 0."""
        began = self._clock()

        def from_now() -> None:
            nonlocal began
            began = self._clock()

        try:
            yield from_now
        finally:
            now = self._clock()
            until = now + (self._parts - 1) * (now - began)
            self._used_until = max(self._used_until, until)


SHARE = Share(NETWORK, parts=8)
"""Bounds what programs take of the network's time."""

Rank = float
"""By when it should be drawn. The lowest rank is drawn first."""

_IN_BACKGROUND = 10.0  # seconds that figures nobody looks at yet may wait for others
_EACH = 1.0  # seconds that each waiting figure of one address puts its next one back


def rank(background: bool = False) -> Rank:
    """The rank of what is asked for now."""
    return time.monotonic() + background * _IN_BACKGROUND


class DrawingTurns:
    """Lets threads draw one figure at a time, or do what else takes a moment, by rank.

    Drawing is mostly Python code, which runs in one thread at a time. Thirty that draw at once
    would delay one another, the network, and the figure of whoever just clicked.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: list[tuple[Rank, int, str]] = []  # also a number of its own, the address
        self._numbers = itertools.count()
        self._busy = False

    @contextmanager
    def held(self, rank: Rank) -> Iterator[None]:
        """Wait for those of lower rank, and keep the others waiting inside the block.

        What an address waits for already puts it back, so that many clicks of one visitor do not
        keep all others waiting.
        """
        address = ASKING.get()
        with self._changed:
            own = sum(other == address for *_, other in self._waiting if address)
            place = (rank + own * _EACH, next(self._numbers), address)
            self._waiting.append(place)
            self._changed.wait_for(lambda: not self._busy and min(self._waiting) == place)
            self._waiting.remove(place)
            self._busy = True
        try:
            yield
        finally:
            with self._changed:
                self._busy = False
                self._changed.notify_all()


DRAWING = DrawingTurns()
"""Where the page's figures are drawn."""

_PERIOD = 0.2  # seconds between reports
_PERIOD_IN_LINE = 2.0  # seconds between reports to those who wait: fewer cost less


@dataclass(frozen=True)
class Step:
    """How far a job is."""

    share: float
    """0 to 1."""
    doing: str
    """What it does now, in a few words."""
    seconds_left: float | None
    """Estimated from the share done so far; ``None`` while too little is known."""
    in_line: bool = False
    """It waits for its turn."""


@dataclass(frozen=True)
class Finished(Generic[Value]):
    """What a job made, or a piece of it."""

    value: Value
    last: bool = True
    """There are no more pieces."""


Steps = Generator[Step | Finished[Value], None, None]
"""Reports of a job while it goes on, and what it made."""


def follow(job: Callable[[Progress], Value], admitted: bool = False) -> Steps[Value]:
    """Wait for a turn, run ``job(progress)`` in a thread; yields its steps, then what it returned.

    What the job raises is raised here. Closing the iterator stops the job at its next step.
    Raises ``UserError`` if too many are waiting, unless who asks was ``admitted`` before.
    """
    outcome: list[Value] = []
    failure: list[BaseException] = []
    stop = threading.Event()
    latest = ("Starting", 0.0)
    turn = NETWORK.ask(admitted)

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

    # In the visitor's context, in which ZeroGPU looks up who asks for a GPU.
    thread = threading.Thread(target=contextvars.copy_context().run, args=(work,), daemon=True)
    try:
        while not turn.wait(_PERIOD_IN_LINE):
            yield _in_line(turn)
        started = time.monotonic()
        thread.start()
        yield Step(0.0, "Starting", None)
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


def after_others(turns: Turns, steps: Steps[Value], admitted: bool = False) -> Steps[Value]:
    """``steps``, once their turn in ``turns`` has come, which lasts until they end.

    Raises ``UserError`` if too many are waiting, unless who asks was ``admitted`` before.
    """
    turn = turns.ask(admitted)
    try:
        with closing(steps):
            while not turn.wait(_PERIOD_IN_LINE):
                yield _in_line(turn)
            yield from steps
    finally:
        turn.end()


def follow_each(job: Callable[[Progress], Iterator[Value]], admitted: bool = False) -> Steps[Value]:
    """:func:`follow` for long work in pieces: each has a turn of its own, so others come between.

    ``job(progress)`` yields the pieces and tells ``progress`` the share of the whole; it makes no
    more of them after a share of 1. Yields ``Finished`` for each piece. ``admitted`` as in
    :func:`follow`.
    """
    began, done = time.monotonic(), 0.0
    tell: Progress | None = None

    def relay(share: float, doing: str) -> None:
        nonlocal done
        done = share
        assert tell is not None
        tell(share, doing)

    def piece(progress: Progress) -> Value:
        nonlocal tell
        tell = progress
        return next(pieces)

    pieces = job(relay)
    while done < 1:
        for step in follow(piece, admitted or done > 0):
            if isinstance(step, Finished):
                yield Finished(step.value, last=done >= 1)
                continue
            # While it waits for the next piece, the progress stays at the share that is done.
            left = _seconds_left(done, time.monotonic() - began)
            yield replace(step, share=done, seconds_left=left if done else step.seconds_left)


def finish(steps: Steps[Value], left: Callable[[], bool]) -> Value:
    """The last value of :func:`follow` or :func:`follow_each`, for a program, which cannot be told
    of steps.

    Other programs come between pieces, and visitors have most of the time (:data:`SHARE`). Raises
    ``UserError`` if too many are waiting, and :class:`Stopped` soon after ``left()``: there is
    nobody any more who asked.
    """
    turn = PROGRAMS.ask()
    try:
        with closing(steps):
            while True:
                while not turn.wait(_PERIOD_IN_LINE):
                    _stop_if(left)
                while SHARE.is_used_up():
                    time.sleep(_PERIOD)
                    _stop_if(left)
                piece = _next_piece(steps, left)
                if piece.last:
                    return piece.value
                turn.end()
                turn = PROGRAMS.ask(admitted=True)
    finally:
        turn.end()


def _next_piece(steps: Steps[Value], left: Callable[[], bool]) -> Finished[Value]:
    in_line = True
    with SHARE.counted() as from_now:
        for step in steps:
            if isinstance(step, Finished):
                return step
            _stop_if(left)
            if in_line:
                from_now()
            in_line = step.in_line
    raise RuntimeError("A job ended without a result.")


def _stop_if(left: Callable[[], bool]) -> None:
    if left():
        raise Stopped


def _in_line(turn: Turn) -> Step:
    before, seconds = turn.before()
    names = turn.waits_for
    words = f"{before} {names if before > 1 else names.removesuffix('s')} before yours"
    return Step(0.0, words if before else "Waiting for a turn", seconds, in_line=True)


def _seconds_left(share: float, elapsed: float) -> float | None:
    return elapsed * (1 - share) / share if share > 0.05 else None
