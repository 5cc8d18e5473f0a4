"""Anything, sent to the page: each answer has a right status, and nothing fails behind it."""

import json
from datetime import timedelta

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from serving import served

from demo.runs.showcase import Showcase

API = "/gradio_api"
RIGHT = {200, 204, 206, 307, 400, 403, 404, 405, 408, 413, 414, 422, 429, 503}
FUZZ = settings(
    max_examples=80,
    deadline=timedelta(seconds=20),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture(scope="module")
def server():
    with served(Showcase([])) as url, httpx.Client(base_url=url, timeout=30) as http:
        yield http


@pytest.fixture(autouse=True)
def nothing_fails(capfd, caplog):
    yield
    out, err = capfd.readouterr()
    for said in (out, err, caplog.text):
        assert "Traceback" not in said and "Exception" not in said, said


callers = st.integers(0, 2**24 - 1).map(lambda n: f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}")
"""Each from another address: what one may have is tested elsewhere."""


def assert_right(answer):
    assert answer.status_code in RIGHT, (answer.status_code, answer.text[:300])
    if answer.status_code >= 400:
        kind = answer.headers["content-type"].partition(";")[0]
        assert kind in ("application/json", "text/plain"), answer.text[:300]
        if kind == "application/json":
            assert "detail" in answer.json() or "error" in answer.json(), answer.text[:300]


WORDS = """
    .. %2e%2e gradio_api file= file=/etc/passwd file=http: upload call queue join data proxy= stream
    run super_resolve v2 heartbeat config static assets mcp component_server %00 %ff info theme.css
"""
words = st.sampled_from(["", *WORDS.split()])
paths = st.lists(words | st.text(max_size=8).map(lambda s: httpx.QueryParams({"": s})), max_size=5)


@FUZZ
@given(
    method=st.sampled_from(["GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH"]),
    parts=paths,
    query=st.sampled_from(["", "?session_hash=x", "?deep_link=x", "?page=x", "?upload_id="]),
    body=st.binary(max_size=200),
    address=callers,
)
def test_any_path(server, method, parts, query, body, address):
    path = "/" + "/".join(str(part).lstrip("=") for part in parts)
    if path.rstrip("/") == f"{API}/heartbeat/x":
        return  # it never ends
    url = server.base_url.copy_with(raw_path=(path + query).encode())
    request = httpx.Request(method, url, content=body, headers={"X-Forwarded-For": address})
    answer = server.send(request, stream=True)
    try:
        if "event-stream" not in answer.headers.get("content-type", ""):
            answer.read()
            assert_right(answer) if method != "HEAD" else None
    finally:
        answer.close()


odd = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
files = st.fixed_dictionaries(
    {},
    optional={
        "path": odd | st.sampled_from(["/etc/passwd", "data:image/png;base64,AAAA", "http://a/b"]),
        "url": odd | st.sampled_from(["data:image/gif;base64,R0lGODlh", "data:,", "file:///etc"]),
        "meta": odd | st.just({"_type": "gradio.FileData"}),
        "orig_name": odd,
        "size": odd,
        "is_stream": odd,
    },
)
values = st.recursive(
    odd | files,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=12,
)
FIELDS = (
    "photo",
    "references",
    "is_hr",
    "shift",
    "gain",
    "weights",
    "change",
    "points",
    "networks",
)


@FUZZ
@given(
    name=st.sampled_from(["super_resolve", "explain", "robustness", "none"]),
    fields=st.dictionaries(st.sampled_from(FIELDS), values),
    address=callers,
)
def test_any_fields(server, name, fields, address):
    headers = {"X-Forwarded-For": address, "Content-Type": "application/json"}
    body = json.dumps(fields)
    answer = server.post(f"{API}/call/v2/{name}", content=body, headers=headers)
    assert_right(answer)
    if answer.status_code == 200:
        told = server.get(f"{API}/call/{name}/{answer.json()['event_id']}", headers=headers)
        assert "event: error" in told.text and '"error": "' in told.text, told.text


bodies = st.one_of(
    st.binary(max_size=300),
    st.text(alphabet='{}[]",:0a', max_size=300).map(str.encode),
    st.integers(1, 3000).map(lambda n: b"[" * n),
    values.map(lambda value: json.dumps(value).encode()),
    st.fixed_dictionaries(
        {"data": st.lists(values, max_size=6)},
        optional={
            "fn_index": odd | st.integers(0, 60),
            "session_hash": odd,
            "event_data": values,
            "event_id": odd,
            "trigger_id": odd,
        },
    ).map(lambda value: json.dumps(value).encode()),
)


@FUZZ
@given(
    path=st.sampled_from(
        ["queue/join", "call/super_resolve", "call/v2/explain", "cancel", "reset", "upload"]
    ),
    kind=st.sampled_from(
        ["application/json", "multipart/form-data; boundary=0", "multipart/form-data", "a", ""]
    ),
    body=bodies,
    address=callers,
)
def test_any_body(server, path, kind, body, address):
    headers = {"X-Forwarded-For": address, "Content-Type": kind}
    assert_right(server.post(f"{API}/{path}", content=body, headers=headers))
