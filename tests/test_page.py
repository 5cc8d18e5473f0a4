"""What the page makes of several wishes at once, called without a browser."""

import base64
import contextlib
import io
import os
import re
from dataclasses import replace
from pathlib import Path

import gradio as gr
import pytest
from helpers import is_one_sentence
from PIL import Image

from demo.figures.tabs import FIGURES, TABS
from demo.figures.view import View
from demo.page import look, work
from demo.page.form import HR_MODE, LR_MODE, Inputs
from demo.page.handlers import Handlers
from demo.page.page import Page
from demo.page.results import figure_rows
from demo.page.session import Session
from demo.runs import served as demo_files
from demo.runs.examples import THUMBNAIL, card, load_examples
from demo.runs.jobs import Finished, Step
from demo.runs.showcase import Showcase
from masa.errors import UserError
from masa.pictures.shifts import RANGES

NEUTRAL = tuple(neutral for _, neutral, _ in RANGES.values())
FORM = ("photo.png", [], LR_MODE, "clean", "masa-rec", "off", *NEUTRAL)
OPENING = View(3, 4)


class Run:
    """Stands for an exploration that the visitor's session holds."""


X = Run()


@pytest.fixture
def page(tmp_path, monkeypatch):
    """A page with one example that is not ready; new runs are told apart by what they are."""
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    monkeypatch.setattr(Handlers, "_new", lambda self, run, x: {self.results.run: run, "x": x})
    monkeypatch.setattr(View, "opening", lambda x: OPENING)
    return Page(Showcase(load_examples()[:1]), 60)


@pytest.fixture
def do(page):
    """The page's handlers."""
    return page.handlers


def looking():
    """A visitor whose browser has the picture of run 0, and its figures."""
    session = Session()
    session.drawn = 0
    return session


class Slow:
    """Stands for the steps of a run that somebody has to end, unless it is given a result."""

    def __init__(self, result=None):
        self.result, self.closed = result, False

    def __call__(self, *_, **__):
        with contextlib.ExitStack() as stack:
            stack.callback(setattr, self, "closed", True)
            for _ in range(0 if self.result else 99):
                yield Step(0.1, "working", None)
            assert self.result, "nobody ended this run"
            yield Finished(self.result)


def test_every_event_waits_in_the_queue(page):
    """Past it leads an address that the guard keeps shut."""
    assert all(event.queue for event in page.blocks.fns.values() if event.fn is not None)


def test_the_newest_run_ends_the_others(do, monkeypatch):
    session, slow = Session(), Slow()
    monkeypatch.setattr(work, "enlarge", slow)
    older = do.enlarge(session, None, *FORM)
    assert "working" in next(older)[do.results.bar]
    monkeypatch.setattr(work, "enlarge", Slow("newer"))
    (newer,) = do.enlarge(session, None, "another.png", *FORM[1:])
    assert newer == {do.results.bar: "", do.results.run: 2, "x": "newer"} and session.shown == 2
    assert list(older) == [] and slow.closed


def test_a_picture_that_took_long_to_write_comes_too_late(do, monkeypatch):
    session = Session()
    monkeypatch.setattr(work, "enlarge", Slow("older"))
    monkeypatch.setattr(do, "_new", lambda run, x: session.start(None) and {do.results.run: run})
    assert list(do.enlarge(session, None, *FORM)) == []
    monkeypatch.setattr(work, "complete", Slow(X))
    monkeypatch.setattr(do, "_drawn", lambda *_: session.start(None) and {})
    monkeypatch.setattr("demo.page.handlers.pictures_of", lambda x: {})
    monkeypatch.setattr("demo.page.handlers.report", lambda x: "")
    assert list(do.complete(session, session.start(None), X)) == []


def test_pressing_twice_keeps_the_place_in_the_line(do, monkeypatch):
    session = Session()
    monkeypatch.setattr(work, "enlarge", Slow())
    first = do.enlarge(session, None, *FORM)
    next(first)
    assert list(do.enlarge(session, None, *FORM)) == []
    assert "working" in next(first)[do.results.bar]
    assert do.halt(session) == ""  # Stop, which the browser may have lost the run for
    assert list(first) == []
    assert "working" in next(do.enlarge(session, None, *FORM))[do.results.bar]


def test_who_changes_a_run_that_waits_is_not_sent_away(do, monkeypatch):
    """It leaves the line for the newer one."""
    session, told = Session(), []

    def enlarge(inputs, showcase, before, admitted):
        told.append(admitted)
        yield from Slow()()

    monkeypatch.setattr(work, "enlarge", enlarge)
    runs = [do.enlarge(session, None, photo, *FORM[1:]) for photo in ("a.png", "b.png")]
    for steps in runs:
        next(steps)
    do.halt(session)
    next(do.enlarge(session, None, *FORM))
    assert told == [False, True, False]


