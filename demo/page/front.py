"""The page's border: what visitors send is checked here, and what is kept of them is bounded.

Nothing behind it has to expect a request that no browser would send, and nothing that a visitor
sends appears in the log as a traceback.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from copy import copy
from functools import partial
from typing import Any

import gradio as gr
from fastapi import HTTPException, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.exception_handlers import http_exception_handler
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from gradio.components.base import _Keywords
from gradio.context import LocalContext
from gradio.data_classes import ListFiles
from gradio.exceptions import ComponentProcessingError, InvalidPathError
from gradio.utils import LRUCache, get_space
from httpx import InvalidURL
from starlette.middleware import Middleware

from demo.laboratory import Sweep
from demo.page.bounds import Allowance
from demo.page.guard import TAKE_FILES, Guard, Refused
from demo.page.kept import Kept, Large, Pages, Shelf
from demo.page.messages import sentence_for
from demo.page.once import ANSWERS_PER_ADDRESS, Answers, Sessions
from demo.page.sent import check_texts, checked, file_path
from demo.page.upkeep import upkeep
from demo.runs.exploration import Exploration
from demo.runs.jobs import ASKING
from demo.runs.rematch import DenseMatch
from demo.runs.served import full_disk, room
from demo.settings import (
    BYTES_PER_ADDRESS,
    CALLS_PER_ADDRESS,
    KEEP_SECONDS,
    RUNS_PER_ADDRESS,
    SESSION_MEMORY,
    SESSIONS_PER_ADDRESS,
)
from masa.errors import UserError
from masa.machine.memory import memory_bound, memory_limit

log = logging.getLogger(__name__)

NOT_UPLOADED = (
    "A file in this request was not uploaded to this page, and the page downloads none from other "
    "addresses: upload it first."
)
NOT_A_CHOICE = (
    "A value in this request is not one of the choices or out of range: reload the page, or, for a "
    "program, see the page's description of its API."
)
NOT_FITTING = (
    "This request lacks a field or holds a value of the wrong kind: the page's description of its "
    "API lists what each field takes."
)
OUR_FAULT = "Something went wrong on the server and was noted there: please try again."
TOO_MANY_RUNS = (
    f"{RUNS_PER_ADDRESS} requests of your address are under way, as many as this page takes of "
    "one: please wait for one of them."
)
TOO_MANY_SESSIONS = (
    "Your address has opened as many pages as this server takes of one within an hour: use one "
    "that is open, or please come back later."
)
TOO_MANY_CALLS = (
    f"Programs of your address have sent {CALLS_PER_ADDRESS} requests within an hour, as many as "
    "this page takes of one: please come back later."
)
MAX_SESSION_NAME = 100
"""Characters."""

EVENTS_OF_A_RUN = 4
"""The run itself, its figures, its later steps, and Stop."""

_LOOKS_AGAIN = 0.02  # seconds that an event waits at most to be noticed

LINE_FULL = "Too many visitors are waiting already: please come back in a minute."
ODD_SESSION = "The name of this session is too long: leave the field session_hash out."
FORGOTTEN: dict[type, str] = {
    Exploration: "This run was forgotten to make room for those of other visitors: press Enlarge "
    "again.",
    Sweep: "This sweep was forgotten to make room for runs of other visitors: run it again.",
}
"""What to say where something is needed that was forgotten; the rest is only made anew."""


def photos_field(label: str) -> gr.File:
    """A field of the API for several photos: uploaded files, or ``data:`` strings."""
    field = gr.File(label=label, file_count="multiple")
    # Two things of Gradio's own do not work for tools: the references in its description, and its
    # model, which refuses strings. (For a class of our own, Gradio would write a file beside it.)
    schema = ListFiles.model_json_schema()
    file = schema["$defs"]["FileData"]
    properties = {**file["properties"], "meta": schema["$defs"]["FileDataMeta"]}
    items = {**file, "description": "An uploaded file", "properties": properties}
    description = {"title": "Photos", "type": "array", "items": items}

    replaced: dict[str, Any] = {
        "data_model": None,
        "api_info": lambda: description,
        "preprocess": lambda payload: [file_path(item) for item in payload or ()],
    }
    for name, value in replaced.items():
        setattr(field, name, value)
    return field


MOST_MESSAGES = 20 * CALLS_PER_ADDRESS
"""Sessions and calls whose messages wait to be fetched, at most; of Gradio's 2,000 places, one
address could take all."""


class Messages(LRUCache[str, Any]):
    """Gradio's, in which what is gone already can be deleted: two may listen to one session."""

    def __delitem__(self, key: str) -> None:
        if key in self:
            super().__delitem__(key)


