"""The guard in front of Gradio: what passes, what is refused and how, and that nothing piles up."""

import asyncio
import base64
import errno
import json
import os
import socket
import sys
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest
from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import PlainTextResponse
from gradio.utils import get_upload_folder
from helpers import is_one_sentence, picture
from PIL import Image
from serving import served, wait_for
from starlette.formparsers import MultiPartException

from demo.page import guard
from demo.page.bounds import Allowance, address_of
from demo.page.form import LR_MODE
from demo.page.front import NOT_FITTING, Front
from demo.page.guard import (
    MAX_REQUEST,
    MAX_SMALL,
    MOST_FILES,
    MOST_OPENED,
    MOST_VALUES,
    TAKE_FILES,
    Guard,
)
from demo.page.sent import MOST_TEXTS, checked
from demo.runs.served import FULL, Quota, is_served
from demo.runs.showcase import Showcase
from demo.settings import BYTES_PER_ADDRESS, KEEP_SECONDS, LIMITS, REQUESTS_PER_ADDRESS
from masa.pictures.write import encode

PHOTO = encode(".png", picture(16, 24, 1))
API = "/gradio_api"


@pytest.fixture(scope="module")
def served_page(tmp_path_factory):
    """A page whose files nobody else counts, or deletes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(tmp_path_factory.mktemp("files")))
        with served(Showcase([])) as url:
            yield url


@pytest.fixture
def http(served_page):
    with httpx.Client(base_url=served_page, timeout=60) as client:
        yield client


def assert_refused(answer, status):
    assert answer.status_code == status, answer.text[:200]
    assert is_one_sentence(answer.json()["detail"]), answer.text


def assert_upload_refused(answer, status):
    """Gradio's script shows a visitor the whole body, so it is the sentence alone."""
    assert answer.status_code == status, answer.text[:200]
    assert is_one_sentence(answer.text) and "{" not in answer.text, answer.text


# ------------------------------------------------------------------------------- addresses

UNUSED = [
    ("GET", "/gradio_api/file=https://example.com/"),
    ("GET", "/gradio_api/file=http:/example.com/"),
    ("GET", "/gradio_api/file%3Dhttps%3A%2F%2Fexample.com"),
    ("GET", "/gradio_api/%66ile=https://example.com/"),
    ("GET", "//gradio_api/file=https://example.com/"),
    ("GET", "/gradio_api//file=https://example.com/"),
    ("GET", "/gradio_api/./file=https://example.com/"),
    ("GET", "/static/../gradio_api/file=https://example.com/"),
    ("GET", "/static/../theme.css"),
    ("HEAD", "/gradio_api/file=https://example.com/"),
    ("GET", "/gradio_api/file/https://example.com/"),
    ("GET", "/gradio_api/file=/etc/passwd"),
    ("GET", "/gradio_api/file=%00"),
    ("GET", "/gradio_api/file=" + "a/" * 600),
    ("GET", "/gradio_api/proxy=https://example.hf.space/"),
    ("POST", "/gradio_api/process_recording"),
    ("POST", "/gradio_api/component_server"),
    ("POST", "/gradio_api/component_server/"),
    ("GET", "/gradio_api/deep_link"),
    ("POST", "/gradio_api/stream/abc"),
    ("POST", "/gradio_api/stream/abc/close"),
    ("GET", "/gradio_api/stream/a/b/1/playlist.m3u8"),
    ("POST", "/gradio_api/vibe-edit"),
    ("GET", "/gradio_api/vibe-code"),
    ("POST", "/gradio_api/vibe-code/"),
    ("POST", "/gradio_api/undo-vibe-edit"),
    ("POST", "/gradio_api/vibe-starter-queries"),
    ("POST", "/gradio_api/run/super_resolve"),
    ("POST", "/gradio_api/api/super_resolve"),
    ("GET", "/gradio_api/custom_component/a/b/c/d.js"),
    ("GET", "/gradio_api/mcp/"),
    ("POST", "/gradio_api/mcp/"),
    ("GET", "/gradio_api/runs"),
    ("GET", "/gradio_api/dev/reload"),
    ("GET", "/gradio_api/token"),
    ("POST", "/login"),
    ("GET", "/monitoring"),
    ("GET", "/monitoring/summary"),
    ("GET", "/docs"),
    ("PUT", "/gradio_api/upload"),
    ("DELETE", "/"),
]


