"""Runs, their later steps, other settings and the report, called as the page calls them."""

import dataclasses
import gc
import weakref
from functools import partial
from pathlib import Path

import gradio as gr
import numpy as np
import pytest
from asking import inputs, last
from helpers import fill, is_one_sentence, picture, taken

from demo.export import ARCHIVES, export
from demo.figures.tabs import FIGURES
from demo.figures.view import View
from demo.page.form import CUSTOM, HR_MODE, LR_MODE
from demo.page.messages import as_visible_errors
from demo.page.page import Page
from demo.page.report import compared_files, pictures_of, report
from demo.page.session import Session
from demo.page.work import complete, enlarge, try_matching
from demo.runs import jobs
from demo.runs.exploration import KEPT_BYTES, explore
from demo.runs.jobs import Finished
from demo.runs.request import Request, predictor_for, prepare, run
from demo.runs.showcase import Showcase
from demo.runs.steps import later_steps, paint, without_branches, without_reference
from masa.config import MASAConfig
from masa.errors import UserError
from masa.network.aggregation import Branches
from masa.network.model import MASA
from masa.pictures.metrics import psnr_y
from masa.pictures.read import read_photo
from masa.pictures.shifts import PRESETS, Shift
from masa.weights import save_weights


@pytest.fixture
def no_examples():
    return Showcase([])


def completed(x):
    """The later steps of a run whose results are held, as a session does."""
    held = []
    for step in complete(weakref.ref(x)):
        held.append(step)
        yield step


def test_a_run_that_waits_for_its_later_steps_can_be_forgotten(files):
    """With many who wait, the page would else hold far more runs than it says."""
    pictures = str(files / "lr.png"), (str(files / "ref.png"),)
    run = paint(Request(*pictures))
    session = Session()
    handlers = Page(Showcase([]), 60).handlers
    with taken(jobs.NETWORK):
        waiting = handlers.complete(session, session.begin("run"), run)
        assert handlers.results.bar in next(waiting)
        held = weakref.ref(run)
        del run
        gc.collect()
        assert held() is None
    with pytest.raises(gr.Error, match="forgotten to make room"):
        list(waiting)


def test_a_run_gives_the_predictors_own_picture(files, no_examples):
    found = last(enlarge(inputs(files / "lr.png", [files / "ref.png"]), no_examples))
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
    found = last(enlarge(wanted, no_examples))
    assert np.array_equal(found.hr, read_photo(files / "hr.png").rgb)
    assert f"{psnr_y(found.result, found.hr):.2f}" in report(found)


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


def test_where_memory_is_short_scales_are_given_up_before_the_aligned_view(farther, monkeypatch):
    predictor = predictor_for(farther.weights)
    sizes = farther.lr.rgb.shape[:2], farther.ref.down.shape[:2]
    monkeypatch.setattr(predictor, "memory", predictor.predicted_bytes(*sizes, 32, (1, 2, 4)) - 1)
    found = paint(Request(farther.hr, farther.refs, is_hr=True))
    assert set(farther.scales) == {1, 2, 4} and set(found.scales) == {1, 2}
    assert np.array_equal(found.matches.position, farther.matches.position) and found.beyond == ()


def test_later_steps_read_the_views_that_the_run_read(farther, monkeypatch):
    """Also where memory was too short for the aligned view, and is not any more."""
    predictor = predictor_for(farther.weights)
    sizes = farther.lr.rgb.shape[:2], farther.ref.down.shape[:2]
    with monkeypatch.context() as short:
        short.setattr(predictor, "memory", predictor.predicted_bytes(*sizes, 32, (1,)) - 1)
        found = paint(Request(farther.hr, farther.refs, is_hr=True))
    assert found.beyond == (0,) and "used unaligned" in report(found)
    assert not found.ref.is_aligned(np.arange(found.ref.down.shape[0])).any()
    run_of = partial(predictor.run, found.visitors_lr())
    for one in (found, farther):
        (view,) = one.views()
        assert np.array_equal(run_of([view]).rgb, one.result)
        off = run_of([view], branches=Branches(ref=False))
        assert np.array_equal(without_branches(one).switched_off["ref"], off.rgb)
        *_, painted = try_matching(weakref.ref(one), None, 8, 1.0, [1])
        config = dataclasses.replace(predictor.config, ref_factor=1.0, dilations=(1,))
        score = psnr_y(run_of([view], matching=config).rgb, one.hr)
        assert f"**{score:.2f} dB**" in painted.value.painted


