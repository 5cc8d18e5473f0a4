"""The guard in front of Gradio: it stops what the page does not use, or what is too much for it.

Gradio serves more addresses than this page needs (it fetches from other hosts, converts videos,
edits its own source), and reads any body that it is sent. A request passes if its address is on
the list below, its body is small and simple, and its sender has not too much under way.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from fastapi import HTTPException
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from gradio.server_messages import ProcessCompletedMessage
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette._utils import get_route_path
from starlette.datastructures import Headers, QueryParams
from starlette.formparsers import MultiPartException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from demo.page.bounds import Allowance, address_of
from demo.runs.served import FILE_BYTES, is_served
from demo.runs.served import FULL as NO_ROOM
from demo.settings import LIMITS, REQUESTS, REQUESTS_PER_ADDRESS

SERVED_AT = "/gradio_api/file="

MAX_REQUEST = 8 * LIMITS.max_file_bytes
"""Bytes: a photo and five references, as text."""

MAX_SMALL = 2**14
"""Bytes of a request that names nothing but an event; and of a form, whose pictures are uploads."""

MOST_OPENED = 500
"""Braces and brackets opened in one JSON body; a form with five references has about thirty."""

MOST_VALUES = 5000
"""Commas in one JSON body."""

MOST_FILES = 20
"""Files in one upload."""

MOST_BUFFERED = 2 * MAX_REQUEST
"""Bytes of all JSON bodies that are being received, beyond the first ``MAX_SMALL`` of each: whoever
sends large ones slowly keeps no small one out."""

RECOUNT = 2**23
"""Bytes of an upload after which it is looked up again whether there is room: others come too."""

BODY_SECONDS = 600
"""Time in which a body has to arrive."""

MOST_TEXT_OF_PICTURE = int(1.4 * LIMITS.max_file_bytes)
"""Bytes of a picture as text: base64 takes four characters for three bytes."""

MAX_TEXT = 2**18
"""Bytes of one JSON body outside of pictures; a form has a few thousand."""

SEND_SECONDS = 120
"""Time in which a visitor has to take the next part of an answer."""

MOST_COMPRESSED = 2**20
"""Bytes of an answer above which it is not compressed, as that would keep everybody waiting. Of
Gradio's scripts, only one is larger, for plots of a kind that this page has none of."""

MAX_QUERY = 2000
"""Bytes of what follows the question mark."""

_READ = re.compile(
    r"""
    /
    | /(config|gradio_api/info|gradio_api/user|gradio_api/login_check)/?
    | /(favicon\.ico|robots\.txt|manifest\.json|pwa_icon(/\d+)?|(gradio_api/)?theme\.css)
    | /(static|assets|svelte)/(?!.*\.\.)[\w.@+/-]+
    | /gradio_api/(startup-events|openapi\.json|queue/data|queue/status|upload_progress|app_id)
    | /gradio_api/heartbeat/\w+(-\w+)*
    | /gradio_api/call/(v2/)?\w+/\w+
    """,
    re.VERBOSE | re.ASCII,
)
"""What is fetched; addresses of files are checked separately."""

_TOLD = re.compile(r"/gradio_api/(queue/join|call/(v2/)?\w+/?)", re.ASCII)
"""Where JSON is posted that may hold photos as text."""

_CANCEL = re.compile(r"/gradio_api/cancel/?", re.ASCII)
"""Where JSON is posted that names an event to end."""

_RESET = re.compile(r"/gradio_api/reset/?", re.ASCII)
"""Where JSON is posted that names an event which ended."""

_FETCHED = re.compile(r"/gradio_api/(queue/data|call/(?:v2/)?\w+/(?P<call>\w+))", re.ASCII)
"""Where the messages of a session, or of a program's call, are fetched."""

_UPLOAD = "/gradio_api/upload"

_AS_IT_IS = (b"content-encoding", b"identity")

_MCP = re.compile(r"/gradio_api/mcp(/[\w/-]*)?", re.ASCII)
"""Where agents call, if the server was started for them."""