@pytest.mark.parametrize(("method", "path"), UNUSED)
def test_what_the_page_does_not_use_answers_404(http, method, path):
    # httpx would tidy up the address; a target is sent as it is.
    answer = http.request(method, "/", extensions={"target": path.encode()})
    assert answer.status_code == 404, answer.text[:200]
    if method != "HEAD":
        assert answer.json() == {"detail": guard.UNKNOWN}


USED = [
    "/",
    "/?view=api&__theme=dark",
    "/config",
    "/theme.css",
    "/favicon.ico",
    "/robots.txt",
    "/static/fonts/IBMPlexSans/IBMPlexSans-Regular.woff2",
    "/gradio_api/info",
    "/gradio_api/info?all_endpoints=True",
    "/gradio_api/openapi.json",
    "/gradio_api/startup-events",
    "/gradio_api/queue/status",
]


@pytest.mark.parametrize("path", USED)
def test_what_the_page_uses_passes(http, path):
    assert http.get(path).status_code == 200


def test_a_hosts_files_are_served_and_no_others(http, tmp_path):
    path = upload(http)["path"]
    assert http.get(f"{API}/file={path}").content == PHOTO
    assert http.get(f"{API}/file={Path(path).parent}").status_code in (403, 404)
    (tmp_path / "other.png").write_bytes(PHOTO)
    assert_refused(http.get(f"{API}/file={tmp_path / 'other.png'}"), 404)
    link = Path(get_upload_folder()) / f"link-{os.getpid()}"
    link.symlink_to(tmp_path / "other.png")
    try:
        assert_refused(http.get(f"{API}/file={link}"), 404)
    finally:
        link.unlink()


def test_files_are_sent_as_they_are(http):
    """To compress a large one would keep everybody waiting."""
    text = b"some text " * 10_000
    (path,) = http.post(f"{API}/upload", files={"files": ("a.txt", text)}).json()
    answer = http.get(f"{API}/file={path}", headers={"Accept-Encoding": "gzip, br"})
    assert answer.content == text and answer.headers["content-length"] == str(len(text))


def test_a_file_that_was_deleted_is_called_that(http):
    """Gradio would say that it is not allowed."""
    path = upload(http)["path"]
    assert http.get(f"{API}/file={path}").status_code == 200
    Path(path).unlink()
    answer = http.get(f"{API}/file={path}")
    assert_refused(answer, 404)
    assert answer.json()["detail"] == guard.DELETED


def test_a_name_that_no_file_can_have_is_of_a_file_that_was_deleted(http):
    answer = http.get(f"{API}/file={get_upload_folder()}/{'a' * 300}")
    assert_refused(answer, 404)
    assert answer.json()["detail"] == guard.DELETED


def test_a_long_path_is_not_looked_at(monkeypatch):
    """To look at each of its parts would take hours."""
    monkeypatch.delattr(Path, "resolve")
    assert not is_served("a/" * 5_000_000)


@pytest.mark.parametrize("name", ["a:b", "a b", "a:123456", "[::1", "a,b:c"])
def test_an_odd_name_of_the_server_is_refused(http, name):
    assert_refused(http.get("/config", headers={"X-Forwarded-Host": name}), 400)


@pytest.mark.parametrize(
    "name", ["masa.example.org", "a.hf.space:443", "[2001:db8::1]:7860", "a, b.c:80"]
)
def test_usual_names_of_the_server_pass(http, name):
    assert http.get("/config", headers={"X-Forwarded-Host": name}).status_code == 200


def test_a_query_has_a_bound(http):
    assert_refused(http.get(f"{API}/upload_progress?upload_id={'a' * 3000}"), 414)


def test_behind_a_path_of_a_proxy():
    """Whether the proxy cuts its own path off or not."""
    with served(Showcase([]), root_path="/masa") as url, httpx.Client(base_url=url) as http:
        for before in ("", "/masa"):
            assert http.get(f"{before}/config").json()["root"].endswith("/masa")
            assert http.get(f"{before}{API}/info").status_code == 200
            path = upload(http, before)["path"]
            assert http.get(f"{before}{API}/file={path}").content == PHOTO
            assert_refused(http.get(f"{before}{API}/file=https://example.com/"), 404)
            assert_refused(http.post(f"{before}{API}/run/super_resolve", json={}), 404)
        assert_refused(http.get(f"/masa/masa{API}/info"), 404)


# ------------------------------------------------------------------------------- bodies


