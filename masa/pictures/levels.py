"""Pixels of other depths than 8 bits, scaled to 0..255 and never clipped."""

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image, ImageChops, ImageFile, TiffImagePlugin

from masa.pictures.photo import ImageError, Pixels

_WHITE = {"L;2": 3, "L;4": 15}
"""The largest value in a PNG file with so few bits of grey, by Pillow's name for them."""


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


def scale_key(image: ImageFile.ImageFile, data: bytes) -> None:
    """Gives the picture of a PNG file the transparency of the one colour that is declared so.

    Pillow scales pixels of 2, 4 and 16 bits, but not that colour. ``image`` is opened from ``data``
    and not loaded. Grey of 16 bits is left to :func:`deep_grey`. Raises what Pillow raises.
    """
    key, stored = image.info.get("transparency"), image.tile[0].args
    if key is None:
        return
    if stored in _WHITE:
        full = _WHITE[stored]
        image.info["transparency"] = (key & full) * 255 // full
    elif stored == "RGB;16B":
        # Of the two bytes of a level Pillow keeps the first. Only both tell the declared colour
        # from its neighbours; with the order of bytes exchanged, it keeps the second.
        second = Image.open(io.BytesIO(data), formats=("PNG",))
        second.tile = [second.tile[0]._replace(args="RGB;16L")]
        seen = _other_than(tuple(level & 255 for level in key), second)
        image.putalpha(
            ImageChops.lighter(seen, _other_than(tuple(level >> 8 for level in key), image))
        )
        del image.info["transparency"]


def _other_than(key: tuple[int, ...], image: Image.Image) -> Image.Image:
    """255 where a picture has another colour than ``key``, and else 0."""
    image.info["transparency"] = key
    return image.convert("RGBA").getchannel("A")
