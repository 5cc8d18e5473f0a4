"""What one visitor's page has: which request of each kind is the newest, and which run is shown.

Handlers of one visitor run at the same time. Each is a generator that ends at its next step when
what it does is no longer wanted: see :func:`while_wanted`.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from typing import Literal, TypeVar

from demo.figures.view import View
from demo.page.form import Inputs
from demo.runs.exploration import Exploration

Value = TypeVar("Value")

Kind = Literal["run", "look", "trial", "archive", "sweep", "mark", "preview"]
"""What a visitor asks for: an enlargement, another view of the figures, other settings of the
matching, an archive; and on the laboratory's tab a sweep, one of its results, a changed
reference."""


_LOCK = threading.RLock()
"""Held for each change of a session: clicks that come at once are handled in threads of their own.
One for all visitors, as Gradio copies a session, which a lock inside would not allow.
"""


class Session:
    """One visitor's page. Every request gets a number, and of each kind the newest one counts."""

    def __init__(self) -> None:
        self.shown = 0
        """The run whose picture is shown; 0 is the example that the page opens with."""
        self.drawn: int | None = None
        """The last run whose figures were asked for; the browser has its picture by then."""
        self.completing: int | None = None
        """The run whose later steps are under way."""
        self.asked: Inputs | None = None
        """What the newest run was started with, until it ends."""
        self.touched = False
        """Whether the visitor chose pictures, which the first example must not replace."""
        self.view: View | None = None
        """The newest choice in the figures; ``None`` for a new picture."""
        self._held: tuple[int, weakref.ref[Exploration]] | None = None  # a run and its newest state
        self._undrawn: set[str] = set()  # fields of the view that figures do not show yet
        self._newest: dict[Kind, int] = {}
        self._doing: dict[Kind, tuple[int, object]] = {}  # what is under way, with its number
        self._given = 0

    # ------------------------------------------------------------------ the newest of each kind

    def number(self) -> int:
        """A new number, for a request that may turn out to ask for nothing."""
        with _LOCK:
            self._given += 1
            return self._given

    def accept(self, kind: Kind, number: int) -> bool:
        """Make request ``number`` the newest of its kind; ``False`` if a newer one is."""
        with _LOCK:
            self._newest[kind] = max(number, self._newest.get(kind, 0))
            return self.is_newest(kind, number)

    def begin(self, kind: Kind) -> int:
        """The number of a new request, which is the newest of its kind from now on."""
        with _LOCK:
            self._newest[kind] = self.number()
            return self._newest[kind]

    def is_newest(self, kind: Kind, number: int) -> bool:
        """Whether there is no newer request of this kind."""
        return self._newest.get(kind, 0) == number

    @contextmanager
    def doing(self, kind: Kind, what: object) -> Iterator[tuple[int | None, bool]]:
        """The number of a new request for ``what``, which is under way inside the block.

        Also whether an older one of its kind was under way, which it replaces. There is no number
        if that one asked for the same.
        """
        with _LOCK:
            older, same = self._doing.get(kind, (0, None))
            replacing = bool(older) and self.is_newest(kind, older)
            number = None if replacing and same == what else self.begin(kind)
            if number is not None:
                self._doing[kind] = number, what
        try:
            yield number, replacing
        finally:
            with _LOCK:
                if number is not None and self._doing[kind][0] == number:
                    self._doing[kind] = 0, None

    # ------------------------------------------------------------------ runs

    def start(self, inputs: Inputs) -> int:
        """The number of a new run."""
        with _LOCK:
            self.asked = inputs
            return self.begin("run")

    def is_current(self, run: int) -> bool:
        """Whether ``run`` is the newest, and was not stopped."""
        return self.is_newest("run", run)

    def show(self, run: int) -> None:
        """The picture of ``run`` is shown from now on."""
        self.shown, self.view = run, None

    def is_shown(self, run: int) -> bool:
        """Whether the picture of ``run`` is shown. A newer run may be under way."""
        return run == self.shown

    def is_drawn(self, run: int) -> bool:
        """Whether ``run`` is shown, and the browser has its picture."""
        return run == self.shown == self.drawn

    def hold(self, run: int, x: Exploration) -> None:
        """``x`` is what is known of ``run`` from now on. The visitor's state alone holds it."""
        self._held = run, weakref.ref(x)

    def know(self, run: int, x: Exploration) -> None:
        """``x`` is known of ``run``: what to hold unless something newer is held of it."""
        with _LOCK:
            if self.held(run) is None:
                self.hold(run, x)

    def held(self, run: int) -> Exploration | None:
        """What was told last to be known of ``run``; ``None`` if it was forgotten, or another run
        has been told of since."""
        number, x = self._held or (None, lambda: None)
        return x() if number == run else None

    def end(self, run: int) -> None:
        """``run`` has ended. If it gave no picture, the run that is shown is the newest again."""
        with _LOCK:
            if self.is_current(run):
                self._newest["run"], self.asked = self.shown, None

    def halt(self) -> None:
        """Stop was pressed: runs, trials and archives end at their next step."""
        with _LOCK:
            for kind in ("run", "trial", "archive"):
                self.begin(kind)
            self.asked = None

    # ------------------------------------------------------------------ looks

    def look(self, number: int, view: View, what: str) -> frozenset[str]:
        """All fields of the view to draw for look ``number``, which changed the field ``what``.

        An older look that is not all drawn leaves its fields to this one. Empty if a newer look
        was accepted.
        """
        with _LOCK:
            if not self.accept("look", number):
                return frozenset()
            self.view = view
            self._undrawn.add(what)
            return frozenset(self._undrawn)

    def looked(self, number: int) -> None:
        """All figures of look ``number`` are drawn."""
        with _LOCK:
            if self.is_newest("look", number):
                self._undrawn.clear()


def while_wanted(
    wanted: Callable[[], bool], steps: Generator[Value, None, None]
) -> Generator[Value, None, None]:
    """``steps`` for as long as ``wanted()``, which is asked before each; then they are closed."""
    with closing(steps):
        if wanted():
            for step in steps:
                if not wanted():
                    return
                yield step
