"""What the page makes of several wishes at once, called without a browser."""

import base64
import contextlib
import io
import os
import re
from dataclasses import replace

import gradio as gr
import pytest
from helpers import is_one_sentence
from PIL import Image

from demo.figures.tabs import FIGURES, TABS
from demo.figures.view import View
from demo.page import callbacks
from demo.page.callbacks import HR_MODE, LR_MODE, Inputs, Latest
from demo.page.page import Page
from demo.runs import served as demo_files
from demo.runs.examples import THUMBNAIL, card, load_examples
from demo.runs.jobs import Finished, Step
from demo.runs.showcase import Showcase
from masa.errors import UserError
from masa.pictures.shifts import RANGES

NEUTRAL = tuple(neutral for _, neutral, _ in RANGES.values())
FORM = ("photo.png", [], LR_MODE, "masa-rec", "off", *NEUTRAL)
OPENING = View(3, 4)


@pytest.fixture
def page(tmp_path, monkeypatch):
    """A page with one example that is not ready; new runs are told apart by what they are."""
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    monkeypatch.setattr(Page, "_new", lambda self, run, x: {self.run: run, "x": x})
    monkeypatch.setattr(View, "opening", lambda x: OPENING)
    return Page(Showcase(load_examples()[:1]), 60)


def looking():
    """A visitor whose browser has the picture of run 0, and its figures."""
    latest = Latest()
    latest.filled = 0
    return latest


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


def test_the_newest_run_ends_the_others(page, monkeypatch):
    latest, slow = Latest(), Slow()
    monkeypatch.setattr(callbacks, "enlarge", slow)
    older = page.enlarge(latest, None, *FORM)
    assert "working" in next(older)[page.bar]
    monkeypatch.setattr(callbacks, "enlarge", Slow("newer"))
    (newer,) = page.enlarge(latest, None, "another.png", *FORM[1:])
    assert newer == {page.bar: "", page.run: 2, "x": "newer"} and latest.shown.number == 2
    assert list(older) == [] and slow.closed


def test_a_picture_that_took_long_to_write_comes_too_late(page, monkeypatch):
    latest = Latest()
    monkeypatch.setattr(callbacks, "enlarge", Slow("older"))
    monkeypatch.setattr(page, "_new", lambda run, x: latest.start(None) and {page.run: run})
    assert list(page.enlarge(latest, None, *FORM)) == []
    monkeypatch.setattr(callbacks, "complete", Slow("compared"))
    monkeypatch.setattr(page, "_drawn", lambda *_: latest.start(None) and {})
    monkeypatch.setattr(callbacks, "pictures_of", lambda x: {})
    monkeypatch.setattr(callbacks, "report", lambda x: "")
    assert list(page.complete(latest, latest.number, "x")) == []


def test_pressing_twice_keeps_the_place_in_the_line(page, monkeypatch):
    latest = Latest()
    monkeypatch.setattr(callbacks, "enlarge", Slow())
    first = page.enlarge(latest, None, *FORM)
    next(first)
    assert list(page.enlarge(latest, None, *FORM)) == []
    assert "working" in next(first)[page.bar]
    assert page.halt(latest) == ""  # Stop, which the browser may have lost the run for
    assert list(first) == []
    assert "working" in next(page.enlarge(latest, None, *FORM))[page.bar]


def test_who_changes_a_run_that_waits_is_not_sent_away(page, monkeypatch):
    """It leaves the line for the newer one."""
    latest, told = Latest(), []

    def enlarge(inputs, showcase, before, admitted):
        told.append(admitted)
        yield from Slow()()

    monkeypatch.setattr(callbacks, "enlarge", enlarge)
    runs = [page.enlarge(latest, None, photo, *FORM[1:]) for photo in ("a.png", "b.png")]
    for steps in runs:
        next(steps)
    page.halt(latest)
    next(page.enlarge(latest, None, *FORM))
    assert told == [False, True, False]


def test_no_two_runs_have_one_number():
    latest = Latest()
    numbers = [latest.start(None) for _ in range(3)]
    latest.fail(numbers[-1])
    assert latest.number == latest.shown.number == 0
    assert latest.start(None) not in numbers


def test_a_run_that_failed_can_be_repeated(page, monkeypatch):
    def fails(*_):
        yield Step(0, "Starting", None)
        raise gr.Error("no")

    latest = Latest()
    monkeypatch.setattr(callbacks, "enlarge", fails)
    for _ in range(2):
        steps = page.enlarge(latest, None, *FORM)
        next(steps)
        with pytest.raises(gr.Error):
            next(steps)