def test_a_body_that_opens_too_much_is_refused_before_it_is_parsed(http):
    for body in (b"{}" * 2**19, b"[" * 2**20, b'{"data":[' + b"0," * 2**19 + b"0]}"):
        for path in ("queue/join", "call/super_resolve", "call/v2/super_resolve"):
            answer = http.post(f"{API}/{path}", content=body)
            assert_refused(answer, 413)
            assert answer.json()["detail"] == guard.TOO_COMPLICATED


def test_text_outside_of_pictures_is_short():
    long = "a" * guard.MAX_TEXT
    bodies = {
        200: {"data": ["data:image/png;base64," + long, {"url": "data:" + long}]},
        413: {"data": ["data:image/png;base64,AAAA", long]},
    }
    with small() as (http, _):
        for status, body in bodies.items():
            answer = http.post(f"{API}/queue/join", json.dumps(body).encode())
            assert answer.status_code == status
        assert_refused(answer, 413)
        escaped = json.dumps({"data": ["data:" + "\u00e4" * (MOST_VALUES + 1)]}).encode()
        assert_refused(http.post(f"{API}/queue/join", escaped), 413)
        odd = b'{"data": ["data:' + b"a" * guard.MAX_TEXT  # it has no end
        assert_refused(http.post(f"{API}/queue/join", odd), 413)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32"])
def test_no_encoding_hides_what_a_body_opens(http, encoding):
    body = ("[" * (MOST_OPENED + 1)).encode(encoding)
    assert_refused(http.post(f"{API}/queue/join", content=body), 413)


def test_what_forms_open_passes_by_far():
    """A form with a photo and five references, as a browser sends it."""
    file = {"path": "x", "url": "x", "orig_name": "x", "meta": {"_type": "gradio.FileData"}}
    refs = [{"image": file, "caption": None}] * 5
    body = json.dumps({"data": [file, refs, *range(20)], "event_data": None, "fn_index": 1})
    assert body.count("{") + body.count("[") < MOST_OPENED / 10
    assert body.count(",") < MOST_VALUES / 50


def test_a_body_that_names_an_event_is_small(http):
    body = json.dumps({"event_id": "a" * MAX_SMALL, "session_hash": "b", "fn_index": 1})
    assert_refused(http.post(f"{API}/cancel", content=body), 413)


PICTURE = '{"data": ["data:%s"], "name": "%s"}'


@pytest.mark.parametrize(
    ("picture", "name", "status"),
    [
        ("A" * 2**19, "a", None),
        ("A" * 2**19, r"\ud83d\ude00", None),  # as Python's clients write it
        ("A" * 2**19, "😀", 413),
        ("A" * 2**19 + r"\ud83d\ude00", "a", 413),
        ("A" * guard.MOST_TEXT_OF_PICTURE, "a", 413),
        ("A", "a" * 2**19, 413),
    ],
)
def test_a_large_body_holds_pictures_and_little_else(http, picture, name, status):
    """Letters beyond ASCII would make four bytes of each of a picture's."""
    body = (PICTURE % (picture, name)).encode()
    answer = http.post(f"{API}/queue/join", content=body)
    if status is None:
        assert answer.json() == {"detail": NOT_FITTING}  # for Gradio has read the body
    else:
        assert_refused(answer, status)


def test_a_small_body_may_hold_any_letters(http):
    answer = http.post(f"{API}/queue/join", content=(PICTURE % ("A", "😀")).encode())
    assert answer.json() == {"detail": NOT_FITTING}


@pytest.mark.parametrize("host", ["999.1.1.1", "1.2.3.4.5:80"])
@pytest.mark.parametrize("header", ["Host", "X-Forwarded-Host", "X-Gradio-Server"])
def test_names_that_no_server_can_have(http, header, host, caplog):
    value = f"http://{host}" if header == "X-Gradio-Server" else host
    for path in ("/config", "/config/", "/gradio_api/info"):
        assert http.get(path, headers={header: value}).status_code in (200, 400)
    assert not [r for r in caplog.records if r.exc_info]


