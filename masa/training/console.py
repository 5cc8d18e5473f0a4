"""Training at the terminal: messages, the progress bar, Ctrl-C."""

from __future__ import annotations

import contextlib
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType

from tqdm import tqdm

_PLAIN_SECONDS = 60.0  # between progress lines where there is no terminal
_IMPATIENT_SECONDS = 3.0  # after a first signal, from which on a second one ends the process


def say(text: str) -> None:
    """Print a line on standard error, above the progress bar if there is one.

    If it cannot be written, because the reader is gone or a signal's handler interrupts another
    line, it is dropped and the training goes on.
    """
    with contextlib.suppress(OSError, ValueError, RuntimeError):
        tqdm.write(text, file=sys.stderr)
        sys.stderr.flush()


class Display:
    """A progress bar, or a line per minute where standard error is no terminal."""

    def __init__(self, progress: float, active: bool) -> None:
        self.loss = math.nan
        self._active = active
        self._start, self._began = progress, time.perf_counter()
        self._next = self._began + _PLAIN_SECONDS
        self._bar = None
        if active and sys.stderr.isatty():
            layout = "{percentage:5.1f}% |{bar}| {desc}"
            self._bar = tqdm(total=1.0, initial=progress, bar_format=layout, dynamic_ncols=True)

    def show(self, step: int, progress: float) -> None:
        """The run has come to ``step`` and to the share ``progress``."""
        if not self._active:
            return
        now = time.perf_counter()
        if self._bar is not None:
            self._bar.set_description_str(self._text(step, progress, now), refresh=False)
            self._bar.update(progress - self._bar.n)
        elif now >= self._next:
            self._next = now + _PLAIN_SECONDS
            say(f"{100 * progress:.1f} %, {self._text(step, progress, now)}")

    def close(self) -> None:
        """End the progress bar."""
        if self._bar is not None:
            self._bar.close()

    def _text(self, step: int, progress: float, now: float) -> str:
        gained = progress - self._start
        left = (1 - progress) * (now - self._began) / gained if gained > 0 else math.inf
        loss = "" if math.isnan(self.loss) else f", loss {self.loss:.5f}"
        return f"step {step}{loss}, {duration(left)} left"


def duration(seconds: float) -> str:
    """Rounded, as ``3 h 05 min``, ``12 min`` or ``40 s``."""
    if not math.isfinite(seconds):
        return "unknown time"
    minutes = round(seconds / 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60:02} min"
    return f"{minutes} min" if seconds >= 90 else f"{round(seconds)} s"


@contextlib.contextmanager
def on_signals(stop: Callable[[], None]) -> Iterator[None]:
    """Call ``stop`` on SIGINT or SIGTERM; a second one, seconds later, ends the process at once.

    Launchers of several processes pass on a signal that the terminal has already sent to all, so
    one that follows at once is taken for the same one.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    signals = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.getsignal(number) for number in signals}
    first: float | None = None

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal first
        if first is None:
            first = time.monotonic()
            stop()
            say("Stopping after this step; the state will be saved.")
        elif time.monotonic() - first > _IMPATIENT_SECONDS:
            restore()
            signal.raise_signal(number)

    try:
        for number in signals:
            signal.signal(number, handle)
        yield
    finally:
        restore()


def leave_group(worker: int) -> None:
    """Keep Ctrl-C from a worker of the data loader; called in it when it starts.

    Signals of a terminal or a job's end go to a whole group of processes. The main process acts on
    them, and needs its workers until its last step.
    """
    if hasattr(os, "setsid"):
        os.setsid()
    else:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
