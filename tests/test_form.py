"""The form: what is asked for with it, and how the small photo is made of a sharp one."""

import dataclasses
import os

import gradio as gr
import numpy as np
import pytest
from asking import inputs, last
from PIL import Image

from demo.page.form import CUSTOM, HR_MODE, LR_MODE, weights_menu
from demo.page.messages import as_visible_errors
from demo.page.page import Page
from demo.page.work import enlarge
from demo.runs import served as demo_files
from demo.runs.showcase import Showcase
from masa import weights
from masa.config import MASAConfig
from masa.errors import UserError
from masa.network.model import MASA
from masa.pictures.degradation import PRESETS, lr_from_hr
from masa.pictures.read import read_photo
from masa.weights import choose_weights, save_weights


def test_the_small_photo_is_made_as_it_was_chosen(files):
    wanted = inputs(files / "hr.png", [files / "ref.png"], HR_MODE, degradation="web JPEG 75")
    found = last(enlarge(wanted, Showcase([])))
    lr, hr = lr_from_hr(read_photo(files / "hr.png").rgb, PRESETS["web JPEG 75"])
    assert np.array_equal(found.visitors_lr(), lr) and np.array_equal(found.hr, hr)
    assert not np.array_equal(lr, lr_from_hr(hr)[0])


def test_only_a_small_photo_that_is_made_is_degraded(files):
    wanted = inputs(files / "hr.png", mode=HR_MODE, degradation="camera")
    assert wanted.request().degradation == "camera"
    small = dataclasses.replace(wanted, mode=LR_MODE, degradation="nonsense")
    assert small.request().degradation == "clean"
    with pytest.raises(UserError, match="no degradation 'nonsense': use one of clean"):
        dataclasses.replace(wanted, degradation="nonsense").request()


def test_the_reference_is_aligned_unless_it_is_switched_off(examples):
    form = Page(Showcase([]), 60).form
    assert form.align.value is True and form.inputs[-1] is form.align
    assert "paper's method" in form.align.info
    showcase = Showcase()
    example = showcase.examples[0]
    showcase.put(example, object())
    wanted = inputs(example.hr, example.refs, HR_MODE)
    off = dataclasses.replace(wanted, align=False)
    assert wanted.request().align and not off.request().align
    assert showcase.get(wanted.request()) is not None and showcase.get(off.request()) is None


def test_an_example_that_is_ready_is_given_for_the_clean_photo_alone(examples):
    showcase = Showcase()
    example = showcase.examples[0]
    showcase.put(example, object())
    wanted = inputs(example.hr, example.refs, HR_MODE)
    assert showcase.get(wanted.request()) is not None
    other = dataclasses.replace(wanted, degradation="web JPEG 75")
    assert showcase.get(other.request()) is None


def test_the_degradation_is_offered_for_sharp_photos_alone():
    page = Page(Showcase([]), 60)
    form = page.form
    assert not form.degradation.visible and form.mode.value == LR_MODE
    assert form.degradation.value == "clean"
    assert [value for _, value in form.degradation.choices] == list(PRESETS)
    (fn,) = (
        fn
        for fn in page.blocks.fns.values()
        if (form.mode._id, "change") in fn.targets and fn.outputs == [form.degradation]
    )
    assert fn.fn(HR_MODE).visible and not fn.fn(LR_MODE).visible


def test_a_change_of_one_s_own_is_chosen_by_moving_a_slider():
    page = Page(Showcase([]), 60)
    moved = {(amount._id, "input") for amount in page.form.amounts}
    (fn,) = (fn for fn in page.blocks.fns.values() if moved <= set(fn.targets))
    assert moved and fn.outputs == [page.form.shift] and fn.fn() == CUSTOM


def test_the_menu_says_what_weights_are_for_and_puts_those_for_comparison_last(
    tmp_path, monkeypatch
):
    """Weights of the stage ``full`` are known by their file alone, whatever they are called."""
    monkeypatch.setattr(weights, "WEIGHTS_DIR", tmp_path)
    monkeypatch.delenv("MASA_WEIGHTS", raising=False)
    config = MASAConfig(channels=4)
    for name in ("lab-spade", "masa-rec", "lab-none", "crisp", "own", "masa-photo"):
        told = {"stage": "full" if name == "crisp" else "rec"}
        save_weights(tmp_path / f"{name}.safetensors", MASA(config).state_dict(), config, told)
    assert weights_menu() == [
        ("auto", "auto"),
        ("masa-rec: for photos reduced cleanly", "masa-rec"),
        ("crisp: sharper, invents detail", "crisp"),
        ("masa-photo: for photos with JPEG blocks, noise or blur", "masa-photo"),
        ("own", "own"),
        ("lab-none: for comparison, no adaptation", "lab-none"),
        ("lab-spade: for comparison, SPADE", "lab-spade"),
    ]
    for made_clean in (True, False):
        assert choose_weights(made_clean) in ("masa-rec", "masa-photo")
    (tmp_path / "own.safetensors").write_bytes(b"damaged")
    assert not weights.invents_detail("own") and not weights.invents_detail("gone")


def test_using_an_upload_keeps_it(tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "served"))
    upload, example = tmp_path / "served" / "photo.png", tmp_path / "example.png"
    (tmp_path / "served").mkdir()
    for path in (upload, example):
        Image.new("RGB", (16, 16)).save(path)
        os.utime(path, (0, 0))
    inputs(upload, [example]).request()
    assert upload.stat().st_mtime > 0 and example.stat().st_mtime == 0
    demo_files.delete_old(60)
    assert upload.exists()
    upload.unlink()
    with pytest.raises(gr.Error, match="no longer on the server"), as_visible_errors():
        inputs(upload).request()
