"""Ladders of changes: nothing changes at the neutral value, more and more away from it."""

import numpy as np
import pytest
from helpers import picture

from masa.errors import UserError
from masa.measuring.ladder import (
    ALIGNING,
    FAMILIES,
    LIGHT,
    NAMED,
    Substitutes,
    changed_by,
    family_called,
    named_rungs,
)
from masa.pictures.degradation import Degradation, lr_from_hr
from masa.pictures.shifts import PRESETS, RANGES, Shift


def smooth(height=96, width=128):
    """A picture in which neighbouring pixels are alike, away from black and white."""
    y, x = np.mgrid[:height, :width] / 12
    waves = [np.sin(x + y), np.sin(x - 2 * y), np.cos(2 * x)]
    return np.stack([128 + 60 * wave for wave in waves], 2).astype(np.uint8)


SUBSTITUTES = Substitutes(other=picture(40, 40, 7), hr=picture(48, 48, 8))


def substitutes_for(family):
    """A photo is degraded as it is here: the sharp one belongs to no other picture."""
    return None if family.changes == "the photo" else SUBSTITUTES


def distance(family, value, rgb):
    changed = family.rung(value).apply(rgb, substitutes_for(family)).rgb
    return np.abs(changed.astype(int) - rgb).mean()


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_the_neutral_value_changes_nothing(family):
    rgb = picture(30, 40)
    same = family.rung(family.neutral).apply(rgb, SUBSTITUTES)
    assert np.array_equal(same.rgb, rgb) and same.rgb is not rgb
    assert (same.clipped_low, same.clipped_high) == (0, 0)
    assert family.rungs([family.neutral]) == []


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_values_reach_from_end_to_end_with_the_neutral_one(family):
    for count in (3, 4, 9):
        values = family.values(count)
        assert values[0] == family.low and values[-1] == family.high
        assert family.neutral in values
        assert list(values) == sorted(set(values))
        assert len(values) == (2 if family.replaced_by else count)
    with pytest.raises(UserError, match="choose 3 or more"):
        family.values(2)


@pytest.mark.parametrize(
    "family", [f for f in FAMILIES.values() if f.replaced_by is None], ids=lambda f: f.name
)
def test_a_change_grows_away_from_the_neutral_value(family):
    rgb = smooth()
    values = family.values(5)
    middle = values.index(family.neutral)
    for side in (values[middle:], values[middle::-1]):
        far = [distance(family, value, rgb) for value in side]
        if family.name in ("rotation", "scale", "shift"):  # waves may meet themselves again
            assert all(there > 1 for there in far[1:])
        else:
            assert far == sorted(set(far))


@pytest.mark.parametrize(
    ("name", "value", "degradation"),
    [
        ("photo jpeg", 25, Degradation(quality=75)),
        ("photo jpeg", 3, Degradation(quality=97)),
        ("photo noise", 5, Degradation(noise=5)),
        ("photo blur", 0.6, Degradation(blur=(0.6, 0.6))),
    ],
)
def test_the_photo_is_made_anew_from_a_sharp_one_and_degraded_where_it_is_small(
    name, value, degradation
):
    hr = picture(64, 96, 5)
    lr = lr_from_hr(hr)[0]
    rung = FAMILIES[name].rung(value)
    assert rung.changes == changed_by(name) == "the photo"
    made = rung.apply(lr, Substitutes(hr=hr)).rgb
    assert np.array_equal(made, lr_from_hr(hr, degradation)[0])
    small = rung.apply(lr).rgb
    assert np.array_equal(small, degradation.degrade_small(lr, np.random.default_rng(0)))
    assert not np.array_equal(made, lr) and not np.array_equal(small, lr)


def test_only_those_families_change_the_photo():
    photo = [name for name in FAMILIES if changed_by(name) == "the photo"]
    assert photo == ["photo jpeg", "photo noise", "photo blur"]
    assert changed_by(NAMED) == "the reference"


