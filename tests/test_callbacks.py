"""What the page does, called as plain functions: no browser, no server."""

import dataclasses
import io
import json
import os
import runpy
import threading
import time
import zipfile
from pathlib import Path
from types import SimpleNamespace

import cv2
import gradio as gr
import numpy as np
import pytest
from helpers import is_one_sentence, picture, taken, work_until_stopped
from serving import wait_for

from demo.export import as_zip
from demo.figures.figure import Drawn, Panel, pick
from demo.figures.tabs import FIGURES, TABS
from demo.figures.view import View
from demo.page import callbacks
from demo.page.callbacks import HR_MODE, LR_MODE, Inputs
from demo.page.front import Front, Shelf
from demo.runs import jobs
from demo.runs import served as demo_files
from demo.runs.exploration import KEPT_BYTES, explore
from demo.runs.jobs import Finished, Step, follow
from demo.runs.request import Request, predictor_for, prepare, run
from demo.runs.showcase import Showcase
from demo.runs.steps import explore_whole, paint, without_branches, without_reference
from masa.__main__ import main
from masa.errors import UserError
from masa.pictures.metrics import psnr_y
from masa.pictures.read import read_photo
from masa.pictures.shifts import PRESETS, RANGES, Shift
from masa.pictures.write import write_photo


def inputs(photo, refs=(), mode=LR_MODE, shift="off", **amounts):
    amounts = {name: neutral for name, (_, neutral, _) in RANGES.items()} | amounts
    gallery = [(str(ref), None) for ref in refs]
    return Inputs(photo and str(photo), gallery, mode, "masa-rec", shift, **amounts)


def last(steps):
    *_, final = steps
    assert isinstance(final, Finished)
    return final.value


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    scene = picture(128, 160, 3)
    write_photo(folder / "lr.png", cv2.resize(scene, (40, 32), interpolation=cv2.INTER_AREA))
    write_photo(folder / "ref.png", scene)
    write_photo(folder / "hr.png", scene)
    return folder


@pytest.fixture(scope="module")
def x(files):
    return explore_whole(Request(str(files / "hr.png"), (str(files / "ref.png"),), is_hr=True))


@pytest.fixture
def no_examples():
    return Showcase([])


def test_a_run_gives_the_predictors_own_picture(files, no_examples):
    found = last(callbacks.enlarge(inputs(files / "lr.png", [files / "ref.png"]), no_examples))
    expected = predictor_for("masa-rec").upscale(files / "lr.png", [files / "ref.png"])
    assert np.array_equal(found.result, expected.rgb)
    assert found.hr is None and found.plain is None


def test_what_is_explored_is_what_the_network_used(files):
    finished = run(Request(str(files / "lr.png"), (str(files / "ref.png"),)), ignore, keep=True)
    found, used = explore(finished), finished.result.trace.matches
    assert found.matches.position.equal(used.position)
    assert found.matches.similarity.equal(used.similarity)
    assert found.matches.coarse.score.equal(used.coarse.score)
    for scale, kept in ((1, "x1"), (2, "x2"), (4, "x4")):
        part = getattr(finished.result.trace, kept)
        mean = part.adapted.out[0].float().mean((1, 2)).numpy()
        assert np.allclose(found.scales[scale].statistics["after"].mean, mean, atol=1e-5)


def ignore(share, doing):
    pass


def test_the_sharp_photo_is_its_own_measure(files, no_examples):
    wanted = inputs(files / "hr.png", [files / "ref.png"], HR_MODE)
    found = last(callbacks.enlarge(wanted, no_examples))
    assert np.array_equal(found.hr, read_photo(files / "hr.png").rgb)
    assert f"{psnr_y(found.result, found.hr):.2f}" in callbacks.report(found)


