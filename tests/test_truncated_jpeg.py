"""JPEG files that stop early."""

import re
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from helpers import is_one_sentence, picture
from photos import noise, refusal, stored
from PIL import Image, ImageFile

from masa.pictures.photo import ImageError, Photo
from masa.pictures.read import read_photo
from masa.pictures.resize import resize_to_fit

PIXELS = picture(240, 320)

KINDS = {
    "4:2:0": {"quality": 90},
    "4:4:4": {"quality": 95, "subsampling": 0},
    "RGB": {"quality": 90, "keep_rgb": True},
    "restarts": {"quality": 90, "restart_marker_rows": 1},
}


def cut(data, part):
    return data[: int(len(data) * part)]


def share_of(note):
    assert is_one_sentence(note)
    return int(re.search(r"about (\d+)% of its lines", note)[1]) / 100


@pytest.mark.parametrize("part", [0.4, 0.6, 0.95])
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_there_is_read(kind, part):
    data = stored(PIXELS, "JPEG", **KINDS[kind])
    whole, photo = read_photo(data), read_photo(cut(data, part))
    assert whole.notes == ()
    (note,) = photo.notes
    assert share_of(note) == pytest.approx(part, abs=0.13)
    lines = int(share_of(note) * 240)
    np.testing.assert_array_equal(photo.rgb[:lines], whole.rgb[:lines])
    assert (photo.rgb[-1, -1] == 128).all()
    if part < 0.9:
        assert (photo.rgb[lines + 40 :] == 128).all()


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_other_colours(mode):
    data = stored(Image.fromarray(PIXELS).convert(mode), "JPEG", quality=90)
    photo = read_photo(cut(data, 0.6))
    lines = int(share_of(photo.notes[0]) * 240)
    np.testing.assert_array_equal(photo.rgb[:lines], read_photo(data).rgb[:lines])


@pytest.mark.parametrize("missing", [1, 2, 3])
def test_a_missing_end_costs_nothing(missing):
    data = stored(PIXELS, "JPEG", quality=90)
    photo = read_photo(data[:-missing])
    assert photo.notes == ()
    difference = photo.rgb != read_photo(data).rgb
    assert not difference[:-16].any() and not difference[:, :-16].any()


def test_grey_pictures_are_not_taken_for_missing_ones():
    """Lines that look like the decoder's filling count all the same."""
    grey = PIXELS.copy()
    grey[20:] = 128
    data = stored(grey, "JPEG", quality=90)
    photo = read_photo(data[:-30])
    assert share_of(photo.notes[0]) > 0.5
    np.testing.assert_array_equal(photo.rgb[:120], read_photo(data).rgb[:120])


@pytest.mark.parametrize("kind", KINDS)
def test_less_than_a_quarter_is_refused(kind):
    data = stored(PIXELS, "JPEG", **KINDS[kind])
    for part in (0.05, 0.15):
        assert "less than a quarter" in refusal(cut(data, part))
    shares = []
    for part in np.arange(0.2, 0.4, 0.02):
        try:
            shares.append(share_of(read_photo(cut(data, part)).notes[0]))
        except ImageError:
            assert not shares, "more of the file gave less of the picture"
    assert 0.25 <= shares[0] < 0.36


def scans_of(data):
    return [found.start() for found in re.finditer(b"\xff\xda", data)]


def test_a_progressive_file_is_read_from_its_first_scan_on():
    data = stored(PIXELS, "JPEG", quality=90, progressive=True)
    whole = read_photo(data).rgb.astype(int)
    scans = scans_of(data)
    assert len(scans) > 5
    errors = []
    for end in (scans[1] + 20, scans[4], len(data) - 2):
        photo = read_photo(data[:end])
        assert is_one_sentence(photo.notes[0]) and "details" in photo.notes[0]
        errors.append(np.abs(photo.rgb - whole).mean())
    assert errors[0] > errors[1] > errors[2]
    coarse = whole.reshape(15, 16, 20, 16, 3).mean((1, 3))
    first = read_photo(data[: scans[1] + 20]).rgb.reshape(15, 16, 20, 16, 3).mean((1, 3))
    assert np.abs(first - coarse).mean() < 3
    for end in (scans[0] + 20, scans[1] - 10):
        assert "less than a quarter" in refusal(data[:end])


def one_scan_each(data):
    """A file whose components come one after the other: a grey file's, three times."""
    start = data.index(b"\xff\xc0")
    head, frame, tables = data[:start], data[start : start + 13], data[start + 13 :]
    scan = tables.index(b"\xff\xda")
    body = tables[scan + 10 : -2]
    three = b"\xff\xc0" + bytes([0, 17]) + frame[4:9] + b"\x03\x01\x11\0\x02\x11\0\x03\x11\0"
    starts = [b"\xff\xda\0\x08\x01" + bytes([n]) + b"\0\0\x3f\0" for n in (1, 2, 3)]
    return head + three + tables[:scan] + b"".join(s + body for s in starts) + b"\xff\xd9"


def test_components_that_come_one_after_the_other():
    data = one_scan_each(stored(PIXELS[:, :, 0], "JPEG", quality=90))
    whole, scans = read_photo(data), scans_of(data)
    assert len(scans) == 3 and whole.notes == ()
    assert "less than a quarter" in refusal(data[: scans[2] + 100])
    assert "less than a quarter" in refusal(data[: scans[1] - 10])


def test_the_note_names_the_file_and_stays_with_the_photo(tmp_path):
    path = tmp_path / "holiday.jpg"
    path.write_bytes(cut(stored(PIXELS, "JPEG", quality=90), 0.6))
    photo = read_photo(path, "small photo")
    assert photo.notes[0].startswith("The small photo 'holiday.jpg' stops early")
    assert resize_to_fit(photo, 1000).notes == photo.notes
    assert Photo(PIXELS).notes == ()


def test_orientation_turns_what_is_there_and_what_is_not():
    exif = Image.Exif()
    exif[0x0112] = 6
    photo = read_photo(cut(stored(PIXELS, "JPEG", quality=90, exif=exif), 0.6))
    assert photo.rgb.shape == (320, 240, 3) and photo.notes
    assert (photo.rgb[:, :40] == 128).all() and not (photo.rgb[:, -40:] == 128).all()


def test_other_threads_notice_nothing():
    """No switch of the whole process is thrown meanwhile."""
    data, other = stored(PIXELS, "JPEG", quality=90), stored(noise(200, 200), "PNG")

    def work(number):
        for _ in range(5):
            if number % 2:
                assert read_photo(cut(data, 0.7)).notes
            else:
                assert "damaged" in refusal(other[:-2000])
                assert not ImageFile.LOAD_TRUNCATED_IMAGES

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))


def test_cut_anywhere_nothing_else_is_raised():
    for options in (*KINDS.values(), {"progressive": True}):
        data = stored(picture(40, 48), "JPEG", **options)
        for end in range(0, len(data), 7):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    photo = read_photo(data[:end])
                except ImageError:
                    continue
            assert photo.rgb.shape == (40, 48, 3)