_HOST = re.compile(r"([\w.-]+|\[[\da-f:.]+\])(:\d{1,5})?", re.ASCII | re.IGNORECASE)
"""A name of this server, from which Gradio makes addresses."""

UNKNOWN = "This page has nothing at this address: see /gradio_api/info for what it offers."
NOBODYS = "There are no messages for this session or call: they were fetched, or never asked for."
NO_EVENT = "This request names no event: send its event_id."
NOT_ASCII = (
    "This request holds pictures as text and letters beyond ASCII: escape these letters, or upload "
    "the pictures."
)
ODD_HOST = "This request calls the server by a name that no server has: check the address."
DELETED = "This file is no longer on the server: make it again, or upload it again."
TOO_LARGE = "This request is too large: send smaller or fewer pictures."
TOO_COMPLICATED = "This request holds too many values: send only the fields of the form."
TOO_MANY_FILES = f"This upload holds more than {MOST_FILES} files: send fewer at a time."
NO_FILES = "This upload holds something else than files: send files only."
NO_UPLOAD = "This upload cannot be read: send it as multipart/form-data."
TOO_SLOW = "This request took too long to arrive: try again with a smaller picture."
TOO_LONG_A_QUERY = "This address is too long: leave out what follows the question mark."
TOO_MUCH_SENT = "Your address has sent as much as this page takes for now: come back in an hour."
TOO_MANY_OPEN = "Too many requests of your address are open: close some and try again."
FULL = "This page has as many visitors as it can take: please come back in a minute."


TAKE_FILES = "masa.take_files"
"""The key of what charges a request's address for files that it has written."""