def test_where_memory_is_short_less_is_kept_to_look_at(files, x, monkeypatch):
    request = Request(str(files / "hr.png"), (str(files / "ref.png"),), is_hr=True)
    predictor = predictor_for(x.weights)
    short = predictor.predicted_bytes(x.lr.rgb.shape[:2], x.ref.down.shape[:2], 32, (1,))
    monkeypatch.setattr(predictor, "memory", short)
    found = paint(request)
    assert set(x.scales) == {1, 2, 4} and set(found.scales) == {1}
    assert np.array_equal(found.matches.position, x.matches.position)
    assert View.opening(found).scale == 1
    monkeypatch.setattr(predictor, "memory", short // 9)
    with pytest.raises(UserError, match="GB of memory"):
        paint(request)


def test_later_steps_add_what_is_missing(files, x):
    fresh = paint(Request(str(files / "hr.png"), (str(files / "ref.png"),), is_hr=True))
    alone = without_reference(fresh)
    expected = predictor_for("masa-rec").run(fresh.visitors_lr(), ())
    assert np.array_equal(alone.plain, expected.rgb)
    whole = without_branches(alone)
    assert set(whole.switched_off) == {"ref", "lr"}
    assert not np.array_equal(whole.switched_off["ref"], whole.result)
    assert without_branches(whole) is whole and without_reference(whole) is whole


def test_other_settings_are_drawn_and_then_painted(files, x, monkeypatch):
    steps = list(callbacks.try_matching(x, None, 16, 1.0, [1, 3]))
    drawn, painted = (step.value for step in steps if isinstance(step, Finished))
    assert "Blocks of 16 x 16" in drawn.figure.summary and drawn.painted == ""
    config = dataclasses.replace(drawn.found.config, lr_block=16, ref_factor=1.0, dilations=(1, 3))
    assert drawn.found.config == painted.found.config == config
    again = predictor_for(x.weights).run(x.visitors_lr(), x.visitors_refs(), matching=config)
    assert f"**{psnr_y(again.rgb, x.hr):.2f} dB**" in painted.painted
    assert f"{psnr_y(x.result, x.hr):.2f} dB" in painted.painted
    geometry = again.trace.matches.geometry
    assert geometry.lr_width == 48 and drawn.found.geometry.lr_width == 32
    sides = f"{geometry.ref_block_height} x {geometry.ref_block_width}"
    assert f"first padded to whole blocks: the Ref blocks were {sides} then" in painted.painted
    *_, same = callbacks.try_matching(x, drawn.dense, 8, 1.0, [1, 3])
    assert "dB" in same.value.painted and "padded" not in same.value.painted
    unknown = dataclasses.replace(x, hr=None)
    steps = list(callbacks.try_matching(unknown, drawn.dense, 16, 1.0, [1, 3]))
    (only,) = (step.value for step in steps if isinstance(step, Finished))
    assert only.dense is drawn.dense
    assert np.array_equal(only.figure.image, drawn.figure.image)
    # What cannot be done is said without a turn.
    monkeypatch.setattr(jobs, "NETWORK", jobs.Turns(most_waiting=0))
    for block, dilations, words in (
        (16, [], "at least one dilation"),
        (7, [1], "do not work"),
        (64, [1], "smaller than one block"),
    ):
        with pytest.raises(gr.Error, match=words):
            next(callbacks.try_matching(x, None, block, 1.0, dilations))


def test_a_shift_changes_the_reference_and_nothing_else(files, no_examples):
    dark = last(
        callbacks.enlarge(
            inputs(files / "lr.png", [files / "ref.png"], shift="darker"), no_examples
        )
    )
    ref = read_photo(files / "ref.png").rgb
    assert np.array_equal(dark.visitors_refs()[0], PRESETS["darker"].apply(ref).rgb)
    assert np.array_equal(dark.visitors_lr(), read_photo(files / "lr.png").rgb)
    own = inputs(files / "lr.png", [files / "ref.png"], shift=callbacks.CUSTOM, gain=0.6)
    assert own.request().shift == Shift(gain=0.6)
    assert [r.rgb.shape for r in prepare(own.request()).refs] == [ref.shape]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"photo": None}, "Add a photo first"),
        ({"mode": "maybe"}, "small or sharp"),
        ({"shift": "purple"}, "changes of light"),
        ({"shift": callbacks.CUSTOM, "gain": float("nan")}, "gain"),
        ({"shift": callbacks.CUSTOM, "gamma": 99.0}, "gamma"),
        ({"weights": "../../etc/passwd"}, "Choose one of these weights"),
        ({"photo": "/nonexistent/<b>x</b>.png"}, "no longer on the server"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(files, no_examples, change, words):
    wanted = dataclasses.replace(inputs(files / "lr.png", [files / "ref.png"]), **change)
    with pytest.raises(gr.Error) as raised:
        list(callbacks.enlarge(wanted, no_examples))
    message = raised.value.message
    assert words in message
    assert "<b>" not in message and "\n" not in message and "Traceback" not in message


def test_six_references_are_too_many(files, no_examples):
    with pytest.raises(gr.Error, match="too many"):
        list(callbacks.enlarge(inputs(files / "lr.png", [files / "ref.png"] * 6), no_examples))


def test_a_change_of_light_repeats_only_what_depends_on_the_reference(
    files, x, no_examples, monkeypatch
):
    wanted = inputs(files / "hr.png", [files / "ref.png"], HR_MODE, shift="darker")
    last(callbacks.enlarge(wanted, no_examples, x))  # the photo is known from here on
    model, read = predictor_for("masa-rec").model, []
    encode_ref = model.encode_ref
    monkeypatch.setattr(model, "encode_lr", lambda *_: pytest.fail("the photo was read again"))
    monkeypatch.setattr(
        model, "encode_ref", lambda *given: read.append(given) or encode_ref(*given)
    )
    wanted = dataclasses.replace(wanted, shift="warm")
    changed = last(callbacks.enlarge(wanted, no_examples, x))
    assert changed.plain is x.plain and not changed.switched_off
    assert not np.array_equal(changed.result, x.result) and len(read) == 1
    monkeypatch.undo()
    other = inputs(files / "lr.png", [files / "ref.png"])
    assert last(callbacks.enlarge(other, no_examples, x)).plain is None


def test_what_is_not_to_be_had_is_explained(files):
    fresh = paint(Request(str(files / "lr.png"), (str(files / "ref.png"),)))
    for figure in FIGURES.values():
        ((path, _, words),) = callbacks.draw(fresh, View(scale=1), [figure.id])
        if path is None:
            assert words[0].isupper() and words.endswith("."), figure.id
    missing = {name: callbacks.draw(fresh, View(), [name])[0][2] for name in ("error", "gain")}
    assert all("sharp photo" in words for words in missing.values())


def test_every_figure_of_every_tab_is_drawn(x):
    for tab in TABS:
        names = [figure.id for figure in tab.figures]
        for name, (path, alt, summary) in zip(
            names, callbacks.draw(x, View.opening(x), names), strict=True
        ):
            if path is None:  # no truth is known for this pair, which has one reference
                assert name in ("disparity_error", "shares")
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
        found = callbacks.click(x, view, name, at)
        assert (found.row, found.column) == wanted, name
    assert callbacks.click(x, view, "lr_blocks", (-5, -5)) is None


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
    before = callbacks.click(own, view, "lr_blocks", at)
    callbacks.draw(own, view, ["lr_blocks"])
    # Nor is it after a click that drew it, or after what is computed later.
    callbacks.click(own, view, "score_heat", at)
    for name in ("lr_blocks", "score_heat"):
        never = dataclasses.replace(FIGURES[name], draw=lambda *_: pytest.fail("drawn again"))
        monkeypatch.setitem(FIGURES, name, never)
    later = dataclasses.replace(own, switched_off={"ref": own.result, "lr": own.result})
    for known in (own, later):
        assert callbacks.click(known, view, "lr_blocks", at) == before != view
        assert callbacks.click(known, view, "score_heat", at) is not None


def test_a_view_beyond_the_picture_is_brought_back(x):
    wild = View(row=10**6, column=-3, scale=7, channel=3).clipped(x)
    assert (wild.row, wild.column) == (x.lr.height - 1, 0)
    assert wild.scale in x.scales


def test_what_a_session_keeps_is_light(tmp_path):
    for name in ("hr", "ref"):
        write_photo(tmp_path / f"{name}.png", picture(512, 512, len(name)))
    kept = paint(Request(str(tmp_path / "hr.png"), (str(tmp_path / "ref.png"),), is_hr=True))
    assert kept.lr.rgb.shape[:2] == kept.ref.down.shape[:2] == (128, 128)
    later = {"plain": kept.result.copy(), "switched_off": {n: kept.result.copy() for n in "ab"}}
    assert dataclasses.replace(kept, **later).kept_bytes() < KEPT_BYTES


def test_the_zip_holds_pictures_figures_maps_and_code(x, tmp_path, monkeypatch):
    with zipfile.ZipFile(io.BytesIO(as_zip(x))) as archive:
        archive.extractall(tmp_path)
    result = cv2.cvtColor(cv2.imread(str(tmp_path / "result.png")), cv2.COLOR_BGR2RGB)
    assert np.array_equal(result, x.result)
    with np.load(tmp_path / "maps.npz") as maps:
        assert np.array_equal(maps["position"], x.matches.position[0].numpy())
        assert np.array_equal(maps["similarity"], x.matches.similarity[0, 0].numpy())
    figures = {path.stem for path in (tmp_path / "figures").iterdir()}
    assert len(figures) == len(FIGURES) - 2
    monkeypatch.chdir(tmp_path)
    again = runpy.run_path("repeat.py")["result"]
    assert np.array_equal(again.trace.matches.position, x.matches.position)
    assert np.array_equal(read_photo(tmp_path / "repeated.png").rgb, x.result)


def test_a_run_is_packed_into_the_same_bytes_on_any_day(x, monkeypatch):
    first = as_zip(x)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 10**6)
    monkeypatch.setattr(time, "localtime", lambda *_: time.gmtime(now + 10**6))
    assert as_zip(dataclasses.replace(x)) == first
    with zipfile.ZipFile(io.BytesIO(first)) as archive:
        entries = archive.infolist()
        with zipfile.ZipFile(io.BytesIO(archive.read("maps.npz"))) as maps:
            entries += maps.infolist()
    assert {entry.date_time for entry in entries} == {(1980, 1, 1, 0, 0, 0)}