class Front(gr.Blocks):
    """Blocks that answer every request with a result or with one sentence.

    Callbacks are given, and return, whole explorations, dense matches and sweeps; sessions hold
    handles on a shared :class:`Shelf`.
    """

    def __init__(
        self,
        starts: Collection[str] = (),
        follow: Collection[str] = (),
        keep_seconds: float = KEEP_SECONDS,
        **options: Any,
    ) -> None:
        """``starts``: names of callbacks that may find what a session held forgotten.

        ``follow``: names of those that follow a run, or end it.
        ``keep_seconds`` after a visitor last did something, what the session holds is forgotten.
        """
        super().__init__(**options)
        self.shelf = Shelf(memory_bound(memory_limit(), SESSION_MEMORY))
        self._sessions = Allowance(SESSIONS_PER_ADDRESS, KEEP_SECONDS)
        self._calls = Allowance(CALLS_PER_ADDRESS, KEEP_SECONDS)
        self._starts, self._follow = starts, follow
        self.keep_seconds = keep_seconds
        self._pages = Pages(keep_seconds)

    def forget_addresses(self) -> None:
        """Forget those that asked for nothing for as long as they are counted."""
        self._sessions.forget()
        self._calls.forget()

    def queue(self, *args: Any, **options: Any) -> Front:
        """Gradio's, which keeps no statistics, and takes no more of an address than its share."""
        super().queue(*args, **options)
        self._queue.ANALYTICS_MAX_EVENTS = 0  # Gradio's environment variable allows no less than 1
        # Gradio looks a thousand times a second whether an event or a step of one has come, which
        # takes 7 % of a core while nobody is there.
        self._queue.sleep_when_free = _LOOKS_AGAIN
        self._queue.progress_update_sleep_when_free = _LOOKS_AGAIN
        self._queue.pending_messages_per_session = Messages(MOST_MESSAGES)
        push = self._queue.push

        async def push_admitted(body: Any, request: Request, username: str | None) -> Any:
            await self._admit(body, request)
            # The event keeps the request, and this its body with all pictures that came as text.
            vars(request).pop("_json", None)
            vars(request)["_body"] = b""
            return await push(body=body, request=request, username=username)

        self._queue.push = push_admitted  # type: ignore[method-assign]
        return self

    async def _admit(self, body: Any, request: Request) -> None:
        """Raises ``HTTPException`` for an event that must not get into the queue.

        Pictures sent as text are written to files, as texts would fill the memory while they wait.
        An address pays for them before.
        """
        session, address = body.session_hash, request.client.host if request.client else ""
        if session is not None and len(session) > MAX_SESSION_NAME:
            raise HTTPException(400, ODD_SESSION)
        self._check_places(body, address)  # before anything of it is written
        body.oauth_token = None
        try:
            files = check_texts([body.data, body.event_data])
        except UserError as error:
            raise HTTPException(413, str(error)) from None
        if session is None and not self._calls.take(address):
            raise HTTPException(429, TOO_MANY_CALLS)
        if self._is_new(session) and not self._sessions.take(address):
            raise HTTPException(429, TOO_MANY_SESSIONS)
        try:
            if take := request.scope.get(TAKE_FILES):  # not where the request is made up
                take(files)
        except Refused as refusal:
            raise HTTPException(refusal.status, refusal.sentence) from None
        try:
            body.data, body.event_data = await run_in_threadpool(
                checked, (body.data, body.event_data)
            )
        except UserError as error:  # there is no room for them
            raise HTTPException(507, str(error)) from None
        except InvalidPathError:
            raise HTTPException(400, NOT_UPLOADED) from None
        except OSError as error:
            raise _undone(error) from None
        except Exception:  # the request's content decides which
            raise HTTPException(400, NOT_FITTING) from None
        # Nothing is awaited from here on, so no other event changes what is counted.
        self._check_places(body, address)
        if self._is_new(session) and isinstance(self.state_holder, Sessions):
            self.state_holder.open(session)

    def _is_new(self, session: str | None) -> bool:
        """Whether an event comes from a page that did nothing before."""
        return session is not None and session not in self.state_holder

    def _check_places(self, body: Any, address: str) -> None:
        """Raises ``HTTPException`` if no more events can wait, or no more of this address.

        What follows a run that was admitted has places of its own.
        """
        line = self._queue
        if line.max_size is not None and len(line) >= line.max_size:
            raise HTTPException(503, LINE_FULL)
        events = line.event_ids_to_events.values()
        under_way = sum(
            e.request.client is not None and e.request.client.host == address for e in events
        )
        event = self.fns.get(body.fn_index)
        follows = event is not None and event.name in self._follow
        if under_way >= RUNS_PER_ADDRESS * (EVENTS_OF_A_RUN if follows else 1):
            raise HTTPException(429, TOO_MANY_RUNS)

    async def process_api(self, *args: Any, **options: Any) -> dict[str, Any]:
        """Gradio's, for events that have a callback, with what they carry as a mapping."""
        if (args[0] if args else options["block_fn"]).fn is None:
            raise gr.Error(NOT_FITTING, print_exception=False)
        request = options.get("request")
        ASKING.set(request.client.host if request and request.client else "")
        event = options.get("event_data")
        if event is not None and not isinstance(event._data, dict):
            options["event_data"] = gr.EventData(event.target, {})
        state, session, call = map(options.get, ("state", "session_hash", "event_id"))
        if state is not None:
            state.STATE_TTL_WHEN_CLOSED = self.keep_seconds  # Gradio's default is an hour
            self._pages.use(state)  # also for each step of what waits, or goes on
        try:
            return await super().process_api(*args, **options)
        finally:
            # A program's call is a session of its own, which nobody will come back to: it must not
            # take the place of a visitor's.
            if session is not None and session == call:
                self.state_holder.session_data.pop(session, None)
                self.state_holder.time_last_used.pop(session, None)

    async def preprocess_data(
        self, block_fn: Any, inputs: list[Any], state: Any, explicit_call: bool = False
    ) -> list[Any]:
        """Gradio's, with sentences instead of its errors."""
        try:
            check_texts(inputs)
            inputs = _in_range(block_fn.inputs, checked(inputs), state)
            if state is not None:
                self._pages.show(state, block_fn.inputs, inputs)
            photos = _photos(block_fn.inputs, inputs)
            known = [None if i in photos else value for i, value in enumerate(inputs)]
            values = await super().preprocess_data(block_fn, known, state, explicit_call)
            values = [photos.get(i, value) for i, value in enumerate(values)]
            for block, value in zip(block_fn.inputs, values, strict=True):
                if isinstance(block, gr.Dataset) and value is None:
                    raise ValueError("no example")
        except UserError as error:
            raise gr.Error(str(error), print_exception=False) from None
        except InvalidPathError:
            raise gr.Error(NOT_UPLOADED, print_exception=False) from None
        except ComponentProcessingError:
            raise gr.Error(NOT_FITTING, print_exception=False) from None
        except gr.Error:
            raise gr.Error(NOT_A_CHOICE, print_exception=False) from None
        except Exception as error:  # the request's content decides which
            log.info("A request did not fit: %s", type(error).__name__)
            raise gr.Error(NOT_FITTING, print_exception=False) from None
        return [self._taken(v, block_fn.name) if isinstance(v, Kept) else v for v in values]

    def _taken(self, kept: Kept, callback: str) -> Large | None:
        x = self.shelf.get(kept)
        if x is None and kept.kind in FORGOTTEN and callback not in self._starts:
            raise gr.Error(FORGOTTEN[kept.kind], print_exception=False)
        return x

    async def call_function(self, *args: Any, **options: Any) -> Any:
        """Gradio's, with a sentence for the visitor; only of what is our fault the log has more."""
        try:
            return await super().call_function(*args, **options)
        except gr.Error:
            raise
        except Exception as error:
            sentence = sentence_for(error)
            if sentence is None:
                log.exception("A callback failed")
            raise gr.Error(sentence or OUR_FAULT, print_exception=False) from None

    async def postprocess_data(self, block_fn: Any, predictions: Any, state: Any) -> list[Any]:
        """Gradio's, after putting on the shelf what is large; of a mapping only what it holds.

        Gradio would make every component anew that a mapping does not mention: with thirty visitors
        who wait, whose progress bar alone moves, it would be busy with nothing else. A generator
        that ends without a result, as an older run's does, leaves everything as it is; Gradio would
        empty all components.
        """
        ended = _Keywords.FINISHED_ITERATING
        if predictions is ended or (isinstance(predictions, tuple) and ended in predictions):
            return [gr.skip()] * len(block_fn.outputs)
        data = await self._sent(block_fn, predictions, state)
        if state is not None:
            self._pages.show(state, block_fn.outputs, data)
        return data

    async def _sent(self, block_fn: Any, predictions: Any, state: Any) -> list[Any]:
        if isinstance(predictions, dict) and predictions.keys() <= set(block_fn.outputs):
            changed = copy(block_fn)
            changed.outputs = [block for block in block_fn.outputs if block in predictions]
            values = [self._shelved(predictions[block]) for block in changed.outputs]
            if not values:
                return [gr.skip()] * len(block_fn.outputs)
            one = values[0] if len(values) == 1 else values
            found = await super().postprocess_data(changed, one, state)
            new = dict(zip(changed.outputs, found, strict=True))
            return [new.get(block, gr.skip()) for block in block_fn.outputs]
        if isinstance(predictions, (list, tuple)):
            predictions = [self._shelved(value) for value in predictions]
        return await super().postprocess_data(block_fn, predictions, state)

    def handle_streaming_diffs(
        self,
        block_fn: Any,
        data: list[Any],
        session_hash: str | None,
        run: str | None,
        final: bool,
        simple_format: bool = False,
    ) -> list[Any]:
        """Gradio's, but what changed is sent as a whole, and once.

        Of an update that is followed by none, Gradio says that its value is to be deleted. On a
        slow machine its script does so before it has shown that value: a figure stays empty. And
        when a generator has ended, it would send the last update again, over newer ones of others.
        """
        streams = self.pending_diff_streams.get(session_hash, {}) if run else {}
        before = list(streams[run]) if run in streams else None
        data = super().handle_streaming_diffs(block_fn, data, session_hash, run, final, True)
        if before is None or simple_format:
            return data
        if final:
            return [gr.skip()] * len(data)
        pairs = zip(before, data, strict=True)
        return [[] if old == new else [["replace", [], new]] for old, new in pairs]

    def _shelved(self, value: Any) -> Any:
        large = isinstance(value, (Exploration, DenseMatch, Sweep))
        return self.shelf.put(value) if large else value


