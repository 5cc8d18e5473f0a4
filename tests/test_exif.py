"""What the camera noted: taken over in clean form, or not at all."""

import io
import struct

import numpy as np
import pi_heif
import pytest
from photos import heic, smooth, stored
from PIL import ExifTags, Image

from masa.pictures.photo import Photo
from masa.pictures.read import read_photo
from masa.pictures.resize import resize_to_fit
from masa.pictures.write import encode, write_photo

TAG, IFD = ExifTags.Base, ExifTags.IFD
PICTURE = smooth(32, 48)
TIME, NORTH = "2026:07:14 10:20:30", (48.0, 8.0, 15.25)


def camera(orientation=6):
    """EXIF data as a phone writes them."""
    exif = Image.Exif()
    exif[TAG.Make], exif[TAG.Model] = "Firma", "Kamera 7"
    exif[TAG.Orientation] = orientation
    exif[TAG.XResolution] = 72.0
    exif[TAG.ImageWidth] = 48
    more = exif.get_ifd(IFD.Exif)
    more[TAG.DateTimeOriginal] = TIME
    more[TAG.ExposureTime] = 0.01
    more[TAG.LensModel] = "f/1.8"
    more[TAG.UserComment] = b"ASCII\0\0\0by the sea"
    more[TAG.MakerNote] = b"secret" * 50
    more[TAG.ExifImageWidth], more[TAG.ExifImageHeight] = 48, 32
    more[TAG.ColorSpace] = 65535
    more[0x9214] = (10, 10)
    place = exif.get_ifd(IFD.GPSInfo)
    place[1], place[2] = "N", NORTH
    return exif


def with_thumbnail(exif):
    """The same data with a second directory that holds a preview."""
    data = bytearray(exif.tobytes()[6:])
    order = "<" if data[:2] == b"II" else ">"
    (first,) = struct.unpack(order + "L", data[4:8])
    (count,) = struct.unpack(order + "H", data[first : first + 2])
    at = first + 2 + 12 * count
    data[at : at + 4] = struct.pack(order + "L", len(data))
    preview = stored(PICTURE[:8, :8], "JPEG")
    where = len(data) + 2 + 2 * 12 + 4
    data += struct.pack(order + "H", 2)
    data += struct.pack(order + "HHLL", 0x201, 4, 1, where)
    data += struct.pack(order + "HHLL", 0x202, 4, 1, len(preview)) + bytes(4) + preview
    return b"Exif\0\0" + bytes(data), preview


def files():
    exif, _ = with_thumbnail(camera())
    return {
        "JPEG": stored(PICTURE, "JPEG", exif=exif),
        "PNG": stored(PICTURE, "PNG", exif=exif),
        "WEBP": stored(PICTURE, "WEBP", exif=exif),
        "AVIF": stored(PICTURE, "AVIF", exif=exif),
        "TIFF": stored(PICTURE, "TIFF", exif=camera().tobytes()),
        "HEIC": heic(PICTURE, exif=exif),
    }


FILES = files()


def found_in(data):
    """EXIF data of a file: the first directory, the camera's and the place."""
    with Image.open(io.BytesIO(data)) as image:
        exif = image.getexif()
        return exif, exif.get_ifd(IFD.Exif), exif.get_ifd(IFD.GPSInfo)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
@pytest.mark.parametrize("kind", FILES)
def test_what_the_camera_noted_is_taken_over(kind, suffix):
    photo = read_photo(FILES[kind])
    assert photo.rgb.shape == (48, 32, 3), "turned upright"
    large = np.zeros((192, 128, 3), np.uint8)
    data = encode(suffix, large, exif=photo.exif)
    first, more, place = found_in(data)
    assert (first[TAG.Make], first[TAG.Model]) == ("Firma", "Kamera 7")
    assert first[TAG.Orientation] == 1
    assert more[TAG.DateTimeOriginal] == TIME
    assert float(more[TAG.ExposureTime]) == pytest.approx(0.01)
    assert more[TAG.LensModel] == "f/1.8"
    assert more[TAG.UserComment] == b"ASCII\0\0\0by the sea"
    assert place[1] == "N" and tuple(map(float, place[2])) == NORTH
    assert more[TAG.ColorSpace] == 1
    dropped = {TAG.MakerNote, TAG.ExifImageWidth, TAG.ExifImageHeight, 0x9214}
    assert not dropped & set(more)
    assert first.get(TAG.ImageWidth, 128) == 128  # TIFF's own
    # Read again, it is as upright as it was written.
    assert read_photo(data).rgb.shape == large.shape


