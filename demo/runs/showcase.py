"""Finished explorations of the examples, shared by all visitors and ready at once.

They are computed once per process, in the background, from the files in ``assets``, and not stored
on disk, where they could be out of date. What visitors upload is never kept here.
"""

from __future__ import annotations

import filecmp
import logging
import os
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar, cast

from demo.runs.examples import Example, load_examples
from demo.runs.exploration import Exploration
from demo.runs.jobs import NETWORK, Stopped
from demo.runs.request import Request
from demo.runs.steps import paint, without_branches, without_reference
from demo.settings import DRAWN_MEMORY
from masa.errors import UserError
from masa.pictures.photo import Pixels, Source

_NICE = 10

log = logging.getLogger(__name__)


def request_for(example: Example) -> Request:
    """The request that an example stands for."""
    return Request(str(example.photo), tuple(str(ref) for ref in example.refs), example.is_hr)


class Picture(Protocol):
    """What is drawn: a figure, with whatever else is known of it."""

    @property
    def image(self) -> Pixels:
        """``(H, W, 3)``."""


Drawn = TypeVar("Drawn", bound=Picture | None)


class Showcase:
    """The examples and what is known of them so far."""

    def __init__(self, examples: Sequence[Example] | None = None) -> None:
        self.examples = list(load_examples() if examples is None else examples)
        self._by_sizes: dict[tuple[int, ...], list[Example]] = {}
        for example in self.examples:
            self._by_sizes.setdefault(_sizes(request_for(example)), []).append(example)
        self._ready: dict[str, Exploration] = {}
        self._given_up: set[str] = set()
        self._changed = threading.Condition()
        self._drawn: OrderedDict[tuple[str, str], Picture | None] = OrderedDict()

    def example_of(self, request: Request) -> Example | None:
        """The example with the same pictures as a request, if any; light and network may differ.

        Files are read only if all of them are as large as an example's. Raises ``OSError`` if one
        is gone.
        """
        alike = self._by_sizes.get(_sizes(request), ())
        for example in alike:
            if request.is_hr != example.is_hr:
                continue
            wanted = request_for(example)
            pairs = zip(_sources(request), _sources(wanted), strict=True)
            if all(filecmp.cmp(str(given), str(own), shallow=False) for given, own in pairs):
                return example
        return None

    def get(self, request: Request) -> Exploration | None:
        """The finished exploration of a request for an example as it is, if it is ready.

        Raises ``OSError`` if a file is gone.
        """
        example = self.example_of(request)
        if example is None:
            return None
        as_it_is = replace(request_for(example), photo=request.photo, refs=request.refs)
        return self._ready.get(example.name) if request == as_it_is else None

    def name_of(self, x: Exploration) -> str | None:
        """The name of the example that ``x`` is the ready exploration of, if it is one."""
        with self._changed:
            return next((name for name, ready in self._ready.items() if ready is x), None)

    def put(self, example: Example, exploration: Exploration) -> None:
        """Make an example ready."""
        with self._changed:
            self._ready[example.name] = exploration
            for key in [key for key in self._drawn if key[0] == example.name]:
                del self._drawn[key]
            self._changed.notify_all()

    def drawn(self, name: str, figure: str, draw: Callable[[], Drawn]) -> Drawn:
        """A figure of the ready example ``name`` as the page opens on it: from ``draw``, or kept.

        ``figure`` is the figure's name. Many visitors look at an example, so what ``draw`` returned
        is kept. Beyond ``DRAWN_MEMORY`` bytes, what was asked for longest ago is forgotten.
        """
        key = (name, figure)
        with self._changed:
            if key in self._drawn:
                self._drawn.move_to_end(key)
                return cast(Drawn, self._drawn[key])
            shown = self._ready.get(name)
        found = draw()  # without the lock: two who draw the same are no harm
        with self._changed:
            if self._ready.get(name) is shown:  # else another run was put there meanwhile
                self._drawn[key] = found
            while sum(map(_bytes_of, self._drawn.values())) > DRAWN_MEMORY:
                self._drawn.popitem(last=False)
        return found

    def wait(self, name: str, seconds: float) -> Exploration | None:
        """The example's exploration, waiting for at most ``seconds``; ``None`` if not ready."""
        with self._changed:
            self._changed.wait_for(lambda: name in self._ready or self.gave_up(name), seconds)
            return self._ready.get(name)

    def gave_up(self, name: str) -> bool:
        """Whether the example called ``name`` could not be prepared."""
        return name in self._given_up

    def prepare(self) -> None:
        """Make all examples ready, one after the other."""
        for example in self.examples:
            if example.name in self._ready:
                continue
            try:
                request = request_for(example)
                x = _in_spare_time(partial(paint, request, example=example))
                x = _in_spare_time(partial(without_reference, x))
                self.put(example, _in_spare_time(partial(without_branches, x)))
            except UserError as error:
                log.warning("The example %s could not be prepared: %s", example.name, error)
                self._give_up(example)
            except Exception:  # the others may still succeed
                log.exception("The example %s could not be prepared", example.name)
                self._give_up(example)

    def _give_up(self, example: Example) -> None:
        with self._changed:
            self._given_up.add(example.name)
            self._changed.notify_all()

    def prepare_in_background(self) -> None:
        """:meth:`prepare` in a thread that does not keep the process alive, nor anybody waiting."""

        def work() -> None:
            if sys.platform == "linux":  # there, a thread has a priority of its own
                os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
            self.prepare()

        threading.Thread(target=work, name="showcase", daemon=True).start()


def _bytes_of(picture: Picture | None) -> int:
    return 0 if picture is None else picture.image.nbytes


def _sources(request: Request) -> tuple[Source, ...]:
    return request.photo, *request.refs


def _sizes(request: Request) -> tuple[int, ...]:
    """Bytes of the files of a request; -1 for a picture that is no file."""
    return tuple(
        os.path.getsize(source) if isinstance(source, (str, Path)) else -1
        for source in _sources(request)
    )


def _in_spare_time(step: Callable[..., Exploration]) -> Exploration:
    """What ``step(progress=...)`` returns; begun anew after a visitor came, who goes first."""
    while True:
        try:
            with NETWORK.spare() as progress:
                return step(progress=progress)
        except Stopped:
            continue
