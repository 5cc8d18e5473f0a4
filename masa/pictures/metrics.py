"""How close two pictures are, on the luma channel, as reference-based SR papers measure it.

Only the drift of colour and the grid are measured on RGB. Papers differ in the ``border`` they
leave out: 0 for MASA and TTSR, 4 for C2-Matching and DATSR. A number means little without it.
"""

import math

import numpy as np
import skimage.color
import skimage.metrics
from numpy.typing import NDArray

from masa.config import SCALE

__all__ = [
    "colour_drift",
    "grid_strength",
    "high_frequency_ratio",
    "luma",
    "psnr_y",
    "seam_ratio",
    "ssim_y",
]

SSIM_WINDOW = 11  # pixels a side: the Gaussian of sigma 1.5, cut at 3.5 sigma


def luma(rgb: NDArray[np.uint8]) -> NDArray[np.float64]:
    """The brightness of uint8 RGB ``(H, W, 3)``: float64 ``(H, W)``, 16 for black to 235 for white.

    BT.601 in studio range, as Matlab's ``rgb2ycbcr`` defines it, and not rounded. Raises
    ``ValueError`` for other arrays.
    """
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3:
        raise ValueError(f"expected uint8 (H, W, 3), got {rgb.dtype} {rgb.shape}")
    luma_plane: NDArray[np.float64] = skimage.color.rgb2ycbcr(rgb)[:, :, 0]
    return luma_plane


def psnr_y(a: NDArray[np.uint8], b: NDArray[np.uint8], border: int = 0) -> float:
    """Peak signal-to-noise ratio of the luma of two uint8 RGB ``(H, W, 3)``, in dB, with peak 255.

    ``border`` pixels are left out on every side. Infinite for equal luma. Raises ``ValueError`` for
    pictures of different sizes or with nothing inside the border.
    """
    luma_a, luma_b = _inner_luma(a, b, border)
    with np.errstate(divide="ignore"):  # equal pictures: log10(x / 0) is infinite
        return float(skimage.metrics.peak_signal_noise_ratio(luma_a, luma_b, data_range=255))


def ssim_y(a: NDArray[np.uint8], b: NDArray[np.uint8], border: int = 0) -> float:
    """Structural similarity of the luma of two uint8 RGB ``(H, W, 3)``: -1 to 1, which is equal.

    Gaussian window of 11 pixels and sigma 1.5, population covariance, range 255, averaged where the
    window fits: the settings of the original SSIM code. ``border`` pixels are left out on every
    side. Raises ``ValueError`` for pictures of different sizes, and where fewer than 11 pixels a
    side are left, as no window fits then.
    """
    luma_a, luma_b = _inner_luma(a, b, border)
    if min(luma_a.shape) < SSIM_WINDOW:
        raise ValueError(f"SSIM needs {SSIM_WINDOW} pixels a side, {luma_a.shape} are left")
    similarity = skimage.metrics.structural_similarity(
        luma_a,
        luma_b,
        data_range=255,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
    )
    return float(similarity)


def seam_ratio(a: NDArray[np.uint8], b: NDArray[np.uint8], block: int, border: int = 0) -> float:
    """How much more two uint8 RGB ``(H, W, 3)`` differ along the edges of blocks than elsewhere.

    The mean absolute difference of luma at the two pixels on either side of every edge between
    blocks of ``block`` x ``block`` pixels, counted from the top left corner, divided by that at all
    other pixels: 1 where no grid of blocks can be seen, also for equal luma and for pictures of one
    block; infinite if they differ along the edges alone. ``border`` pixels are left out on every
    side. Raises ``ValueError`` for pictures of different sizes or with nothing inside the border.
    """
    error = np.abs(np.subtract(*_inner_luma(a, b, border)))
    rows, columns = (_beside_edges(side, block)[border : side - border] for side in a.shape[:2])
    beside = rows[:, None] | columns
    if beside.all() or not beside.any() or not error.any():
        return 1.0
    elsewhere = error[~beside].mean()
    return float(error[beside].mean() / elsewhere) if elsewhere else math.inf


