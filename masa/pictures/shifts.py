"""Shifts of a picture's luminance and colour: for training, for the demo and for measuring.

Spatial adaptation exists because a reference was lit differently or taken by another camera.
These are the differences that are simulated.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from masa.errors import UserError
from masa.pictures.photo import Pixels

RANGES: dict[str, tuple[float, float, float]] = {
    "gain": (0.4, 1.0, 1.6),
    "offset": (-60.0, 0.0, 60.0),
    "contrast": (0.3, 1.0, 1.7),
    "gamma": (0.4, 1.0, 2.5),
    "temperature": (-1.0, 0.0, 1.0),
    "saturation": (0.0, 1.0, 2.0),
}
"""Lowest, neutral and highest value of each field of :class:`Shift`, in the order of use."""

TRAINING_GAIN = (0.7, 1.3)
TRAINING_OFFSET = (-20.0, 20.0)

_WARMTH = 1.3  # factor on red, and divisor of blue, at temperature 1
_MIDDLE = 127.5
_LOWEST, _HIGHEST = -0.5, 255.5  # what lies between them is rounded, not clipped
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # BT.601


@dataclass(frozen=True)
class Shifted:
    """A shifted picture."""

    rgb: Pixels
    """``(H, W, 3)``."""
    clipped_low: int = 0
    """Pixels of which a channel would have become darker than 0."""
    clipped_high: int = 0
    """Pixels of which a channel would have become brighter than 255."""
    clipped: int = 0
    """Pixels of either kind; those of both count once."""


@dataclass(frozen=True)
class Shift:
    """A change of luminance and colour; the default changes nothing.

    The order is gain, offset, contrast, [clip], gamma, temperature, saturation, [clip, round]:
    gamma needs levels in range, otherwise they stay real numbers to the end. Raises
    ``UserError`` for values that are no numbers or outside ``RANGES``.
    """

    gain: float = 1.0
    """Levels are multiplied by it."""
    offset: float = 0.0
    """Added to levels, of 255."""
    gamma: float = 1.0
    """``255 (level / 255) ** gamma``: below 1 brightens the middle tones, above 1 darkens them."""
    contrast: float = 1.0
    """Distances from the middle grey, 127.5, are multiplied by it."""
    temperature: float = 0.0
    """Above 0 warmer (more red, less blue), below 0 cooler; the factor is 1.3 at the ends."""
    saturation: float = 1.0
    """Distances from the pixel's own grey are multiplied by it; 0 leaves grey alone."""

    def __post_init__(self) -> None:
        for name, (low, _, high) in RANGES.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float, np.number)):
                raise UserError(f"The shift's {name} must be a number, not {value!r}.")
            if not (math.isfinite(value) and low <= value <= high):
                raise UserError(
                    f"The shift's {name} is {value:g}: choose a value from {low:g} to {high:g}."
                )

    @property
    def is_identity(self) -> bool:
        """Whether nothing is changed."""
        return all(getattr(self, f.name) == RANGES[f.name][1] for f in fields(self))

    def apply(self, rgb: Pixels) -> Shifted:
        """The shifted copy of a uint8 picture ``(H, W, 3)``; exactly equal if neutral.

        Raises ``ValueError`` for other arrays.
        """
        if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3:
            raise ValueError(f"expected uint8 (H, W, 3), not {rgb.dtype} {rgb.shape}")
        if self.is_identity:
            return Shifted(rgb.copy())
        tone, low, high = self._tone()
        warmth = _WARMTH**self.temperature
        # All but saturation treat channels apart, so 256 levels stand for all pixels.
        curves = (tone[:, None] * np.array([warmth, 1, 1 / warmth])).astype(np.float32)
        channels = np.arange(3)
        if self.saturation == 1:
            is_low = (low[:, None] | (curves < _LOWEST))[rgb, channels]
            is_high = (high[:, None] | (curves > _HIGHEST))[rgb, channels]
            levels = _round(curves)[rgb, channels]
        else:
            colour = curves[rgb, channels]
            grey = (colour @ _LUMA)[..., None]
            colour = grey + (colour - grey) * np.float32(self.saturation)
            is_low = low[rgb] | (colour < _LOWEST)
            is_high = high[rgb] | (colour > _HIGHEST)
            levels = _round(colour)
        return Shifted(levels, *count_clipped(is_low, is_high))

    def _tone(self) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_]]:
        """What gain to gamma make of each of the 256 levels, and which of them are clipped."""
        level = np.arange(256) * self.gain + self.offset
        level = (level - _MIDDLE) * self.contrast + _MIDDLE
        tone = 255 * (level.clip(0, 255) / 255) ** self.gamma
        return tone, level < _LOWEST, level > _HIGHEST


PRESETS: dict[str, Shift] = {
    "off": Shift(),
    "darker": Shift(gain=0.6, offset=-15),
    "brighter": Shift(gain=1.25, offset=20),
    "low contrast": Shift(contrast=0.5),
    "gamma": Shift(gamma=1.8),
    "warm": Shift(temperature=0.8, saturation=1.1),
    "cool": Shift(temperature=-0.8, saturation=0.9),
}
"""Shifts worth a name of their own."""


def random_luminance(rng: np.random.Generator) -> Shift:
    """The paper's training shift: gain from 0.7 to 1.3, offset of at most 20 levels either way."""
    return Shift(gain=rng.uniform(*TRAINING_GAIN), offset=rng.uniform(*TRAINING_OFFSET))


def _round(levels: NDArray[np.float32]) -> Pixels:
    return np.rint(levels).clip(0, 255).astype(np.uint8)


def count_clipped(is_low: NDArray[np.bool_], is_high: NDArray[np.bool_]) -> tuple[int, int, int]:
    """The counts of :class:`Shifted`, for channels ``(H, W, 3)`` beyond either end."""
    low, high = is_low.any(axis=2), is_high.any(axis=2)
    count = np.count_nonzero
    return int(count(low)), int(count(high)), int(count(low | high))
