"""Every promise of masa.images: what is read, what is refused and how, what is written."""

import errno
import io
import os
import struct
import threading
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from masa.errors import UserError
from masa.pictures.photo import DEFAULT_LIMITS, ImageError, Limits, Photo, check_size
from masa.pictures.read import read_photo
from masa.pictures.resize import (
    crop_to_multiple,
    enlarge_x4,
    pad_replicate,
    reduce_x4,
    resize_to_fit,
    to_tensor,
    to_uint8,
)
from masa.pictures.write import encode, write_photo

few = settings(max_examples=25, deadline=None)

# ---------------------------------------------------------------------------- helpers


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


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, depth=8, colour=2, rows=b"", extra=b""):
    """A PNG file byte by byte; `colour` is PNG's code, 0 grey and 2 RGB."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    body = chunk(b"IDAT", zlib.compress(rows)) if rows else b""
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra + body + chunk(b"IEND", b"")


def png_rows(samples):
    return b"".join(b"\0" + row.tobytes() for row in samples)


def tiff(data, **tags):
    """A little-endian TIFF of one grey plane; `data` follows the directory, `tags` are longs."""
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
    """The sentence with which `source` is refused."""
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


# ---------------------------------------------------------------------------- kinds of files


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "WEBP"])
def test_lossless_files_give_their_exact_pixels(tmp_path, kind):
    pixels = noise(19, 33)
    path = tmp_path / f"some.{kind.lower()}"
    path.write_bytes(stored(pixels, kind, **({"lossless": True} if kind == "WEBP" else {})))
    for source in (path, str(path), path.read_bytes(), Image.open(path)):
        photo = read_photo(source)
        np.testing.assert_array_equal(photo.rgb, pixels)
        assert photo.alpha is None
        assert photo.rgb.dtype == np.uint8
        assert photo.rgb.flags.c_contiguous
        assert photo.rgb.flags.writeable
        assert (photo.height, photo.width) == (19, 33)
        assert photo.name == ("" if isinstance(source, bytes) else path.name)


def test_jpeg_and_gif():
    pixels = smooth()
    jpeg = read_photo(stored(pixels, "JPEG", quality=98, subsampling=0))
    assert np.abs(jpeg.rgb.astype(int) - pixels).max() <= 6
    grey = noise(20, 20, 0)
    np.testing.assert_array_equal(read_photo(stored(grey, "GIF")).rgb[:, :, 1], grey)


def test_content_decides_and_not_the_suffix(tmp_path):
    path = tmp_path / "really_png.jpg"
    path.write_bytes(stored(noise(16, 16), "PNG"))
    np.testing.assert_array_equal(read_photo(path).rgb, noise(16, 16))


@pytest.mark.parametrize("kind", ["PPM", "ICO", "TGA", "PDF", "JPEG2000"])
def test_other_formats_are_refused(kind):
    assert "JPEG, PNG, WebP" in refusal(stored(noise(32, 32), kind))


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF", "MPO"])
def test_the_first_picture_of_several_is_taken(kind):
    first, second = (Image.new("RGB", (20, 30), colour) for colour in ("red", "blue"))
    several = stored(first, kind, save_all=True, append_images=[second], quality=100)
    rgb = read_photo(several).rgb
    assert rgb.shape == (30, 20, 3)
    assert rgb[..., 0].min() > 250
    assert rgb[..., 2].max() < 5


def test_other_sources_are_a_programming_error():
    with pytest.raises(TypeError, match="NoneType"):
        read_photo(None)


# ---------------------------------------------------------------------------- orientation

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


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_every_orientation_turns_colours_and_alpha(kind, orientation):
    pixels = noise(17, 29, 4)
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    photo = read_photo(stored(pixels, kind, exif=exif, **options))
    expected = UPRIGHT[orientation](pixels)
    np.testing.assert_array_equal(photo.rgb, expected[:, :, :3])
    np.testing.assert_array_equal(photo.alpha, expected[:, :, 3])


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_of_jpeg_and_of_deep_grey(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = smooth()
    jpeg = read_photo(stored(pixels, "JPEG", quality=98, subsampling=0, exif=exif))
    assert np.abs(jpeg.rgb.astype(int) - UPRIGHT[orientation](pixels)).max() <= 6
    deep = noise(17, 29, 0).astype(np.uint16) * 257
    for kind in ("PNG", "TIFF"):
        photo = read_photo(stored(deep, kind, exif=exif))
        np.testing.assert_array_equal(photo.rgb[..., 0], UPRIGHT[orientation](deep) // 257)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("exif", [b"Exif\0\0nonsense", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif"])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_broken_exif_does_not_cost_the_picture(kind, exif):
    assert read_photo(stored(smooth(), kind, exif=exif)).rgb.shape == (24, 40, 3)


# ---------------------------------------------------------------------------- colour modes


def test_grey_and_bilevel():
    grey = noise(18, 21, 0)
    assert (read_photo(stored(grey, "PNG")).rgb == grey[:, :, None]).all()
    bilevel = Image.fromarray(grey).convert("1")
    expected = np.asarray(bilevel)[:, :, None] * 255
    for kind in ("PNG", "TIFF", "BMP"):
        assert (read_photo(stored(bilevel, kind)).rgb == expected).all()


def test_alpha_of_grey_and_colour():
    for channels, mode in ((2, "LA"), (4, "RGBA")):
        pixels = noise(20, 22, channels)
        for kind in ("PNG", "TIFF"):
            photo = read_photo(stored(Image.fromarray(pixels, mode), kind))
            np.testing.assert_array_equal(photo.alpha, pixels[:, :, -1])
            colours = pixels[:, :, :1] if mode == "LA" else pixels[:, :, :3]
            # Colours below full transparency stay what they were.
            np.testing.assert_array_equal(photo.rgb, np.broadcast_to(colours, photo.rgb.shape))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("transparency", [3, bytes([255, 0, 60, 200])], ids=["one", "table"])
@pytest.mark.parametrize("kind", ["PNG", "GIF"])
def test_palette_with_and_without_transparency(kind, transparency):
    indices = noise(20, 24, 0) % 4
    colours = np.array([[255, 0, 0], [0, 255, 0], [10, 20, 30], [200, 100, 50]], np.uint8)
    image = Image.fromarray(indices, "P")
    image.putpalette(colours.tobytes())
    opaque = read_photo(stored(image, kind))
    np.testing.assert_array_equal(opaque.rgb, colours[indices])
    assert opaque.alpha is None
    if kind == "GIF" and isinstance(transparency, bytes):
        return  # GIF has one transparent index only
    photo = read_photo(stored(image, kind, transparency=transparency))
    np.testing.assert_array_equal(photo.rgb, colours[indices])
    table = (
        np.frombuffer(transparency, np.uint8)
        if isinstance(transparency, bytes)
        else np.array([255, 255, 255, 0])
    )
    np.testing.assert_array_equal(photo.alpha, table[indices])


def test_palette_with_an_alpha_plane():
    image = Image.fromarray(noise(20, 24)).quantize(16).convert("PA")
    image.putalpha(Image.fromarray(noise(20, 24, 0, seed=1)))
    np.testing.assert_array_equal(read_photo(image).alpha, noise(20, 24, 0, seed=1))


def test_one_colour_declared_transparent():
    pixels = smooth()
    photo = read_photo(stored(pixels, "PNG", transparency=tuple(map(int, pixels[3, 4]))))
    np.testing.assert_array_equal(photo.alpha == 0, (pixels == pixels[3, 4]).all(-1))
    np.testing.assert_array_equal(photo.rgb, pixels)
    grey = pixels[:, :, 0]
    photo = read_photo(stored(grey, "PNG", transparency=int(grey[3, 4])))
    np.testing.assert_array_equal(photo.alpha == 0, grey == grey[3, 4])
    deep = np.arange(400, dtype=np.uint16).reshape(20, 20) * 160
    key = chunk(b"tRNS", struct.pack(">H", int(deep[3, 4])))
    photo = read_photo(png(20, 20, 16, 0, png_rows(deep.astype(">u2")), key))
    np.testing.assert_array_equal(photo.alpha == 0, deep == deep[3, 4])


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk_without_a_profile(kind):
    """Adobe's JPEGs store the inks inverted; both kinds have to come out the same way."""
    inks = Image.new("CMYK", (40, 20), (255, 0, 0, 0))
    inks.paste((0, 0, 0, 0), (20, 0, 40, 20))
    rgb = read_photo(stored(inks, kind, **({"quality": 100} if kind == "JPEG" else {}))).rgb
    assert np.abs(rgb[:, :16].astype(int) - [0, 255, 255]).max() <= 3
    assert rgb[:, 24:].min() >= 252


