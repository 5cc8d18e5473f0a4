"""What is written, whole or not at all."""

import errno
import io
import os

import numpy as np
import pytest
from photos import noise, plain, smooth, stored
from PIL import Image

from masa.pictures.photo import ImageError
from masa.pictures.read import read_photo
from masa.pictures.write import encode, write_photo


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif", ".tiff", ".TIFF", ".bmp"])
def test_lossless_files_come_back(tmp_path, suffix):
    path = tmp_path / f"out{suffix}"
    pixels, alpha = noise(20, 30), noise(20, 30, 0, seed=2)
    alpha[:5] = 0
    write_photo(path, pixels)
    np.testing.assert_array_equal(read_photo(path).rgb, pixels)
    assert read_photo(path).alpha is None
    if suffix == ".bmp":
        return
    write_photo(str(path), pixels, alpha)
    with Image.open(path) as image:  # the colours that cannot be seen are kept too
        np.testing.assert_array_equal(np.asarray(image), np.dstack([pixels, alpha]))
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