def client_left() -> bool:
    """Whether nobody waits any more for what the event under way will return.

    A plain callback is not told so. Gradio's queue, which it was taken from, knows.
    """
    blocks, event_id = LocalContext.blocks.get(None), LocalContext.event_id.get(None)
    if blocks is None or event_id is None:
        return False
    # The event of a closed connection is not alive; a cancelled one is not among the active ones.
    jobs = (job for job in blocks._queue.active_jobs if job)
    return not any(event._id == event_id and event.alive for job in jobs for event in job)


def _photos(blocks: Sequence[Any], values: Sequence[Any]) -> dict[int, Any]:
    """What callbacks are given of pictures, by their place among ``values``: paths.

    Gradio would open, even decode a single one, and refuse those of a gallery by their names.
    """
    found: dict[int, Any] = {}
    for place, (block, value) in enumerate(zip(blocks, values, strict=False)):
        if isinstance(block, gr.Image) and value is not None:
            found[place] = file_path(value)
        elif isinstance(block, gr.Gallery) and value:
            files = [entry.get("image") or entry.get("video") for entry in value]
            found[place] = [(file_path(file), None) for file in files]
    return found


def _in_range(blocks: Sequence[Any], values: list[Any], state: Any) -> list[Any]:
    """``values`` with those of sliders moved into the session's ranges.

    A slider's field of numbers is empty, or holds the first digit alone, while somebody types.
    """

    def moved(block: Any, value: Any) -> Any:
        if not isinstance(block, gr.Slider) or not isinstance(value, (int, float, type(None))):
            return value
        own = block if state is None else state[block._id]
        return own.minimum if value is None else min(max(value, own.minimum), own.maximum)

    # A different number of values is for Gradio to refuse.
    pairs = zip(blocks, values, strict=False)
    return [moved(*pair) for pair in pairs] + values[len(blocks) :]