def test_a_transparent_photo_is_repeated_from_the_zip(tmp_path, monkeypatch):
    rgba = np.dstack((picture(64, 96, 1), np.tile(np.arange(96, dtype=np.uint8) * 2, (64, 1))))
    cv2.imwrite(str(tmp_path / "photo.png"), rgba)
    write_photo(tmp_path / "ref.png", picture(80, 96, 2))
    x = paint(Request(str(tmp_path / "photo.png"), (str(tmp_path / "ref.png"),), is_hr=True))
    with zipfile.ZipFile(io.BytesIO(as_zip(x))) as archive:
        archive.extractall(tmp_path / "out")
        json.loads(archive.read("run.json"), parse_constant=pytest.fail)
    monkeypatch.chdir(tmp_path / "out")
    runpy.run_path("repeat.py")
    repeated, result = (read_photo(name) for name in ("repeated.png", "result.png"))
    assert np.array_equal(repeated.rgb, result.rgb)
    assert result.alpha is not None and np.array_equal(repeated.alpha, result.alpha)
    assert np.array_equal(read_photo("sharp.png").rgb, x.hr)


def test_a_run_is_explained_without_a_browser(files, tmp_path, capsys):
    command = ["explain", str(files / "lr.png"), "--ref", str(files / "ref.png")]
    assert main([*command, "--out", str(tmp_path / "out")]) == 0
    written = {path.name for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert {"result.png", "maps.npz", "run.json", "repeat.py", "fine_given.png"} <= written
    (tmp_path / "file").write_text("in the way")
    assert main([*command, "--out", str(tmp_path / "file" / "out")]) == 2
    assert "choose another folder" in capsys.readouterr().err


def test_examples_are_recognised_by_content_and_shared(examples):
    showcase = Showcase()
    example = showcase.examples[0]
    wanted = inputs(example.hr, example.refs, HR_MODE)
    assert showcase.example_of(wanted.request()) is example
    assert showcase.get(wanted.request()) is None
    marker = object()
    showcase.put(example, marker)
    assert last(callbacks.enlarge(wanted, showcase)) is marker
    other = dataclasses.replace(wanted, shift="darker")
    assert showcase.get(other.request()) is None
    assert showcase.example_of(other.request()) is example  # its truth stays known
    assert showcase.example_of(dataclasses.replace(wanted, mode=LR_MODE).request()) is None


def test_a_job_reports_and_finishes():
    def job(progress):
        progress(0.5, "half")
        time.sleep(0.5)
        return 7

    steps = list(follow(job))
    assert steps[-1] == Finished(7)
    assert any(isinstance(s, Step) and s.doing == "half" for s in steps)


def test_closing_a_job_stops_it_at_its_next_step():
    stopped = threading.Event()
    steps = follow(lambda progress: work_until_stopped(progress, stopped))
    next(steps)
    steps.close()
    assert stopped.wait(2)
    assert last(follow(lambda progress: "next")) == "next"


def test_a_jobs_error_reaches_its_visitor():
    def job(progress):
        raise UserError("This is wrong.")

    with pytest.raises(UserError, match="This is wrong"):
        list(follow(job))


def test_jobs_run_one_at_a_time():
    running, most = [], []

    def job(progress):
        running.append(1)
        most.append(len(running))
        time.sleep(0.1)
        running.pop()

    threads = [threading.Thread(target=lambda: list(follow(job))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1, 1, 1, 1]


def test_visitors_go_before_background_work(monkeypatch):
    monkeypatch.setattr(jobs, "_PAUSE", 0.2)
    turns, began, order = jobs.Turns(), threading.Event(), []

    def background():
        while True:
            try:
                with turns.spare() as progress:
                    order.append("background begins")
                    began.set()
                    for _ in range(50 if len(order) == 1 else 1):
                        progress(0.5, "working")
                        time.sleep(0.1)
                    return order.append("background is done")
            except jobs.Stopped:
                order.append("background makes way")

    thread = threading.Thread(target=background)
    thread.start()
    assert began.wait(5)
    asked = time.monotonic()
    with taken(turns):
        assert time.monotonic() - asked < 1  # of the five seconds that the background would take
        order.append("visitor")
    with taken(turns):  # the visitor's next step need not stop it again
        order.append("visitor")
    thread.join()
    makes_way = ["background begins", "background makes way", "visitor", "visitor"]
    assert order == [*makes_way, "background begins", "background is done"]


def test_clicks_are_drawn_before_tabs_are_filled():
    easel, order = jobs.Easel(), []
    later, earlier = jobs.rank(background=True), jobs.rank(background=True)
    later, earlier = max(later, earlier), min(later, earlier)

    def draw(name, place):
        with easel.place(place):
            order.append(name)

    threads = []
    with easel.place(jobs.rank()):
        for name, place in (("later", later), ("earlier", earlier), ("click", jobs.rank())):
            threads.append(threading.Thread(target=draw, args=(name, place)))
            threads[-1].start()
            wait_for(lambda: len(easel._waiting) == len(threads), 5)
    for thread in threads:
        thread.join()
    assert order == ["click", "earlier", "later"]


def test_a_program_that_left_stops_its_run():
    stopped, left = threading.Event(), threading.Event()

    def job(progress):
        work_until_stopped(progress, stopped, left)

    with pytest.raises(jobs.Stopped):
        jobs.finish(follow(job), left.is_set)
    assert stopped.wait(2)
    with taken(jobs.PROGRAMS), pytest.raises(jobs.Stopped):
        jobs.finish(follow(job), lambda: True)  # while it waits
    assert jobs.finish(follow(lambda progress: "next"), lambda: False) == "next"


def test_pieces_have_turns_of_their_own(monkeypatch):
    """What others want comes between; the share is the whole's, and the last piece the end."""
    monkeypatch.setattr(jobs, "NETWORK", jobs.Turns())
    monkeypatch.setattr(jobs, "_PERIOD_IN_LINE", 0.01)
    order, shares = [], []

    def job(progress):
        for number in range(3):
            progress(number / 3, "working")
            time.sleep(0.3)
            progress((number + 1) / 3, "done")
            yield number
        order.append("asked for more")

    steps = jobs.follow_each(job)
    between = follow(lambda progress: order.append("other"))
    for step in steps:
        if isinstance(step, Step):
            shares.append(step.share)
            continue
        order.append(step.value)
        if step.value == 0:
            next(between)  # is in the line from now on
    list(between)
    assert order == [0, "other", 1, 2]
    assert shares == sorted(shares)


def test_who_was_admitted_goes_on_whoever_waits(monkeypatch):
    turns = jobs.Turns(most_waiting=1)
    monkeypatch.setattr(jobs, "NETWORK", turns)
    monkeypatch.setattr(jobs, "_PERIOD_IN_LINE", 0.01)

    def job(progress):
        for number in range(2):
            progress((number + 1) / 2, "working")
            yield number

    steps = jobs.follow_each(job)
    assert next(s for s in steps if isinstance(s, Finished)) == Finished(0, last=False)
    waiting = turns.ask()
    with pytest.raises(UserError, match="waiting already"):
        next(jobs.follow_each(job))
    next(steps)  # in the line
    assert waiting.wait(10)
    waiting.end()
    assert last(steps) == 1


def test_other_programs_come_between_pieces(monkeypatch):
    monkeypatch.setattr(jobs, "NETWORK", jobs.Turns())
    monkeypatch.setattr(jobs, "PROGRAMS", jobs.Turns())
    monkeypatch.setattr(jobs, "_PERIOD_IN_LINE", 0.01)
    order, others = [], []

    def job(progress):
        for number in range(3):
            progress((number + 1) / 3, "working")
            order.append(number)
            if not number:
                other = follow(lambda progress: order.append("other"))
                others.append(threading.Thread(target=jobs.finish, args=(other, lambda: False)))
                others[0].start()
                wait_for(lambda: jobs.PROGRAMS._line, 10)
            yield number

    assert jobs.finish(jobs.follow_each(job), lambda: False) == 2
    others[0].join(10)
    assert order == [0, "other", 1, 2]


def test_closing_pieces_ends_the_turn(monkeypatch):
    monkeypatch.setattr(jobs, "NETWORK", jobs.Turns())
    ended = threading.Event()

    def job(progress):
        yield work_until_stopped(progress, ended)

    steps = jobs.follow_each(job)
    next(steps)
    steps.close()
    assert ended.wait(2)
    assert last(follow(lambda progress: "next")) == "next"


def test_a_panel_knows_what_lies_under_a_click():
    panel = Panel("photo", left=10, top=20, rows=4, columns=6, zoom=5)
    drawn = Drawn(np.zeros((50, 50, 3), np.uint8), "", "", (panel,))
    assert pick(drawn.panels, 10, 20) == ("photo", 0, 0)
    assert pick(drawn.panels, 39, 39) == ("photo", 3, 5)
    assert pick(drawn.panels, 40, 39) is None


def test_who_waits_is_told_its_place_and_when(monkeypatch):
    turns = jobs.Turns()
    monkeypatch.setattr(jobs, "NETWORK", turns)
    monkeypatch.setattr(jobs, "_PERIOD_IN_LINE", 0.01)
    with taken(turns):
        time.sleep(0.2)  # what a turn lasts is known from now on
    running = turns.ask()
    assert running.wait()
    lines = [follow(lambda progress: "done") for _ in range(3)]
    steps = [next(line) for line in lines]
    assert [step.doing for step in steps] == [
        "1 visitor before you",
        "2 visitors before you",
        "3 visitors before you",
    ]
    seconds = [step.seconds_left for step in steps]
    assert 0 <= seconds[0] <= 0.2 and seconds == sorted(seconds)
    assert "2 visitors before you</span>, about" in callbacks.progress_bar(steps[1])
    lines[0].close()  # leaves
    assert next(lines[1]).doing == "1 visitor before you"
    running.end()
    assert last(lines[1]) == "done" and last(lines[2]) == "done"


def test_a_full_line_is_said_in_one_sentence(files, no_examples, monkeypatch):
    turns = jobs.Turns(most_waiting=1)
    monkeypatch.setattr(jobs, "NETWORK", turns)
    wanted = inputs(files / "lr.png")
    with taken(turns):
        waiting = turns.ask()
        with pytest.raises(gr.Error) as raised:
            list(callbacks.enlarge(wanted, no_examples))
        assert is_one_sentence(raised.value.message)
        assert "1 runs are waiting already" in raised.value.message
        waiting.end()
    assert last(callbacks.enlarge(wanted, no_examples)).result.shape == (128, 160, 3)


def test_a_thread_that_dies_is_reported_and_the_next_one_runs():
    def dies(progress):
        raise SystemExit("killed")

    with pytest.raises(RuntimeError, match="thread of this job"):
        list(follow(dies))
    assert last(follow(lambda progress: "next")) == "next"


def test_torch_running_out_of_memory_is_a_sentence():
    with pytest.raises(gr.Error, match="not enough memory"), callbacks.told_kindly():
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to ...")
    with pytest.raises(RuntimeError, match="shapes"), callbacks.told_kindly():
        raise RuntimeError("shapes do not match")


def test_pictures_are_called_what_they_are(x):
    with_one = callbacks.pictures_of(dataclasses.replace(x, plain=x.bicubic))
    assert with_one["result"].endswith("with the reference") and "plain" in with_one
    alone = dataclasses.replace(x, self_reference=True, plain=x.result, hr=None)
    names = callbacks.pictures_of(alone)
    assert list(names) == ["bicubic", "result"] and names["result"].endswith("without a reference")
    left, right = callbacks.compared_files(alone, names["bicubic"], names["result"])
    assert Path(left).name.startswith("bicubic") and Path(right).name.startswith("result")


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


def test_what_is_known_takes_no_place_in_the_line(x, monkeypatch):
    monkeypatch.setattr(jobs, "NETWORK", jobs.Turns(most_waiting=0))
    whole = dataclasses.replace(x, switched_off={"ref": x.result, "lr": x.result})
    assert list(callbacks.complete(whole)) == []
    # And who had a place for the picture is not sent away before what follows it.
    steps = callbacks.complete(dataclasses.replace(x, plain=None))
    assert isinstance(next(steps), Step)
    steps.close()


def test_old_files_are_swept_and_the_others_stay(tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    (tmp_path / "example.png").write_text("kept")
    keep = demo_files.files()
    old, used = (Path(demo_files.serve(name.encode(), "a.png")) for name in ("old", "used"))
    for path in (tmp_path / "example.png", old, used):
        os.utime(path, (0, 0))
    assert demo_files.serve(b"used", "a.png") == str(used)
    demo_files.sweep(60, keep)
    assert demo_files.files() == {tmp_path / "example.png", used}
    assert not old.parent.exists()


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