def test_nor_is_who_tries_other_settings_while_a_trial_waits(do, monkeypatch):
    session, told = looking(), []

    def try_matching(*asked):
        told.append(asked[2:])
        yield from Slow()()

    monkeypatch.setattr(work, "try_matching", try_matching)

    def trying(factor):
        return do.match_otherwise(session, 0, X, None, 8, factor, [2, 1])

    first, second = trying(1.0), trying(2.0)
    for steps in (first, second):
        next(steps)
    assert list(first) == []
    assert list(trying(2.0)) == []  # pressed twice: the first trial keeps its place in the line
    assert "working" in next(second)[do.results.bar]
    do.halt(session)
    third = trying(2.0)  # although the stopped one has not ended yet
    next(third)
    assert list(second) == []
    assert list(trying(2.0)) == []
    third.close()
    next(trying(2.0))
    assert [(factor, admitted) for _, factor, _, admitted in told] == [
        (1.0, False),
        (2.0, True),
        (2.0, False),
        (2.0, False),
    ]


def test_what_follows_a_run_or_ends_it_is_never_refused_for_other_runs(page):
    names = {fn.name for fn in page.blocks.fns.values()}
    assert set(page.blocks._follow) == {"fill", "complete", "halt"} <= names


def test_no_two_runs_have_one_number():
    session = Session()
    numbers = [session.start(None) for _ in range(3)]
    session.end(numbers[-1])
    assert session.is_current(0) and session.is_shown(0)
    assert session.start(None) not in numbers


def test_a_run_that_failed_can_be_repeated(do, monkeypatch):
    def fails(*_):
        yield Step(0, "Starting", None)
        raise gr.Error("no")

    session = Session()
    monkeypatch.setattr(work, "enlarge", fails)
    for _ in range(2):
        steps = do.enlarge(session, None, *FORM)
        next(steps)
        with pytest.raises(gr.Error):
            next(steps)


def test_what_is_incomplete_ends_nothing(do, monkeypatch):
    session = Session()
    monkeypatch.setattr(work, "complete", Slow())
    comparing = do.complete(session, 0, X)
    opening = do.open(session)
    for steps in (comparing, opening):
        next(steps)
    with pytest.raises(gr.Error, match="Add a photo first"):
        next(do.enlarge(session, None, None, *FORM[1:]))
    assert list(do.complete(session, 0, X)) == []  # which is asked for then, goes on already
    assert "working" in next(comparing)[do.results.bar]
    assert "Preparing" in next(opening)[do.results.bar]
    comparing.close()
    assert "working" in next(do.complete(session, 0, X))[do.results.bar]


def test_after_a_run_that_fails_the_one_that_is_shown_goes_on(page, do, monkeypatch):
    def fails(*_):
        yield Step(0, "Starting", None)
        raise gr.Error("no")

    session = Session()
    session.show(session.start(None))
    monkeypatch.setattr(work, "enlarge", fails)
    with pytest.raises(gr.Error):
        list(do.enlarge(session, None, *FORM))
    monkeypatch.setattr(work, "complete", Slow())
    assert "working" in next(do.complete(session, 1, X))[do.results.bar]
    functions = page.blocks.fns.values()
    starts = {fn._id for fn in functions if fn.name == "enlarge"}
    followed = {
        (fn.trigger_after, bool(fn.trigger_only_on_failure))
        for fn in functions
        if fn.name == "complete"
    }
    assert followed == {(start, failed) for start in starts for failed in (False, True)}
    assert list(do.complete(session, 1, None)) == []  # where there was none


def test_stop_ends_what_is_under_way_and_nothing_that_is_asked_later(page, do, monkeypatch):
    session, slow = looking(), Slow()
    monkeypatch.setattr(work, "try_matching", slow)
    trying = do.match_otherwise(session, 0, X, None, 8, 1.5, [1])
    next(trying)
    do.halt(session)
    assert list(trying) == [] and slow.closed
    trying = do.match_otherwise(session, 0, X, None, 8, 1.5, [1])
    assert "working" in next(trying)[do.results.bar]
    monkeypatch.setattr("demo.page.handlers.pack", Slow())
    packing = do.make_archive(session, 0, X, 0, 0, 4, -1)
    next(packing)
    do.halt(session)
    assert list(packing) == []
    packing = do.make_archive(session, 0, X, 0, 0, 4, -1)
    assert "working" in next(packing)[do.results.bar]
    functions = page.blocks.fns.values()
    assert not any(fn.cancels for fn in functions)
    # Nor does the browser keep what it would send after that.
    (mode,) = {fn.trigger_mode for fn in functions if fn.name == "match_otherwise"}
    assert mode == "multiple"


