"""Pictures as files: encoded, and written whole or not at all."""

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from masa.files import write_whole
from masa.pictures.photo import ImageError, Pixels, safe_name
from masa.pictures.resize import plane_size


@dataclass(frozen=True)
class _Writer:
    format: str  # Pillow's name
    keeps_alpha: bool = True
    max_side: int = 2**31 - 1  # pixels that the format can count
    max_exif: int = 2**31 - 1  # bytes of EXIF data; 0 where the format has no place for them
    options: Mapping[str, Any] = field(default_factory=dict)


_JPEG = _Writer(
    "JPEG",
    keeps_alpha=False,
    max_side=65500,
    max_exif=65533,
    options={"quality": 95, "subsampling": "4:4:4"},
)

# "exact" keeps the colours under full transparency too.
_WEBP = _Writer("WEBP", max_side=16383, options={"lossless": True, "exact": True})

_TIFF = _Writer("TIFF", options={"compression": "tiff_lzw"})

_WRITERS = {
    ".png": _Writer("PNG"),
    ".jpg": _JPEG,
    ".jpeg": _JPEG,
    ".webp": _WEBP,
    ".tif": _TIFF,
    ".tiff": _TIFF,
    ".bmp": _Writer("BMP", keeps_alpha=False, max_exif=0),
}

WRITTEN = tuple(_WRITERS)
"""Suffixes of the picture files that can be written."""


def encode(
    suffix: str, rgb: Pixels, alpha: Pixels | None = None, exif: bytes | None = None
) -> bytes:
    """The bytes of a picture file of the kind that ``suffix`` (as ".png", in any case) names.

    ``rgb`` is uint8 ``(H, W, 3)``, ``alpha`` uint8 ``(H, W)``. PNG, WebP (lossless), TIFF and BMP
    keep every pixel, also those under full transparency, to which ``read_photo`` has given visible
    colours. JPEG has quality 95 and full colour resolution. JPEG and BMP have no transparency and
    show the picture on white.

    ``exif`` is what a photo has under that name: it is written into JPEG, PNG, WebP and TIFF (which
    then is not compressed), and left out of BMP, and of JPEG if it is longer than 64 KB. Without
    it, a file holds the picture and nothing else.

    Raises ``ImageError`` for other suffixes and for sides that the format cannot hold,
    ``ValueError`` for other arrays.
    """
    writer = _WRITERS.get(suffix.lower())
    if writer is None:
        raise ImageError(
            "The picture cannot be saved under this name; "
            f"please let it end in one of {', '.join(_WRITERS)}."
        )
    size = plane_size(rgb)
    fits = alpha is None or (alpha.shape == size and alpha.dtype == np.uint8)
    if rgb.ndim != 3 or not fits:
        raise ValueError("expected rgb of (H, W, 3) and alpha of (H, W), both uint8")
    if max(size) > writer.max_side:
        raise ImageError(
            f"The picture has a side of {max(size)} pixels and {writer.format} holds at most "
            f"{writer.max_side}; please save it as PNG."
        )
    image = Image.fromarray(rgb)
    if alpha is not None:
        plane = Image.fromarray(alpha)
        if writer.keeps_alpha:
            image.putalpha(plane)
        else:
            image = Image.composite(image, Image.new("RGB", image.size, "white"), plane)
    options = dict(writer.options)
    if exif is not None and len(exif) <= writer.max_exif:
        options["exif"] = exif
        if writer is _TIFF:  # libtiff, which compresses, takes no EXIF data
            del options["compression"]
    buffer = io.BytesIO()
    image.save(buffer, writer.format, **options)
    return buffer.getvalue()


def write_photo(
    path: str | Path, rgb: Pixels, alpha: Pixels | None = None, exif: bytes | None = None
) -> None:
    """Writes a picture file of the kind that the suffix of ``path`` names; see ``encode``.

    The file appears whole or not at all, and replaces an older one of that name. Raises what
    ``encode`` raises, and ``ImageError`` where the folder or the disk does not take the file.
    """
    path = Path(path)
    data = encode(path.suffix, rgb, alpha, exif)
    try:
        write_whole(path, data)
    except OSError as error:
        reason = (error.strerror or "unknown reason").lower()
        raise ImageError(
            f"The picture '{safe_name(str(path))}' could not be saved ({reason}); "
            "please choose another folder or make room on the disk."
        ) from error