@pytest.mark.parametrize(
    ("mode", "colour", "expected"),
    [
        ("YCbCr", (128, 128, 128), (128, 128, 128)),
        ("HSV", (0, 255, 255), (255, 0, 0)),
        ("LAB", (255, 128, 128), (255, 255, 255)),
        ("RGBX", (1, 2, 3, 4), (1, 2, 3)),
    ],
)
def test_other_colour_spaces(mode, colour, expected):
    image = Image.new(mode, (20, 20), colour)
    assert np.abs(read_photo(image).rgb.astype(int) - expected).max() <= 1
    if mode == "LAB":
        assert np.abs(read_photo(stored(image, "TIFF")).rgb.astype(int) - expected).max() <= 1


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA", "PA", "CMYK", "I", "F"])
@few
@given(width=st.integers(16, 40), height=st.integers(16, 40))
def test_any_size_in_any_mode(mode, width, height):
    photo = read_photo(Image.new(mode, (width, height)))
    assert photo.rgb.shape == (height, width, 3)
    assert (photo.alpha is not None) == (mode in ("RGBA", "LA", "PA"))


# ---------------------------------------------------------------------------- deep pixels

RAMP = np.linspace(0, 65535, 64 * 64).round().astype(np.uint16).reshape(64, 64)
DEEP_RGB = np.stack([RAMP, RAMP.T, RAMP[::-1]], -1)


