"""Luminance and colour shifts: exact where neutral, in the stated order, clipping counted."""

from dataclasses import replace

import numpy as np
import pytest
from helpers import picture

from masa.errors import UserError
from masa.pictures.shifts import PRESETS, RANGES, Shift, random_luminance


def slowly(shift, rgb):
    """The definition, a pixel array at a time; returns real levels before the last rounding."""
    x = rgb.astype(float) * shift.gain + shift.offset
    x = (x - 127.5) * shift.contrast + 127.5
    x = 255 * (np.clip(x, 0, 255) / 255) ** shift.gamma
    x = x * np.array([1.3**shift.temperature, 1, 1.3**-shift.temperature])
    grey = (x @ [0.299, 0.587, 0.114])[..., None]
    return grey + (x - grey) * shift.saturation


def drawn(seed):
    rng = np.random.default_rng(seed)
    return Shift(**{name: rng.uniform(low, high) for name, (low, _, high) in RANGES.items()})


def test_neutral_changes_nothing():
    rgb = picture(20, 30)
    shifted = Shift().apply(rgb)
    assert np.array_equal(shifted.rgb, rgb)
    assert shifted.rgb is not rgb
    assert (shifted.clipped_low, shifted.clipped_high) == (0, 0)


@pytest.mark.parametrize("seed", range(8))
def test_follows_its_definition(seed):
    rgb = picture(20, 30, seed)
    for shift in (drawn(seed), replace(drawn(seed), saturation=1.0)):
        expected = slowly(shift, rgb).clip(0, 255)
        assert np.abs(shift.apply(rgb).rgb - expected).max() <= 0.501  # rounded once, at the end


def test_ranges_hold_the_fields_and_their_neutral_values():
    assert {name: middle for name, (_, middle, _) in RANGES.items()} == vars(Shift())
    assert all(low < middle < high for low, middle, high in RANGES.values())


@pytest.mark.parametrize("name", RANGES)
def test_each_field_makes_a_difference(name):
    for value in (RANGES[name][0], RANGES[name][2]):
        shift = Shift(**{name: value})
        assert not shift.is_identity
        assert not np.array_equal(shift.apply(picture(20, 30)).rgb, picture(20, 30))


def test_presets():
    assert list(PRESETS) == ["off", "darker", "brighter", "low contrast", "gamma", "warm", "cool"]
    assert [name for name, shift in PRESETS.items() if shift.is_identity] == ["off"]
    rgb = picture(40, 40)
    means = {name: shift.apply(rgb).rgb.mean((0, 1)) for name, shift in PRESETS.items()}
    assert means["darker"].max() < rgb.mean() < means["brighter"].min()
    assert means["warm"][0] > means["off"][0] > means["cool"][0]
    assert means["warm"][2] < means["off"][2] < means["cool"][2]


def test_no_saturation_is_grey():
    grey = Shift(saturation=0).apply(picture(20, 30)).rgb
    assert np.ptp(grey, axis=2).max() == 0


def test_clipped_pixels_are_counted_once_each():
    rgb = np.full((2, 3, 3), 128, np.uint8)
    rgb[0, 0] = 10  # below 0 in all channels
    rgb[0, 1] = (128, 128, 5)  # in one
    rgb[1, 2] = 250
    shifted = Shift(offset=-20).apply(rgb)
    assert (shifted.clipped_low, shifted.clipped_high, shifted.clipped) == (2, 0, 2)
    shifted = Shift(offset=20).apply(rgb)
    assert (shifted.clipped_low, shifted.clipped_high, shifted.clipped) == (0, 1, 1)
    red = np.full((1, 2, 3), (250, 5, 5), np.uint8)
    shifted = Shift(saturation=2).apply(red)
    assert (shifted.clipped_low, shifted.clipped_high, shifted.clipped) == (2, 2, 2)


def test_what_gamma_and_saturation_hide_was_clipped_all_the_same():
    rgb = np.full((1, 2, 3), 250, np.uint8)
    assert Shift(offset=20, gamma=2).apply(rgb).clipped_high == 2
    assert Shift(offset=20, saturation=0).apply(rgb).clipped_high == 2


def test_leaves_its_input_alone():
    rgb = picture(20, 30)
    before = rgb.copy()
    drawn(1).apply(rgb)
    assert np.array_equal(rgb, before)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 0.39, 1.61, "1", None, True])
def test_impossible_values_are_refused(value):
    with pytest.raises(UserError, match="gain"):
        Shift(gain=value)


@pytest.mark.parametrize("array", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3))])
def test_other_arrays_are_refused(array):
    with pytest.raises(ValueError, match="uint8"):
        Shift().apply(array)


def test_training_draws_the_papers_gain_and_offset():
    rng = np.random.default_rng(0)
    shifts = [random_luminance(rng) for _ in range(200)]
    gains, offsets = ([getattr(s, name) for s in shifts] for name in ("gain", "offset"))
    assert 0.7 <= min(gains) < 0.75
    assert 1.25 < max(gains) <= 1.3
    assert -20 <= min(offsets) < -18
    assert 18 < max(offsets) <= 20
    assert shifts[0] == random_luminance(np.random.default_rng(0))
    assert all(replace(s, gain=1, offset=0).is_identity for s in shifts)