class Refused(Exception):  # noqa: N818 - an answer, not an error
    """Raised where a request must go no further."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status, self.sentence = status, sentence


class Guard:
    """ASGI middleware that answers in Gradio's place what must not reach it.

    Refusals are JSON, ``{"detail": sentence}``, of uploads the sentence alone. What stands behind
    takes more of an address's allowance by ``scope[TAKE_FILES](files)``, which raises
    :class:`Refused`. ``sent`` counts the bytes that each address sends; ``proxy_header`` names the
    header in which a trusted proxy tells visitors' addresses; ``room(wanted)`` is how many bytes of
    files may still come, after it tried to make room for ``wanted``.
    """

    def __init__(
        self,
        app: ASGIApp,
        sent: Allowance,
        proxy_header: str | None = None,
        room: Callable[[int], int] | None = None,
    ) -> None:
        self._app, self._sent, self._proxy_header, self._room = app, sent, proxy_header, room
        self._open: Counter[str] = Counter()
        self._buffered = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close"})  # the page uses none
        else:
            address = address_of(scope, self._proxy_header)
            scope["client"] = (address, 0)  # so that what stands behind need not ask again
            scope[TAKE_FILES] = partial(self._take_files, scope)
            try:
                with self._counted(address):
                    await self._pass(scope, receive, _impatient(send))
            except NobodyTakes:
                return  # the server closes the connection
            except Refused as refusal:
                # Gradio's script shows the whole body where an upload is refused.
                answer: Response = (
                    PlainTextResponse(refusal.sentence, refusal.status)
                    if scope["method"] == "POST" and get_route_path(scope) == _UPLOAD
                    else JSONResponse({"detail": refusal.sentence}, refusal.status)
                )
                await answer(scope, receive, send)

    @contextmanager
    def _counted(self, address: str) -> Iterator[None]:
        if self._open.total() >= REQUESTS:
            raise Refused(503, FULL)
        if self._open[address] >= REQUESTS_PER_ADDRESS:
            raise Refused(429, TOO_MANY_OPEN)
        self._open[address] += 1
        try:
            yield
        finally:
            self._open[address] -= 1
            if not self._open[address]:
                del self._open[address]

    async def _pass(self, scope: Scope, receive: Receive, send: Send) -> None:
        if len(scope["query_string"]) > MAX_QUERY:
            raise Refused(414, TOO_LONG_A_QUERY)
        headers = Headers(scope=scope)
        named = [headers.get(name, "") for name in ("host", "x-forwarded-host")]
        if not all(_HOST.fullmatch(host.strip()) for n in named if n for host in n.split(",")):
            raise Refused(400, ODD_HOST)
        path = get_route_path(scope)  # decoded, and as Gradio's own routes see it
        fetched, posted = scope["method"] in ("GET", "HEAD"), scope["method"] == "POST"
        for_agents = _MCP.fullmatch(path) and scope["app"].get_blocks().mcp_server
        if posted and path == _UPLOAD:
            await self._pass_upload(scope, receive, send)
        elif posted and (for_agents or _TOLD.fullmatch(path)):
            await self._pass_json(scope, receive, send, MAX_REQUEST)
        elif posted and _CANCEL.fullmatch(path):
            await self._pass_json(scope, receive, send, MAX_SMALL, _cancel)
        elif posted and _RESET.fullmatch(path):
            await self._pass_json(scope, receive, send, MAX_SMALL)
        elif fetched and _is_file(path):
            if not _exists(path.removeprefix(SERVED_AT)):  # Gradio would call it forbidden
                raise Refused(404, DELETED)
            await self._app(scope, receive, _uncompressed(send))
        elif for_agents or (fetched and _READ.fullmatch(path)):
            if messages := _FETCHED.fullmatch(path):
                await self._pass_messages(scope, receive, send, messages["call"])
            else:
                await self._app(scope, receive, _uncompressed(send, above=MOST_COMPRESSED))
        else:
            raise Refused(404, UNKNOWN)

    async def _pass_json(
        self, scope: Scope, receive: Receive, send: Send, most: int, app: ASGIApp | None = None
    ) -> None:
        """Receive the whole body before ``app``, or what the guard stands before, parses it."""
        chunks: list[bytes] = []
        opened = values = size = buffered = 0
        try:
            async for chunk in self._received(scope, receive, most):
                opened += chunk.count(b"{") + chunk.count(b"[")
                values += chunk.count(b",") + chunk.count(b"\\")  # what is escaped takes long too
                if opened > MOST_OPENED or values > MOST_VALUES:
                    raise Refused(413, TOO_COMPLICATED)
                size += len(chunk)
                more = max(0, size - MAX_SMALL) - buffered
                if self._buffered + more > MOST_BUFFERED:
                    raise Refused(503, FULL)
                buffered += more
                self._buffered += more
                chunks.append(chunk)
        except ClientLeft:
            return
        finally:
            self._buffered -= buffered
        body = b"".join(chunks)
        chunks.clear()
        if len(body) > MAX_TEXT:
            _check_large(body)
        whole: list[Message] = [{"type": "http.request", "body": body}]
        del body

        async def replay() -> Message:
            return whole.pop() if whole else await receive()

        await (app or self._app)(scope, replay, send)

    async def _pass_upload(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let an upload through as it arrives; what stops it also makes Gradio delete its part."""
        await self._check_room(MAX_REQUEST)
        chunks = self._received(scope, receive, MAX_REQUEST)
        parts = Parts(Headers(scope=scope).get("content-type", ""))
        refusal: Refused | None = None
        whole, uncounted = False, 0

        async def checked() -> Message:
            nonlocal refusal, whole, uncounted
            if whole:
                return await receive()
            try:
                chunk = await anext(chunks, None)
                if chunk is None:
                    whole = True
                    return {"type": "http.request", "body": b""}
                before = parts.files
                parts.count(chunk)
                self._take_files(scope, parts.files - before)
                uncounted += len(chunk)
                if uncounted > RECOUNT:
                    uncounted = 0
                    await self._check_room(RECOUNT)
                return {"type": "http.request", "body": chunk, "more_body": True}
            except Refused as error:
                refusal = error
                raise MultiPartException(error.sentence) from None
            except ClientLeft:
                raise MultiPartException("The client left.") from None

        async def answer(message: Message) -> None:
            if refusal is None:
                await send(message)

        await self._app(scope, checked, answer)
        if refusal is not None:
            raise refusal

    async def _pass_messages(
        self, scope: Scope, receive: Receive, send: Send, call: str | None
    ) -> None:
        """Let messages through, if there are any, or will be."""
        if not _waits(scope, call):
            raise Refused(404, NOBODYS)
        began = False

        async def noted(message: Message) -> None:
            nonlocal began
            began = True
            await send(message)

        try:
            await self._app(scope, receive, noted)
        except RuntimeError as error:
            # Gradio finds out in the midst of its answer that they were forgotten meanwhile.
            if not began or not isinstance(error.__cause__, HTTPException):
                raise
            await send({"type": "http.response.body", "body": b""})

    async def _check_room(self, wanted: int) -> None:
        if self._room is not None and await run_in_threadpool(self._room, wanted) < wanted:
            raise Refused(507, NO_ROOM)

    async def _received(
        self, scope: Scope, receive: Receive, most: int
    ) -> AsyncGenerator[bytes, None]:
        """A body as it arrives, within ``most`` bytes, its time and its sender's allowance.

        Raises :class:`Refused`, and :class:`ClientLeft` where the body breaks off.
        """
        end = asyncio.get_running_loop().time() + BODY_SECONDS
        more = True
        while more:
            try:
                async with asyncio.timeout_at(end):
                    message = await receive()
            except TimeoutError:
                raise Refused(408, TOO_SLOW) from None
            if message["type"] == "http.disconnect":
                raise ClientLeft
            chunk = message.get("body", b"")
            most -= len(chunk)
            if most < 0:
                raise Refused(413, TOO_LARGE)
            self._take(scope, len(chunk))
            yield chunk
            more = message.get("more_body", False)

    def _take_files(self, scope: Scope, files: int) -> None:
        self._take(scope, files * FILE_BYTES)

    def _take(self, scope: Scope, size: int) -> None:
        if not self._sent.take(scope["client"][0], size):
            raise Refused(429, TOO_MUCH_SENT)