def deep_file(tmp_path, pixels, suffix, **options):
    path = tmp_path / f"deep{suffix}"
    if suffix == ".png":
        cv2.imwrite(str(path), pixels[..., ::-1] if pixels.ndim == 3 else pixels)
    else:
        tifffile.imwrite(path, pixels, **options)
    return path


GREY = {"photometric": "minisblack"}


@pytest.mark.parametrize(
    ("suffix", "options"),
    [
        (".png", {}),
        (".tif", {**GREY, "byteorder": "<"}),
        (".tif", {**GREY, "byteorder": ">"}),
        (".tif", {**GREY, "compression": "zlib"}),
    ],
)
def test_16_bit_grey_is_scaled(tmp_path, suffix, options):
    rgb = read_photo(deep_file(tmp_path, RAMP, suffix, **options)).rgb
    np.testing.assert_array_equal(rgb[:, :, 0], np.rint(RAMP / 257))
    assert len(np.unique(rgb)) == 256


@pytest.mark.parametrize(
    ("suffix", "options"),
    [
        (".png", {}),
        (".tif", {"photometric": "rgb", "byteorder": "<"}),
        (".tif", {"photometric": "rgb", "byteorder": ">"}),
        (".tif", {"photometric": "rgb", "compression": "zlib"}),
    ],
)
def test_16_bit_colour_is_scaled(tmp_path, suffix, options):
    rgb = read_photo(deep_file(tmp_path, DEEP_RGB, suffix, **options)).rgb
    assert np.abs(rgb - DEEP_RGB / 257).max() <= 1
    assert len(np.unique(rgb[..., 1])) == 256


def test_16_bit_colour_keeps_its_alpha(tmp_path):
    pixels = np.concatenate([DEEP_RGB, RAMP[:, :, None]], -1)
    alpha = read_photo(deep_file(tmp_path, pixels, ".tif", photometric="rgb")).alpha
    assert np.abs(alpha - RAMP / 257).max() <= 1


def test_16_bit_planes(tmp_path):
    """Pillow reads the uncompressed ones as noise, so they are refused."""
    planes = np.ascontiguousarray(DEEP_RGB.transpose(2, 0, 1))
    options = {"photometric": "rgb", "planarconfig": "separate"}
    assert "PNG" in refusal(deep_file(tmp_path, planes, ".tif", **options))
    path = deep_file(tmp_path, planes, ".tif", compression="zlib", **options)
    assert np.abs(read_photo(path).rgb - DEEP_RGB / 257).max() <= 1


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_deep_white_is_zero(tmp_path, compression):
    options = {"photometric": "miniswhite", "compression": compression}
    rgb = read_photo(deep_file(tmp_path, RAMP, ".tif", **options)).rgb
    np.testing.assert_array_equal(rgb[:, :, 0], 255 - np.rint(RAMP / 257))


def test_12_bit_grey():
    values = np.linspace(0, 4095, 16 * 16).round().astype(int).reshape(16, 16)
    bits = "".join(f"{value:012b}" for value in values.flat)
    packed = int(bits, 2).to_bytes(len(bits) // 8, "big")
    data = tiff(
        packed, width=16, height=16, bits=12, compression=1, photometric=1, rows=16,
        length=len(packed),
    )  # fmt: skip
    np.testing.assert_array_equal(read_photo(data).rgb[:, :, 2], np.rint(values / 4095 * 255))


@pytest.mark.parametrize("full", [1, 255, 65535])
def test_float_tiff_is_scaled_by_what_it_holds(tmp_path, full):
    pixels = (RAMP / 65535 * full).astype(np.float32)
    rgb = read_photo(deep_file(tmp_path, pixels, ".tif", **GREY)).rgb
    np.testing.assert_array_equal(rgb[:, :, 0], np.rint(pixels / full * 255))


def test_32_bit_integers_are_scaled_by_what_they_hold(tmp_path):
    rgb = read_photo(deep_file(tmp_path, RAMP.astype(np.int32), ".tif", **GREY)).rgb
    np.testing.assert_array_equal(rgb[:, :, 0], np.rint(RAMP / 257))
    small = (RAMP // 257).astype(np.int32)
    np.testing.assert_array_equal(read_photo(Image.fromarray(small)).rgb[:, :, 0], small)
    bits = np.eye(16, dtype=np.int32)  # integers are never fractions of 1
    assert read_photo(Image.fromarray(bits)).rgb.max() == 1


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf, -0.1, 70000])
def test_floats_without_a_meaning_are_refused(tmp_path, wrong):
    pixels = np.full((20, 20), 0.5, np.float32)
    pixels[3, 3] = wrong
    assert "not numbers" in refusal(deep_file(tmp_path, pixels, ".tif", **GREY))
    assert "65535" in refusal(Image.fromarray(np.full((20, 20), -5, np.int32)))


def test_float_colour_is_refused(tmp_path):
    path = deep_file(tmp_path, DEEP_RGB / np.float32(65535), ".tif", photometric="rgb")
    assert "cannot be read" in refusal(path)


# ---------------------------------------------------------------------------- colour profiles