def test_other_settings_are_tried_while_later_steps_come(files, x, no_examples):
    """Each later step replaces what the visitor's state holds of the run."""
    handlers, session = Page(no_examples, 60).handlers, Session()
    explored, dense = handlers.results.explored, handlers.results.dense
    run = session.begin("run")
    session.show(run)
    states = [dataclasses.replace(x, switched_off={})]  # all that holds the run
    with taken(jobs.NETWORK):
        completing = handlers.complete(session, run, states[0])
        trying = handlers.match_otherwise(session, run, states[0], None, 8, 1.0, [1])
        assert all(handlers.results.bar in next(steps) for steps in (completing, trying))
    for update in completing:
        if explored in update:
            states[:] = [update.pop(explored)]
    gc.collect()
    *_, last_one = (update for update in trying if dense in update)
    assert "dB" in str(list(last_one.values()))


def test_so_are_those_that_are_chosen_while_a_later_step_is_drawn(
    files, x, no_examples, monkeypatch
):
    """Then the visitor's state still holds what was known before that step."""
    handlers, session = Page(no_examples, 60).handlers, Session()
    explored, dense = handlers.results.explored, handlers.results.dense
    run = session.begin("run")
    session.show(run)
    states, tried = [dataclasses.replace(x, switched_off={})], []
    drawn = handlers._drawn

    def press(*asked):
        monkeypatch.undo()
        tried.append(handlers.match_otherwise(session, run, states[0], None, 8, 1.0, [1]))
        assert handlers.results.bar in next(tried[0])
        return drawn(*asked)

    monkeypatch.setattr(handlers, "_drawn", press)
    for update in handlers.complete(session, run, states[0]):
        if explored in update:
            states[:] = [update.pop(explored)]
    gc.collect()
    *_, last_one = (update for update in tried[0] if dense in update)
    assert "dB" in str(list(last_one.values()))


def test_an_archive_that_waits_holds_no_run(x, no_examples):
    handlers, session = Page(no_examples, 60).handlers, Session()
    run = session.begin("run")
    session.show(run)
    with taken(ARCHIVES):
        packing = handlers.make_archive(session, run, dataclasses.replace(x), 0, 0, 4, -1)
        assert handlers.results.bar in next(packing)
    gc.collect()
    with pytest.raises(UserError, match="forgotten to make room"):
        list(packing)


def test_alignment_can_be_switched_off(turned):
    """Then the result is the paper's, also without a branch and with other settings."""
    x, _ = turned
    request = Request(x.hr, x.refs, is_hr=True, align=False)
    found = paint(request)
    predictor = predictor_for(x.weights)
    plain, aligned = (
        predictor.run(x.visitors_lr(), x.references, align=align) for align in (False, True)
    )
    assert np.array_equal(found.result, plain.rgb) and np.array_equal(x.result, aligned.rgb)
    assert psnr_y(x.result, x.hr) > psnr_y(found.result, x.hr) + 1
    assert "was aligned with the photo: it is turned by 30°" in report(x)
    assert "aligned" not in report(found)
    off = Branches(ref=False)
    for one in (found, x):
        again = predictor.run(x.visitors_lr(), x.refs, branches=off, align=one.align)
        assert np.array_equal(without_branches(one).switched_off["ref"], again.rgb)


