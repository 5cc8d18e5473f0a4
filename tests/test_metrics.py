"""The metrics against their definitions, and their refusals."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import correlate1d

from masa.pictures.metrics import (
    colour_drift,
    grid_strength,
    high_frequency_ratio,
    luma,
    psnr_y,
    seam_ratio,
    ssim_y,
)


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
    for metric in (psnr_y, ssim_y, high_frequency_ratio, colour_drift, grid_strength):
        assert metric(a, b, border=4) == pytest.approx(metric(a[4:-4, 4:-4], b[4:-4, 4:-4]))
        assert metric(a, b, border=4) != pytest.approx(metric(a, b))
    framed = a.copy()
    framed[:4] = 0
    assert psnr_y(a, framed, border=4) == math.inf


@pytest.mark.parametrize(
    "metric", [psnr_y, ssim_y, high_frequency_ratio, colour_drift, grid_strength]
)
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


def waves(frequency, amplitude, size=64, axis=1):
    """Grey waves of so many cycles a pixel along an axis; levels are rounded."""
    phase = 2 * np.pi * frequency * np.arange(size)
    plane = np.rint(128 + amplitude * np.sin(phase))
    plane = np.broadcast_to(plane if axis else plane[:, None], (size, size))
    return np.repeat(plane[:, :, None], 3, axis=2).astype(np.uint8)


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("size", [63, 64])
def test_sharpness_is_energy_above_a_quarter_of_the_sampling_frequency(axis, size):
    fine = waves(0.4, 80, size, axis)
    assert high_frequency_ratio(fine, fine) == 1
    half = waves(0.4, 40, size, axis)
    assert high_frequency_ratio(half, fine) == pytest.approx(0.25, rel=0.03)
    assert high_frequency_ratio(fine, half) == pytest.approx(4, rel=0.03)
    assert high_frequency_ratio(waves(0.3, 80, size, axis), fine) == pytest.approx(1, rel=0.03)
    assert high_frequency_ratio(waves(0.2, 80, size, axis), fine) < 0.001
    assert high_frequency_ratio(fine.transpose(1, 0, 2), fine) == pytest.approx(1, rel=0.03)


def test_both_directions_add_up():
    across, along = waves(0.4, 40, axis=0).astype(int), waves(0.4, 40, axis=1).astype(int)
    both = (across + along - 128).astype(np.uint8)
    assert high_frequency_ratio(both, waves(0.4, 40)) == pytest.approx(2, rel=0.03)
    # Diagonal waves, each side's frequency below a quarter, are above it together.
    y, x = np.mgrid[:64, :64]
    diagonal = np.rint(128 + 80 * np.sin(2 * np.pi * 0.2 * (x + y)))
    diagonal = np.repeat(diagonal[:, :, None], 3, axis=2).astype(np.uint8)
    assert high_frequency_ratio(diagonal, waves(0.4, 80)) == pytest.approx(1, rel=0.03)


def test_blur_is_seen_and_slopes_are_no_sharpness():
    truth = noise(64, 64)
    kernel = np.array([0.25, 0.5, 0.25])
    soft = correlate1d(correlate1d(truth.astype(float), kernel, 0), kernel, 1).astype(np.uint8)
    assert 0.01 < high_frequency_ratio(soft, truth) < 0.2
    slope = np.repeat(np.tile(np.linspace(0, 255, 64), (64, 1))[:, :, None], 3, 2).astype(np.uint8)
    assert high_frequency_ratio(slope, truth) < 0.001  # its ends differ by 255 levels


def test_sharpness_of_pictures_without_detail():
    assert high_frequency_ratio(grey(100), grey(30)) == 1
    assert high_frequency_ratio(noise(16, 16), grey(30)) == math.inf
    assert high_frequency_ratio(grey(30), noise(16, 16)) == 0
    assert high_frequency_ratio(grey(30, 1), grey(40, 1)) == 1


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


def test_colour_drift_is_the_farthest_channels():
    picture = grey(100)
    tinted = picture + np.array([1, 0, 3], np.uint8)
    assert colour_drift(picture, picture) == 0
    assert colour_drift(tinted, picture) == colour_drift(picture, tinted) == 3
    mixed = picture.copy()
    mixed[::2] += 10
    mixed[1::2] -= 10
    assert colour_drift(mixed, picture) == 0


def on_grey(error):
    """Grey of 128 with an integer error ``(H, W)`` or ``(H, W, 3)``, and grey alone."""
    error = error if error.ndim == 3 else np.repeat(error[:, :, None], 3, axis=2)
    return (128 + error).astype(np.uint8), np.full(error.shape, 128, np.uint8)


@pytest.mark.parametrize("period", [2, 4])
@pytest.mark.parametrize("kind", ["chequers", "rows", "columns"])
def test_a_grid_is_the_part_of_the_error_that_repeats(kind, period):
    rows, columns = np.indices((42, 39)) // (period // 2)
    number = {"chequers": rows + columns, "rows": rows, "columns": columns}[kind]
    grid = 3 - 6 * (number % 2)
    assert grid_strength(*on_grey(grid)) == pytest.approx(3)
    tinted = grid[:, :, None] + np.array([20, 0, -5])  # which is measured elsewhere
    assert grid_strength(*on_grey(tinted)) == pytest.approx(3)
    one_channel = grid[:, :, None] * np.array([1, 0, 0])
    assert grid_strength(*on_grey(one_channel)) == pytest.approx(math.sqrt(3))


def test_no_grid_is_found_where_nothing_repeats():
    texture = noise(40, 40)
    assert grid_strength(texture, texture) == 0  # its own grid is the truth's too
    assert grid_strength(*on_grey(np.full((40, 40), 9))) == 0
    longer = 9 - 18 * (np.indices((48, 48)).sum(0) // 4 % 2)  # chequers of four pixels
    assert grid_strength(*on_grey(longer)) == 0
    scattered = np.random.default_rng(0).integers(-9, 10, (400, 400))
    assert grid_strength(*on_grey(scattered)) < 3 * scattered.std() / 100  # 100 x 100 tiles
    assert grid_strength(noise(3, 40), noise(3, 40, 1)) == 0  # no tile fits