@pytest.mark.parametrize("kind", FILES)
def test_no_preview_is_taken_over(kind):
    _, preview = with_thumbnail(camera())
    assert preview in FILES[kind] or kind in ("TIFF", "AVIF")  # written anew by Pillow
    photo = read_photo(FILES[kind])
    assert preview not in photo.exif and b"secret" not in photo.exif
    assert (
        not Image.open(io.BytesIO(encode(".png", PICTURE, exif=photo.exif)))
        .getexif()
        .get_ifd(IFD.IFD1)
    )


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif", ".bmp"])
def test_nothing_is_written_unless_asked_for(suffix):
    with Image.open(io.BytesIO(encode(suffix, PICTURE))) as image:
        exif = image.getexif()
        assert not exif.get_ifd(IFD.Exif) and not exif.get_ifd(IFD.GPSInfo)
        assert TAG.Make not in exif and (not exif or suffix == ".tif")
    # BMP has no place for it.
    assert encode(".bmp", PICTURE, exif=camera().tobytes()) == encode(".bmp", PICTURE)


def test_pixels_stay_the_same_with_exif(tmp_path):
    alpha = smooth(32, 48)[:, :, 0]
    exif = read_photo(FILES["JPEG"]).exif
    for suffix in (".png", ".webp", ".tif"):
        write_photo(tmp_path / f"x{suffix}", PICTURE, alpha, exif)
        photo = read_photo(tmp_path / f"x{suffix}")
        np.testing.assert_array_equal(photo.rgb, PICTURE)
        np.testing.assert_array_equal(photo.alpha, alpha)
        assert photo.exif == exif


def test_pictures_without_exif_have_none():
    assert Photo(PICTURE).exif is None
    for source in (PICTURE, Image.fromarray(PICTURE), stored(PICTURE, "JPEG"), heic(PICTURE)):
        assert read_photo(source).exif is None
    image = pi_heif.open_heif(heic(PICTURE)).to_pillow()
    assert image.info["exif"] is None, "as its plugin for Pillow leaves it"
    assert read_photo(image).exif is None
    only_turned = Image.Exif()
    only_turned[TAG.Orientation] = 6
    assert read_photo(stored(PICTURE, "PNG", exif=only_turned)).exif is None
    assert read_photo(stored(PICTURE, "TIFF")).exif is None, "tags of storage are no EXIF"


def test_a_smaller_copy_keeps_it():
    photo = read_photo(FILES["PNG"])
    assert resize_to_fit(photo, 400).exif == photo.exif


def test_more_than_jpeg_can_hold_is_left_out():
    exif = Image.Exif()
    exif[TAG.ImageDescription] = "x" * 70_000
    photo = read_photo(stored(PICTURE, "PNG", exif=exif))
    assert len(photo.exif) > 70_000
    assert not found_in(encode(".jpg", PICTURE, exif=photo.exif))[0]
    assert found_in(encode(".png", PICTURE, exif=photo.exif))[0]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "HEIC"])
def test_broken_data_never_cost_the_picture(kind):
    whole, _ = with_thumbnail(camera(1))
    rng = np.random.default_rng(3)
    for trial in range(60):
        data = bytearray(whole[: rng.integers(7, len(whole))] if trial % 2 else whole)
        for _ in range(rng.integers(1, 6)):
            data[rng.integers(6, len(data))] = rng.integers(256)
        exif = bytes(data)
        file = heic(PICTURE, exif=exif) if kind == "HEIC" else stored(PICTURE, kind, exif=exif)
        photo = read_photo(file)
        assert sorted(photo.rgb.shape) == [3, 32, 48]
        if photo.exif is not None:
            for suffix in (".jpg", ".png", ".webp", ".tif"):
                written = read_photo(encode(suffix, PICTURE, exif=photo.exif))
                assert written.rgb.shape == PICTURE.shape