class ClientLeft(Exception):  # noqa: N818 - no error of the page
    """Raised where a body breaks off: there is nobody to answer."""


class NobodyTakes(Exception):  # noqa: N818 - no error of the page
    """Raised where an answer is not taken: its request must not stay open for ever."""


def _impatient(send: Send) -> Send:
    """``send`` that waits for ``SEND_SECONDS`` at most. Raises :class:`NobodyTakes`."""

    async def timed(message: Message) -> None:
        try:
            async with asyncio.timeout(SEND_SECONDS):
                await send(message)
        except TimeoutError:
            raise NobodyTakes from None

    return timed


def _uncompressed(send: Send, above: int = -1) -> Send:
    """``send`` whose answer Gradio does not compress if it is known to have more bytes than
    ``above``: pictures and archives are so already, and a large text would keep everybody waiting.
    """

    async def told(message: Message) -> None:
        if message["type"] == "http.response.start" and _length(message) > above:
            message = {**message, "headers": [*message["headers"], _AS_IT_IS]}
        await send(message)

    return told


def _length(start: Message) -> int:
    """Bytes of the answer that begins so; 0 if it does not say."""
    return int(Headers(raw=start["headers"]).get("content-length", 0))


def _waits(scope: Scope, call: str | None) -> bool:
    """Whether messages wait, or will, for a program's ``call`` or else for the query's session.

    Gradio notices only in the midst of its answer, and then logs an error. Its script may listen
    again when a session's last message was just taken: the next ones come then.
    """
    queue = scope["app"].get_blocks()._queue
    if call is None:
        session = QueryParams(scope["query_string"]).get("session_hash")
        return session in queue.pending_messages_per_session
    return call in queue.event_ids_to_events or any(
        call in events for events in queue.pending_event_ids_session.values()
    )