@pytest.mark.parametrize("began", [True, False])
def test_messages_that_are_forgotten_while_somebody_listens_end(began):
    sent = []

    async def app(scope, receive, send):
        if began:
            await send({"type": "http.response.start", "status": 200, "headers": []})
        raise RuntimeError("Caught handled exception, but response already started.") from (
            HTTPException(404)
        )

    async def send(message):
        sent.append(message["type"])

    queue = SimpleNamespace(pending_event_ids_session={}, pending_messages_per_session={"a": None})
    scope = {"type": "http", "method": "GET", "path": f"{API}/queue/data", "headers": []}
    scope |= {"query_string": b"session_hash=a", "client": ("10.0.0.1", 1), "app": FastAPI()}
    scope["app"].get_blocks = lambda: SimpleNamespace(_queue=queue, mcp_server=None)
    guarded = Guard(app, Allowance(1, 1))
    if began:
        asyncio.run(guarded(scope, None, send))
        assert sent == ["http.response.start", "http.response.body"]
    else:
        with pytest.raises(RuntimeError):
            asyncio.run(guarded(scope, None, send))


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"event_id": {}}', b"[" * 400])
def test_what_names_no_event_cannot_be_cancelled(http, body):
    assert_refused(http.post(f"{API}/cancel", content=body), 400)


def test_an_unknown_event_may_be_cancelled(http):
    body = {"event_id": "x", "session_hash": "y", "fn_index": 0}
    assert http.post(f"{API}/cancel", json=body).json() == {"success": True}


@pytest.mark.parametrize("length_known", [True, False])
@pytest.mark.parametrize("path", ["upload", "queue/join", "call/super_resolve"])
def test_the_bound_of_a_request(path, length_known, monkeypatch):
    """However its length is told: what counts is what arrives."""
    monkeypatch.setattr(guard, "MAX_REQUEST", 2**16)
    most, head, tail = 2**16, b"", b""
    if path == "upload":
        head = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\n'
        tail = b"\r\n--x--\r\n"
    with small() as (http, bodies):
        for size, status in ((most, 200), (most + 1, 413)):
            body = head + b"a" * (size - len(head) - len(tail)) + tail
            content = body if length_known else iter([body[:1000], body[1000:]])
            headers = {"Content-Type": "multipart/form-data; boundary=x"}
            answer = http.post(f"{API}/{path}", content=content, headers=headers)
            assert answer.status_code == status
        assert bodies == [most]
    assert MAX_REQUEST == 120 * 2**20


def small(most_sent=BYTES_PER_ADDRESS, **options):
    """A client of a small app behind a guard, and the sizes of the bodies that got through."""
    app, bodies = FastAPI(), []
    app.get_blocks = lambda: None

    @app.post("/{path:path}")
    async def take(request: Request):
        try:
            bodies.append(len(await request.body()))
        except MultiPartException as error:  # as Gradio's own route does
            return PlainTextResponse(str(error), 400)

    app.add_middleware(Guard, sent=Allowance(most_sent, KEEP_SECONDS), **options)

    class Small:
        def __enter__(self):
            self.loop = asyncio.new_event_loop()
            transport = httpx.ASGITransport(app=app, client=("192.0.2.1", 5))
            self.client = httpx.AsyncClient(transport=transport, base_url="http://page")
            return self, bodies

        def __exit__(self, *error):
            self.loop.run_until_complete(self.client.aclose())
            self.loop.close()

        def post(self, path, content=b"", **options):
            async def parts():
                for part in content:
                    yield part

            body = content if isinstance(content, bytes) else parts()
            return self.loop.run_until_complete(self.client.post(path, content=body, **options))

    return Small()


def form(count, name="files", field='; filename="a.png"'):
    part = f'--x\r\nContent-Disposition: form-data; name="{name}"{field}\r\n\r\ndata\r\n'
    return {
        "content": (part * count + "--x--\r\n").encode(),
        "headers": {"Content-Type": "multipart/form-data; boundary=x"},
    }


def left_behind():
    return sorted(Path(get_upload_folder()).glob("tmp*"))


UPLOADS = {
    "many files": (form(MOST_FILES + 1), 413),
    "a field that is no file": (form(1, field=""), 400),
    "a file of another name": (form(1, name="other"), 400),
    "no form": ({"content": b"data"}, 400),
    "no boundary": ({"content": b"x", "headers": {"Content-Type": "multipart/form-data"}}, 400),
    "a boundary that is too long": (
        {
            "content": b"x",
            "headers": {"Content-Type": "multipart/form-data; boundary=" + "x" * 300},
        },
        400,
    ),
    "another boundary": (form(1) | {"content": b"--y\r\n"}, 400),
    "a second name of a part": (
        form(1, field='; filename="a"\r\nContent-Disposition: form-data; name="files"'),
        400,
    ),
}


