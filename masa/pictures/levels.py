"""Pixels of other depths than 8 bits, scaled to 0..255 and never clipped."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image, TiffImagePlugin

from masa.pictures.photo import ImageError, Pixels


def to_levels(values: np.ndarray, full: float) -> Pixels:
    """Maps 0..``full`` linearly to 0..255, to the nearest level; a copy."""
    if full == 255 and values.dtype == np.uint8:
        return np.array(values, order="C")
    levels = np.empty(values.shape, np.uint8)
    rows = max(1, 2**20 * len(values) // max(1, values.size))  # fractions take much memory
    for top in range(0, len(values), rows):
        levels[top : top + rows] = np.rint(values[top : top + rows] * (255 / full))
    return levels


def full_scale(values: np.ndarray, scales: tuple[float, ...], subject: str) -> float:
    """The first of the ascending ``scales`` s for which all values lie in 0..s.

    Raises ``ImageError`` about ``subject`` if there is none.
    """
    low, high = values.min(), values.max()
    for scale in scales:
        if low >= 0 and high <= scale:  # false for NaN, which both extrema inherit
            return scale
    raise ImageError(
        f"{subject} holds values that are not numbers from 0 to {scales[-1]}; "
        "please save it with 8 or 16 bits a channel."
    )


def deep_grey(
    image: Image.Image, tags: Mapping[int, Any], subject: str
) -> tuple[Image.Image, Pixels | None]:
    """8-bit grey and alpha of a picture whose grey is deeper than 8 bits.

    ``tags`` are those of a TIFF file, and empty for others. Raises ``ImageError`` on ``subject``.
    """
    values = np.asarray(image)
    full: float
    if image.mode == "F":
        full = full_scale(values, (1, 255, 65535), subject)
    elif image.mode == "I":
        full = full_scale(values, (255, 65535), subject)
    else:
        full = 2 ** tags.get(TiffImagePlugin.BITSPERSAMPLE, (16,))[0] - 1
    grey = to_levels(values, full)
    if tags.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == 0:
        grey = 255 - grey  # 0 is white; Pillow inverts only grey of up to 8 bits
    key = image.info.get("transparency")  # the one grey value that PNG declares transparent
    alpha = np.where(values == key, 0, 255).astype(np.uint8) if isinstance(key, int) else None
    return Image.fromarray(grey), alpha
