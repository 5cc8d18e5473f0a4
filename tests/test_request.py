"""From what a visitor asks for to pictures that the network can take."""

import gc
import weakref

import numpy as np
import pytest
from helpers import picture
from photos import stored

from demo.runs import request as module
from demo.runs.request import Request, predictor_for, prepare, run
from masa.errors import UserError
from masa.pictures.degradation import lr_from_hr, preset_called
from masa.pictures.photo import Photo
from masa.pictures.read import read_photo
from masa.pictures.resize import enlarge_x4, resize_to_fit
from masa.pictures.shifts import PRESETS, Shift
from masa.reference import views as reading

DARK = Shift(gain=0.6, saturation=0.5)


def ignore(share, doing):
    pass


def test_six_references_are_refused_before_any_is_opened():
    with pytest.raises(UserError, match=r"^6 references are too many: choose the best 5\.$"):
        Request("/nonexistent.png", ("/nonexistent.png",) * 6)
    assert Request("/nonexistent.png", ("/nonexistent.png",) * 5).refs


def test_references_are_reduced_and_then_shifted(monkeypatch):
    monkeypatch.setattr(module, "LIMITS", module.replace(module.LIMITS, max_ref_pixels=1200))
    large, small = picture(80, 60, 1), picture(24, 30, 2)
    prepared = prepare(Request(picture(16, 16), (large, small), shift=DARK))
    reduced = resize_to_fit(Photo(large), 1200).rgb
    assert reduced.shape == (40, 30, 3)
    for ref, expected in zip(prepared.refs, (reduced, small), strict=True):
        assert np.array_equal(ref.rgb, DARK.apply(expected).rgb)
    assert [ref.notes for ref in prepared.refs] == [
        ("Reference 1 was reduced from 60x80 to 30x40 pixels.",),
        (),
    ]
    assert prepared.notes == ("The references' light was changed: gain 0.6, saturation 0.5.",)
    assert prepared.hr is None


def test_a_sharp_photo_with_too_many_pixels_is_reduced(monkeypatch, tmp_path):
    """As most phones' photos are; the LR is made of the reduced one."""
    monkeypatch.setattr(module, "LIMITS", module.replace(module.LIMITS, max_lr_pixels=300))
    large = stored(picture(96, 128), "PNG")
    finished = run(Request(large, is_hr=True), ignore)
    fitted = resize_to_fit(Photo(picture(96, 128)), 16 * 300).rgb
    assert fitted.shape == (60, 80, 3) and np.array_equal(finished.hr, fitted)
    assert finished.result.notes[0] == "The sharp photo was reduced from 128x96 to 80x60 pixels."
    (tmp_path / "large.png").write_bytes(large)
    (tmp_path / "fitted.png").write_bytes(stored(fitted, "PNG"))
    works = [
        module.expected_work(Request(str(tmp_path / f"{name}.png"), is_hr=True))
        for name in ("large", "fitted")
    ]
    assert works[0] == works[1] > 0


def test_a_sharp_photo_is_reduced_with_its_transparency():
    rgba = np.dstack([picture(66, 97), picture(66, 97, 1)[:, :, 0]])
    request = Request(rgba, is_hr=True)
    prepared = prepare(request)
    lr, hr = lr_from_hr(rgba[:, :, :3])
    alpha = lr_from_hr(rgba[:, :, 3])[0]
    assert np.array_equal(prepared.lr.rgb, lr) and np.array_equal(prepared.hr, hr)
    assert np.array_equal(prepared.lr.alpha, alpha)
    finished = run(request, ignore)
    assert np.array_equal(finished.alpha, alpha)
    assert np.array_equal(finished.result.alpha, enlarge_x4(alpha))
    assert np.array_equal(finished.result.rgb, predictor_for("masa-rec").run(lr).rgb)


@pytest.mark.parametrize(
    ("name", "note"),
    [
        ("clean", None),
        ("web JPEG 75", "“web JPEG 75”, bicubic reduction, then JPEG of quality 75."),
        ("camera", "“camera”, bicubic reduction, then noise of 5 levels, then JPEG of quality 85."),
        (
            "soft",
            "“soft”, a blur of 0.6 x 0.6 pixels of the small photo, then bicubic reduction, "
            "then JPEG of quality 80.",
        ),
    ],
)
def test_how_the_small_photo_was_made_is_noted(name, note):
    hr = picture(64, 96)
    prepared = prepare(Request(hr, is_hr=True, degradation=name))
    assert np.array_equal(prepared.lr.rgb, lr_from_hr(hr, preset_called(name))[0])
    made = "The small photo was made from the sharp one by "
    assert prepared.notes == (() if note is None else (made + note,))
    assert prepare(Request(picture(16, 16), degradation=name)).notes == ()


@pytest.mark.parametrize(
    ("shift", "note"),
    [
        (PRESETS["off"], None),
        (PRESETS["warm"], "“warm”, temperature 0.8, saturation 1.1."),
        (PRESETS["darker"], "“darker”, gain 0.6, offset -15."),
        (Shift(gamma=1.25, contrast=0.7), "contrast 0.7, gamma 1.25."),
    ],
)
def test_how_the_light_was_changed_is_noted(shift, note):
    notes = prepare(Request(picture(16, 16), (picture(24, 24),), shift=shift)).notes
    changed = "The reference's light was changed: "
    assert notes == (() if note is None else (changed + note,))
    assert prepare(Request(picture(16, 16), shift=shift)).notes == ()  # nothing was changed


def test_a_photo_that_stops_early_is_noted():
    data = stored(picture(64, 96), "JPEG")
    prepared = prepare(Request(data[: int(len(data) * 0.6)]))
    assert len(prepared.lr.notes) == 1 and "of its lines" in prepared.lr.notes[0]


def test_one_picture_at_a_time_is_held_at_its_full_size(monkeypatch):
    monkeypatch.setattr(module, "LIMITS", module.replace(module.LIMITS, max_ref_pixels=1200))
    whole = []

    def watched(source, role, limits):
        gc.collect()
        assert not any(seen() is not None for seen in whole), "the last one is still held"
        photo = read_photo(source, role, limits)
        whole.append(weakref.ref(photo.rgb))
        return photo

    monkeypatch.setattr(reading, "read_photo", watched)
    prepare(Request(picture(16, 16), tuple(picture(60, 60, n) for n in range(3)), shift=DARK))
    assert len(whole) == 3


def test_preparing_can_be_stopped_before_each_picture(monkeypatch):
    class Stopped(Exception):  # noqa: N818
        pass

    told = []

    def stop(share, doing):
        told.append(doing)
        if len(told) == 3:
            raise Stopped

    with pytest.raises(Stopped):
        prepare(Request(picture(16, 16), (picture(24, 24), b"no picture")), stop)
    assert told == ["Opening the photo", *(f"Opening and aligning reference {n}" for n in (1, 2))]
