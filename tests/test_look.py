"""Figures as the page draws them, and what lies under a click."""

import dataclasses
import threading

import cv2
import numpy as np
import pytest
from helpers import taken
from serving import wait_for

from demo.figures.figure import Drawn, Panel, pick
from demo.figures.tabs import FIGURES, TABS
from demo.figures.view import View
from demo.page import form, look
from demo.page.form import LR_MODE, likely_mode
from demo.page.page import Page
from demo.runs.jobs import DRAWING
from demo.runs.request import Request
from demo.runs.showcase import Showcase
from demo.runs.steps import paint
from demo.settings import PREVIEW_QUEUE
from masa.pictures.write import write_photo


@pytest.fixture(scope="module")
def shown():
    """Draws figures by name as the page does: for each its file, alternative text and words."""
    handlers = Page(Showcase([]), 60).handlers

    def shown(x, view, names):
        updates = handlers._drawn(x, view, names)
        slots = [handlers.results.slots[name] for name in names]
        images = [updates[slot.image] for slot in slots]
        paths = [image.value and image.value["path"] for image in images]
        assert [image.visible for image in images] == [bool(path) for path in paths]
        return [
            (path, image.alt_text, updates[slot.words])
            for path, image, slot in zip(paths, images, slots, strict=True)
        ]

    return shown


def test_what_takes_a_moment_is_done_one_at_a_time(tmp_path):
    assert look.in_turn(lambda: DRAWING._busy) and not DRAWING._busy
    path = str(tmp_path / "small.png")
    write_photo(path, np.zeros((8, 8, 3), np.uint8))
    found = []
    guess = threading.Thread(target=lambda: found.append(likely_mode(path)))
    with taken(form._GUESSES):
        guess.start()
        wait_for(lambda: form._GUESSES._line, 20)
        assert not found
        waiting = [form._GUESSES.ask() for _ in range(PREVIEW_QUEUE - 1)]
        assert likely_mode(path) is None  # too many wait
        for turn in waiting:
            turn.end()
    guess.join(20)
    assert found == [LR_MODE]


def test_what_is_not_to_be_had_is_explained(files, shown):
    fresh = paint(Request(str(files / "lr.png"), (str(files / "ref.png"),)))
    for figure in FIGURES.values():
        ((path, _, words),) = shown(fresh, View(scale=1), [figure.id])
        if path is None:
            assert words[0] == words[-1] == "*", figure.id
            assert words[1].isupper() and words[:-1].endswith("."), figure.id
    missing = {name: shown(fresh, View(), [name])[0][2] for name in ("error", "gain")}
    assert all("sharp photo" in words for words in missing.values())


def test_every_figure_of_every_tab_is_drawn(x, shown):
    for tab in TABS:
        names = [figure.id for figure in tab.figures]
        for name, (path, alt, summary) in zip(names, shown(x, View.opening(x), names), strict=True):
            if path is None:  # no truth is known for this pair, whose one reference is upright
                assert name in ("disparity_error", "shares", "views")
                continue
            assert cv2.imread(path) is not None, name
            assert alt.strip() and summary.strip(), name


def test_late_figures_wait_for_their_results(files):
    fresh = paint(Request(str(files / "lr.png"), (str(files / "ref.png"),)))
    for figure in FIGURES.values():
        drawn = figure.draw(fresh, View.opening(fresh))
        if figure.late:
            assert drawn is None, figure.id


def test_a_click_chooses_the_pixel_under_it(x):
    view = View(row=5, column=5)
    for name, scale in (("lr_blocks", 1), ("given", 4), ("chosen_pixel", 4)):
        panel = FIGURES[name].draw(x, view).panels[0]
        wanted = (20, 30)
        at = (
            round(panel.left + (scale * wanted[1] + scale / 2) * panel.zoom),
            round(panel.top + (scale * wanted[0] + scale / 2) * panel.zoom),
        )
        found = look.click(x, view, name, at)
        assert (found.row, found.column) == wanted, name
    assert look.click(x, view, "lr_blocks", (-5, -5)) is None


def test_a_click_on_a_figure_that_was_drawn_draws_none(x, monkeypatch):
    """What lies where in it, no choice moves."""
    own = dataclasses.replace(x)
    for name in (figure.id for figure in FIGURES.values() if figure.clickable):
        places = {
            drawn.panels
            for view in (View(), View(row=9, column=30))
            if (drawn := FIGURES[name].draw(own, view)) is not None
        }
        assert len(places) <= 1, name
    view = View(row=5, column=5)
    at = (100.0, 100.0)
    before = look.click(own, view, "lr_blocks", at)
    look.drawn(own, view, "lr_blocks")
    # Nor is it after a click that drew it, or after what is computed later.
    look.click(own, view, "score_heat", at)
    for name in ("lr_blocks", "score_heat"):
        never = dataclasses.replace(FIGURES[name], draw=lambda *_: pytest.fail("drawn again"))
        monkeypatch.setitem(FIGURES, name, never)
    later = dataclasses.replace(own, switched_off={"ref": own.result, "lr": own.result})
    for known in (own, later):
        assert look.click(known, view, "lr_blocks", at) == before != view
        assert look.click(known, view, "score_heat", at) is not None


def test_a_view_beyond_the_picture_is_brought_back(x):
    wild = View(row=10**6, column=-3, scale=7, channel=3).clipped(x)
    assert (wild.row, wild.column) == (x.lr.height - 1, 0)
    assert wild.scale in x.scales


def test_a_panel_knows_what_lies_under_a_click():
    panel = Panel("photo", left=10, top=20, rows=4, columns=6, zoom=5)
    drawn = Drawn(np.zeros((50, 50, 3), np.uint8), "", "", (panel,))
    assert pick(drawn.panels, 10, 20) == ("photo", 0, 0)
    assert pick(drawn.panels, 39, 39) == ("photo", 3, 5)
    assert pick(drawn.panels, 40, 39) is None
