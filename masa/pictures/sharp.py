"""Sharp photos, of which an LR is made, so that the result can be compared with the truth."""

from __future__ import annotations

from dataclasses import replace

from masa.pictures.photo import DEFAULT_LIMITS, Limits, Photo, Source
from masa.pictures.read import read_photo
from masa.pictures.resize import resize_to_fit


def read_sharp(source: Source, limits: Limits = DEFAULT_LIMITS) -> Photo:
    """Read a sharp photo; one with more than ``limits.max_sharp_pixels`` is reduced to them, which
    its notes say. Raises ``ImageError``.
    """
    photo = read_photo(source, "sharp photo", limits)
    fitted = resize_to_fit(photo, limits.max_sharp_pixels)
    if fitted is photo:
        return photo
    sizes = f"from {photo.width}x{photo.height} to {fitted.width}x{fitted.height} pixels"
    return replace(fitted, notes=(*photo.notes, f"The sharp photo was reduced {sizes}."))