@pytest.mark.parametrize("name", UPLOADS)
def test_uploads_that_are_refused_leave_nothing(http, name):
    before = left_behind()
    request, status = UPLOADS[name]
    assert_upload_refused(http.post(f"{API}/upload", **request), status)
    assert left_behind() == before


def test_as_many_files_as_are_allowed(http):
    assert len(http.post(f"{API}/upload", **form(MOST_FILES)).json()) == MOST_FILES


def test_an_upload_that_breaks_off_leaves_nothing(http):
    before = left_behind()
    head = (
        f"POST {API}/upload HTTP/1.1\r\nHost: page\r\nContent-Length: 1000000\r\n"
        "Content-Type: multipart/form-data; boundary=x\r\n\r\n--x\r\n"
        'Content-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
    )
    with socket.create_connection((http.base_url.host, http.base_url.port)) as connection:
        connection.sendall(head.encode() + bytes(5000))
        wait_for(lambda: left_behind() != before, 20)
    wait_for(lambda: left_behind() == before, 20)


def test_a_body_has_its_time(monkeypatch):
    monkeypatch.setattr(guard, "BODY_SECONDS", 0.2)

    async def slowly():
        async def parts():
            for _ in range(100):
                yield b" "
                await asyncio.sleep(0.05)

        return await client.client.post(f"{API}/queue/join", content=parts())

    with small() as (client, bodies):
        assert_refused(client.loop.run_until_complete(slowly()), 408)
        assert not bodies


# ------------------------------------------------------------------------------- addresses' shares


def of(peer, **headers):
    raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    return {"type": "http", "client": (peer, 1), "headers": raw}


@pytest.mark.parametrize(
    ("header", "told", "address"),
    [
        (None, "9.9.9.9", "1.2.3.4"),
        ("X-Real", "9.9.9.9", "9.9.9.9"),
        ("X-Real", "8.8.8.8, 9.9.9.9", "9.9.9.9"),
        ("X-Real", "9.9.9.9:1234", "9.9.9.9"),
        ("X-Real", "::ffff:9.9.9.9", "9.9.9.9"),
        ("X-Real", "2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("X-Real", "[2001:db8:1:2::9]:443", "2001:db8:1:2::/64"),
        ("X-Real", "unknown", "1.2.3.4"),
        ("X-Real", "", "1.2.3.4"),
    ],
)
def test_who_asks(header, told, address):
    assert address_of(of("1.2.3.4", **{"X-Real": told}), header) == address


def test_an_allowance_is_given_back():
    now = [0.0]
    allowance = Allowance(10, 100, lambda: now[0])
    assert allowance.take("a", 10) and not allowance.take("a") and allowance.take("b", 10)
    now[0] = 9
    assert not allowance.take("a")
    now[0] = 11
    assert allowance.take("a") and not allowance.take("a")


def test_an_allowance_forgets_addresses_after_its_time():
    now = [0.0]
    allowance = Allowance(10, 100, lambda: now[0])
    for address, time in (("a", 0), ("b", 50), ("a", 60)):
        now[0] = time
        assert allowance.take(address)
    now[0] = 149.9
    allowance.take("c")
    assert set(allowance._taken) == {"a", "b", "c"}
    now[0] = 150
    allowance.take("c")
    assert set(allowance._taken) == {"a", "c"}
    now[0] = 250
    allowance.forget()
    assert not allowance._taken


def test_an_allowance_remembers_so_many(monkeypatch):
    monkeypatch.setattr("demo.page.bounds.MOST_ADDRESSES", 3)
    allowance = Allowance(1, 100)
    for name in range(100):
        assert allowance.take(str(name))
    assert len(allowance._taken) == 3 and not allowance.take("99")


def test_what_an_address_sends_is_bounded():
    with small(1000, proxy_header="X-Real") as (http, _):
        first, other = {"X-Real": "1.1.1.1"}, {"X-Real": "2.2.2.2"}
        assert http.post(f"{API}/queue/join", b" " * 900, headers=first).status_code == 200
        assert_refused(http.post(f"{API}/queue/join", b" " * 900, headers=first), 429)
        assert http.post(f"{API}/queue/join", b" " * 900, headers=other).status_code == 200


def test_each_file_counts_as_a_place_on_the_disk():
    for count, status in ((3, 200), (4, 429)):
        with small(3.5 * guard.FILE_BYTES) as (http, _):
            answer = http.post(f"{API}/upload", **form(count))
            assert answer.status_code == status
    assert_upload_refused(answer, 429)


@pytest.mark.parametrize(
    "path", ["queue/data?session_hash=nobody", "queue/data?session_hash=", "call/super_resolve/abc"]
)
def test_messages_that_nobody_waits_for_are_refused_before_an_answer_begins(http, path, caplog):
    answer = http.get(f"{API}/{path}")
    assert_refused(answer, 404)
    assert answer.json()["detail"] == guard.NOBODYS
    assert not [r for r in caplog.records if r.exc_info]


def test_a_large_script_is_sent_as_it_is(http, monkeypatch):
    """To compress it would keep everybody waiting."""
    path = "/theme.css"
    size = len(http.get(path, headers={"Accept-Encoding": "identity"}).content)
    found = []
    for most in (size, size - 1):
        monkeypatch.setattr(guard, "MOST_COMPRESSED", most)
        answer = http.get(path, headers={"Accept-Encoding": "gzip"})
        found.append(answer.headers.get("content-encoding"))
        assert len(answer.content) == size
    assert found == ["gzip", "identity"]


def test_a_host_is_not_needed_in_http_1_0(http, caplog):
    with socket.create_connection((http.base_url.host, http.base_url.port), 60) as connection:
        connection.sendall(b"GET /config HTTP/1.0\r\nOrigin: http://localhost\r\n\r\n")
        connection.settimeout(60)
        answer = connection.makefile("rb").read()
    assert answer.startswith(b"HTTP/1.1 200")
    assert f'"root":"{str(http.base_url).rstrip("/")}"'.encode() in answer
    assert not [r for r in caplog.records if r.exc_info]


def test_an_answer_that_nobody_takes_ends(monkeypatch):
    monkeypatch.setattr(guard, "SEND_SECONDS", 0.05)
    sent = []

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"never taken"})
        raise AssertionError("this is not reached")

    async def send(message):
        sent.append(message["type"])
        if len(sent) > 1:
            await asyncio.Event().wait()

    scope = {"type": "http", "method": "GET", "path": "/config", "query_string": b"", "headers": []}
    scope |= {"client": ("10.0.0.1", 1), "app": FastAPI()}
    scope["app"].get_blocks = lambda: None
    watched = Guard(app, Allowance(1, 1))
    asyncio.run(asyncio.wait_for(watched(scope, None, send), 10))
    assert len(sent) == 2 and not watched._open


