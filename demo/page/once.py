"""What Gradio would make anew for every visitor although it is always the same: made once here."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qsl, urlencode

from fastapi.responses import JSONResponse
from gradio.blocks import Blocks
from gradio.state_holder import SessionState, StateHolder
from starlette._utils import get_route_path
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from demo.page.bounds import Allowance

ANSWERS: dict[str, tuple[str, ...]] = {
    "/": (),
    "/config": (),
    "/gradio_api/info": ("all_endpoints",),
    "/gradio_api/openapi.json": (),
}
"""Addresses whose answers depend on nothing but what :func:`_key` holds, and which flags they read
after the question mark. The page's own script reads others."""

MOST_ANSWERS = 16
"""Answers that are kept at most; each is the whole page, for one name of the server."""

ANSWERS_PER_ADDRESS = 32
"""Answers that are made for one address within a minute, for names that were not asked for yet."""

TOO_MANY_NAMES = (
    "Your address calls this server by one new name after the other: use one, or come back in a "
    "minute."
)

_TELL_ROOT = ("host", "x-forwarded-host", "x-forwarded-proto", "x-gradio-server")
"""Headers from which Gradio tells its own address, which is part of the answer."""

Key = tuple[str | None, ...]


class Answers:
    """ASGI middleware that keeps the page's own answers.

    One that is not kept yet is made while others wait, so that many who ask at once, or for names
    that nobody uses, take one thread at most. ``made_for`` counts those that each address has made.
    """

    def __init__(self, app: ASGIApp, made_for: Allowance) -> None:
        self._app, self._made_for = app, made_for
        self._kept: OrderedDict[Key, list[Message]] = OrderedDict()  # the last one was asked last
        self._making = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer from what is kept, or let the app answer, and keep that."""
        path = get_route_path(scope).rstrip("/") or "/" if scope["type"] == "http" else ""
        if path not in ANSWERS:
            await self._app(scope, receive, send)
            return
        asked = dict(scope, method="GET")  # of the answer to HEAD, the server sends no body
        given = dict(parse_qsl(scope["query_string"].decode("latin-1")))
        asked["query_string"] = urlencode({f: "true" for f in ANSWERS[path] if f in given}).encode()
        key = _key(asked)
        answer = self._kept.get(key)
        if answer is None:
            async with self._making:
                answer = self._kept.get(key)
                if answer is None and not self._made_for.take((scope["client"] or ("",))[0]):
                    refusal = JSONResponse({"detail": TOO_MANY_NAMES}, 429)
                    await refusal(scope, receive, send)
                    return
                answer = answer or await self._made(key, asked, receive)
        if key in self._kept:
            self._kept.move_to_end(key)
        start, *body = answer
        await send({**start, "headers": list(start["headers"])})  # what compresses changes them
        for message in body:
            await send(dict(message))

    async def _made(self, key: Key, scope: Scope, receive: Receive) -> list[Message]:
        answer: list[Message] = []
        # Gradio keeps one description of the API, with the name by which it was first asked for it.
        scope["app"].api_info = None

        async def take(message: Message) -> None:
            answer.append(message)

        await self._app(scope, receive, take)
        if answer[0]["status"] == 200:
            self._kept[key] = answer
            if len(self._kept) > MOST_ANSWERS:
                self._kept.popitem(last=False)
        return answer


def _key(scope: Scope) -> Key:
    """All that an answer depends on."""
    query, headers = scope["query_string"].decode("latin-1"), Headers(scope=scope)
    place = (scope.get("scheme"), scope.get("root_path"), scope["path"], query)
    return (*place, *map(headers.get, _TELL_ROOT))


class Sessions(StateHolder):
    """Gradio's sessions of visitors, without a description of every component in each.

    Gradio begins one for whatever name a request has; here only :meth:`open` does, and of another
    name nothing is kept.
    """

    def __getitem__(self, session_id: str) -> SessionState:
        if session_id not in self.session_data:
            return Undescribed(self.blocks)
        return super().__getitem__(session_id)

    def open(self, session_id: str) -> None:
        """Begin a session."""
        self.session_data[session_id] = Undescribed(self.blocks)
        self.update(session_id)


class Undescribed(SessionState):
    """A session that cannot be turned into a link, for which alone it would be described."""

    def __init__(self, blocks: Blocks) -> None:
        # Gradio describes those components that are among ``blocks``.
        none: Any = SimpleNamespace(default_config=blocks.default_config, blocks={})
        super().__init__(none)
        describe: Any = lambda *_: {}  # noqa: E731
        self.blocks_config.config_for_block = describe  # type: ignore[method-assign]