def test_every_click_on_a_tab_is_followed(page, do):
    """Also the third of three quick ones, which leads back to the first tab."""
    for tab in do.results.tab_of.values():
        (mode,) = {
            fn.trigger_mode
            for fn in page.blocks.fns.values()
            if (tab._id, "select") in fn.targets and do.results.open_tab in fn.outputs
        }
        assert mode == "multiple"


def test_what_follows_an_older_run_is_dropped(do, monkeypatch):
    session = Session()
    run = session.shown = session.start(Inputs(*FORM))
    monkeypatch.setattr(do, "_drawn", lambda x, view, names, place=None: {"drawn": names})
    filling = do.fill(session, run, "x")
    assert next(filling)["drawn"]
    comparing = do.complete(session, run, X)
    slow = Slow()
    monkeypatch.setattr(work, "complete", slow)
    assert "working" in next(comparing)[do.results.bar]
    newer = session.start(Inputs(*FORM))
    assert list(comparing) == [] and slow.closed
    assert list(do.complete(session, run, X)) == []
    # What is still shown is drawn to its end: the newer run may be stopped.
    assert next(filling)["drawn"]
    session.shown = newer
    assert list(filling) == list(do.fill(session, run, "x")) == []


def test_late_figures_are_called_missing_first_or_never(do, monkeypatch):
    """What comes meanwhile must not be replaced by the word that it is missing."""
    monkeypatch.setattr(do, "_drawn", lambda x, view, names, place=None: names)
    session = Session()
    first, *others = do.fill(session, 0, "x")
    assert all(FIGURES[name].late for name in first)
    drawn = [name for names in (first, *others) for name in names]
    assert sorted(drawn) == sorted(FIGURES)
    assert list(do.fill(session, 0, "x")) == []  # once is enough


def test_what_is_chosen_while_tabs_are_filled_is_what_they_show(do, monkeypatch):
    session, seen = looking(), []
    session.drawn = None

    def drawn(x, view, names, place=None):
        seen.append((view.row, "lr_blocks" in names))
        if [of_blocks for _, of_blocks in seen].count(True) == 1 and seen[-1][1]:
            next(do.moved("pixel", session, 0, "x", "fine", 9, 9, 4, -1))
        return {}

    monkeypatch.setattr(do, "_drawn", drawn)
    list(do.fill(session, 0, "x"))
    blocks = [row for row, of_blocks in seen if of_blocks]
    assert blocks[0] == OPENING.row and blocks[-1] == 9
    assert {row for row, _ in seen[5:]} == {9}
    session.show(1)  # of a new picture nothing was chosen yet
    assert session.view is None


def test_figures_that_are_sent_after_those_of_a_newer_look_are_drawn_again(do, monkeypatch):
    session = looking()
    session.drawn = None
    monkeypatch.setattr(do, "_drawn", lambda x, view, names, place=None: (view.row, names))
    filling = do.fill(session, 0, "x")
    sent = []
    for row, names in filling:
        sent.append((row, names))
        if "chosen_pixel" in names and row == OPENING.row:
            session.look(session.number(), View(9, 9), "pixel")  # before these were sent
    assert [row for row, names in sent if "chosen_pixel" in names] == [OPENING.row, 9]


@pytest.mark.parametrize("what", ["archive", "trial"])
def test_what_was_made_of_the_run_before_comes_too_late(do, monkeypatch, what):
    session, slow = Session(), Slow()
    monkeypatch.setattr("demo.page.handlers.pack", slow)
    monkeypatch.setattr(work, "try_matching", slow)
    steps = {
        "archive": lambda: do.make_archive(session, 0, X, 0, 0, 4, -1),
        "trial": lambda: do.match_otherwise(session, 0, X, None, 8, 1.5, [1]),
    }[what]()
    assert "working" in next(steps)[do.results.bar]
    session.start(Inputs(*FORM))  # it may be stopped, and then the older one is still there
    assert "working" in next(steps)[do.results.bar]
    session.shown = 1
    assert list(steps) == [] and slow.closed


