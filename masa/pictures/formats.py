"""The kinds of picture files that can be read: the one list that everything else follows."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Format:
    """One kind of picture file."""

    name: str
    """As people call it."""
    decoder: str
    """Pillow's name of the format, or :data:`HEIF`, which :mod:`masa.pictures.heif` reads."""
    suffixes: tuple[str, ...]
    """In lower case, with the dot; the usual one first."""
    mime_types: tuple[str, ...]


HEIF = "HEIF"

FORMATS = (
    Format("JPEG", "JPEG", (".jpg", ".jpeg", ".jfif"), ("image/jpeg",)),
    Format("PNG", "PNG", (".png",), ("image/png",)),
    Format("WebP", "WEBP", (".webp",), ("image/webp",)),
    Format("AVIF", "AVIF", (".avif",), ("image/avif",)),
    Format("HEIC", HEIF, (".heic", ".heif", ".hif"), ("image/heic", "image/heif")),
    Format("TIFF", "TIFF", (".tif", ".tiff"), ("image/tiff",)),
    Format("BMP", "BMP", (".bmp",), ("image/bmp",)),
    Format("GIF", "GIF", (".gif",), ("image/gif",)),
)

PILLOW_FORMATS = tuple(kind.decoder for kind in FORMATS if kind.decoder != HEIF)
"""Names of the formats that Pillow itself decodes."""

SUFFIXES = tuple(suffix for kind in FORMATS for suffix in kind.suffixes)
"""Endings of the names of picture files, in lower case."""

ACCEPTED = (*SUFFIXES, *(mime for kind in FORMATS for mime in kind.mime_types))
"""What a browser's file picker should offer: suffixes and MIME types."""

FORMATS_IN_WORDS = f"{', '.join(kind.name for kind in FORMATS[:-1])} or {FORMATS[-1].name}"
"""The list for a sentence: "JPEG, PNG, ... or GIF"."""
