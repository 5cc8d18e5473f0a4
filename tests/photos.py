"""Picture files of every kind, and the sentence with which one is refused."""

import io
import struct
import zlib

import numpy as np
import pillow_heif
import pytest
from hypothesis import settings
from PIL import Image, ImageCms

from masa.errors import UserError
from masa.pictures.photo import ImageError
from masa.pictures.read import read_photo

few = settings(max_examples=25, deadline=None)

UPRIGHT = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a, 1),
}
"""What turns an array upright, for each orientation that EXIF knows."""


def noise(height, width, channels=3, seed=0):
    shape = (height, width, channels) if channels else (height, width)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def smooth(height=24, width=40):
    """A picture that survives JPEG well."""
    y, x = np.mgrid[0:height, 0:width] / [[[height]], [[width]]]
    return np.rint(np.stack([x, y, (x + y) / 2], -1) * 200 + 20).astype(np.uint8)


def stored(image, kind, **options):
    if isinstance(image, np.ndarray):
        image = Image.fromarray(image)
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def heic(pixels, mode="RGB", **options):
    """A HEIC file without loss in its colours; 16-bit ``pixels`` are stored with 10 or 12 bits."""
    height, width = pixels.shape[:2]
    buffer = io.BytesIO()
    # Matrix 0 stores red, green and blue themselves.
    exact = {"quality": -1, "chroma": 444, "matrix_coefficients": 0}
    picture = pillow_heif.from_bytes(mode, (width, height), pixels.tobytes())
    picture.save(buffer, **exact, **options)
    return buffer.getvalue()


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, depth=8, colour=2, rows=b"", extra=b""):
    """A PNG file byte by byte; ``colour`` is PNG's code, 0 grey and 2 RGB."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    body = chunk(b"IDAT", zlib.compress(rows)) if rows else b""
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra + body + chunk(b"IEND", b"")


def png_rows(samples):
    return b"".join(b"\0" + row.tobytes() for row in samples)


def tiff(data, **tags):
    """A little-endian TIFF of one grey plane; ``data`` comes last, ``tags`` are longs."""
    numbers = {
        "width": 256, "height": 257, "bits": 258, "compression": 259, "photometric": 262,
        "offset": 273, "rows": 278, "length": 279, "tile_width": 322, "tile_height": 323,
        "tile_offset": 324, "tile_length": 325,
    }  # fmt: skip
    start = 8 + 2 + 12 * (len(tags) + 1) + 4
    place = "tile_offset" if "tile_width" in tags else "offset"
    entries = sorted((numbers[name], value) for name, value in {**tags, place: start}.items())
    directory = b"".join(struct.pack("<HHII", number, 4, 1, value) for number, value in entries)
    head = b"II*\0" + struct.pack("<IH", 8, len(entries))
    return head + directory + struct.pack("<I", 0) + data


def icc(space, **tags):
    """A version 2 ICC profile of a display or printer with the given tag data."""
    table, body = b"", b""
    offset = 128 + 4 + 12 * len(tags)
    for name, data in tags.items():
        data = data.ljust(-(-len(data) // 4) * 4, b"\0")
        table += struct.pack(">4sII", name.encode(), offset + len(body), len(data))
        body += data
    size = offset + len(body)
    kind, pcs = (b"prtr", b"Lab ") if space == "CMYK" else (b"mntr", b"XYZ ")
    head = struct.pack(">IIII4s4s", size, 0, 0x02400000, 0, b"", b"")[:12]
    head += kind + space.ljust(4).encode() + pcs + struct.pack(">6H", 2020, 1, 1, 0, 0, 0)
    head += b"acsp" + bytes(28) + struct.pack(">3i", 63190, 65536, 54061)  # D50
    return head.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + body


def swapped_profile():
    """sRGB with red and green exchanged, so that applying it cannot be overlooked."""
    data = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for old, new in ((b"rXYZ", b"????"), (b"gXYZ", b"rXYZ"), (b"????", b"gXYZ")):
        data = data.replace(old, new, 1)
    return data


def grey_profile():
    """Linear light, so that middle grey comes out much lighter in sRGB."""
    white = b"XYZ " + bytes(4) + struct.pack(">3i", 63190, 65536, 54061)
    return icc("GRAY", wtpt=white, kTRC=b"curv" + bytes(4) + struct.pack(">I", 0))


def cmyk_profile():
    """Only black ink has an effect, from white to black in CIELAB."""
    identity = bytes(range(256))
    grid = b"".join(
        bytes([0 if corner & 1 else 255, 128, 128]) for corner in range(16)
    )  # the last ink varies fastest
    matrix = struct.pack(">9i", *(65536 * (i % 4 == 0) for i in range(9)))
    lut = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + matrix + identity * 4 + grid + identity * 3
    return icc("CMYK", A2B0=lut)


def refusal(source, **options):
    """The sentence with which ``source`` is refused."""
    with pytest.raises(ImageError) as caught:
        read_photo(source, **options)
    return plain(caught.value)


def plain(error):
    text = str(error)
    assert text.endswith(".")
    assert ". " not in text, "more than one sentence"
    assert text.isprintable()
    assert not set("<>&/\\") & set(text)
    assert "Traceback" not in text
    assert isinstance(error, UserError)
    return text


def assert_equal_where_visible(photo, rgb):
    """The photo's colours are those given, other than where nobody sees them."""
    shown = np.ones(photo.rgb.shape[:2], bool) if photo.alpha is None else photo.alpha > 0
    np.testing.assert_array_equal(photo.rgb[shown], np.broadcast_to(rgb, photo.rgb.shape)[shown])