def test_what_is_incomplete_ends_nothing(page, monkeypatch):
    latest = Latest()
    monkeypatch.setattr(callbacks, "complete", Slow())
    comparing = page.complete(latest, 0, "x")
    opening = page.open(latest)
    for steps in (comparing, opening):
        next(steps)
    with pytest.raises(gr.Error, match="Add a photo first"):
        next(page.enlarge(latest, None, None, *FORM[1:]))
    assert list(page.complete(latest, 0, "x")) == []  # which is asked for then, goes on already
    assert "working" in next(comparing)[page.bar]
    assert "Preparing" in next(opening)[page.bar]
    comparing.close()
    assert "working" in next(page.complete(latest, 0, "x"))[page.bar]


def test_after_a_run_that_fails_the_one_that_is_shown_goes_on(page, monkeypatch):
    def fails(*_):
        yield Step(0, "Starting", None)
        raise gr.Error("no")

    latest = Latest()
    latest.show(latest.start(None))
    monkeypatch.setattr(callbacks, "enlarge", fails)
    with pytest.raises(gr.Error):
        list(page.enlarge(latest, None, *FORM))
    monkeypatch.setattr(callbacks, "complete", Slow())
    assert "working" in next(page.complete(latest, 1, "x"))[page.bar]
    functions = page.blocks.fns.values()
    starts = {fn._id for fn in functions if fn.name == "enlarge"}
    followed = {
        (fn.trigger_after, bool(fn.trigger_only_on_failure))
        for fn in functions
        if fn.name == "complete"
    }
    assert followed == {(start, failed) for start in starts for failed in (False, True)}
    assert list(page.complete(latest, 1, None)) == []  # where there was none


def test_stop_ends_what_is_under_way_and_nothing_that_is_asked_later(page, monkeypatch):
    latest, slow = looking(), Slow()
    monkeypatch.setattr(callbacks, "try_matching", slow)
    trying = page.match_otherwise(latest, 0, "x", None, 8, 1.5, [1])
    next(trying)
    page.halt(latest)
    assert list(trying) == [] and slow.closed
    trying = page.match_otherwise(latest, 0, "x", None, 8, 1.5, [1])
    assert "working" in next(trying)[page.bar]
    monkeypatch.setattr("demo.page.page.pack", Slow())
    packing = page.make_archive(latest, 0, "x", 0, 0, 4, -1)
    next(packing)
    page.halt(latest)
    assert list(packing) == []
    packing = page.make_archive(latest, 0, "x", 0, 0, 4, -1)
    assert "working" in next(packing)[page.bar]
    functions = page.blocks.fns.values()
    assert not any(fn.cancels for fn in functions)
    # Nor does the browser keep what it would send after that.
    (mode,) = {fn.trigger_mode for fn in functions if fn.name == "match_otherwise"}
    assert mode == "multiple"


def test_every_click_on_a_tab_is_followed(page):
    """Also the third of three quick ones, which leads back to the first tab."""
    for tab in page.tab_of.values():
        (mode,) = {
            fn.trigger_mode
            for fn in page.blocks.fns.values()
            if (tab._id, "select") in fn.targets and page.open_tab in fn.outputs
        }
        assert mode == "multiple"


def test_what_follows_an_older_run_is_dropped(page, monkeypatch):
    latest = Latest()
    run = latest.shown.number = latest.start(Inputs(*FORM))
    monkeypatch.setattr(page, "_drawn", lambda x, view, names, place=None: {"drawn": names})
    filling = page.fill(latest, run, "x")
    assert next(filling)["drawn"]
    comparing = page.complete(latest, run, "x")
    slow = Slow()
    monkeypatch.setattr(callbacks, "complete", slow)
    assert "working" in next(comparing)[page.bar]
    newer = latest.start(Inputs(*FORM))
    assert list(comparing) == [] and slow.closed
    assert list(page.complete(latest, run, "x")) == []
    # What is still shown is drawn to its end: the newer run may be stopped.
    assert next(filling)["drawn"]
    latest.shown.number = newer
    assert list(filling) == list(page.fill(latest, run, "x")) == []


def test_late_figures_are_called_missing_first_or_never(page, monkeypatch):
    """What comes meanwhile must not be replaced by the word that it is missing."""
    monkeypatch.setattr(page, "_drawn", lambda x, view, names, place=None: names)
    latest = Latest()
    first, *others = page.fill(latest, 0, "x")
    assert all(FIGURES[name].late for name in first)
    drawn = [name for names in (first, *others) for name in names]
    assert sorted(drawn) == sorted(FIGURES)
    assert list(page.fill(latest, 0, "x")) == []  # once is enough


