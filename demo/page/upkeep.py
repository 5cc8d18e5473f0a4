"""Frees what Gradio and its server would keep for ever: once a second, or once a minute."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable, Collection, Sized
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

from gradio.routes import App, file_upload_statuses
from uvicorn import Server

from demo.page.bounds import Allowance
from demo.page.guard import with_host
from demo.page.once import Sessions

log = logging.getLogger(__name__)

MOST_PROGRESS = 1000
"""Uploads whose progress is kept; with more, all progress is forgotten, and bars stand still."""

SILENT_SECONDS = 10
"""A connection on which nothing is asked for so long is closed."""

MANY = 700
"""Open connections; with more than these, silent ones are closed at once."""

_TIDY_SECONDS = 60


class Upkeep:
    """Frees what ended sessions leave in a running app, ``keep_seconds`` after their end."""

    def __init__(
        self, app: App, keep_seconds: float, clock: Callable[[], float] = time.time
    ) -> None:
        self._app, self._keep_seconds, self._clock = app, keep_seconds, clock
        self._ended: dict[str, float] = {}  # since when nothing of a session is under way

    def tidy(self) -> None:
        """Free it now. To be called in the thread that handles the app's requests."""
        blocks, queue = self._app.get_blocks(), self._app.get_blocks()._queue
        # Lists of files that Gradio would delete at its end; ours are deleted by age.
        for paths in blocks.temp_file_sets:
            paths.clear()
        self._app.iterators_to_reset.clear()  # no event comes twice
        if len(file_upload_statuses._signals) > MOST_PROGRESS:
            file_upload_statuses._signals.clear()
            file_upload_statuses._statuses.clear()
        self._forget_messages(queue)
        self._forget_closed_pages()

    def _forget_messages(self, queue: Any) -> None:
        """Forget answers that were delivered, or that nobody came for."""
        sessions = queue.pending_event_ids_session
        busy = {event.session_hash for event in queue.event_ids_to_events.values()}
        for session in {*sessions, *queue.pending_messages_per_session}:
            events = sessions.get(session, ())
            if session in busy:
                self._ended.pop(session, None)
                continue
            since = self._ended.setdefault(session, self._clock())
            if not events or self._clock() - since >= self._keep_seconds:
                sessions.pop(session, None)
                queue.pending_messages_per_session.pop(session, None)
        known = sessions.keys()
        self._ended = {session: since for session, since in self._ended.items() if session in known}

    def _forget_closed_pages(self) -> None:
        holder = self._app.state_holder
        latest = datetime.fromtimestamp(self._clock() - self._keep_seconds)
        for session, state in list(holder.session_data.items()):
            if state.is_closed and holder.time_last_used.get(session, latest) <= latest:
                holder.session_data.pop(session, None)
                holder.time_last_used.pop(session, None)

    def kept(self) -> dict[str, int]:
        """How many entries each of these lists holds, by name."""
        blocks, queue = self._app.get_blocks(), self._app.get_blocks()._queue
        lists: dict[str, Sized] = {
            "messages": queue.pending_messages_per_session,
            "events": queue.pending_event_ids_session,
            "running": queue.event_ids_to_events,
            "statistics": queue.event_analytics,
            "sessions": self._app.state_holder.session_data,
            "times": self._app.state_holder.time_last_used,
            "streams": blocks.pending_streams,
            "differences": blocks.pending_diff_streams,
            "iterators": self._app.iterators,
            "cancelled": self._app.iterators_to_reset,
            "progress": file_upload_statuses._signals,
        }
        found = {name: len(entries) for name, entries in lists.items()}
        return found | {"files": sum(map(len, blocks.temp_file_sets))}


class Connections:
    """Closes connections of a server on which nobody asks for anything."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._silent: dict[Any, tuple[Any, int]] = {}  # its last request, how often it was so

    def close_silent(self) -> None:
        """To be called once a second, in the thread that handles the server's requests."""
        connections: set[Any] = self._server.server_state.connections
        patience = 1 if len(connections) > MANY else SILENT_SECONDS
        found: dict[Any, tuple[Any, int]] = {}
        for connection in list(connections):
            if not hasattr(connection, "cycle"):  # it speaks another protocol than HTTP/1.1
                continue
            last = connection.cycle
            if last is None or last.response_complete:
                # Between two short requests a connection is as quiet as a silent one.
                before, times = self._silent.get(connection, (last, 0))
                times = times + 1 if last is before else 1
                found[connection] = last, times
                if times > patience:
                    connection.transport.close()
        self._silent = found


def allow_many_files() -> None:
    """Allow this process as many open files as it may have: every connection is one."""
    if resource is None:
        return
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


@asynccontextmanager
async def upkeep(app: App, allowances: Collection[Allowance]) -> AsyncGenerator[None, None]:
    """Keeps a running app tidy, and its sessions light: for FastAPI's ``lifespan``.

    ``allowances``: those that forget addresses, beside the app's own.
    """
    allow_many_files()
    sessions = Sessions()
    sessions.set_blocks(app.get_blocks())
    app.state_holder = sessions
    if app.middleware_stack is not None:
        app.middleware_stack = with_host(app.middleware_stack)
    task = asyncio.create_task(_work(app, allowances))
    try:
        yield
    finally:
        task.cancel()


async def _work(app: App, allowances: Collection[Allowance]) -> None:
    blocks: Any = app.get_blocks()
    tidy = Upkeep(app, blocks.keep_seconds).tidy
    connections: Connections | None = None
    seconds = 0
    while True:
        await asyncio.sleep(1)
        seconds += 1
        try:
            server = getattr(blocks, "server", None)  # it is made known after it has started
            if connections is None and server is not None:
                connections = Connections(server)
            if connections is not None:
                connections.close_silent()
            if seconds % _TIDY_SECONDS == 0:
                blocks.forget_addresses()
                for allowance in allowances:
                    allowance.forget()
                tidy()
        except Exception:
            log.exception("What ended could not be tidied up")
