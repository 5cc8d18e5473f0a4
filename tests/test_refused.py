"""What is refused, and with which sentence: limits, damaged files, what is no picture."""

import errno
import os
import threading
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from photos import (
    chunk,
    few,
    heic,
    noise,
    plain,
    png,
    refusal,
    smooth,
    stored,
    swapped_profile,
    tiff,
)
from PIL import Image

from masa.pictures.photo import DEFAULT_LIMITS, ImageError, Limits, check_size
from masa.pictures.read import read_photo

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
        ((1, 5000), "small photo", "at least 8"),
        ((5000, 1), "reference", "at least 16"),
        ((7, 8), "small photo", "at least 8"),
        ((16, 15), "reference", "at least 16"),
        ((32, 31), "sharp photo", "at least 32"),
        ((1025, 1024), "small photo", "1,048,576 in all, about 1024 x 1024"),
        ((10001, 5000), "sharp photo", "50,000,000 in all"),
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
        ((8, 8), "small photo"),
        ((1024, 1024), "small photo"),
        ((16, 512), "reference"),
        ((6000, 4000), "reference"),
        ((32, 32), "sharp photo"),
        ((6000, 4000), "sharp photo"),
    ],
)
def test_sizes_at_the_bounds(size, role):
    check_size(size, role)


@pytest.mark.parametrize("kind", ["file", "image", "array"])
def test_every_source_has_its_size_checked(kind):
    strip = noise(1, 5000)
    source = {"file": stored(strip, "PNG"), "image": Image.fromarray(strip), "array": strip}[kind]
    assert "5000 x 1 pixels" in refusal(source, role="small photo")


def test_limits_can_be_tightened():
    small = replace(DEFAULT_LIMITS, max_lr_pixels=400)
    read_photo(noise(20, 20), "small photo", small)
    assert "at most 400 in all, about 20 x 20" in refusal(
        noise(20, 21), role="small photo", limits=small
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
    "AVIF": stored(smooth(), "AVIF"),
    "HEIC": heic(smooth()),
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


@pytest.mark.parametrize("kind", sorted(SAMPLES.keys() - {"JPEG"}))  # see test_truncated_jpeg.py
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
