"""What happens on the laboratory's tab, called as plain functions."""

import contextlib
import dataclasses
import threading

import gradio as gr
import numpy as np
import pytest
from helpers import is_one_sentence, picture, taken, work_until_stopped

from demo import laboratory
from demo.figures import robustness as figures
from demo.laboratory import Sweep, SweepRequest
from demo.page import laboratory_tab
from demo.page.form import CUSTOM, HR_MODE, LR_MODE
from demo.page.kept import Shelf
from demo.page.laboratory_tab import LaboratoryTab, choose, trial_of, watch
from demo.page.page import Page
from demo.page.session import Session
from demo.runs import jobs
from demo.runs.jobs import DRAWING, NETWORK, Step
from demo.runs.request import Request
from demo.runs.showcase import Showcase
from masa.errors import UserError
from masa.measuring.ladder import NAMED
from masa.pictures.read import read_photo
from masa.pictures.resize import reduce_x4
from masa.pictures.shifts import PRESETS, RANGES, Shift
from masa.pictures.write import write_photo
from masa.predictor import Predictor

NEUTRAL = [neutral for _, neutral, _ in RANGES.values()]


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pair")
    hr = picture(64, 80, 3)
    write_photo(folder / "hr.png", hr)
    write_photo(folder / "lr.png", reduce_x4(hr))
    write_photo(folder / "ref.png", picture(72, 64, 4))
    return folder


def values(pair, photo="hr.png", mode=HR_MODE, family="gain", points=3, named=(), amounts=NEUTRAL):
    gallery = [(str(pair / "ref.png"), None)]
    page = [str(pair / photo), gallery, mode, "clean", "masa-rec", "off", *NEUTRAL, True]
    return [*page, family, points, ["masa-rec"], list(named), *amounts]


def trial(pair, points=3):
    request = Request(str(pair / "hr.png"), (str(pair / "ref.png"),), is_hr=True)
    return SweepRequest(request, "gain", ("masa-rec",), points)


@pytest.fixture(scope="module")
def found(pair):
    *_, last = (step for step in watch(trial(pair)) if isinstance(step, Sweep))
    return last


def test_the_controls_become_a_trial(pair):
    asked = trial_of(values(pair, family="blur", points=5))
    assert (asked.family, asked.points, asked.networks) == ("blur", 5, ("masa-rec",))
    assert asked.request.is_hr and asked.request.shift.is_identity
    amounts = [low for low, _, _ in RANGES.values()]
    named = trial_of(values(pair, family=NAMED, named=["warm", CUSTOM], amounts=amounts))
    own = Shift(**{name: low for name, (low, _, _) in RANGES.items()})
    assert named.shifts == {"warm": PRESETS["warm"], CUSTOM: own}
    with pytest.raises(UserError, match="Add a photo"):
        trial_of([None, *values(pair)[1:]])


def test_a_sweep_is_seen_while_it_grows(pair):
    seen = [len(s.rows) for s in watch(trial(pair)) if isinstance(s, Sweep)]
    assert seen == sorted(set(seen)) and seen[-1] == 6


def test_who_changes_a_sweep_that_waits_is_not_sent_away(pair, monkeypatch):
    monkeypatch.setattr(jobs, "NETWORK", jobs.Turns(most_waiting=1))
    with taken(jobs.NETWORK):
        line = jobs.NETWORK.ask()
        steps = watch(trial(pair), admitted=True)
        assert next(steps).in_line
        steps.close()
        with pytest.raises(gr.Error, match="waiting already"):
            next(watch(trial(pair)))
        line.end()


def test_what_is_wrong_becomes_one_sentence(pair):
    with pytest.raises(gr.Error, match="choose 3 to"):
        list(watch(trial(pair, points=99)))


@pytest.mark.parametrize(
    ("place", "given", "sentence"),
    [
        (1, None, "Add a reference first"),
        (-8, [], "at least one network"),
        (-8, [f"masa-{n}" for n in range(6)], "at most 5 networks"),
        (-10, NAMED, "at least one change of light"),
        (-9, 2, "choose 3 to"),
        (-10, "HR itself", "no sharp photo to replace"),
    ],
)
def test_what_is_lacking_is_said_at_once_and_ends_no_other_sweep(
    pair, tab, monkeypatch, place, given, sentence
):
    """Not only when its turn has come."""
    asked = values(pair, "lr.png", LR_MODE)
    assert asked[-10:-7] == ["gain", 3, ["masa-rec"]]
    session = Session()
    with taken(NETWORK):
        under_way = tab.sweep(session, *asked)
        assert tab.bar in next(under_way)
        asked[place] = given
        with pytest.raises(gr.Error, match=sentence):
            next(tab.sweep(session, *asked))
        assert tab.bar in next(under_way)
        under_way.close()