def test_later_steps_add_what_is_missing(files, x):
    fresh = paint(Request(str(files / "hr.png"), (str(files / "ref.png"),), is_hr=True))
    alone = without_reference(fresh)
    expected = predictor_for("masa-rec").run(fresh.visitors_lr(), ())
    assert np.array_equal(alone.plain, expected.rgb)
    whole = without_branches(alone)
    assert set(whole.switched_off) == {"ref", "lr"}
    assert not np.array_equal(whole.switched_off["ref"], whole.result)
    assert without_branches(whole) is whole and without_reference(whole) is whole


@pytest.mark.parametrize("ref", [True, False])
@pytest.mark.parametrize("lr", [True, False])
def test_no_branch_is_switched_off_that_a_network_lacks(files, tmp_path, monkeypatch, ref, lr):
    config = MASAConfig(channels=4, dram_ref=ref, dram_lr=lr)
    name = f"model-{config.dram_model}"
    own = tmp_path / f"{name}.safetensors"
    save_weights(own, fill(MASA(config), in_blocks=1).state_dict(), config, {"stage": "rec"})
    monkeypatch.setenv("MASA_WEIGHTS", str(tmp_path))
    pictures = str(files / "lr.png"), (str(files / "ref.png"),)
    x = without_reference(paint(Request(*pictures, weights=name)))
    predictor, ran = predictor_for(name), []
    enlarged = predictor.run

    def counted(*given, **options):
        ran.append(options)
        return enlarged(*given, **options)

    monkeypatch.setattr(predictor, "run", counted)
    shares = []
    whole = without_branches(x, progress=lambda share, doing: shares.append(share))
    lacked = {branch for branch, has in (("ref", ref), ("lr", lr)) if not has}
    assert set(whole.switched_off) == {"ref", "lr"} - lacked and len(ran) == ref + lr
    assert not any(np.array_equal(off, x.result) for off in whole.switched_off.values())
    assert not shares or max(shares) == 1
    assert later_steps(whole) == [] and (later_steps(x) == []) == (not ref and not lr)
    for branch, words in (("ref", "reference"), ("lr", "photo")):
        figure = FIGURES[f"{branch}_off"]
        told = f"the {words} branch takes nothing over"
        assert (figure.draw(whole, View()) is None) == (branch in lacked)
        assert (told in figure.missing(x, View())) == (branch in lacked)


def test_invented_detail_can_be_compared_with_none(files, tmp_path, monkeypatch):
    config = MASAConfig(channels=4)
    own = tmp_path / "crisp.safetensors"
    save_weights(own, fill(MASA(config)).state_dict(), config, {"stage": "full"})
    monkeypatch.setenv("MASA_WEIGHTS", str(tmp_path))
    pictures = str(files / "lr.png"), (str(files / "ref.png"),)
    crisp = paint(Request(*pictures, weights="crisp"))
    assert crisp.faithful is None and "faithful" not in pictures_of(crisp)
    whole = last(completed(crisp))
    assert np.array_equal(whole.plain, predictor_for("crisp").run(whole.visitors_lr(), ()).rgb)
    again = run(Request(*pictures), ignore)
    assert again.request.weights == "masa-photo" == crisp.auto
    assert np.array_equal(whole.faithful, again.result.rgb)
    assert not np.array_equal(whole.faithful, whole.result)
    names = pictures_of(whole)
    left, _ = compared_files(whole, names["faithful"], names["result"])
    assert np.array_equal(read_photo(left).rgb, whole.faithful)
    assert "The slider can show the result of masa-photo beside it" in report(whole)
    assert "The slider can" not in report(crisp)
    files_of = dict(export(whole))
    assert "without_invented_detail.png" in files_of
    assert b'"weights_without_invented_detail": "masa-photo"' in files_of["run.json"]
    assert list(completed(whole)) == []
    usual = paint(Request(*pictures))
    assert last(completed(usual)).faithful is None