def test_srgb_changes_nothing():
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    pixels = noise(64, 64)
    np.testing.assert_array_equal(
        read_photo(stored(pixels, "PNG", icc_profile=profile)).rgb, pixels
    )


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "JPEG", "WEBP"])
def test_a_colour_profile_is_applied(kind):
    image = Image.new("RGB", (20, 20), (200, 40, 90))
    rgb = read_photo(stored(image, kind, icc_profile=swapped_profile(), quality=100)).rgb
    assert np.abs(rgb.astype(int) - [40, 200, 90]).max() <= 6


def test_a_colour_profile_is_applied_to_palettes_and_leaves_alpha_alone():
    image = Image.new("RGBA", (20, 20), (200, 40, 90, 77))
    photo = read_photo(stored(image, "PNG", icc_profile=swapped_profile()))
    assert np.abs(photo.rgb.astype(int) - [40, 200, 90]).max() <= 2
    assert (photo.alpha == 77).all()
    palette = Image.new("RGB", (20, 20), (200, 40, 90)).quantize(4)
    photo = read_photo(stored(palette, "PNG", icc_profile=swapped_profile()))
    assert np.abs(photo.rgb.astype(int) - [40, 200, 90]).max() <= 2


@pytest.mark.parametrize("deep", [False, True])
def test_a_grey_profile_is_applied(deep):
    grey = np.full((20, 20), 128 * 257 if deep else 128, np.uint16 if deep else np.uint8)
    rgb = read_photo(stored(grey, "PNG", icc_profile=grey_profile())).rgb
    assert np.abs(rgb.astype(int) - 188).max() <= 1  # sRGB of half the light
    image = Image.new("LA", (20, 20), (128, 9))
    photo = read_photo(stored(image, "PNG", icc_profile=grey_profile()))
    assert np.abs(photo.rgb.astype(int) - 188).max() <= 1
    assert (photo.alpha == 9).all()


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_a_cmyk_profile_is_applied(kind):
    options = {"icc_profile": cmyk_profile()}
    if kind == "JPEG":
        options["quality"] = 100
    no_black = stored(Image.new("CMYK", (20, 20), (255, 255, 255, 0)), kind, **options)
    black = stored(Image.new("CMYK", (20, 20), (0, 0, 0, 255)), kind, **options)
    assert read_photo(no_black).rgb.min() >= 252  # this profile's inks leave white paper
    assert read_photo(black).rgb.max() <= 3


@pytest.mark.parametrize(
    "profile",
    [b"nonsense", swapped_profile()[:200], swapped_profile()[:-40], cmyk_profile(), b"\0" * 600],
    ids=["text", "cut", "cut late", "of another space", "zeros"],
)
def test_an_unusable_profile_is_ignored(profile):
    image = Image.new("RGB", (20, 20), (200, 40, 90))
    for kind in ("PNG", "TIFF"):
        rgb = read_photo(stored(image, kind, icc_profile=profile)).rgb
        assert (rgb == [200, 40, 90]).all()
    image.info["icc_profile"] = "text"
    assert (read_photo(image).rgb == [200, 40, 90]).all()


# ---------------------------------------------------------------------------- limits


def test_the_header_is_checked_before_anything_is_decoded():
    """There are no pixels in these files, and the size is what they are refused for."""
    assert "60000 x 30 pixels" in refusal(png(60_000, 30, 8, 2), limits=Limits(max_pixels=10**6))
    assert "too many pixels" in refusal(png(60_000, 60_000, 1, 0))
    assert "8500 x 6000 pixels" in refusal(png(8500, 6000, 1, 0))
    assert "damaged" in refusal(png(5000, 4000, 1, 0))  # within the limits it is decoded


@pytest.mark.filterwarnings("error::PIL.Image.DecompressionBombWarning")
def test_the_limit_of_pillow_stays_in_force_and_untouched(monkeypatch):
    before = Image.MAX_IMAGE_PIXELS
    assert "too many pixels" in refusal(png(10_000, 10_000, 1, 0))
    assert before == Image.MAX_IMAGE_PIXELS
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert "too many pixels" in refusal(stored(noise(20, 20), "PNG"))


def test_files_too_large_are_not_read_to_the_end(tmp_path):
    path = tmp_path / "large.png"
    path.write_bytes(bytes(5000))
    limits = Limits(max_file_bytes=4096)
    assert "MB" in refusal(path, limits=limits)
    assert "MB" in refusal(bytes(4097), limits=limits)
    assert "cannot be read" in refusal(bytes(4096), limits=limits)
    with path.open("wb") as file:
        file.truncate(10**12)  # a sparse file: no machine could read it whole
    assert "MB" in refusal(path)


