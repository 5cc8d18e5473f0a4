"""What is kept of visitors' pages: their runs, what they show, and how long both stay."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any, Protocol

from gradio import utils
from gradio.state_holder import SessionState

from demo.page.sent import MOST_TEXTS
from demo.runs.served import in_use
from demo.settings import SESSION_MEMORY


class Large(Protocol):
    """A run, or what else takes megabytes."""

    def kept_bytes(self) -> int:
        """Memory that it holds."""
        ...


class Kept:
    """What a session holds of something large: a handle whose content may be taken back."""

    def __init__(self, x: Large) -> None:
        self.x: Large | None = x
        self.bytes = x.kept_bytes()
        self.kind = type(x)


class Shelf:
    """What sessions hold that is large; what was not used for longest is forgotten to stay in
    memory."""

    def __init__(self, most_bytes: int = SESSION_MEMORY) -> None:
        self._most = most_bytes
        self._kept: list[weakref.ref[Kept]] = []  # the last one was used last
        self._lock = threading.Lock()

    def put(self, x: Large) -> Kept:
        """A handle for ``x``; others are emptied if all together hold too much."""
        kept = Kept(x)
        with self._lock:
            self._use(kept)
            total, counted = 0, set()
            for other in reversed(self._alive()):
                if id(other.x) not in counted:  # an example is the same for all who look at it
                    counted.add(id(other.x))
                    total += other.bytes
                if total > self._most and other is not kept:
                    other.x = None
        return kept

    def get(self, kept: Kept) -> Large | None:
        """What ``kept`` stands for; ``None`` if it was forgotten."""
        with self._lock:
            self._use(kept)
        return kept.x

    def bytes(self) -> int:
        """Held by all sessions together."""
        with self._lock:
            return sum({id(kept.x): kept.bytes for kept in self._alive()}.values())

    def _use(self, kept: Kept) -> None:
        self._kept = [ref for ref in self._kept if ref() not in (None, kept)]
        self._kept.append(weakref.ref(kept))

    def _alive(self) -> list[Kept]:
        found = (ref() for ref in self._kept)
        return [kept for kept in found if kept is not None and kept.x is not None]


class Pages:
    """What visitors' pages show, which ages from when a visitor last did something there.

    For one thread only.
    """

    def __init__(self, keep_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        """``keep_seconds``: the age at which it is deleted."""
        self._every, self._clock = min(60.0, keep_seconds / 8), clock
        self._shown: weakref.WeakKeyDictionary[SessionState, dict[int, list[str]]]
        self._shown = weakref.WeakKeyDictionary()
        self._used: weakref.WeakKeyDictionary[SessionState, float] = weakref.WeakKeyDictionary()

    def show(self, session: SessionState, blocks: Sequence[Any], values: Sequence[Any]) -> None:
        """Components of a session's page hold ``values`` from now on."""
        shown = self._shown.setdefault(session, {})
        for block, value in zip(blocks, values, strict=False):
            if utils.is_prop_update(value):
                if "value" not in value:
                    continue
                value = value["value"]
            files = list(_files(value))
            if len(files) <= MOST_TEXTS:  # no component of the page shows more
                shown[block._id] = files

    def use(self, session: SessionState) -> None:
        """Let what this session keeps age from now: its values, and the files it shows."""
        now = self._clock()
        if now - self._used.get(session, -self._every) < self._every:
            return
        self._used[session] = now
        for key, value in list(session.state_data.items()):
            session[key] = value
        for path in {path for paths in self._shown.get(session, {}).values() for path in paths}:
            with suppress(OSError):  # deleted, to make room
                in_use(path)


def _files(value: Any) -> Iterator[str]:
    """Paths of all files in the value of a component, as Gradio sends it."""
    if isinstance(value, dict):
        if isinstance(value.get("path"), str):
            yield value["path"]
        else:
            value = list(value.values())
    if isinstance(value, (list, tuple)):
        for item in value:
            yield from _files(item)
