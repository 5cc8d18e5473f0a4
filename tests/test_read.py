"""What is read of picture files and arrays: pixels, orientation, depth, colour and transparency."""

import io
import struct

import cv2
import numpy as np
import pytest
import tifffile
import torch
from hypothesis import given
from hypothesis import strategies as st
from photos import (
    UPRIGHT,
    assert_equal_where_visible,
    chunk,
    cmyk_profile,
    few,
    grey_profile,
    noise,
    png,
    png_rows,
    refusal,
    smooth,
    stored,
    swapped_profile,
    tiff,
)
from PIL import Image, ImageCms

from masa.machine.memory import measured_peak
from masa.pictures.read import read_photo

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


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF", "MPO", "AVIF"])
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


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_every_orientation_turns_colours_and_alpha(kind, orientation):
    pixels = noise(17, 29, 4)
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    photo = read_photo(stored(pixels, kind, exif=exif, **options))
    expected = UPRIGHT[orientation](pixels)
    assert_equal_where_visible(photo, expected[:, :, :3])
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
            assert_equal_where_visible(photo, colours)


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
    assert_equal_where_visible(photo, colours[indices])
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
    assert_equal_where_visible(photo, pixels)
    grey = pixels[:, :, 0]
    photo = read_photo(stored(grey, "PNG", transparency=int(grey[3, 4])))
    np.testing.assert_array_equal(photo.alpha == 0, grey == grey[3, 4])
    deep = np.arange(400, dtype=np.uint16).reshape(20, 20) * 160
    key = chunk(b"tRNS", struct.pack(">H", int(deep[3, 4])))
    photo = read_photo(png(20, 20, 16, 0, png_rows(deep.astype(">u2")), key))
    np.testing.assert_array_equal(photo.alpha == 0, deep == deep[3, 4])


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_one_grey_of_few_bits_declared_transparent(depth):
    full = 2**depth - 1
    values = np.arange(16 * 16, dtype=np.uint8).reshape(16, 16) % (full + 1)
    bits = np.unpackbits(values[:, :, None], axis=2)[:, :, 8 - depth :]
    rows = png_rows(np.packbits(bits.reshape(16, -1), axis=1))
    for key in (0, 1, full):
        photo = read_photo(png(16, 16, depth, 0, rows, chunk(b"tRNS", struct.pack(">H", key))))
        np.testing.assert_array_equal(photo.alpha, np.where(values == key, 0, 255))
        assert_equal_where_visible(photo, (values * (255 // full))[:, :, None])


def test_one_deep_colour_declared_transparent():
    """Both bytes of its levels count; what differs in the last bit of one is seen."""
    pixels = np.zeros((16, 16, 3), np.uint16)
    pixels[:, 4:] = 0x8000
    pixels[:, 8:] = 0x8001, 0x8000, 0x8000
    pixels[:, 12:] = 0x0100, 0x0100, 0x0100
    for key in ((0x8000,) * 3, (0, 0, 0)):
        extra = chunk(b"tRNS", struct.pack(">3H", *key))
        photo = read_photo(png(16, 16, 16, 2, png_rows(pixels.astype(">u2")), extra))
        np.testing.assert_array_equal(photo.alpha == 0, (pixels == key).all(-1))
        np.testing.assert_array_equal(np.unique(photo.alpha), [0, 255])
        assert_equal_where_visible(photo, pixels >> 8)


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
    assert_equal_where_visible(photo, shown)
    assert photo.rgb.flags.c_contiguous
    if channels == 4:
        np.testing.assert_array_equal(photo.alpha, levels[:, :, 3])
    else:
        assert photo.alpha is None
    assert not np.shares_memory(photo.rgb, array)
    flipped = read_photo(array[::-1, ::-1])
    assert_equal_where_visible(flipped, photo.rgb[::-1, ::-1])


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


# ---------------------------------------------------------------------------- memory


def turned(kind):
    exif = Image.Exif()
    exif[274] = 6
    return {"exif": exif, "icc_profile": swapped_profile()} if kind == "turned" else {}


@pytest.mark.parametrize(
    ("kind", "mode", "bytes_a_pixel"),
    [("PNG", "RGB", 7), ("JPEG", "RGB", 7), ("turned", "RGB", 7), ("PNG", "RGBA", 8)],
)
def test_reading_takes_little_more_memory_than_the_picture(kind, mode, bytes_a_pixel):
    """Pillow's own four bytes a pixel, what is returned, and a fixed amount for conversions."""
    side = 3000
    image = Image.new(mode, (side, side), (90, 60, 30, 200)[: len(mode)])
    options = turned(kind)
    data = stored(image, "JPEG" if kind == "turned" else kind, **options)
    read_photo(data)  # what is loaded once, is loaded now
    with measured_peak(torch.device("cpu")) as peak:
        photo = read_photo(data)
    if peak.bytes is None:
        pytest.skip("the peak is not known here")
    assert photo.rgb.shape == (side, side, 3)
    assert peak.bytes < bytes_a_pixel * side * side + 40 * 2**20