def test_without_room_for_files_none_is_taken():
    for room, status in ((MAX_REQUEST, 200), (MAX_REQUEST - 1, 507)):
        with small(room=lambda wanted, room=room: room) as (http, bodies):
            answer = http.post(f"{API}/upload", **form(1))
            assert answer.status_code == status and bool(bodies) == (status == 200)
    assert_upload_refused(answer, 507)


def test_an_upload_ends_where_others_took_the_room(monkeypatch):
    monkeypatch.setattr(guard, "RECOUNT", 1000)
    left = [MAX_REQUEST, 1000, 999, MAX_REQUEST]
    head = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\n'
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    with small(room=lambda wanted: left.pop(0)) as (http, bodies):
        parts = iter([head, *[bytes(600)] * 4, b"\r\n--x--\r\n"])
        assert_upload_refused(http.post(f"{API}/upload", parts, headers=headers), 507)
    assert not bodies and len(left) == 1


def test_bodies_under_way_are_bounded_together(monkeypatch):
    monkeypatch.setattr(guard, "MOST_BUFFERED", 1000)
    monkeypatch.setattr(guard, "MAX_SMALL", 100)
    with small() as (http, _):
        assert_refused(http.post(f"{API}/queue/join", b" " * 1101), 503)
        assert http.post(f"{API}/queue/join", b" " * 1100).status_code == 200  # given back


def test_large_bodies_that_come_slowly_keep_no_small_one_out(monkeypatch):
    monkeypatch.setattr(guard, "MOST_BUFFERED", 1000)
    monkeypatch.setattr(guard, "MAX_SMALL", 100)

    async def meanwhile(small_one):
        come, go_on = asyncio.Event(), asyncio.Event()

        async def slowly():
            yield b" " * 1100
            come.set()
            await go_on.wait()

        slow = asyncio.ensure_future(http.client.post(f"{API}/queue/join", content=slowly()))
        await come.wait()
        answer = await http.client.post(f"{API}/queue/join", content=small_one)
        go_on.set()
        return answer, await slow

    with small() as (http, _):
        answer, slow = http.loop.run_until_complete(meanwhile(b" " * 100))
        assert answer.status_code == slow.status_code == 200
        answer, _ = http.loop.run_until_complete(meanwhile(b" " * 101))
        assert_refused(answer, 503)