def test_what_is_chosen_while_tabs_are_filled_is_what_they_show(page, monkeypatch):
    latest, seen = looking(), []
    latest.filled = -1

    def drawn(x, view, names, place=None):
        seen.append((view.row, "lr_blocks" in names))
        if len(seen) == 3:  # of the tab of blocks
            next(page.moved("pixel", latest, 0, "x", "fine", 9, 9, 4, -1))
        return {}

    monkeypatch.setattr(page, "_drawn", drawn)
    list(page.fill(latest, 0, "x"))
    blocks = [row for row, of_blocks in seen if of_blocks]
    assert blocks[0] == OPENING.row and blocks[-1] == 9
    assert {row for row, _ in seen[5:]} == {9}
    latest.show(1)  # of a new picture nothing was chosen yet
    assert latest.looks.view is None


@pytest.mark.parametrize("what", ["archive", "trial"])
def test_what_was_made_of_the_run_before_comes_too_late(page, monkeypatch, what):
    latest, slow = Latest(), Slow()
    monkeypatch.setattr("demo.page.page.pack", slow)
    monkeypatch.setattr(callbacks, "try_matching", slow)
    steps = {
        "archive": lambda: page.make_archive(latest, 0, "x", 0, 0, 4, -1),
        "trial": lambda: page.match_otherwise(latest, 0, "x", None, 8, 1.5, [1]),
    }[what]()
    assert "working" in next(steps)[page.bar]
    latest.start(Inputs(*FORM))  # it may be stopped, and then the older one is still there
    assert "working" in next(steps)[page.bar]
    latest.shown.number = 1
    assert list(steps) == [] and slow.closed


def test_the_newest_click_ends_the_others(page, monkeypatch):
    latest = looking()
    monkeypatch.setattr(page, "_drawn", lambda x, view, names, place=None: {"drawn": names})
    monkeypatch.setattr(callbacks, "click", lambda x, view, name, at: View(*at))
    clicked = page._clicked("similarity", TABS[2])

    def at(row):
        event = gr.EventData(None, {"index": [row, 0]})
        return clicked(latest, 0, "x", 0, 0, 4, -1, event)

    older, newer = at(5), at(7)
    for steps, row in ((older, 5), (newer, 7)):
        assert next(steps) == {page.row: row, page.column: 0}  # arrow keys start from there
        assert next(steps)["drawn"]
    assert list(older) == []
    moved = page.moved("pixel", latest, 0, "x", "fine", 0, 0, 4, -1)
    next(moved)
    assert list(newer) == [] and list(moved)
    # One that hits nothing ends nothing.
    newer = at(7)
    next(newer)
    monkeypatch.setattr(callbacks, "click", lambda x, view, name, at: None)
    assert list(at(9)) == [] and list(newer)
    # Nor is anything of a run drawn that is no longer shown.
    moved = page.moved("pixel", latest, 0, "x", "fine", 0, 0, 4, -1)
    next(moved)
    latest.show(1)
    assert list(moved) == list(at(9)) == []
    for run in (0, 1):  # nor of one whose picture the browser does not have yet
        assert list(page.moved("pixel", latest, run, "x", "fine", 0, 0, 4, -1)) == []


def test_a_move_while_it_is_found_out_what_a_click_hit_is_newer(page, monkeypatch):
    latest = looking()
    monkeypatch.setattr(page, "_drawn", lambda x, view, names, place=None: {"drawn": names})
    moved = page.moved("pixel", latest, 0, "x", "fine", 9, 9, 4, -1)

    def click(x, view, name, at):
        next(moved)
        return View(*at)

    monkeypatch.setattr(callbacks, "click", click)
    event = gr.EventData(None, {"index": [5, 5]})
    assert list(page._clicked("similarity", TABS[2])(latest, 0, "x", 0, 0, 4, -1, event)) == []
    assert latest.looks.view.row == 9 and list(moved)


def test_a_newer_look_draws_the_rest_of_an_older_one(page, monkeypatch):
    latest, drawn = looking(), []
    monkeypatch.setattr(page, "_drawn", lambda x, view, names, place=None: drawn.extend(names))

    def moved(what):
        return page.moved(what, latest, 0, "x", "adaptation", 0, 0, 2, 5)

    next(moved("scale"))  # begun
    drawn.clear()
    list(moved("channel"))
    wanted = {f.id for f in FIGURES.values() if f.depends & {"scale", "channel"}}
    assert wanted == set(drawn) and "branches" in wanted
    drawn.clear()
    list(moved("channel"))
    assert set(drawn) == {f.id for f in FIGURES.values() if "channel" in f.depends}


def test_a_picture_that_is_written_while_stop_is_pressed_comes_too_late(page, monkeypatch):
    latest = looking()
    monkeypatch.setattr(callbacks, "enlarge", Slow("newer"))
    monkeypatch.setattr(page, "_new", lambda run, x: page.halt(latest) or {page.run: run})
    assert list(page.enlarge(latest, None, *FORM)) == []
    assert latest.shown.number == 0  # whose figures and archive can still be made
    assert list(page.fill(latest, 0, None)) == []