def test_a_small_tiff_in_one_enormous_tile_is_refused():
    tags = {"width": 64, "height": 64, "bits": 8, "compression": 8, "photometric": 1}
    side = 16_000
    data = zlib.compress(bytes(side * side // 64))
    tags |= {"tile_width": side, "tile_height": side, "tile_length": len(data)}
    assert "too many pixels" in refusal(tiff(data, **tags))


def test_compressed_metadata_cannot_blow_up():
    huge = zlib.compress(bytes(200 * 2**20), 1)
    for extra in (
        chunk(b"iCCP", b"name\0\0" + huge),
        chunk(b"zTXt", b"name\0\0" + huge),
        chunk(b"iTXt", b"name\0\1\0\0\0" + huge),
    ):
        assert "damaged" in refusal(png(16, 16, 8, 0, bytes(17 * 16), extra))


@pytest.mark.parametrize(
    ("size", "role", "part"),
    [
        ((1, 5000), "low-resolution photo", "at least 8"),
        ((5000, 1), "reference", "at least 16"),
        ((7, 8), "low-resolution photo", "at least 8"),
        ((16, 15), "reference", "at least 16"),
        ((32, 31), "high-resolution photo", "at least 32"),
        ((1025, 1024), "low-resolution photo", "1,048,576 in all, about 1024 x 1024"),
        ((4097, 4096), "high-resolution photo", "16,777,216 in all, about 4096 x 4096"),
        ((10001, 5000), "reference", "50,000,000 in all"),
        ((16, 513), "reference", "32 times"),
        ((0, 0), "reference", "at least 16"),
    ],
)
def test_sizes_out_of_bounds(size, role, part):
    with pytest.raises(ImageError) as caught:
        check_size(size, role)
    text = plain(caught.value)
    assert part in text
    assert f"The {role} is {size[0]} x {size[1]} pixels" in text


@pytest.mark.parametrize(
    ("size", "role"),
    [
        ((8, 8), "low-resolution photo"),
        ((1024, 1024), "low-resolution photo"),
        ((16, 512), "reference"),
        ((6000, 4000), "reference"),
        ((32, 32), "high-resolution photo"),
        ((4096, 4096), "high-resolution photo"),
    ],
)
def test_sizes_at_the_bounds(size, role):
    check_size(size, role)


@pytest.mark.parametrize("kind", ["file", "image", "array"])
def test_every_source_has_its_size_checked(kind):
    strip = noise(1, 5000)
    source = {"file": stored(strip, "PNG"), "image": Image.fromarray(strip), "array": strip}[kind]
    assert "5000 x 1 pixels" in refusal(source, role="low-resolution photo")


def test_limits_can_be_tightened():
    small = replace(DEFAULT_LIMITS, max_lr_pixels=400)
    read_photo(noise(20, 20), "low-resolution photo", small)
    assert "at most 400 in all, about 20 x 20" in refusal(
        noise(20, 21), role="low-resolution photo", limits=small
    )


# ---------------------------------------------------------------------------- unusable files


def test_files_that_are_no_pictures(tmp_path, monkeypatch):
    text = tmp_path / "text.png"
    text.write_text("not a picture")
    empty = tmp_path / "empty.png"
    empty.touch()
    os.mkfifo(tmp_path / "pipe.png")
    assert "'text.png' cannot be read" in refusal(text)
    assert "empty" in refusal(empty)
    assert "empty" in refusal(b"")
    assert "folder" in refusal(tmp_path)
    assert "not found" in refusal(tmp_path / "missing.png")
    assert "not found" in refusal(tmp_path / "pipe.png")
    assert "not found" in refusal("zero\0byte.png")
    assert "could not be opened" in refusal("x" * 5000)
    assert tmp_path.name not in refusal(text)

    def refuse(*_args, **_options):
        raise PermissionError(errno.EACCES, "Permission denied", str(text))

    monkeypatch.setattr(Path, "open", refuse)
    assert "may be read" in refusal(text)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a<b>&c.png", "abc.png"),
        ("a\nb\x1b[31m\u202ec.png", "ab[31mc.png"),
        ("y" * 80 + ".png", "y" * 59 + "…"),
        ("Übergröße 写真.png", "Übergröße 写真.png"),
        ("back\\slash.png", "slash.png"),
        ("\udcff.png", ".png"),
    ],
)
def test_names_are_made_safe_to_show(tmp_path, name, shown):
    path = tmp_path / name
    path.write_bytes(b"no picture")
    assert f"'{shown}'" in refusal(path)
    path.write_bytes(stored(noise(16, 16), "PNG"))
    assert read_photo(path).name == shown
    with pytest.raises(ImageError) as caught:
        check_size((1, 1), "reference", name=name)
    assert f"'{shown}'" in plain(caught.value)


def test_running_out_of_memory_is_a_sentence(monkeypatch):
    def exhaust(_image):
        raise MemoryError

    image = Image.fromarray(noise(20, 20))
    monkeypatch.setattr(Image.Image, "load", exhaust)
    assert "too many pixels" in refusal(image)


SAMPLES = {
    "JPEG": stored(smooth(), "JPEG"),
    "PNG": stored(smooth(), "PNG"),
    "WEBP": stored(smooth(), "WEBP"),
    "BMP": stored(smooth(), "BMP"),
    "TIFF": stored(smooth(), "TIFF", compression="tiff_lzw"),
    "GIF": stored(smooth(), "GIF"),
}