def high_frequency_ratio(a: NDArray[np.uint8], b: NDArray[np.uint8], border: int = 0) -> float:
    """How sharp uint8 RGB ``a`` is, compared with ``b``, the truth; both are ``(H, W, 3)``.

    E(a) / E(b), where E is the sum of |FFT(w * (Y - mean of Y))|^2 over the frequencies with
    sqrt(fx^2 + fy^2) > 1/4 of the sampling frequency, and w a Hann window over the picture, without
    which opposite borders that differ would count as sharp edges. 1 for a result as sharp as the
    truth, less for a softer one; noise and ringing count as sharpness too. If the truth has nothing
    at these frequencies, 1 where the result has nothing either, else infinite. ``border`` pixels
    are left out on every side. Raises ``ValueError`` for pictures of different sizes or with
    nothing inside the border.
    """
    energy_a, energy_b = map(_high_frequency_energy, _inner_luma(a, b, border))
    if energy_b:
        return energy_a / energy_b
    return math.inf if energy_a else 1.0


def colour_drift(a: NDArray[np.uint8], b: NDArray[np.uint8], border: int = 0) -> float:
    """How far the mean colours of two uint8 RGB ``(H, W, 3)`` lie apart, in levels: 0 to 255.

    The largest of the three channels' differences. ``border`` pixels are left out on every side.
    Raises ``ValueError`` for pictures of different sizes or with nothing inside the border.
    """
    means = (part.mean((0, 1)) for part in _inner(a, b, border))
    return float(np.abs(np.subtract(*means)).max())


def grid_strength(a: NDArray[np.uint8], b: NDArray[np.uint8], border: int = 0) -> float:
    """How strong a grid lies over uint8 RGB ``a`` but not over ``b``, the truth, in levels.

    The mean of the error over all tiles of ``SCALE`` x ``SCALE`` pixels is the part of it that
    repeats: a network that enlarges by 2 and by 2 again makes chequers and stripes of just such a
    period. This is that mean tile's standard deviation within a channel, as the root of the mean
    square over the channels: 0 for equal pictures, for a constant error and where no tile fits; 1
    for chequers of +1 and -1. Of errors without a grid, about their own standard deviation divided
    by the root of the number of tiles is left. ``border`` pixels are left out on every side. Raises
    ``ValueError`` for pictures of different sizes or with nothing inside the border.
    """
    inner_a, inner_b = _inner(a, b, border)
    rows, columns = (side // SCALE for side in inner_a.shape[:2])
    if not rows or not columns:
        return 0.0
    error = (inner_a.astype(np.float64) - inner_b)[: rows * SCALE, : columns * SCALE]
    tile = error.reshape(rows, SCALE, columns, SCALE, -1).mean((0, 2))
    return float(np.sqrt(tile.var((0, 1)).mean()))


def _high_frequency_energy(plane: NDArray[np.float64]) -> float:
    """Mean energy per pixel; 0 where it is too little to be more than rounding."""
    height, width = plane.shape
    # Without the window's zeros at both ends, so that tiny pictures keep some pixels.
    rows, columns = (np.hanning(side + 2)[1:-1] for side in (height, width))
    spectrum = np.fft.rfft2(np.outer(rows, columns) * (plane - plane.mean()))
    energy = np.abs(spectrum) ** 2
    if width > 1:  # the real transform holds only one of each pair of opposite frequencies
        energy[:, 1 : (width + 1) // 2] *= 2
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width))
    total = float(energy[frequency > 0.25].sum()) / plane.size**2
    return total if total > 1e-12 else 0.0


def _beside_edges(side: int, block: int) -> NDArray[np.bool_]:
    """Which of a row's pixels touch an edge between blocks; its ends touch none."""
    place = np.arange(side)
    after = (place % block == 0) & (place > 0)
    return after | np.append(after[1:], False)


def _inner_luma(
    a: NDArray[np.uint8], b: NDArray[np.uint8], border: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    inner_a, inner_b = _inner(a, b, border)
    return luma(inner_a), luma(inner_b)


def _inner(
    a: NDArray[np.uint8], b: NDArray[np.uint8], border: int
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    if a.shape != b.shape:
        raise ValueError(f"pictures of different sizes, {a.shape} and {b.shape}")
    height, width = a.shape[:2]
    if border < 0 or 2 * border >= min(height, width):
        raise ValueError(f"a border of {border} pixels leaves nothing of {height} x {width}")
    inner = np.s_[border : height - border, border : width - border]
    return a[inner], b[inner]
