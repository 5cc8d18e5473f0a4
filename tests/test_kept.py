"""What visitors' pages show stays for as long as they are used, however old it is."""

import asyncio
import os
import time
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace

import gradio as gr
import pytest
from gradio.state_holder import SessionState

from demo.page.front import Front
from demo.page.kept import Pages
from demo.page.sent import MOST_TEXTS
from demo.page.upkeep import Upkeep
from demo.runs import served

KEEP = 100
"""Seconds."""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    return tmp_path


class Page:
    """A page whose handler shows a file and then reports progress for as long as it is asked."""

    def __init__(self):
        def handler(photo):
            yield {self.shown: served.serve(b"result", "result.txt"), self.state: "the run"}
            while True:
                yield {self.bar: "still under way"}

        with Front(keep_seconds=KEEP, analytics_enabled=False) as self.blocks:
            self.photo, self.shown, self.bar = gr.File(), gr.File(), gr.HTML()
            self.state, go = gr.State(time_to_live=KEEP), gr.Button()
            go.click(handler, self.photo, [self.shown, self.bar, self.state])
        self.now = 0.0
        self.blocks._pages = Pages(KEEP, lambda: self.now)
        self.session = SessionState(self.blocks)
        self.iterator = None

    def step(self, photo):
        """What the browser is told next."""
        (fn,) = self.blocks.fns.values()
        data = [{"path": photo, "meta": {"_type": "gradio.FileData"}}]
        options = {"state": self.session, "session_hash": "visitor", "iterator": self.iterator}
        told = asyncio.run(self.blocks.process_api(fn, data, in_event_listener=True, **options))
        self.iterator = told["iterator"]
        return told["data"]


def delete_old_in(seconds):
    """Sweep as if it were so much later."""
    served.delete_old(KEEP, clock=lambda: time.time() + seconds)


def test_a_run_that_takes_longer_than_files_are_kept_keeps_its_own(folder):
    """On a busy page a visitor may wait for each step of a run as long as that."""
    page, photo = Page(), served.serve(b"photo", "photo.png")
    shown = page.step(photo)[0]["path"]
    of_nobody = served.serve(b"of nobody", "other.png")
    for _ in range(3):
        for path in filter(os.path.exists, (photo, shown, of_nobody)):
            os.utime(path, (time.time() - 0.6 * KEEP,) * 2)
        page.now += 0.6 * KEEP
        page.step(photo)
        delete_old_in(0.6 * KEEP)
        assert os.path.exists(photo) and os.path.exists(shown)
        assert not os.path.exists(of_nobody)
    delete_old_in(1.1 * KEEP)
    assert not served.files()


def test_a_run_in_memory_ages_from_when_it_was_used(folder):
    page, photo = Page(), served.serve(b"photo", "photo.png")
    page.step(photo)
    ((_, made),) = page.session._state_ttl.values()
    page.now += 1
    page.step(photo)
    assert page.session._state_ttl[page.state._id][1] == made  # it has just been noted
    page.now += KEEP / 2
    page.step(photo)
    assert page.session._state_ttl[page.state._id][1] > made
    assert page.session[page.state._id] == "the run"


def file(path):
    return {"path": path, "meta": {"_type": "gradio.FileData"}}


class Session:
    """Of a visitor, as Gradio has it."""


def shown_after(*values):
    """Files that a page shows after its one component had these values."""
    pages, session, block = Pages(KEEP), Session(), SimpleNamespace(_id=1)
    for value in values:
        pages.show(session, [block], [value])
    return pages._shown[session][1]


def test_what_a_component_shows():
    assert shown_after(file("a")) == ["a"]
    assert shown_after([file("a"), file("b")]) == ["a", "b"]
    assert shown_after([{"image": file("a"), "caption": None}]) == ["a"]
    assert shown_after(file("a"), {"__type__": "update", "value": file("b")}) == ["b"]
    assert shown_after(file("a"), {"__type__": "update", "visible": True}) == ["a"]
    assert shown_after(file("a"), gr.skip()) == ["a"]
    assert shown_after(file("a"), None) == []
    assert shown_after(file("a"), [file("b")] * (MOST_TEXTS + 1)) == ["a"]


def test_a_file_that_was_deleted_meanwhile_is_no_error(folder):
    page, photo = Page(), served.serve(b"photo", "photo.png")
    shown = page.step(photo)[0]["path"]
    Path(shown).unlink()
    page.now += KEEP
    assert page.step(photo)


def app_with(sessions, answers):
    """As much of Gradio's app as upkeep tidies; of sessions the name, whether closed, and when."""
    queue = SimpleNamespace(
        pending_event_ids_session={name: {name} for name in answers},
        pending_messages_per_session=dict.fromkeys(answers),
        event_ids_to_events={},
    )
    blocks = SimpleNamespace(temp_file_sets=[], _queue=queue)
    holder = SimpleNamespace(
        session_data={
            name: SimpleNamespace(is_closed=closed) for name, closed, _ in sessions or ()
        },
        time_last_used={name: datetime.fromtimestamp(at) for name, _, at in sessions},
    )
    return SimpleNamespace(get_blocks=lambda: blocks, iterators_to_reset=set(), state_holder=holder)


def test_messages_of_what_still_runs_are_kept():
    """Even if its event was cancelled, and nobody waits for the end."""
    app = app_with([], ["running", "ended"])
    queue = app.get_blocks()._queue
    for events in queue.pending_event_ids_session.values():
        events.clear()
    queue.event_ids_to_events["event"] = SimpleNamespace(session_hash="running")
    Upkeep(app, KEEP).tidy()
    assert set(queue.pending_messages_per_session) == {"running"}


def test_closed_pages_and_answers_nobody_came_for_are_forgotten_in_time():
    start = now = 1_000_000.0
    sessions = [("closed", True, start), ("later", True, start + 50), ("open", False, start)]
    app = app_with(sessions, ["nobody"])
    upkeep = Upkeep(app, KEEP, lambda: now)
    holder, queue = app.state_holder, app.get_blocks()._queue
    for seconds, left, answers in (
        (0, {"closed", "later", "open"}, {"nobody"}),
        (KEEP - 1, {"closed", "later", "open"}, {"nobody"}),
        (KEEP + 1, {"later", "open"}, set()),
        (KEEP + 51, {"open"}, set()),
    ):
        now = start + seconds
        upkeep.tidy()
        assert set(holder.session_data) == set(holder.time_last_used) == left
        assert set(queue.pending_messages_per_session) == answers