def test_the_newest_click_ends_the_others(do, monkeypatch):
    session = looking()
    monkeypatch.setattr(do, "_drawn", lambda x, view, names, place=None: {"drawn": names})
    monkeypatch.setattr(look, "click", lambda x, view, name, at: View(*at))
    clicked = do.clicked("similarity", TABS[2])

    def at(row):
        event = gr.EventData(None, {"index": [row, 0]})
        return clicked(session, 0, "x", 0, 0, 4, -1, event)

    older, newer = at(5), at(7)
    for steps, row in ((older, 5), (newer, 7)):
        assert next(steps) == {
            do.results.row: row,
            do.results.column: 0,
        }  # arrow keys start from there
        assert next(steps)["drawn"]
    assert list(older) == []
    moved = do.moved("pixel", session, 0, "x", "fine", 0, 0, 4, -1)
    next(moved)
    assert list(newer) == [] and list(moved)
    # One that hits nothing ends nothing.
    newer = at(7)
    next(newer)
    monkeypatch.setattr(look, "click", lambda x, view, name, at: None)
    assert list(at(9)) == [] and list(newer)
    # Nor is anything of a run drawn that is no longer shown.
    moved = do.moved("pixel", session, 0, "x", "fine", 0, 0, 4, -1)
    next(moved)
    session.show(1)
    assert list(moved) == list(at(9)) == []
    for run in (0, 1):  # nor of one whose picture the browser does not have yet
        assert list(do.moved("pixel", session, run, "x", "fine", 0, 0, 4, -1)) == []


def test_a_move_while_it_is_found_out_what_a_click_hit_is_newer(do, monkeypatch):
    session = looking()
    monkeypatch.setattr(do, "_drawn", lambda x, view, names, place=None: {"drawn": names})
    moved = do.moved("pixel", session, 0, "x", "fine", 9, 9, 4, -1)

    def click(x, view, name, at):
        next(moved)
        return View(*at)

    monkeypatch.setattr(look, "click", click)
    event = gr.EventData(None, {"index": [5, 5]})
    assert list(do.clicked("similarity", TABS[2])(session, 0, "x", 0, 0, 4, -1, event)) == []
    assert session.view.row == 9 and list(moved)


def test_a_newer_look_draws_the_rest_of_an_older_one(do, monkeypatch):
    session, drawn = looking(), []
    monkeypatch.setattr(do, "_drawn", lambda x, view, names, place=None: drawn.extend(names))

    def moved(what):
        return do.moved(what, session, 0, "x", "adaptation", 0, 0, 2, 5)

    next(moved("scale"))  # begun
    drawn.clear()
    list(moved("channel"))
    wanted = {f.id for f in FIGURES.values() if f.depends & {"scale", "channel"}}
    assert wanted == set(drawn) and "branches" in wanted
    drawn.clear()
    list(moved("channel"))
    assert set(drawn) == {f.id for f in FIGURES.values() if "channel" in f.depends}


def test_a_picture_that_is_written_while_stop_is_pressed_comes_too_late(do, monkeypatch):
    session = looking()
    monkeypatch.setattr(work, "enlarge", Slow("newer"))
    monkeypatch.setattr(do, "_new", lambda run, x: do.halt(session) or {do.results.run: run})
    assert list(do.enlarge(session, None, *FORM)) == []
    assert session.shown == 0  # whose figures and archive can still be made
    assert list(do.fill(session, 0, None)) == []


def test_pictures_to_compare_are_of_the_run_that_is_shown(do, monkeypatch):
    session = looking()
    monkeypatch.setattr("demo.page.handlers.compared_files", lambda *chosen: chosen)
    chosen = ("x", "Bicubic", "The sharp photo")
    assert do.choose_pictures(session, 0, *chosen) == chosen
    session.show(1)
    for run in (0, 1):  # the older one, and one that the browser does not have yet
        assert do.choose_pictures(session, run, *chosen) == gr.skip()


def test_what_a_photo_is_is_guessed_by_its_size(do, tmp_path):
    session = Session()
    for name, side in (("small", 512), ("large", 513)):
        Image.new("RGB", (side, 512)).save(tmp_path / f"{name}.png")
    (tmp_path / "letter.png").write_text("Dear reader, this is no picture.")
    small, large, letter = (str(tmp_path / f"{n}.png") for n in ("small", "large", "letter"))
    assert do.guess_mode(session, small, "0") == f"0 {LR_MODE}" and session.touched
    assert do.guess_mode(session, large, "3") == f"3 {HR_MODE}"
    assert do.guess_mode(session, letter, "4") is do.guess_mode(session, None, "5") is None