def test_other_settings_are_drawn_and_then_painted(files, x, monkeypatch):
    steps = list(try_matching(weakref.ref(x), None, 16, 1.0, [1, 3]))
    drawn, painted = (step.value for step in steps if isinstance(step, Finished))
    assert "Blocks of 16 x 16" in drawn.figure.summary and drawn.painted == ""
    config = dataclasses.replace(drawn.found.config, lr_block=16, ref_factor=1.0, dilations=(1, 3))
    assert drawn.found.config == painted.found.config == config
    again = predictor_for(x.weights).run(x.visitors_lr(), x.references, matching=config)
    assert f"**{psnr_y(again.rgb, x.hr):.2f} dB**" in painted.painted
    assert f"{psnr_y(x.result, x.hr):.2f} dB" in painted.painted
    geometry = again.trace.matches.geometry
    assert geometry.lr_width == 48 and drawn.found.geometry.lr_width == 32
    sides = f"{geometry.ref_block_height} x {geometry.ref_block_width}"
    assert f"first padded to whole blocks: the Ref blocks were {sides} then" in painted.painted
    *_, same = try_matching(weakref.ref(x), drawn.dense, 8, 1.0, [1, 3])
    assert "dB" in same.value.painted and "padded" not in same.value.painted
    unknown = dataclasses.replace(x, hr=None)
    steps = list(try_matching(weakref.ref(unknown), drawn.dense, 16, 1.0, [1, 3]))
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
            next(try_matching(weakref.ref(x), None, block, 1.0, dilations))