def test_stopping_ends_the_work_and_the_turn(pair, monkeypatch):
    running = threading.Event()
    ended = threading.Event()

    def endless(self, lr, refs, progress, **kwargs):
        work_until_stopped(progress, ended, running)

    monkeypatch.setattr(Predictor, "run", endless)
    steps = watch(trial(pair))
    assert isinstance(next(steps), Step)
    assert running.wait(10)
    steps.close()
    assert ended.wait(2)
    with taken(NETWORK):
        pass  # the next visitor's turn comes


def test_a_choice_names_a_result_and_the_files_to_compare(found):
    kept, (left, right) = choose(found, "masa-rec", 0.4, "bicubic")
    assert kept.value == 0.4 and right == kept.picture and left == found.bicubic
    assert choose(found, "masa-rec", 1.6, "unchanged")[1][0] == found.unchanged("masa-rec").picture
    assert choose(found, "masa-rec", 1.6, "truth")[1][0] == found.truth
    assert choose(found, "gone", 99, "nonsense")[0].value == 1.6  # the nearest there is


def test_results_that_were_deleted_are_missed_kindly(pair, tmp_path, monkeypatch):
    monkeypatch.setattr(laboratory_tab.Path, "exists", lambda path: False)
    *_, last = (step for step in watch(trial(pair)) if isinstance(step, Sweep))
    with pytest.raises(UserError, match="run the sweep again"):
        choose(last, "masa-rec", 1, "bicubic")


@pytest.fixture(scope="module")
def tab():
    with gr.Blocks():
        return LaboratoryTab(60)


def test_the_tab_is_filled_while_the_sweep_grows(pair, tab):
    updates = {}
    asked = values(pair, photo="lr.png", mode=LR_MODE)
    asked[asked.index(["masa-rec"])] = ["masa-rec", "lab-sam"]
    for change in tab.sweep(Session(), *asked):
        updates.update(change)
    assert updates[tab.bar] == ""
    assert [name for name, _ in updates[tab.line].choices] == ["masa-rec", "lab-sam"]
    titles = [title for title, _ in updates[tab.value].choices]
    assert titles == ["gain 0.4", "unchanged", "gain 1.6"]
    assert "how steady a network is, not how good" in updates[tab.quality.words]
    assert "| gain 0.4 |" in updates[tab.table]
    whole = read_photo(updates[tab.slider][1]).rgb
    assert whole.shape == (64, 80, 3)
    assert updates[tab.found].truth is None
    assert ("The sharp photo", "truth") not in updates[tab.compared].choices


def test_its_figures_are_drawn_one_at_a_time(pair, tab, monkeypatch):
    drawn = []

    def noted(place, name):
        draw = getattr(place, name)
        monkeypatch.setattr(place, name, lambda *a: drawn.append((name, DRAWING._busy)) or draw(*a))

    for name in ("quality", "matching", "statistics", "preview"):
        noted(figures, name)
    noted(laboratory, "strips")
    list(tab.sweep(Session(), *values(pair)))
    tab.show_preview(Session(), *values(pair))
    assert set(drawn) == {
        (name, True) for name in ("quality", "matching", "statistics", "preview", "strips")
    }


def test_stop_needs_no_sweep_that_was_forgotten(found):
    page = Page(Showcase([]), 60)
    blocks, tab = page.blocks, page.results.laboratory
    blocks.shelf = Shelf(most_bytes=1)
    kept, _ = blocks._shelved(found), blocks._shelved(dataclasses.replace(found))
    stops = [f for f in blocks.fns.values() if (tab.stop._id, "click") in f.targets and f.fn]
    assert [blocks._taken(kept, stop.name) for stop in stops] == [None]
    choosing = [f for f in blocks.fns.values() if (tab.line._id, "input") in f.targets and f.fn]
    with pytest.raises(gr.Error, match="This sweep was forgotten"):
        blocks._taken(kept, choosing[0].name)