def _not_understood(request: Request, error: Exception) -> JSONResponse:
    """Answer to a request that makes Gradio's own routes fail."""
    log.warning("A request to %s was not understood: %s", request.url.path, type(error).__name__)
    return JSONResponse({"detail": NOT_FITTING}, status_code=400)


def _undone(error: OSError) -> HTTPException:
    """What to answer where a file could not be written or read; the log gets the rest."""
    if (sentence := full_disk(error)) is not None:
        return HTTPException(507, sentence)
    log.error("A file could not be used", exc_info=error)
    return HTTPException(500, OUR_FAULT)


async def _not_done(request: Request, error: Exception) -> Response:
    assert isinstance(error, OSError)
    return await http_exception_handler(request, _undone(error))


def app_options(proxy_header: str | None = None) -> dict[str, Any]:
    """For FastAPI, underneath Gradio: the guard, the upkeep, and sentences for errors.

    ``proxy_header`` names the header in which a proxy in front of the page, without which nobody
    can reach it, tells visitors' addresses; on a Space there is one, and it is known.
    """
    if proxy_header is None and get_space() is not None:
        proxy_header = "X-Forwarded-For"
    odd = (
        RequestValidationError,
        TypeError,
        ValueError,
        LookupError,
        AttributeError,
        InvalidURL,
    )
    sent = Allowance(BYTES_PER_ADDRESS, KEEP_SECONDS)
    made_for = Allowance(ANSWERS_PER_ADDRESS, 60)
    return {
        "middleware": [
            Middleware(Guard, sent=sent, proxy_header=proxy_header, room=room),
            Middleware(Answers, made_for=made_for),
        ],
        "lifespan": partial(upkeep, allowances=(sent, made_for)),
        "exception_handlers": {**dict.fromkeys(odd, _not_understood), OSError: _not_done},
    }