def from_address(number):
    """As uvicorn believes it of a proxy on this machine."""
    return {"X-Forwarded-For": f"10.0.{number // 250}.{number % 250 + 1}"}


def test_open_requests_of_an_address_are_bounded(http):
    opened = []
    try:
        for _ in range(REQUESTS_PER_ADDRESS):
            opened.append(listening(http, 1))
        wait_for(lambda: http.get("/config", headers=from_address(1)).status_code == 429, 20)
        refused = http.get("/config", headers=from_address(1))
        assert_refused(refused, 429)
        assert http.get("/config", headers=from_address(2)).status_code == 200
    finally:
        for connection in opened:
            connection.close()
    wait_for(lambda: http.get("/config", headers=from_address(1)).status_code == 200, 30)


def listening(http, number):
    """A connection on which a page is told that the server is there."""
    connection = socket.create_connection((http.base_url.host, http.base_url.port))
    (name, value), *_ = from_address(number).items()
    head = f"GET {API}/heartbeat/listening HTTP/1.1\r\nHost: page\r\n{name}: {value}\r\n\r\n"
    connection.sendall(head.encode())
    assert connection.recv(12) == b"HTTP/1.1 200"
    return connection


def test_all_open_requests_are_bounded(http, monkeypatch):
    monkeypatch.setattr(guard, "REQUESTS", 2)
    with listening(http, 3), listening(http, 4):
        refused = http.get("/config", headers=from_address(5))
        assert_refused(refused, 503)
    wait_for(lambda: http.get("/config", headers=from_address(5)).status_code == 200, 30)


# ------------------------------------------------------------------------------- pictures

META = {"_type": "gradio.FileData"}
TEXT = "data:image/png;base64," + base64.b64encode(PHOTO).decode()

WAYS = {
    "an upload": lambda path, url: {"path": path, "meta": META},
    "an upload called svg": lambda path, url: {"path": path, "meta": META, "orig_name": "a.svg"},
    "an address": lambda path, url: {"url": url, "meta": META},
    "a path and an address": lambda path, url: {"path": None, "url": url, "meta": META},
    "text": lambda path, url: TEXT,
    "text as an address": lambda path, url: {"url": TEXT, "meta": META},
    "text beside a path": lambda path, url: {"path": path, "url": TEXT, "meta": META},
    "text as a path": lambda path, url: {"path": TEXT, "meta": META},
}


@pytest.mark.parametrize("way", WAYS)
def test_no_decoder_but_ours_sees_a_picture(http, monkeypatch, way):
    openers = []
    opened = Image.open

    def noted(*args, **options):
        openers.append(sys._getframe(1).f_globals["__name__"])
        return opened(*args, **options)

    monkeypatch.setattr(Image, "open", noted)
    path = upload(http)["path"]
    named = WAYS[way](path, f"{http.base_url}{API}/file={path}")
    body = {"photo": named, "references": [named]}
    posted = http.post(f"{API}/call/v2/super_resolve", json=body).raise_for_status().json()
    answer = http.get(f"{API}/call/super_resolve/{posted['event_id']}").text
    assert "event: complete" in answer, answer
    assert set(openers) == {"masa.pictures.read"}


@pytest.mark.parametrize("shift", ["off", "brighter"])
def test_too_many_references_on_the_page_are_refused_unopened(http, monkeypatch, shift):
    """As many entries of a gallery as a body may hold, all of them one upload."""

    def open_none(*args, **options):
        raise AssertionError("a picture was opened")

    monkeypatch.setattr(Image, "open", open_none)
    config = http.get("/config").json()
    components = {c["id"]: c["props"] for c in config["components"]}
    ids = {props["elem_id"]: i for i, props in components.items() if props.get("elem_id")}
    clicks = (d for d in config["dependencies"] if [ids["go"], "click"] in d["targets"])
    click = next(d for d in clicks if d["backend_fn"])
    file, count = upload(http), MOST_OPENED // 4
    gallery = [{"image": file, "caption": None}] * count
    given = {ids["photo"]: file, ids["refs"]: gallery, ids["mode"]: LR_MODE, ids["shift"]: shift}
    data = [given.get(i, components[i].get("value")) for i in click["inputs"]]
    body = {"data": data, "fn_index": click["id"], "session_hash": "many"}
    http.post(f"{API}/queue/join", json=body).raise_for_status()
    told = http.get(f"{API}/queue/data?session_hash=many").text
    assert f"{count} references are too many" in told, told