def test_light_is_what_shifts_do():
    rgb = picture(20, 30)
    assert set(LIGHT) == set(RANGES)
    for name in LIGHT:
        value = FAMILIES[name].low
        changed, expected = FAMILIES[name].rung(value).apply(rgb), Shift(**{name: value}).apply(rgb)
        assert np.array_equal(changed.rgb, expected.rgb)
        counted = changed.clipped_low, changed.clipped_high
        assert counted == (expected.clipped_low, expected.clipped_high)


def test_clipped_pixels_are_counted():
    bright = np.full((4, 5, 3), 250, np.uint8)
    assert FAMILIES["offset"].rung(60).apply(bright).clipped_high == 20
    noisy = FAMILIES["noise"].rung(40).apply(bright)
    assert 0 < noisy.clipped_high < 20 and noisy.clipped_low == 0


def test_pictures_keep_their_size_unless_they_are_replaced():
    rgb = picture(37, 53)
    for family in FAMILIES.values():
        for value in (family.low, family.high):
            changed = family.rung(value).apply(rgb, substitutes_for(family)).rgb
            assert changed.dtype == np.uint8 and changed.flags.c_contiguous
            if family.replaced_by is None:
                assert changed.shape == rgb.shape, family.name


def test_geometry_moves_pictures_as_it_says():
    rgb = smooth(97, 97)
    moved = FAMILIES["shift"].rung(16).apply(rgb).rgb
    assert np.array_equal(moved[16:, 16:], rgb[:-16, :-16])
    small = smooth(20, 20)
    around = FAMILIES["shift"].rung(40).apply(small).rgb  # mirrored twice, it is back again
    assert np.array_equal(around, small)
    middle = rgb[48, 48].astype(int)
    for name, value in (("rotation", 45), ("scale", 2), ("scale", 0.5)):
        changed = FAMILIES[name].rung(value).apply(rgb).rgb
        assert np.abs(changed[48, 48] - middle).max() <= 12, name
    larger = FAMILIES["scale"].rung(2).apply(rgb).rgb.astype(int)
    assert np.abs(larger[48 + 20, 48 + 30] - rgb[48 + 10, 48 + 15]).max() <= 12


def test_what_turns_and_scales_is_measured_with_alignment_too():
    assert ALIGNING == ("rotation", "scale")
    assert FAMILIES["scale"].rung(2).aligns and not FAMILIES["shift"].rung(9).aligns


def test_noise_is_the_same_every_time():
    rgb = smooth()
    first, second = (FAMILIES["noise"].rung(20).apply(rgb).rgb for _ in range(2))
    assert np.array_equal(first, second)
    assert 17 < (first.astype(float) - rgb).std() < 21


def test_a_reference_is_replaced_by_what_is_known():
    rgb = picture(20, 30)
    for name, expected in (("other photo", SUBSTITUTES.other), ("HR itself", SUBSTITUTES.hr)):
        assert np.array_equal(FAMILIES[name].rung(1).apply(rgb, SUBSTITUTES).rgb, expected)
        with pytest.raises(UserError, match="choose another change"):
            FAMILIES[name].rung(1).apply(rgb)


@pytest.mark.parametrize("value", [float("nan"), 1.61, -1])
def test_values_out_of_range_are_refused(value):
    with pytest.raises(UserError, match="gain"):
        FAMILIES["gain"].rung(value)


def test_unknown_families_are_refused():
    with pytest.raises(UserError, match="rotation"):
        family_called("flip")


def test_named_shifts_become_rungs():
    rungs = named_rungs(PRESETS)
    assert [rung.title for rung in rungs] == [name for name in PRESETS if name != "off"]
    assert {rung.family for rung in rungs} == {NAMED}
    rgb = picture(20, 30)
    for rung in rungs:
        assert np.array_equal(rung.apply(rgb).rgb, PRESETS[rung.title].apply(rgb).rgb)