def with_host(app: ASGIApp) -> ASGIApp:
    """``app``, for which a request has a host even where HTTP/1.0 needs none.

    Gradio's own middleware, in front of the guard, fails without one.
    """

    async def named(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and "host" not in Headers(scope=scope):
            host, port = scope.get("server") or ("localhost", None)
            own = f"{host}:{port}" if port else host
            scope["headers"] = [*scope["headers"], (b"host", own.encode())]
        await app(scope, receive, send)

    return named


class Parts:
    """Counts the files of an upload as it arrives.

    Gradio opens a file for each part and keeps in memory whatever is no file. Raises
    :class:`Refused`, as :meth:`count` does.
    """

    def __init__(self, content_type: str) -> None:
        kind, options = parse_options_header(content_type)
        self.files = 0
        """That began so far."""
        self._name = self._value = b""
        self._is_file = False
        boundary = options.get(b"boundary")
        if kind != b"multipart/form-data" or not boundary:
            raise Refused(400, NO_UPLOAD)
        calls = {
            "on_part_begin": self._begin,
            "on_header_field": self._field,
            "on_header_value": self._add_value,
            "on_header_end": self._end_header,
            "on_headers_finished": self._end_headers,
        }
        try:
            self._parser = MultipartParser(boundary, calls)  # type: ignore[arg-type]
        except FormParserError:  # of a boundary that is too long
            raise Refused(400, NO_UPLOAD) from None

    def count(self, chunk: bytes) -> None:
        """Look at the next bytes. Raises :class:`Refused`."""
        try:
            self._parser.write(chunk)
        except FormParserError:
            raise Refused(400, NO_UPLOAD) from None

    def _begin(self) -> None:
        self._name = self._value = b""
        self._is_file = False
        self.files += 1
        if self.files > MOST_FILES:
            raise Refused(413, TOO_MANY_FILES)

    def _field(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _add_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _end_header(self) -> None:
        if self._name.lower() == b"content-disposition":
            _, options = parse_options_header(self._value)
            self._is_file = b"filename" in options and options.get(b"name") == b"files"
        self._name = self._value = b""

    def _end_headers(self) -> None:
        if not self._is_file:
            raise Refused(400, NO_FILES)


async def _cancel(scope: Scope, receive: Receive, send: Send) -> None:
    """Ends an event at its next step.

    Gradio's own way ends it in the midst of a step. What that step holds, a place in a line for
    example, would never be given back.
    """
    try:
        event_id = json.loads((await receive())["body"])["event_id"]
        if not isinstance(event_id, str):
            raise TypeError("an event's name is text")
        queue = scope["app"].get_blocks()._queue
        event = queue.event_ids_to_events.get(event_id)
    except (ValueError, TypeError, LookupError, RecursionError):
        raise Refused(400, NO_EVENT) from None
    if event is not None:
        session = event.session_hash
        await queue.clean_events(event_id=event_id)
        waits = session in queue.pending_messages_per_session
        if waits and event_id in queue.pending_event_ids_session.get(session, ()):
            done = ProcessCompletedMessage(output={}, success=True, event_id=event_id)
            queue.pending_messages_per_session[session].put_nowait(done)
    await JSONResponse({"success": True})(scope, receive, send)


def _check_large(body: bytes) -> None:
    """Raises :class:`Refused` for JSON that is large and holds more than pictures as text.

    With one letter beyond ASCII, also an escaped one in a picture's text, Python would take four
    bytes for each.
    """
    if not body.isascii():
        raise Refused(413, NOT_ASCII)
    outside, at = len(body), 0
    while (start := body.find(b'"data:', at)) >= 0 and (end := body.find(b'"', start + 1)) >= 0:
        if end - start > MOST_TEXT_OF_PICTURE:
            raise Refused(413, TOO_LARGE)
        if body.find(b"\\", start, end) >= 0:
            raise Refused(413, TOO_COMPLICATED)
        outside -= end - start
        at = end + 1
    if outside > MAX_TEXT:
        raise Refused(413, TOO_COMPLICATED)


def _exists(path: str) -> bool:
    try:
        return Path(path).exists()
    except OSError:  # a name that no file can have
        return False


def _is_file(path: str) -> bool:
    """Whether an address is that of an upload or a result."""
    try:
        return path.startswith(SERVED_AT) and is_served(path.removeprefix(SERVED_AT))
    except (ValueError, OSError):  # no path at all
        return False