def test_a_reference_s_content_decides_not_its_name(http):
    """Phones and browsers give names without an ending, or with one of their own."""
    config = http.get("/config").json()
    components = {c["id"]: c["props"] for c in config["components"]}
    ids = {props["elem_id"]: i for i, props in components.items() if props.get("elem_id")}
    clicks = (d for d in config["dependencies"] if [ids["go"], "click"] in d["targets"])
    click = next(d for d in clicks if d["backend_fn"])
    file, odd = upload(http), upload(http, name="1000012345")
    assert odd["path"].endswith("1000012345")
    gallery = [{"image": odd, "caption": None}] * (LIMITS.max_references + 1)
    given = {ids["photo"]: file, ids["refs"]: gallery, ids["mode"]: LR_MODE}
    data = [given.get(i, components[i].get("value")) for i in click["inputs"]]
    body = {"data": data, "fn_index": click["id"], "session_hash": "odd"}
    http.post(f"{API}/queue/join", json=body).raise_for_status()
    told = http.get(f"{API}/queue/data?session_hash=odd").text
    assert "references are too many" in told, told  # so they were taken as what they are


def texts(count, size=100):
    """Different pictures as text."""
    return [f"data:image/png;base64,{number:04}{'A' * size}" for number in range(count)]


def kept():
    return {path for path in Path(get_upload_folder()).rglob("*") if path.is_file()}


def test_more_pictures_as_text_than_a_form_holds_are_not_even_written(http):
    before = kept()
    for fields in (
        {"references": texts(MOST_TEXTS + 1)},
        {"photo": texts(1)[0], "references": [{"url": text} for text in texts(MOST_TEXTS)]},
        {"references": [[texts(MOST_TEXTS)], {"a": texts(1)}]},
    ):
        answer = http.post(f"{API}/call/v2/super_resolve", json=fields)
        assert_refused(answer, 413)
        assert "7 pictures as text are too many" in answer.json()["detail"]
    assert kept() == before


def test_pictures_as_text_count_for_the_quota(http, monkeypatch):
    before, full = kept(), Quota(1000)
    monkeypatch.setattr("demo.runs.served._QUOTA", full)
    posted = http.post(f"{API}/call/v2/super_resolve", json={"references": texts(1, 4000)})
    assert_refused(posted, 507)
    assert posted.json()["detail"] == FULL and kept() == before


def test_a_full_disk_under_an_upload_is_a_sentence_and_logged_once(http, monkeypatch, caplog):
    def full(*args, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    before = kept()
    monkeypatch.setattr("demo.runs.served._logged", -1e9)
    monkeypatch.setattr("gradio.route_utils.NamedTemporaryFile", full)
    for _ in range(3):
        answer = http.post(f"{API}/upload", **form(1))
        assert_refused(answer, 507)
        assert answer.json()["detail"] == FULL
    assert len(caplog.records) == 1 and "is full" in caplog.text
    assert kept() == before


def test_a_long_name_of_a_value_is_refused():
    """It is no picture, even if it begins like one."""
    assert checked({"a" * 1000: 1}) == {"a" * 1000: 1}
    with pytest.raises(ValueError, match="no value"):
        checked([{"data:" + "a" * 1000: 1}])


def test_pictures_as_text_do_not_wait_in_memory():
    """They are files before they wait: of the request only their paths are left."""

    class Body:
        data, session_hash, fn_index = [TEXT, [TEXT] * 4, 1], None, None
        event_data, oauth_token = {"index": TEXT}, "a" * 10**6

    charged = []
    scope = {"type": "http", "client": ("10.9.9.9", 0), TAKE_FILES: charged.append}
    asyncio.run(Front(analytics_enabled=False)._admit(Body, Request(scope)))
    assert charged == [6]
    photo, references, number = Body.data
    written = (photo, *references, Body.event_data["index"])
    assert {Path(path).read_bytes() for path in written} == {PHOTO}
    assert number == 1 and Body.oauth_token is None


def upload(http, before="", name="photo.png"):
    answer = http.post(f"{before}{API}/upload", files={"files": (name, PHOTO)})
    return {"path": answer.json()[0], "meta": {"_type": "gradio.FileData"}}
