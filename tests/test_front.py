"""The page's border, over HTTP: what visitors send comes in bounded, and nothing is undone."""

import dataclasses
import json
from types import SimpleNamespace

import gradio as gr
import httpx
import numpy as np
import pytest
from helpers import is_one_sentence
from serving import free_port

from demo.figures.parts import Place
from demo.laboratory import Sweep
from demo.page.front import Front, Shelf
from demo.runs.rematch import DenseMatch

KEEP = 60


@pytest.fixture(scope="module")
def page():
    """A small page, and the address it is served at."""

    def silent(value):
        yield from ()

    def counting(value):
        yield {words: "one"}
        yield {words: "two"}

    def widen(value):
        return gr.Slider(maximum=20)

    with Front(keep_seconds=KEEP, analytics_enabled=False) as page:
        slider, words, go = gr.Slider(1, 10, 3, step=1), gr.Textbox("as it was"), gr.Button()
        for callback, outputs in ((silent, [words, slider]), (counting, [words, slider])):
            go.click(callback, slider, outputs, api_name=callback.__name__)
        go.click(silent, slider, words, api_name="silent_alone")
        go.click(widen, slider, slider, api_name="widen")
        go.click(str, slider, words, api_name="told")
    _, url, _ = page.launch(prevent_thread_lock=True, quiet=True, server_port=free_port())
    yield page, url.rstrip("/")
    page.close()


def told(page, callback, value=3, session="visitor"):
    """The data of all that a browser is told of one event."""
    blocks, url = page
    index = next(i for i, fn in blocks.fns.items() if fn.api_name == callback)
    body = {"data": [value], "fn_index": index, "session_hash": session}
    httpx.post(f"{url}/gradio_api/queue/join", json=body).raise_for_status()
    found = []
    address = f"{url}/gradio_api/queue/data?session_hash={session}"
    with httpx.stream("GET", address, timeout=30) as stream:
        for line in stream.iter_lines():
            message = json.loads(line.removeprefix("data:")) if line else {"msg": ""}
            if message["msg"] in ("process_generating", "process_completed"):
                assert message["success"], message
                found.append(message["output"]["data"])
            if message["msg"] == "process_completed":
                return found
    raise AssertionError("no answer")


@pytest.mark.parametrize(("callback", "outputs"), [("silent", 2), ("silent_alone", 1)])
def test_a_generator_without_a_result_leaves_everything_as_it_is(page, callback, outputs):
    assert told(page, callback) == [[gr.skip()] * outputs]


def test_the_end_of_a_generator_brings_nothing_back(page):
    first, second, *_, end = told(page, "counting")
    assert first == ["one", gr.skip()]
    assert second == [[["replace", [], "two"]], []]
    assert end == [gr.skip()] * 2


@pytest.mark.parametrize(("sent", "taken"), [(None, 1), (0, 1), (7, 7), (99, 10), (-5, 1)])
def test_half_typed_numbers_are_moved_into_range(page, sent, taken):
    assert told(page, "told", sent) == [[str(taken)]]


def test_the_range_is_the_sessions_own(page):
    told(page, "widen", session="wide")
    assert told(page, "told", 15, "wide") == [["15"]]
    assert told(page, "told", 15, "narrow") == [["10"]]


def test_calls_of_programs_take_no_visitors_place(page):
    blocks, url = page
    told(page, "told")
    before = set(blocks.state_holder.session_data)
    assert "visitor" in before
    for value in (3, "nonsense"):
        posted = httpx.post(f"{url}/gradio_api/call/told", json={"data": [value]})
        answer = httpx.get(f"{url}/gradio_api/call/told/{posted.json()['event_id']}")
        assert "event: " in answer.text
    assert set(blocks.state_holder.session_data) == before
    assert set(blocks.state_holder.time_last_used) <= before


def test_what_a_closed_page_held_is_kept_no_longer_than_stated(page):
    told(page, "told")
    assert page[0].state_holder.session_data["visitor"].STATE_TTL_WHEN_CLOSED == KEEP


def test_sessions_share_a_bounded_shelf(x):
    size = x.kept_bytes()
    shelf = Shelf(most_bytes=2 * size + 1)
    kept = [shelf.put(dataclasses.replace(x)) for _ in range(2)]
    assert shelf.get(kept[0]) is not None  # used last
    third = shelf.put(x)
    assert shelf.get(kept[1]) is None
    assert shelf.get(kept[0]) is not None and shelf.get(third) is x
    assert shelf.bytes() == 2 * size
    del kept, third
    assert shelf.bytes() == 0


def test_an_example_counts_once_however_many_look_at_it(x):
    size = x.kept_bytes()
    shelf = Shelf(most_bytes=2 * size + 1)
    own = shelf.put(dataclasses.replace(x))
    looking = [shelf.put(x) for _ in range(9)]
    assert shelf.bytes() == 2 * size
    assert shelf.get(own) is not None and all(shelf.get(kept) is x for kept in looking)


def test_all_that_is_large_is_on_the_shelf_and_missed_only_where_needed(x):
    page = Front(starts=("begin",))
    page.shelf = Shelf(most_bytes=1)
    sweep = Sweep(
        "gain", True, Place(0, 0, 8, 8), {"bicubic": np.zeros((8, 8, 3), np.uint8)}, "", None
    )
    dense = DenseMatch(x.matches, np.zeros((2, 8, 8), np.int64), 1, 1, 1.0)
    for large in (sweep, dense, x):
        kept = page._shelved(large)
        assert page._taken(kept, "choose") is large and kept.bytes >= large.kept_bytes() > 100
        other = page._shelved(dataclasses.replace(x))
        if large is dense:  # it is made anew
            assert page._taken(kept, "choose") is None
        else:
            with pytest.raises(gr.Error) as raised:
                page._taken(kept, "choose")
            assert is_one_sentence(raised.value.message)
            assert ("sweep" in raised.value.message) == (large is sweep)
        assert page._taken(kept, "begin") is None and page._taken(other, "choose") is not None
    assert page._shelved("small") == "small"


def test_what_follows_an_update_does_not_take_it_back():
    """Its value may not have been shown yet when the next message comes."""
    page = Front()
    block_fn = SimpleNamespace(outputs=[None, None])

    def sent(data, final=False):
        return page.handle_streaming_diffs(block_fn, data, "session", "run", final)

    update = {"__type__": "update", "value": {"path": "figure.png"}}
    assert sent([update, "words"]) == [update, "words"]
    assert sent([gr.skip(), "words"]) == [[["replace", [], gr.skip()]], []]
    assert sent([gr.skip(), "more words"]) == [[], [["replace", [], "more words"]]]
    # Nor does its end bring back what another may have replaced since.
    assert sent([None, None], final=True) == [gr.skip(), gr.skip()]