def test_an_example_replaces_nothing_that_was_chosen(do):
    name = do.showcase.examples[0].name

    def opening(session):
        steps = do.open(session)
        assert "Preparing" in next(steps)[do.results.bar]
        return steps

    chosen, started, waiting = Session(), Session(), Session()
    openings = [opening(session) for session in (chosen, started, waiting)]
    do.touch(chosen)
    number = started.start(Inputs(*FORM))
    do.showcase._ready[name] = "example"
    assert list(openings[0]) == [{do.results.bar: ""}]
    assert list(openings[1]) == []  # the bar is the run's
    (shown,) = openings[2]
    assert shown["x"] == "example" and do.form.photo in shown
    started.show(number)
    started.end(number)
    assert list(do.open(started)) == [{do.results.bar: ""}]


def test_an_example_replaces_nothing_chosen_while_it_was_written(do, monkeypatch):
    session = Session()
    do.showcase._ready[do.showcase.examples[0].name] = "example"
    monkeypatch.setattr(do, "_new", lambda run, x: do.touch(session) or {"x": x})
    assert list(do.open(session)) == [{do.results.bar: ""}]


def test_a_click_on_an_example_is_a_choice(page, do):
    clicked = (page.form.examples.dataset._id, "click")
    called = [fn.name for fn in page.blocks.fns.values() if clicked in fn.targets]
    assert "touch" in called


def test_an_example_is_listed_with_its_pictures(page, tmp_path):
    """The target first; words as words, whatever is in them."""
    for name, colour in (("hr", "red"), ("ref", "blue")):
        Image.new("RGB", (90, 300), colour).save(tmp_path / f"{name}.png")
    hr, ref = tmp_path / "hr.png", tmp_path / "ref.png"
    example = replace(load_examples()[0], title="<b>Wall", kind="near & far", hr=hr, refs=(ref,))
    shown = card(example)
    assert "&lt;b&gt;Wall" in shown and "near &amp; far" in shown and "<b>" not in shown
    found = [base64.b64decode(text) for text in re.findall(r"base64,([^\"]+)", shown)]
    small = [Image.open(io.BytesIO(data)).convert("RGB") for data in found]
    assert [picture.size for picture in small] == [THUMBNAIL] * 2
    (red, _, _), (_, _, blue) = (picture.getpixel((9, 9)) for picture in small)
    assert red > 200 and blue > 200
    assert [row[0] for row in page.form.examples.dataset.samples] == [card(load_examples()[0])]


@pytest.mark.parametrize("error", [UserError("no"), RuntimeError("no")], ids=type)
def test_an_example_that_fails_keeps_nobody_waiting(do, monkeypatch, error):
    def fails(*_, **__):
        raise error

    monkeypatch.setattr("demo.runs.showcase.paint", fails)
    steps = do.open(Session())
    next(steps)
    do.showcase.prepare()
    assert list(steps) == [{do.results.bar: ""}]


def test_a_forgotten_run_is_a_sentence(do):
    session = Session()
    for called in (
        lambda: list(do.moved("pixel", looking(), 0, None, "fine", 0, 0, 4, -1)),
        lambda: list(do.make_archive(session, 0, None, 0, 0, 4, -1)),
        lambda: list(do.match_otherwise(session, 0, None, None, 8, 1.5, [1])),
        lambda: do.choose_pictures(session, 0, None, "Bicubic", "Bicubic"),
    ):
        with pytest.raises(gr.Error, match="press Enlarge") as raised:
            called()
        assert is_one_sentence(raised.value.message)
    # But no error of somebody who has only opened the page, before its example is there.
    assert list(do.fill(session, 0, None)) == []


def test_old_files_are_swept_and_the_others_stay(tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    (tmp_path / "example.png").write_text("kept")
    keep = demo_files.files()
    old, used = (Path(demo_files.serve(name.encode(), "a.png")) for name in ("old", "used"))
    for path in (tmp_path / "example.png", old, used):
        os.utime(path, (0, 0))
    assert demo_files.serve(b"used", "a.png") == str(used)
    demo_files.delete_old(60, keep)
    assert demo_files.files() == {tmp_path / "example.png", used}
    assert not old.parent.exists()


def test_figures_keep_their_order_with_two_in_a_row_where_they_are_narrow():
    rows = {tab.id: [[f.id for f in row] for row in figure_rows(tab.figures)] for tab in TABS}
    assert rows["result"] == [["gift", "error"], ["gain"], ["compared"]]
    assert rows["align"] == [["alignment"], ["agreeing"], ["views"]]
    for tab in TABS:
        assert [f for row in rows[tab.id] for f in row] == [figure.id for figure in tab.figures]
