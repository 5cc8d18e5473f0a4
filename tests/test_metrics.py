"""The metrics against their definitions, and their refusals."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import correlate1d

from masa.pictures.metrics import luma, psnr_y, seam_ratio, ssim_y


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def grey(level, size=16):
    return np.full((size, size, 3), level, np.uint8)


def direct_ssim(x, y):
    """The formula with its 11 x 11 Gaussian window, where the window fits."""
    window = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
    window /= window.sum()

    def mean(values):
        for axis in (0, 1):
            values = correlate1d(values, window, axis)
        return values[5:-5, 5:-5]

    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    mx, my = mean(x), mean(y)
    vx, vy, vxy = mean(x * x) - mx**2, mean(y * y) - my**2, mean(x * y) - mx * my
    return np.mean((2 * mx * my + c1) * (2 * vxy + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2)))


def test_luma_is_matlabs():
    pixels = noise(9, 7)
    expected = 16 + pixels @ np.array([65.481, 128.553, 24.966]) / 255
    assert luma(pixels).dtype == np.float64
    np.testing.assert_allclose(luma(pixels), expected, atol=1e-9)
    assert luma(grey(0))[0, 0] == pytest.approx(16)
    assert luma(grey(255))[0, 0] == pytest.approx(235)


@pytest.mark.parametrize("bad", [np.zeros((4, 4, 3)), np.zeros((4, 4), np.uint8)])
def test_luma_of_other_arrays(bad):
    with pytest.raises(ValueError, match="uint8"):
        luma(bad)


def test_psnr_by_hand():
    # One level of grey is 219 / 255 of a level of luma.
    expected = 20 * math.log10(255 / (10 * 219 / 255))
    assert psnr_y(grey(100), grey(110)) == pytest.approx(expected)


@pytest.mark.filterwarnings("error")
def test_equal_pictures():
    assert psnr_y(noise(12, 12), noise(12, 12)) == math.inf
    assert ssim_y(noise(12, 12), noise(12, 12)) == pytest.approx(1)


@settings(max_examples=15, deadline=None)
@given(st.integers(11, 30), st.integers(11, 30), st.integers(0, 99))
def test_ssim_is_the_original_definition(height, width, seed):
    a = noise(height, width, seed)
    b = (a // 2 + noise(height, width, seed + 1) // 2).astype(np.uint8)
    assert ssim_y(a, b) == pytest.approx(direct_ssim(luma(a), luma(b)), abs=1e-9)
    assert ssim_y(a, b) == pytest.approx(ssim_y(b, a))


def test_the_border_is_left_out():
    a, b = noise(30, 26), noise(30, 26, 1)
    for metric in (psnr_y, ssim_y):
        assert metric(a, b, border=4) == pytest.approx(metric(a[4:-4, 4:-4], b[4:-4, 4:-4]))
        assert metric(a, b, border=4) != pytest.approx(metric(a, b))
    framed = a.copy()
    framed[:4] = 0
    assert psnr_y(a, framed, border=4) == math.inf


@pytest.mark.parametrize("metric", [psnr_y, ssim_y])
def test_pictures_that_cannot_be_compared(metric):
    with pytest.raises(ValueError, match="different sizes"):
        metric(noise(16, 16), noise(16, 17))
    for border in (-1, 8):
        with pytest.raises(ValueError, match="border"):
            metric(noise(16, 20), noise(16, 20), border=border)


def test_ssim_needs_room_for_its_window():
    ssim_y(noise(11, 11), noise(11, 11, 1))
    with pytest.raises(ValueError, match="11 pixels"):
        ssim_y(noise(10, 40), noise(10, 40))
    with pytest.raises(ValueError, match="11 pixels"):
        ssim_y(noise(18, 18), noise(18, 18), border=4)


def test_psnr_takes_the_smallest_pictures():
    assert psnr_y(noise(1, 1), noise(1, 1)) == math.inf


def by_hand(a, b, block, border):
    """Errors sorted one pixel at a time."""
    height, width = a.shape[:2]
    error = np.abs(luma(a) - luma(b))
    beside, elsewhere = [], []
    for y in range(border, height - border):
        for x in range(border, width - border):
            neighbours = [(y, x - 1), (y, x + 1), (y - 1, x), (y + 1, x)]
            inside = [(v, u) for v, u in neighbours if 0 <= v < height and 0 <= u < width]
            foreign = any((v // block, u // block) != (y // block, x // block) for v, u in inside)
            (beside if foreign else elsewhere).append(error[y, x])
    return np.mean(beside) / np.mean(elsewhere)


@given(st.integers(9, 30), st.integers(9, 30), st.integers(4, 8), st.integers(0, 2))
@settings(max_examples=15)
def test_seams_are_counted_at_both_sides_of_edges(height, width, block, border):
    a, b = noise(height, width), noise(height, width, 1)
    expected = by_hand(a, b, block, border)
    assert seam_ratio(a, b, block, border) == pytest.approx(expected)
    assert seam_ratio(b, a, block, border) == pytest.approx(expected)


def test_a_grid_of_blocks_is_seen():
    truth = noise(64, 64) // 2
    even, grid = truth + 9, truth + 9
    grid[31:33] += 9
    grid[:, 31:33] += 9
    assert seam_ratio(even, truth, 32) == pytest.approx(1)
    assert seam_ratio(grid, truth, 32) == pytest.approx(2, rel=0.02)  # more where lines cross
    assert seam_ratio(grid, truth, 24) < 1.2
    assert seam_ratio(grid, even, 32) == math.inf


def test_without_edges_or_differences_there_are_no_seams():
    a, b = noise(32, 32), noise(32, 32, 1)
    assert seam_ratio(a, b, 32) == seam_ratio(a, a, 8) == seam_ratio(a, b, 2, border=1) == 1
