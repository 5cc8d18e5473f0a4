"""Files whose structure takes far more time or memory than their size and pixels suggest.

Pillow reads some of a file's structure before anybody can ask for the picture's size: every tag of
a TIFF, comments of a GIF, EXIF in a JPEG, lists of an AVIF; and libheif that of a HEIC. And some
files are decoded again and again: a JPEG may consist of thousands of scans, each of which goes over
all pixels.
"""

from __future__ import annotations

import re
import struct

from masa.pictures.avif import has_long_lists
from masa.pictures.photo import ImageError

MOST_EXIF = 2**17
"""Bytes of EXIF data in a picture; a camera writes at most 64 KB."""

MOST_SCANS = 100
"""Scans of a JPEG; a progressive one has about ten."""

MOST_PROFILE = 2**22
"""Bytes of a colour profile; those for print have up to 3 MB."""

_MOST_SEGMENTS = 10_000  # of a JPEG, between markers
_MOST_JUNK = 2**16  # bytes of a JPEG before its first scan that belong to no segment
_MOST_CHUNKS = 20_000  # of a PNG; its levels mostly lie in chunks of 8 KB or more
_MOST_STRIPS = 2**15  # of a TIFF, or tiles: Pillow makes an object for each
_MOST_TAGS = 4096  # of a directory of a TIFF, which has some dozens
_MOST_DIRECTORIES = 16  # of a TIFF: its own, the camera's and the place's
_MOST_EXTENSIONS = 2**16  # bytes of a GIF before its first picture: comments and the like

# Two bytes that begin a part of a JPEG. Between scans 0xFF 0x00 is a level of 255, and 0xFF 0xD0 to
# 0xFF 0xD7 are marks within one scan.
_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
_END, _SCAN, _EXIF = 0xD9, 0xDA, 0xE1
_BARE = (0x01, 0xD8)  # markers without a length

_TIFF = {b"II*\0": ("<", 4), b"MM\0*": (">", 4), b"II+\0": ("<", 8), b"MM\0+": (">", 8)}
_UNITS = {2: 1, 3: 2, 4: 4, 5: 8, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_STRIPS = (273, 279, 324, 325)  # tags that list where strips or tiles are, and how long
_DIRECTORIES = (0x8769, 0x8825)  # tags that point to the camera's and the place's own directory


def check_structure(data: bytes, subject: str) -> None:
    """Raises ``ImageError`` about ``subject`` if its file must not be opened.

    Files of kinds without such structure pass, and so do damaged ones: the decoder finds out.
    """
    kinds = {_is_endless_jpeg: data.startswith(b"\xff\xd8"), _shares_tags: data[:4] in _TIFF}
    kinds |= {_has_long_notes: data.startswith(b"GIF8"), _is_shredded: data[1:4] == b"PNG"}
    kinds |= {has_long_lists: data[4:8] == b"ftyp"}
    if any(applies and is_odd(data) for is_odd, applies in kinds.items()):
        raise ImageError(
            f"{subject} is stored in a way that would take very long to open; please save it anew."
        )


def _is_endless_jpeg(data: bytes) -> bool:
    place, segments, scans, exif, junk = 2, 0, 0, 0, 0
    while (marker := _MARKER.search(data, place)) is not None:
        if not scans:  # what follows is read by a decoder that is not written in Python
            junk += marker.start() - place
        kind, place = data[marker.start() + 1], marker.end()
        if kind == _END:
            break
        if kind in _BARE:
            continue
        segments += 1
        scans += kind == _SCAN
        length = int.from_bytes(data[place : place + 2])
        if kind == _EXIF and data[place + 2 : place + 6] == b"Exif":
            exif += length
        if scans > MOST_SCANS or exif > MOST_EXIF:
            return True
        if segments > _MOST_SEGMENTS or junk > _MOST_JUNK:
            return True
        place += max(length, 2)
    return False


def _shares_tags(data: bytes) -> bool:
    """Whether tags of a TIFF share their bytes, which Pillow would hold once for each of them; or
    list very many strips."""
    order, width = _TIFF[data[:4]]
    number, count, entry = ("Q", "Q", 20) if width == 8 else ("I", "H", 12)
    start = 8 if width == 8 else 4
    held = 0
    if len(data) < start + width:
        return False
    todo, seen = [struct.unpack_from(f"{order}{number}", data, start)[0]], set[int]()
    while todo:
        place = todo.pop()
        if place in seen or place + struct.calcsize(f"{order}{count}") > len(data):
            continue
        seen.add(place)
        (tags,) = struct.unpack_from(f"{order}{count}", data, place)
        if tags > _MOST_TAGS or len(seen) > _MOST_DIRECTORIES:
            return True
        place += struct.calcsize(f"{order}{count}")
        for at in range(place, min(place + tags * entry, len(data) - entry + 1), entry):
            tag, kind, values, value = struct.unpack_from(f"{order}HH{number}{number}", data, at)
            size = values * _UNITS.get(kind, 1)
            held += size if size > width else 0
            if tag in _STRIPS and values > _MOST_STRIPS:
                return True
            if tag in _DIRECTORIES:
                todo.append(value)
    return held > 2 * len(data) + MOST_EXIF


def _is_shredded(data: bytes) -> bool:
    """Whether a PNG consists of very many chunks."""
    place, chunks = 8, 0
    while place + 8 <= len(data) and chunks <= _MOST_CHUNKS:
        chunks += 1
        place += 12 + int.from_bytes(data[place : place + 4])
    return chunks > _MOST_CHUNKS


def is_usual_profile(profile: bytes) -> bool:
    """Whether a colour profile (ICC) can be applied in reasonable time.

    One with a chain of elements ("D2B0" and the like, which no camera writes) may repeat each a
    hundred thousand times.
    """
    if len(profile) > MOST_PROFILE:
        return False
    tags = int.from_bytes(profile[128:132])
    names = (profile[at : at + 3] for at in range(132, min(132 + 12 * tags, len(profile)), 12))
    return tags <= 100 and not any(name in (b"D2B", b"B2D") for name in names)


def _has_long_notes(data: bytes) -> bool:
    held = 0
    flags = data[10] if len(data) > 10 else 0
    place = 13 + (3 << (flags & 7) + 1 if flags & 0x80 else 0)
    while data[place : place + 1] == b"!":
        place += 2
        while place < len(data) and (size := data[place]):
            held += size
            place += size + 1
        place += 1
    return held > _MOST_EXTENSIONS