def test_a_shift_changes_the_reference_and_nothing_else(files, no_examples):
    dark = last(enlarge(inputs(files / "lr.png", [files / "ref.png"], shift="darker"), no_examples))
    ref = read_photo(files / "ref.png").rgb
    assert np.array_equal(dark.refs[0], PRESETS["darker"].apply(ref).rgb)
    assert np.array_equal(dark.visitors_lr(), read_photo(files / "lr.png").rgb)
    own = inputs(files / "lr.png", [files / "ref.png"], shift=CUSTOM, gain=0.6)
    assert own.request().shift == Shift(gain=0.6)
    assert [r.rgb.shape for r in prepare(own.request()).refs] == [ref.shape]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"photo": None}, "Add a photo first"),
        ({"mode": "maybe"}, "small or sharp"),
        ({"shift": "purple"}, "changes of light"),
        ({"shift": CUSTOM, "gain": float("nan")}, "gain"),
        ({"shift": CUSTOM, "gamma": 99.0}, "gamma"),
        ({"weights": "../../etc/passwd"}, "Choose one of these weights"),
        ({"photo": "/nonexistent/<b>x</b>.png"}, "no longer on the server"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(files, no_examples, change, words):
    wanted = dataclasses.replace(inputs(files / "lr.png", [files / "ref.png"]), **change)
    with pytest.raises(gr.Error) as raised:
        list(enlarge(wanted, no_examples))
    message = raised.value.message
    assert words in message
    assert "<b>" not in message and "\n" not in message and "Traceback" not in message


def test_six_references_are_too_many(files, no_examples):
    with pytest.raises(gr.Error, match="too many"):
        list(enlarge(inputs(files / "lr.png", [files / "ref.png"] * 6), no_examples))


def test_a_change_of_light_repeats_only_what_depends_on_the_reference(
    files, x, no_examples, monkeypatch
):
    wanted = inputs(files / "hr.png", [files / "ref.png"], HR_MODE, shift="darker", align=False)
    last(enlarge(wanted, no_examples, weakref.ref(x)))  # the photo is known from here on
    model, read = predictor_for("masa-rec").model, []
    encode_down = model.encode_down
    monkeypatch.setattr(model, "encode_lr", lambda *_: pytest.fail("the photo was read again"))
    monkeypatch.setattr(
        model, "encode_down", lambda *given: read.append(given) or encode_down(*given)
    )
    wanted = dataclasses.replace(wanted, shift="warm")
    changed = last(enlarge(wanted, no_examples, weakref.ref(x)))
    assert changed.plain is x.plain and not changed.switched_off
    assert not np.array_equal(changed.result, x.result) and len(read) == 1
    assert "light was changed: “warm”, temperature 0.8, saturation 1.1." in report(changed)
    monkeypatch.undo()
    other = inputs(files / "lr.png", [files / "ref.png"])
    assert last(enlarge(other, no_examples, weakref.ref(x))).plain is None


def test_examples_are_recognised_by_content_and_shared(examples):
    showcase = Showcase()
    example = showcase.examples[0]
    wanted = inputs(example.hr, example.refs, HR_MODE)
    assert showcase.example_of(wanted.request()) is example
    assert showcase.get(wanted.request()) is None
    marker = object()
    showcase.put(example, marker)
    assert last(enlarge(wanted, showcase)) is marker
    other = dataclasses.replace(wanted, shift="darker")
    assert showcase.get(other.request()) is None
    assert showcase.example_of(other.request()) is example  # its truth stays known
    assert showcase.example_of(dataclasses.replace(wanted, mode=LR_MODE).request()) is None


def test_a_full_line_is_said_in_one_sentence(files, no_examples, monkeypatch):
    turns = jobs.Turns(most_waiting=1)
    monkeypatch.setattr(jobs, "NETWORK", turns)
    wanted = inputs(files / "lr.png")
    with taken(turns):
        waiting = turns.ask()
        with pytest.raises(gr.Error) as raised:
            list(enlarge(wanted, no_examples))
        assert is_one_sentence(raised.value.message)
        assert "1 runs are waiting already" in raised.value.message
        waiting.end()
    assert last(enlarge(wanted, no_examples)).result.shape == (128, 160, 3)


def test_what_is_known_takes_no_place_in_the_line(x, monkeypatch):
    monkeypatch.setattr(jobs, "NETWORK", jobs.Turns(most_waiting=0))
    whole = dataclasses.replace(x, switched_off={"ref": x.result, "lr": x.result})
    assert list(completed(whole)) == []
    # And who had a place for the picture is not sent away before what follows it.
    missing = dataclasses.replace(x, plain=None)
    # Nor is who tries other settings instead of those whose trial waits.
    monkeypatch.setattr(jobs, "NETWORK", jobs.Turns(most_waiting=1))
    trying = partial(try_matching, weakref.ref(x), None, 8, 1.0, [1])
    with taken(jobs.NETWORK):
        line = jobs.NETWORK.ask()
        for steps in (complete(weakref.ref(missing)), trying(admitted=True)):
            assert next(steps).in_line
            steps.close()
        with pytest.raises(gr.Error, match="waiting already"):
            next(trying())
        line.end()


def test_torch_running_out_of_memory_is_a_sentence():
    with pytest.raises(gr.Error, match="not enough memory"), as_visible_errors():
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to ...")
    with pytest.raises(RuntimeError, match="shapes"), as_visible_errors():
        raise RuntimeError("shapes do not match")


def test_what_a_session_keeps_is_light(monkeypatch):
    """Even if the reference is used both as it is and aligned."""
    monkeypatch.setattr("masa.predictor.choose_views", lambda views, *_: list(range(len(views))))
    hr = picture(512, 512)
    kept = paint(Request(hr, (hr,), is_hr=True))
    assert kept.lr.rgb.shape[:2] == (128, 128) and kept.ref.down.shape[:2] == (256, 128)
    assert kept.kept_bytes() > 2 * kept.ref.rgb.nbytes + kept.ref.placements[1].own.nbytes
    later = {"plain": kept.result.copy(), "switched_off": {n: kept.result.copy() for n in "ab"}}
    assert dataclasses.replace(kept, **later).kept_bytes() < KEPT_BYTES


def test_pictures_are_called_what_they_are(x):
    with_one = pictures_of(dataclasses.replace(x, plain=x.bicubic))
    assert with_one["result"].endswith("with the reference") and "plain" in with_one
    alone = dataclasses.replace(x, references=(), plain=x.result, hr=None)
    names = pictures_of(alone)
    assert list(names) == ["bicubic", "result"] and names["result"].endswith("without a reference")
    left, right = compared_files(alone, names["bicubic"], names["result"])
    assert Path(left).name.startswith("bicubic") and Path(right).name.startswith("result")