def read_or_refuse(data):
    """Nothing but a sound photo or an ImageError may come out; True for a photo."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            photo = read_photo(data)
        except ImageError as error:
            plain(error)
            return False
    check_size((photo.width, photo.height), "reference")
    assert photo.rgb.shape == (photo.height, photo.width, 3)
    assert photo.alpha is None or photo.alpha.shape == (photo.height, photo.width)
    return True


@pytest.mark.parametrize("kind", SAMPLES)
def test_truncated_files_are_refused(kind):
    data = SAMPLES[kind]
    for part in (0.02, 0.1, 0.3, 0.5, 0.8):
        assert not read_or_refuse(data[: int(len(data) * part)])


@pytest.mark.parametrize("kind", SAMPLES)
@few
@given(part=st.floats(0, 1))
def test_truncation_anywhere_raises_nothing_else(kind, part):
    read_or_refuse(SAMPLES[kind][: int(len(SAMPLES[kind]) * part)])


@pytest.mark.parametrize("kind", SAMPLES)
def test_flipped_bits_raise_nothing_else(kind):
    rng = np.random.default_rng(7)
    survived = 0
    for _ in range(150):
        data = bytearray(SAMPLES[kind])
        # Headers are where decoders go astray, so half of the damage is done there.
        reach = min(len(data), 120) if rng.random() < 0.5 else len(data)
        for _ in range(rng.integers(1, 4)):
            data[rng.integers(reach)] ^= 1 << rng.integers(8)
        survived += read_or_refuse(bytes(data))
    assert survived < 150  # else the damage was not damage


@few
@given(head=st.sampled_from([data[:40] for data in SAMPLES.values()]), tail=st.binary())
def test_random_bytes_raise_nothing_else(head, tail):
    assert not read_or_refuse(head[: len(head) // 2] + tail)
    read_or_refuse(head + tail)
    read_or_refuse(tail)


def test_threads_do_not_disturb_each_other():
    picture = noise(30, 40)
    profiled = stored(picture, "PNG", icc_profile=swapped_profile())
    expected = read_photo(profiled).rgb
    start = threading.Barrier(8)

    def work(number):
        start.wait()
        for _ in range(10):
            np.testing.assert_array_equal(read_photo(profiled).rgb, expected)
            np.testing.assert_array_equal(read_photo(stored(picture, "PNG")).rgb, picture)
            assert "damaged" in refusal(profiled[:-2000])
        return number

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(work, range(8))) == list(range(8))


# ---------------------------------------------------------------------------- Pillow, arrays


def test_the_image_handed_in_is_not_changed():
    image = Image.open(io.BytesIO(stored(noise(20, 24, 4), "PNG")))
    photo = read_photo(image)
    photo.rgb[:] = 0
    assert image.mode == "RGBA"
    np.testing.assert_array_equal(np.asarray(image), noise(20, 24, 4))


@pytest.mark.parametrize("channels", [0, 3, 4])
@pytest.mark.parametrize("kind", ["uint8", "uint16", "bool", "float16", "float32", "float64"])
def test_arrays(kind, channels):
    levels = noise(17, 18, channels)
    if kind == "bool":
        levels = (levels > 127) * np.uint8(255)
    array = {
        "uint8": levels,
        "uint16": levels.astype(np.uint16) * 257,
        "bool": levels > 127,
    }.get(kind, (levels / 255).astype(kind if kind.startswith("float") else float))
    photo = read_photo(array)
    shown = levels[:, :, None] if channels == 0 else levels[:, :, :3]
    np.testing.assert_array_equal(photo.rgb, np.broadcast_to(shown, (17, 18, 3)))
    assert photo.rgb.flags.c_contiguous
    if channels == 4:
        np.testing.assert_array_equal(photo.alpha, levels[:, :, 3])
    else:
        assert photo.alpha is None
    assert not np.shares_memory(photo.rgb, array)
    flipped = read_photo(array[::-1, ::-1])
    np.testing.assert_array_equal(flipped.rgb, photo.rgb[::-1, ::-1])


def test_16_bit_arrays_are_rounded_to_the_nearest_level():
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    np.testing.assert_array_equal(
        read_photo(values).rgb[:, :, 0], (values.astype(int) + 128) // 257
    )


@pytest.mark.parametrize(
    ("array", "part"),
    [
        (np.zeros((20, 20, 2), np.uint8), "shape"),
        (np.zeros((20,), np.uint8), "shape"),
        (np.zeros((1, 20, 20, 3), np.uint8), "shape"),
        (np.zeros((0, 20, 3), np.uint8), "20 x 0 pixels"),
        (np.zeros((20, 20), np.int64), "int64"),
        (np.zeros((20, 20), complex), "complex128"),
        (np.full((20, 20, 3), 1.01), "0 to 1"),
        (np.full((20, 20, 3), -0.01), "0 to 1"),
        (np.full((20, 20), np.nan), "0 to 1"),
        (np.full((20, 20), np.inf), "0 to 1"),
    ],
)
def test_arrays_that_are_no_pictures(array, part):
    assert part in refusal(array)


# ---------------------------------------------------------------------------- sizes

sides = st.integers(1, 24)


@few
@given(height=sides, width=sides)
def test_reduction_and_enlargement_are_those_of_pillow(height, width):
    large = noise(4 * height, 4 * width)
    small = reduce_x4(large)
    expected = Image.fromarray(large).resize((width, height), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(small, np.asarray(expected))
    expected = Image.fromarray(small).resize((4 * width, 4 * height), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(enlarge_x4(small), np.asarray(expected))
    plane = enlarge_x4(small[:, :, 0])
    np.testing.assert_array_equal(plane, enlarge_x4(small)[:, :, 0])


def test_reduction_is_antialiased():
    stripes = np.zeros((32, 32, 3), np.uint8)
    stripes[:, ::2] = 255
    assert np.abs(reduce_x4(stripes).astype(int) - 128).max() < 16


@pytest.mark.parametrize("shape", [(8, 9, 3), (10, 8, 3), (8, 8, 4), (8, 8, 1), (8,)])
def test_reduction_of_other_shapes(shape):
    with pytest.raises(ValueError):
        reduce_x4(np.zeros(shape, np.uint8))


def test_sizes_are_changed_of_8_bit_pictures_only():
    with pytest.raises(ValueError, match="float64"):
        enlarge_x4(np.zeros((8, 8, 3)))


@few
@given(st.integers(1, 300), st.integers(1, 300), st.integers(1, 2000))
@example(1, 300, 10)
@example(300, 1, 10)
@example(2, 300, 1)
def test_resize_to_fit(height, width, most):
    photo = Photo(noise(height, width), noise(height, width, 0), "n")
    fitted = resize_to_fit(photo, most)
    if height * width <= most:
        assert fitted is photo
        return
    assert 1 <= fitted.height * fitted.width <= most
    assert fitted.alpha.shape == (fitted.height, fitted.width)
    assert fitted.name == "n"
    factor = (most / (height * width)) ** 0.5
    if min(height, width) * factor >= 1:  # no side had to be held at one pixel
        assert abs(fitted.height - height * factor) <= 1
        assert abs(fitted.width - width * factor) <= 1


def test_resize_to_fit_is_antialiased_and_needs_a_positive_number():
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 255
    fitted = resize_to_fit(Photo(stripes), 16 * 16)
    assert fitted.rgb.shape == (16, 16, 3)
    assert fitted.alpha is None
    assert np.abs(fitted.rgb.astype(int) - 128).max() < 16
    with pytest.raises(ValueError):
        resize_to_fit(Photo(stripes), 0)


@few
@given(height=sides, width=sides, multiple=st.integers(1, 8))
def test_crop_to_multiple(height, width, multiple):
    pixels = noise(height, width)
    if min(height, width) < multiple:
        with pytest.raises(ValueError):
            crop_to_multiple(pixels, multiple)
        return
    cropped = crop_to_multiple(pixels, multiple)
    assert cropped.shape[0] == height // multiple * multiple
    assert cropped.shape[1] == width // multiple * multiple
    np.testing.assert_array_equal(cropped, pixels[: cropped.shape[0], : cropped.shape[1]])


@few
@given(height=sides, width=sides, below=st.integers(0, 9), right=st.integers(0, 9))
def test_pad_replicate(height, width, below, right):
    for channels in (0, 3):
        pixels = noise(height, width, channels)
        padded = pad_replicate(pixels, height + below, width + right)
        assert padded.shape[:2] == (height + below, width + right)
        rows = np.minimum(np.arange(height + below), height - 1)
        columns = np.minimum(np.arange(width + right), width - 1)
        np.testing.assert_array_equal(padded, pixels[rows][:, columns])


def test_padding_never_crops():
    with pytest.raises(ValueError, match="does not fit"):
        pad_replicate(noise(8, 8), 7, 9)
    with pytest.raises(ValueError, match="does not fit"):
        pad_replicate(noise(8, 8), 9, 7)


# ---------------------------------------------------------------------------- tensors


@few
@given(height=sides, width=sides)
def test_tensors_and_back(height, width):
    pixels = noise(height, width)
    tensor = to_tensor(pixels)
    assert tensor.shape == (1, 3, height, width)
    assert tensor.dtype == torch.float32
    assert tensor.is_contiguous(memory_format=torch.channels_last)
    np.testing.assert_allclose(tensor[0].permute(1, 2, 0), pixels / 255, atol=1e-7)
    np.testing.assert_array_equal(to_uint8(tensor), pixels)
    np.testing.assert_array_equal(to_uint8(tensor[0]), pixels)
    assert to_uint8(tensor.contiguous()).flags.c_contiguous


@pytest.mark.filterwarnings("error")
def test_tensors_of_awkward_arrays_are_copies():
    pixels = noise(8, 8)
    pixels.flags.writeable = False
    tensor = to_tensor(pixels[::-1])
    np.testing.assert_array_equal(to_uint8(tensor), pixels[::-1])


def test_tensors_are_clamped_and_rounded_to_nearest():
    values = torch.tensor([-1.0, -0.001, 0.4 / 255, 0.6 / 255, 254.6 / 255, 1.2, torch.inf])
    picture = values.repeat(3, 1, 1).requires_grad_()
    assert to_uint8(picture)[0, :, 0].tolist() == [0, 0, 0, 1, 255, 255, 255]
    # 2.506 of 255: multiplied in its own precision it would be 2.5 and become 2.
    half = torch.full((3, 1, 1), 0.00982666015625, dtype=torch.bfloat16)
    assert to_uint8(half).tolist() == [[[3, 3, 3]]]


@pytest.mark.parametrize("shape", [(2, 3, 4, 4), (1, 4, 4), (4, 4, 3), (3, 4)])
def test_other_tensors_are_refused(shape):
    with pytest.raises(ValueError):
        to_uint8(torch.zeros(shape))


def test_tensors_with_nan_are_refused():
    with pytest.raises(ValueError, match="not numbers"):
        to_uint8(torch.full((3, 4, 4), torch.nan))


# ---------------------------------------------------------------------------- writing


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif", ".tiff", ".TIFF", ".bmp"])
def test_lossless_files_come_back(tmp_path, suffix):
    path = tmp_path / f"out{suffix}"
    pixels, alpha = noise(20, 30), noise(20, 30, 0, seed=2)
    alpha[:5] = 0  # even the colours that cannot be seen are kept
    write_photo(path, pixels)
    np.testing.assert_array_equal(read_photo(path).rgb, pixels)
    assert read_photo(path).alpha is None
    if suffix == ".bmp":
        return
    write_photo(str(path), pixels, alpha)
    np.testing.assert_array_equal(read_photo(path).rgb, pixels)
    np.testing.assert_array_equal(read_photo(path).alpha, alpha)


def test_the_kind_of_file_follows_the_suffix(tmp_path):
    kinds = {
        ".png": "PNG", ".jpg": "JPEG", ".JPEG": "JPEG", ".webp": "WEBP", ".tif": "TIFF",
        ".bmp": "BMP",
    }  # fmt: skip
    for suffix, kind in kinds.items():
        write_photo(tmp_path / f"x{suffix}", noise(16, 16))
        with Image.open(tmp_path / f"x{suffix}") as image:
            assert image.format == kind
        assert Image.open(io.BytesIO(encode(suffix, noise(16, 16)))).format == kind


def test_jpeg_has_full_colour_resolution_and_high_quality():
    image = Image.open(io.BytesIO(encode(".jpg", smooth())))
    assert [layer[1:3] for layer in image.layer] == [(1, 1)] * 3
    at_95 = Image.open(io.BytesIO(stored(smooth(), "JPEG", quality=95)))
    assert image.quantization == at_95.quantization
    assert np.abs(np.asarray(image).astype(int) - smooth()).max() <= 8


@pytest.mark.parametrize("suffix", [".jpg", ".bmp"])
def test_transparency_shows_white_where_it_cannot_be_kept(suffix):
    black, alpha = np.zeros((16, 48, 3), np.uint8), np.zeros((16, 48), np.uint8)
    alpha[:, 16:32], alpha[:, 32:] = 128, 255
    rgb = read_photo(encode(suffix, black, alpha)).rgb
    assert np.abs(rgb[0, [4, 24, 44], 0].astype(int) - [255, 127, 0]).max() <= 4


def test_unknown_suffixes_name_the_known_ones(tmp_path):
    for name in ("x.gif", "x", "x.png.exe"):
        with pytest.raises(ImageError) as caught:
            write_photo(tmp_path / name, noise(16, 16))
        assert ".png, .jpg, .jpeg, .webp" in plain(caught.value)
    assert not list(tmp_path.iterdir())


def test_sides_that_a_format_cannot_hold():
    for suffix, side in ((".webp", 16384), (".jpg", 65501)):
        with pytest.raises(ImageError) as caught:
            encode(suffix, np.zeros((1, side, 3), np.uint8))
        assert f"{side - 1}" in plain(caught.value)
        assert encode(suffix, np.zeros((1, side - 1, 3), np.uint8))


@pytest.mark.parametrize(
    ("rgb", "alpha"),
    [
        (np.zeros((8, 8), np.uint8), None),
        (np.zeros((8, 8, 3)), None),
        (np.zeros((8, 8, 4), np.uint8), None),
        (np.zeros((8, 8, 3), np.uint8), np.zeros((8, 9), np.uint8)),
        (np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8, 3), np.uint8)),
        (np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8), bool)),
    ],
)
def test_writing_other_arrays_is_a_programming_error(rgb, alpha):
    with pytest.raises(ValueError) as caught:
        encode(".png", rgb, alpha)
    assert not isinstance(caught.value, ImageError)


def test_files_are_replaced_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "out.png"
    write_photo(path, noise(16, 16))
    umask = os.umask(0)
    os.umask(umask)
    assert path.stat().st_mode & 0o777 == 0o666 & ~umask
    before = path.read_bytes()

    def fill_disk(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fill_disk)
    with pytest.raises(ImageError) as caught:
        write_photo(path, noise(16, 16, seed=1))
    assert "no space left" in plain(caught.value)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_places_that_cannot_be_written(tmp_path):
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "file").touch()
    places = (
        tmp_path / "missing" / "out.png",
        tmp_path / "folder.png",
        tmp_path / "file" / "out.png",
        tmp_path / ("x" * 300 + ".png"),
    )
    for path in places:
        with pytest.raises(ImageError) as caught:
            write_photo(path, noise(16, 16))
        plain(caught.value)
    assert sorted(child.name for child in tmp_path.iterdir()) == ["file", "folder.png"]
