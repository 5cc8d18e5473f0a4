"""JPEG files that stop early, after an interrupted download: what is there is read.

Pillow has a switch for them, but it holds for all threads of a process and does not tell where a
file stopped. Here the file is decoded twice instead. Without an end mark, the decoder does not
write the lines that it cannot finish: this tells how many there are. With an end mark added, it
gives the whole picture, mid-grey where nothing is known.
"""

import io
import re
from itertools import islice, pairwise

import numpy as np
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

from masa.pictures.photo import ImageError
from masa.pictures.structure import MOST_SCANS

_END = b"\xff\xd9"
_SCAN = b"\xff\xda"


def read_what_is_there(data: bytes, subject: str) -> tuple[Image.Image, tuple[str, ...]]:
    """The picture of a JPEG file that Pillow refuses, and a note on what is missing, if anything.

    A progressive file, whose lines all come at once and grow sharper, needs the first scan of each
    colour component in full. Raises ``ImageError`` about ``subject`` if less than a quarter of the
    lines, or less than those scans, is there; and what Pillow raises for other damage.
    """
    whole = _opened(data + _END)
    first_scan = _first_scan(whole, data)
    if whole.info.get("progressive") or data[first_scan + 4] < whole.layers:
        if not _is_coarsely_there(data[first_scan:], whole.layers):
            raise _too_early(subject)
        whole.load()
        return whole, (f"{subject} stops early: it was read without its finest details.",)
    lines = _count_lines(data)
    whole.load()
    if _has_last_block(whole):
        return whole, ()
    if 4 * lines < whole.height:
        raise _too_early(subject)
    share = 100 * lines // whole.height
    return whole, (
        f"{subject} stops early: about {share}% of its lines were read, and the rest is grey.",
    )


def _opened(data: bytes) -> JpegImageFile:
    image = Image.open(io.BytesIO(data), formats=("JPEG",))
    assert isinstance(image, JpegImageFile)
    return image


def _first_scan(image: JpegImageFile, data: bytes) -> int:
    """Where the first scan's mark is: Pillow has read the header, which ends with it."""
    assert image.fp is not None
    return data.rindex(_SCAN, 0, image.fp.tell())


def _too_early(subject: str) -> ImageError:
    return ImageError(
        f"{subject} stops so early that less than a quarter of it is there; please choose another "
        "copy of it."
    )


def _count_lines(data: bytes) -> int:
    """Lines that the decoder finishes, all blocks of which are there."""
    image = _opened(data)
    # The lines are recognised by no longer holding these bytes, which no picture holds by chance.
    row = np.random.default_rng(0).bytes(image.width * len(image.getbands()))
    image.im = Image.frombytes(image.mode, image.size, row * image.height).im
    try:
        image.load()
    except OSError:
        image.tile = []  # what is there is all that there will be
    lines = np.asarray(image).reshape(image.height, -1)
    finished = (lines != np.frombuffer(row, np.uint8)).any(axis=1)
    return int(finished.argmin()) if not finished.all() else image.height


def _has_last_block(image: Image.Image) -> bool:
    """Whether the last pixel is not the decoder's mid-grey: then only the end mark was missing."""
    last = np.asarray(image)[-1, -1]
    return bool(((last < 127) | (last > 128)).any())


def _is_coarsely_there(scans: bytes, components: int) -> bool:
    """Whether complete scans hold the mean levels of every component's blocks.

    ``scans`` begins with the first scan's mark. A scan is complete if another one follows it.
    """
    begun: set[int] = set()
    # What lies behind the end mark was not counted before, and is not decoded.
    places = (found.start() for found in re.finditer(_SCAN, scans))
    for start, _ in pairwise(islice(places, MOST_SCANS + 1)):
        count = scans[start + 4]
        *header, lowest_frequency = scans[start + 5 : start + 6 + 2 * count]
        if lowest_frequency == 0:
            begun |= set(header[::2])
    return len(begun) >= components