def test_pictures_to_compare_are_of_the_run_that_is_shown(page, monkeypatch):
    latest = looking()
    monkeypatch.setattr(callbacks, "compared_files", lambda *chosen: chosen)
    chosen = ("x", "Bicubic", "The sharp photo")
    assert page.choose_pictures(latest, 0, *chosen) == chosen
    latest.show(1)
    for run in (0, 1):  # the older one, and one that the browser does not have yet
        assert page.choose_pictures(latest, run, *chosen) == gr.skip()


def test_what_a_photo_is_is_guessed_until_it_is_said(page, tmp_path):
    latest = Latest()
    for name, side in (("small", 512), ("large", 513)):
        Image.new("RGB", (side, 512)).save(tmp_path / f"{name}.png")
    (tmp_path / "letter.png").write_text("Dear reader, this is no picture.")
    small, large, letter = (str(tmp_path / f"{n}.png") for n in ("small", "large", "letter"))
    assert page.guess_mode(latest, small) == LR_MODE and latest.touched
    assert page.guess_mode(latest, large) == HR_MODE
    assert page.guess_mode(latest, letter) == page.guess_mode(latest, None) == gr.skip()
    page.tell_mode(latest)
    assert page.guess_mode(latest, small) == gr.skip() and latest.touched
    page.take_example(latest)
    assert page.guess_mode(latest, small) == LR_MODE


def test_an_example_replaces_nothing_that_was_chosen(page):
    name = page.showcase.examples[0].name

    def opening(latest):
        steps = page.open(latest)
        assert "Preparing" in next(steps)[page.bar]
        return steps

    chosen, started, waiting = Latest(), Latest(), Latest()
    openings = [opening(latest) for latest in (chosen, started, waiting)]
    page.touch(chosen)
    number = started.start(Inputs(*FORM))
    page.showcase._ready[name] = "example"
    assert list(openings[0]) == [{page.bar: ""}]
    assert list(openings[1]) == []  # the bar is the run's
    (shown,) = openings[2]
    assert shown["x"] == "example" and page.photo in shown
    started.end(number)
    assert list(page.open(started)) == [{page.bar: ""}]


def test_an_example_replaces_nothing_chosen_while_it_was_written(page, monkeypatch):
    latest = Latest()
    page.showcase._ready[page.showcase.examples[0].name] = "example"
    monkeypatch.setattr(page, "_new", lambda run, x: page.touch(latest) or {"x": x})
    assert list(page.open(latest)) == [{page.bar: ""}]


def test_a_click_on_an_example_is_a_choice(page):
    clicked = (page.examples.dataset._id, "click")
    called = [fn.name for fn in page.blocks.fns.values() if clicked in fn.targets]
    assert "take_example" in called
    latest = Latest()
    page.take_example(latest)
    assert latest.touched


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
    assert [row[0] for row in page.examples.dataset.samples] == [card(load_examples()[0])]


@pytest.mark.parametrize("error", [UserError("no"), RuntimeError("no")], ids=type)
def test_an_example_that_fails_keeps_nobody_waiting(page, monkeypatch, error):
    def fails(*_, **__):
        raise error

    monkeypatch.setattr("demo.runs.showcase.paint", fails)
    steps = page.open(Latest())
    next(steps)
    page.showcase.prepare()
    assert list(steps) == [{page.bar: ""}]


def test_a_forgotten_run_is_a_sentence(page):
    latest = Latest()
    for called in (
        lambda: list(page.moved("pixel", looking(), 0, None, "fine", 0, 0, 4, -1)),
        lambda: list(page.make_archive(latest, 0, None, 0, 0, 4, -1)),
        lambda: list(page.match_otherwise(latest, 0, None, None, 8, 1.5, [1])),
        lambda: page.choose_pictures(latest, 0, None, "Bicubic", "Bicubic"),
    ):
        with pytest.raises(gr.Error, match="press Enlarge") as raised:
            called()
        assert is_one_sentence(raised.value.message)
    # But no error of somebody who has only opened the page, before its example is there.
    assert list(page.fill(latest, 0, None)) == []


def test_using_an_upload_keeps_it(tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "served"))
    upload, example = tmp_path / "served" / "photo.png", tmp_path / "example.png"
    (tmp_path / "served").mkdir()
    for path in (upload, example):
        Image.new("RGB", (16, 16)).save(path)
        os.utime(path, (0, 0))
    Inputs(str(upload), [(str(example), None)], *FORM[2:]).request()
    assert upload.stat().st_mtime > 0 and example.stat().st_mtime == 0
    demo_files.sweep(60)
    assert upload.exists()
    upload.unlink()
    with pytest.raises(gr.Error, match="no longer on the server"), callbacks.told_kindly():
        Inputs(str(upload), [], *FORM[2:]).request()