def test_a_click_on_a_mark_shows_its_result(found, tab, monkeypatch):
    _, spots = laboratory_tab._quality(found, None)
    wanted = next(spot for spot in spots if spot.value == 1.6)
    clicked = tab._clicked(laboratory_tab._quality)
    event = gr.EventData(None, {"index": [round(wanted.x), round(wanted.y)]})
    updates = clicked(Session(), found, "bicubic", event)
    assert updates[tab.value].value == 1.6
    shown = read_photo(updates[tab.slider][1]).rgb
    assert np.array_equal(shown, read_photo(found.result("masa-rec", 1.6).picture).rgb)
    assert "gain 1.6" in updates[tab.chosen] and "gain 1.6" in updates[tab.statistics.words]
    assert clicked(Session(), found, "bicubic", gr.EventData(None, {"index": "x"})) == {}
    for ask in (
        lambda: clicked(Session(), None, "bicubic", event),
        lambda: tab.show_chosen(Session(), None, "masa-rec", 1.6, "bicubic"),
    ):
        with pytest.raises(gr.Error, match="run the sweep again") as raised:
            ask()
        assert is_one_sentence(raised.value.message)
    assert tab.show_chosen(Session(), None, None, None, "bicubic") == {}
    session, shown = Session(), tab._chosen
    monkeypatch.setattr(tab, "_chosen", lambda *chosen: session.begin("mark") and shown(*chosen))
    assert clicked(session, found, "bicubic", event) == {}  # there was another click meanwhile
    assert tab.show_chosen(session, found, "masa-rec", 1.6, "bicubic") == {}


def test_a_change_of_one_s_own_is_chosen_by_moving_a_slider():
    page = Page(Showcase([]), 60)
    tab = page.results.laboratory
    moved = {(amount._id, "input") for amount in tab.amounts}
    (fn,) = (fn for fn in page.blocks.fns.values() if moved <= set(fn.targets))
    assert fn.outputs == [tab.named]
    assert fn.fn(["dim light"]) == fn.fn([CUSTOM, "dim light"]) == ["dim light", CUSTOM]
    assert fn.fn(None) == [CUSTOM]


def test_the_networks_are_offered_with_what_they_are(tab):
    offered = {name: words for words, name in tab.networks.choices}
    assert offered["lab-spade"] == "lab-spade: for comparison, SPADE" and "auto" not in offered
    assert set(tab.networks.value) <= offered.keys()


def test_the_preview_says_what_is_missing(pair, tab):
    assert "clip" in tab.show_preview(Session(), *values(pair))[tab.preview.words]
    missing = values(pair)
    missing[1] = []
    assert "Add a reference" in tab.show_preview(Session(), *missing)[tab.preview.words]
    gone = values(pair)
    gone[1] = [(str(pair / "deleted.png"), None)]
    assert is_one_sentence(tab.show_preview(Session(), *gone)[tab.preview.words])


def test_the_preview_follows_the_form_while_it_is_seen(pair, tab):
    assert "clip" in tab.renew_preview("laboratory", Session(), *values(pair))[tab.preview.words]
    assert tab.renew_preview("result", Session(), *values(pair)) == {}


def test_a_preview_that_took_too_long_comes_too_late(pair, tab, monkeypatch):
    session, drawn = Session(), tab._preview
    monkeypatch.setattr(tab, "_preview", lambda asked: session.begin("preview") and drawn(asked))
    assert tab.show_preview(session, *values(pair)) == {}


def test_a_newer_sweep_or_stop_ends_the_older_one(pair, tab, found, monkeypatch):
    def endless(trial, admitted):
        told.append(admitted)
        with contextlib.ExitStack() as stack:
            stack.callback(closed.append, trial)
            for _ in range(99):
                yield Step(0.1, "working", None)

    told, closed, session = [], [], Session()
    monkeypatch.setattr(laboratory_tab, "watch", endless)
    older, newer = (tab.sweep(session, *values(pair, points=points)) for points in (3, 5))
    for steps in (older, newer):
        assert "working" in next(steps)[tab.bar]
    assert list(older) == [] and len(closed) == 1
    assert told == [False, True]  # the newer one takes the older one's place in the line
    assert list(tab.sweep(session, *values(pair, points=5))) == []  # pressed twice
    assert next(newer)  # which goes on
    stopped = tab.halt(session, None)
    assert stopped[tab.bar] == "" and not stopped[tab.results].visible
    assert list(newer) == [] and len(closed) == 2
    assert tab.halt(session, found)[tab.results].visible
