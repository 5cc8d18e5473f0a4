"""What is the same for every visitor is made once."""

import asyncio
import threading

import httpx
import pytest
from fastapi import FastAPI, Request
from fastapi.responses import PlainTextResponse
from gradio import utils
from gradio.blocks import BlocksConfig
from helpers import is_one_sentence
from test_shares import Small, new

from demo.page.bounds import Allowance
from demo.page.once import MOST_ANSWERS, Answers


class App:
    """A small app that notes what it is asked, behind the middleware."""

    def __init__(self, names=100):
        """``names``: how many each address may ask for."""
        self.app, self.asked, self.at_once, self.most = FastAPI(), [], 0, 0
        self.lock = threading.Lock()

        @self.app.get("/")
        @self.app.get("/config")
        @self.app.get("/config/")
        @self.app.get("/gradio_api/info")
        @self.app.get("/other")
        def page(request: Request):
            with self.lock:
                self.at_once += 1
                self.most = max(self.most, self.at_once)
                self.asked.append(str(request.url))
            threading.Event().wait(0.02)
            with self.lock:
                self.at_once -= 1
            status = 400 if "wrong" in request.url.netloc else 200
            return PlainTextResponse(str(request.url), status)

        self.app.add_middleware(Answers, made_for=Allowance(names, 60))

    def get(self, *paths, method="GET", host="page", address="10.0.0.1"):
        """Answers to requests that come at once."""

        async def all_at_once():
            transport = httpx.ASGITransport(app=self.app, client=(address, 0))
            async with httpx.AsyncClient(transport=transport, base_url=f"http://{host}") as client:
                return await asyncio.gather(*(client.request(method, path) for path in paths))

        return asyncio.run(all_at_once())


def test_an_answer_is_made_once():
    app = App()
    first, *others = app.get(*["/config"] * 5)
    assert first.status_code == 200 and first.text == "http://page/config"
    assert all(answer.content == first.content for answer in others)
    assert app.get("/config", method="HEAD")[0].headers == first.headers
    assert app.asked == ["http://page/config"]


def test_the_script_of_the_page_alone_reads_what_follows_its_address():
    app = App()
    assert {answer.text for answer in app.get("/", "/?view=api", "/?__theme=dark")} == {
        "http://page/"
    }
    assert len(app.asked) == 1
    assert app.get("/config?page=a")[0].text == "http://page/config"


def test_one_flag_of_the_api_is_read():
    app = App()
    plain, other, *flagged = app.get(
        *(
            f"/gradio_api/info?{query}"
            for query in ("", "a=b", "all_endpoints=1&a", "all_endpoints=2")
        )
    )
    assert plain.text == other.text == "http://page/gradio_api/info"
    assert {a.text for a in flagged} == {"http://page/gradio_api/info?all_endpoints=true"}
    assert len(app.asked) == 2


def test_many_new_names_of_one_address_are_refused():
    app = App(names=2)
    for name, status in (("one", 200), ("two", 200), ("three", 429), ("two", 200)):
        answer = app.get("/config", host=name)[0]
        assert answer.status_code == status
    assert app.asked == ["http://one/config", "http://two/config"]
    assert app.get("/config", host="three", address="10.0.0.2")[0].status_code == 200
    refused = app.get("/config", host="four")[0].json()
    assert is_one_sentence(refused["detail"])


def test_other_names_of_the_server_get_answers_of_their_own():
    """And cannot make the page keep more and more, or make many at once."""
    app = App()
    names = [f"name{number}" for number in range(2 * MOST_ANSWERS)]
    for name in names:
        assert app.get("/config", host=name)[0].text == f"http://{name}/config"
    assert len(app.asked) == len(names)
    app.get("/config", host=names[-1])
    assert len(app.asked) == len(names)
    app.get("/config", host=names[0])
    assert len(app.asked) == len(names) + 1
    assert app.most == 1


def test_one_answer_is_made_at_a_time():
    app = App()
    for paths in (("/", "/config", "/gradio_api/info", "/gradio_api/info?all_endpoints=true"),) * 2:
        app.get(*paths)
    assert len(app.asked) == 4 and app.most == 1


def test_what_may_differ_is_asked_each_time():
    app = App()
    for path, host in (("/other", "page"), ("/config", "wrong")):
        app.asked.clear()
        app.get(path, host=host)
        answer = app.get(path, host=host)[0]
        assert len(app.asked) == 2 and answer.status_code == (400 if host == "wrong" else 200)


@pytest.fixture(scope="module")
def small():
    page = Small()
    yield page
    page.close()


@pytest.mark.parametrize("path", ["/", "/config", "/gradio_api/info"])
def test_the_pages_own_answers_are_made_once(small, path, monkeypatch):
    first = small.http.get(path)

    def again(*args):
        raise AssertionError("made again")

    monkeypatch.setattr(utils, "safe_deepcopy", again)  # Gradio's first step
    second = small.http.get(path)
    assert second.status_code == 200 and second.content == first.content
    assert second.headers["content-type"] == first.headers["content-type"]


def test_an_answer_is_kept_as_it_is_before_it_is_compressed(small):
    path, sizes = "/gradio_api/openapi.json", set()
    for accepted in ("gzip", "identity", "gzip", "identity"):
        answer = small.http.get(path, headers={"Accept-Encoding": accepted})
        sizes.add(len(answer.content))
        assert answer.headers.get("content-encoding", "identity") == accepted
        assert answer.json()["openapi"]
    assert len(sizes) == 1


def test_a_path_may_end_with_a_stroke():
    app = App()
    app.get("/config/")
    app.get("/config/")
    assert app.asked == ["http://page/config/"]


def test_the_api_is_described_for_the_name_it_is_asked_by(small):
    """Also for the second name: Gradio keeps what it made for the first."""
    for name in ("evil.example", "good.example"):
        told = small.http.get("/gradio_api/info", headers={"Host": name}).text
        assert f"http://{name}" in told
        assert told.count("http://") == told.count(f"http://{name}")


def test_each_name_of_the_server_is_told_its_own(small):
    roots = {
        small.http.get("/config", headers={"Host": name}).json()["root"]
        for name in ("one.example", "two.example")
    }
    assert roots == {"http://one.example", "http://two.example"}


def test_a_new_session_describes_no_component(small, monkeypatch):
    def describe(*args):
        raise AssertionError("a component was described")

    monkeypatch.setattr(BlocksConfig, "config_for_block", staticmethod(describe))
    for name, value in (("told", 3), ("steps", 3), ("kept", [])):
        session = new()
        assert small.join("10.0.0.9", name, session=session, value=value).status_code == 200
        assert '"success":true' in small.listen(session)
