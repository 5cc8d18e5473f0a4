"""Degraded LRs: each step does what it says, clean stays clean, and draws stay in range."""

from collections import Counter

import cv2
import numpy as np
import pytest
from helpers import picture

from masa.errors import UserError
from masa.pictures.degradation import (
    CLEAN,
    PHOTO,
    PRESETS,
    Degradation,
    Mixture,
    jpeg,
    lr_from_hr,
    preset_called,
)
from masa.pictures.metrics import psnr_y
from masa.pictures.resize import reduce_x4


def smooth(height=96, width=128, seed=0):
    """A picture whose neighbouring pixels resemble each other, as photos' do."""
    small = picture(height // 8, width // 8, seed)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)


def drawn(count=400, mixture=PHOTO):
    rng = np.random.default_rng(0)
    return [mixture.draw(rng) for _ in range(count)]


def test_clean_is_the_papers_reduction():
    hr = picture(66, 82)
    lr, cropped = lr_from_hr(hr)
    assert cropped.shape == (64, 80, 3)
    assert np.array_equal(lr, reduce_x4(cropped))
    assert CLEAN.is_clean
    assert np.array_equal(lr_from_hr(hr[..., 0])[0], reduce_x4(cropped[..., 0]))
    assert np.array_equal(CLEAN.degrade_small(lr, np.random.default_rng(0)), lr)


@pytest.mark.parametrize("name", [name for name in PRESETS if name != "clean"])
def test_presets_cost_something_and_repeat(name):
    hr = smooth()
    clean = lr_from_hr(hr)[0]
    degradation = preset_called(name)
    lr, _ = lr_from_hr(hr, degradation, seed=3)
    assert lr.shape == clean.shape
    assert lr.dtype == np.uint8
    assert not degradation.is_clean
    assert 15 < psnr_y(lr, clean) < 50
    assert np.array_equal(lr, lr_from_hr(hr, degradation, seed=3)[0])


def test_lower_quality_loses_more():
    lr = lr_from_hr(smooth())[0]
    losses = [psnr_y(jpeg(lr, quality), lr) for quality in (90, 75, 50, 20)]
    assert losses == sorted(losses, reverse=True)
    red = np.zeros((16, 16, 3), np.uint8)
    red[:, ::2, 0] = 255  # colour that changes from pixel to pixel
    errors = [
        np.abs(jpeg(red, 95, chroma).astype(int) - red).mean() for chroma in ("4:4:4", "4:2:0")
    ]
    assert errors[0] < errors[1] / 4


def test_noise_has_the_stated_spread_and_colour():
    flat = np.full((256, 256, 3), 128, np.uint8)
    coloured = lr_from_hr(flat, Degradation(noise=6), 1)[0].astype(float)
    grey = lr_from_hr(flat, Degradation(noise=6, grey=True), 1)[0].astype(float)
    for noisy in (coloured, grey):
        assert noisy.std() == pytest.approx(6, rel=0.05)
        assert noisy.mean() == pytest.approx(128, abs=0.2)
    assert np.ptp(grey, axis=2).max() == 0
    assert np.ptp(coloured, axis=2).mean() > 5
    assert not np.array_equal(coloured, lr_from_hr(flat, Degradation(noise=6), 2)[0])


def test_noise_comes_before_jpeg():
    hr = smooth()
    clean = reduce_x4(hr)
    noise = np.random.default_rng(3).standard_normal(clean.shape, np.float32)
    noisy = np.rint(clean + 5 * noise).clip(0, 255).astype(np.uint8)
    assert np.array_equal(lr_from_hr(hr, PRESETS["camera"], seed=3)[0], jpeg(noisy, 85))


def test_blur_is_counted_in_pixels_of_the_lr():
    hr = np.zeros((256, 256, 3), np.uint8)
    hr[:, 128:] = 255  # an edge: its slope tells the standard deviation
    for sigma in (1.0, 2.0):
        lr = lr_from_hr(hr, Degradation(blur=(sigma, 0)))[0].astype(float)
        slope = np.diff(lr[32, :, 0]) / 255
        places = np.arange(len(slope))
        mean = (slope * places).sum()
        assert ((places - mean) ** 2 * slope).sum() ** 0.5 == pytest.approx(sigma, rel=0.15)
    across = lr_from_hr(hr, Degradation(blur=(0, 2.0)))[0]
    assert np.abs(across.astype(int) - lr_from_hr(hr)[0]).max() <= 1


def test_blur_before_the_reduction_is_like_blur_after_it():
    hr = smooth(256, 256)
    degradation = Degradation(blur=(1.5, 1.5))
    before = degradation.reduce(hr, np.random.default_rng(0))
    after = degradation.degrade_small(reduce_x4(hr), np.random.default_rng(0))
    assert psnr_y(before, after) > 45
    assert psnr_y(before, reduce_x4(hr)) < 40


def test_kernels_differ():
    hr = picture(64, 64)
    kinds = {k: lr_from_hr(hr, Degradation(kernel=k))[0] for k, _ in PHOTO.kernels}
    assert len({lr.tobytes() for lr in kinds.values()}) == 4
    assert np.array_equal(kinds["bicubic"], reduce_x4(hr))


def test_draws_cover_the_stated_ranges_and_no_more():
    found = drawn(4000)
    share = {"clean": sum(d.is_clean for d in found) / len(found)}
    rest = [d for d in found if not d.is_clean]
    share["jpeg"] = sum(d.quality is not None for d in rest) / len(rest)
    share["noise"] = sum(d.noise > 0 for d in rest) / len(rest)
    share["blur"] = sum(d.blur[0] > 0 for d in rest) / len(rest)
    share["grey"] = np.mean([d.grey for d in rest if d.noise])
    # A few of the others happen to draw nothing but a bicubic reduction.
    assert share["clean"] == pytest.approx(0.25 + 0.75 * 0.5 * 0.5 * 0.5 * 0.3, abs=0.025)
    assert share["jpeg"] == pytest.approx(0.73, abs=0.03)
    assert share["noise"] == pytest.approx(0.52, abs=0.03)
    assert share["blur"] == pytest.approx(0.52, abs=0.03)
    assert share["grey"] == pytest.approx(0.4, abs=0.04)
    qualities = [d.quality for d in rest if d.quality]
    assert (min(qualities), max(qualities)) == (35, 95)
    noises = [d.noise for d in rest if d.noise]
    assert 0 < min(noises) < 0.2
    assert 7.8 < max(noises) <= 8
    sigmas = [sigma for d in rest for sigma in d.blur if sigma]
    assert 0.075 <= min(sigmas) < 0.1
    assert 0.58 < max(sigmas) <= 0.6
    assert any(d.blur[0] != d.blur[1] for d in rest)
    kernels = Counter(d.kernel for d in rest)
    assert kernels["bicubic"] > kernels["lanczos"] > kernels["box"] > 0
    assert {d.chroma for d in rest} == {"4:4:4", "4:2:0"}
    assert drawn(20) == drawn(20)


def test_a_mixture_of_clean_samples_alone():
    assert all(d.is_clean for d in drawn(50, Mixture(clean=1)))


def test_references_are_at_most_mildly_compressed():
    ref = smooth()
    rng = np.random.default_rng(0)
    found = [PHOTO.draw_ref(ref, rng) for _ in range(200)]
    changed = [other for other in found if not np.array_equal(other, ref)]
    assert len(changed) / len(found) == pytest.approx(0.25, abs=0.1)
    assert min(psnr_y(other, ref) for other in changed) >= psnr_y(jpeg(ref, 85), ref) - 0.1


@pytest.mark.parametrize(
    "wrong",
    [
        {"blur": (-1.0, 0.0)},
        {"blur": (float("nan"), 0.0)},
        {"kernel": "nearest"},
        {"noise": -1.0},
        {"noise": 100.0},
        {"quality": 0},
        {"quality": 101},
        {"chroma": "4:1:1"},
    ],
)
def test_what_is_out_of_range_is_a_sentence(wrong):
    with pytest.raises(UserError, match=r"[.]$"):
        Degradation(**wrong)
    with pytest.raises(UserError, match="messenger"):
        preset_called("fax")


def test_sides_are_multiples_of_4():
    with pytest.raises(ValueError, match="multiple of 4"):
        CLEAN.reduce(picture(30, 32), np.random.default_rng(0))
