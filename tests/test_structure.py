"""Files that take far more than their size suggests are refused before Pillow opens them."""

import io
import struct
import zlib

import numpy as np
import pi_heif
import pillow_heif
import pytest
from helpers import is_one_sentence, picture
from PIL import Image, ImageCms

from masa.pictures import avif, truncated_jpeg
from masa.pictures.avif import _av1_items, _stored_pixels, has_long_lists
from masa.pictures.photo import ImageError
from masa.pictures.read import picture_size, read_photo
from masa.pictures.structure import MOST_EXIF, MOST_PROFILE, MOST_SCANS, is_usual_profile

RGB = picture(48, 64, 1)


def saved(kind, **options):
    buffer = io.BytesIO()
    Image.fromarray(RGB).save(buffer, kind, **options)
    return buffer.getvalue()


def tiff(tags, held, order="<", big=False):
    """A TIFF whose ``tags`` all point to the same ``held`` bytes."""
    magic, number, count = (43, "Q", "Q") if big else (42, "I", "H")
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}H", magic)
    head += struct.pack(f"{order}HH", 8, 0) if big else b""
    first = len(head) + struct.calcsize(f"{order}{number}")
    entry = struct.calcsize(f"{order}HH{number}{number}")
    data = first + struct.calcsize(f"{order}{count}") + tags * entry + 8
    directory = struct.pack(f"{order}{count}", tags)
    for tag in range(tags):
        directory += struct.pack(f"{order}HH{number}{number}", 1000 + tag, 1, held, data)
    return head + struct.pack(f"{order}{number}", first) + directory + bytes(8 + held)


def directories(count):
    """A TIFF that says it has so many directories of a camera, all of them empty."""
    first = 8 + 2 * count
    entries = b"".join(struct.pack("<HHII", 0x8769, 4, 1, 8 + 2 * n) for n in range(count))
    return (
        b"II*\0" + struct.pack("<I", first) + bytes(2 * count) + struct.pack("<H", count) + entries
    )


def scans(times):
    """A progressive JPEG with one of its scans so many times more."""
    data = saved("JPEG", progressive=True)
    start = data.rindex(b"\xff\xda")
    return data[:-2] + data[start:-2] * times + data[-2:]


def exif(parts, size=60_000):
    data = saved("JPEG")
    part = b"\xff\xe1" + struct.pack(">H", 8 + size) + b"Exif\0\0" + bytes(size)
    return data[:2] + part * parts + data[2:]


def notes(size):
    data = saved("GIF")
    blocks = b"".join(b"\xc8" + b"a" * 200 for _ in range(size // 200))
    start = 13 + 3 * (2 << (data[10] & 7))
    return data[:start] + b"!\xfe" + blocks + b"\0" + data[start:]


def strips(count):
    """A TIFF that lists so many strips, each in one byte."""
    tags = struct.pack("<H", 1) + struct.pack("<HHII", 273, 1, count, 26)
    return b"II*\0" + struct.pack("<I", 8) + tags + bytes(4 + count)


def chunks(count):
    """A PNG with so many empty parts more."""
    data = saved("PNG")
    empty = b"\0\0\0\0miSa"
    return data[:33] + (empty + struct.pack(">I", zlib.crc32(b"miSa"))) * count + data[33:]


def junk(size, of=b"\xff"):
    data = saved("JPEG")
    return data[:2] + of * size + data[2:]


ODD = {
    "a TIFF of too many strips": strips(100_000),
    "a PNG of too many parts": chunks(30_000),
    "a JPEG that begins with nothing": junk(100_000),
    "a JPEG that begins with other things": junk(100_000, b"a"),
    "a TIFF whose tags share their bytes": tiff(1500, 10**6),
    "another order": tiff(1500, 10**6, ">"),
    "a large TIFF": tiff(1500, 10**6, big=True),
    "a TIFF of too many tags": tiff(5000, 4),
    "a TIFF of too many directories": directories(40),
    "a JPEG of too many scans": scans(200),
    "a JPEG of too many parts": b"\xff\xd8" + b"\xff\xe2\x00\x02" * 20_000,
    "EXIF of too many parts": exif(3),
    "a GIF with a long comment": notes(100_000),
}


@pytest.mark.parametrize("name", ODD)
def test_what_takes_very_long_to_open_is_refused_unopened(name, monkeypatch, tmp_path):
    def open_none(*args, **options):
        raise AssertionError("the file was opened")

    monkeypatch.setattr(Image, "open", open_none)
    (tmp_path / "odd").write_bytes(ODD[name])
    for read in (
        lambda: read_photo(ODD[name]),
        lambda: read_photo(tmp_path / "odd"),
        lambda: picture_size(tmp_path / "odd", strangers=True),
    ):
        with pytest.raises(ImageError, match="take very long to open") as raised:
            read()
        assert is_one_sentence(str(raised.value))


USUAL = {
    "a PNG of many parts": chunks(100),
    "a JPEG with some bytes between": junk(100),
    "a progressive JPEG": saved("JPEG", progressive=True),
    "some scans more": scans(20),
    "a JPEG with a film behind it": saved("JPEG") + b"\xff\xda\x00\x08" * 5000,
    "a JPEG with restarts": saved("JPEG", restart_marker_blocks=1),
    "EXIF of two parts": exif(1),
    "a GIF with a comment": notes(1000),
    "a TIFF": saved("TIFF"),
    "a compressed TIFF": saved("TIFF", compression="tiff_lzw"),
    "a large TIFF": saved("TIFF", big_tiff=True),
}


@pytest.mark.parametrize("name", USUAL)
def test_usual_files_pass(name, tmp_path):
    found = read_photo(USUAL[name]).rgb
    assert np.abs(found.astype(int) - RGB).mean() < 40
    (tmp_path / "usual").write_bytes(USUAL[name])
    assert picture_size(tmp_path / "usual", strangers=True) == (64, 48)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize(
    "start", [b"\xff\xd8", b"II*\0", b"MM\0*", b"II+\0", b"GIF89a", b"\x89PNG"]
)
def test_damaged_files_are_left_to_pillow(start):
    rng = np.random.default_rng(0)
    for size in (*range(40), 300, 3000):
        data = start + rng.bytes(size)
        with pytest.raises(ImageError):
            read_photo(data)


def profile(*tags, size=0):
    """A colour profile that says it has these tags, and so many bytes more."""
    table = b"".join(struct.pack(">4sII", tag, 0, 0) for tag in tags)
    return bytes(128) + struct.pack(">I", len(tags)) + table + bytes(size)


def test_profiles_that_take_very_long_are_not_applied(monkeypatch):
    assert is_usual_profile(profile(b"rXYZ", b"A2B0", size=1000))
    assert is_usual_profile(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    odd = {
        "a chain of elements": profile(b"rXYZ", b"D2B0"),
        "a chain the other way": profile(b"B2D3"),
        "very many tags": profile(*[b"rXYZ"] * 200),
        "a very long one": profile(size=MOST_PROFILE),
    }
    assert not any(map(is_usual_profile, odd.values()))

    def apply_none(*args):
        raise AssertionError("the profile was opened")

    monkeypatch.setattr(ImageCms, "ImageCmsProfile", apply_none)
    for data in odd.values():
        image = Image.fromarray(RGB)
        image.info["icc_profile"] = data
        np.testing.assert_array_equal(read_photo(image).rgb, RGB)


def test_a_profile_is_opened_once_for_a_picture(monkeypatch):
    opened = []
    build = ImageCms.buildTransform
    monkeypatch.setattr(ImageCms, "buildTransform", lambda *a: opened.append(a) or build(*a))
    monkeypatch.setattr("masa.pictures.read._STRIP", 64)
    data = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    read_photo(saved("PNG", icc_profile=data))
    assert len(opened) == 1


def test_scans_behind_the_end_of_a_jpeg_are_not_counted():
    """Each would be looked at when the file is found to be broken off."""
    looked = []

    class Noted(bytes):
        def __getitem__(self, at):
            looked.append(at)
            return bytes.__getitem__(self, at)

    truncated_jpeg._is_coarsely_there(Noted((b"\xff\xda" + bytes(8)) * 5000), 1)
    assert len(looked) < 3 * MOST_SCANS


def test_very_long_exif_is_not_read():
    upright, turned = Image.Exif(), Image.Exif()
    turned[0x0112] = 6
    turned[0x010E] = "a" * (MOST_EXIF + 1)
    upright[0x010E] = "a lamp"
    for found, kept in ((upright, True), (turned, False)):
        photo = read_photo(saved("PNG", exif=found))
        assert np.array_equal(photo.rgb, RGB) and (photo.exif is not None) == kept


def test_each_frame_of_an_avif_counts():
    (item,) = _av1_items(memoryview(saved("AVIF")))
    (pixels, parts), thrice = _stored_pixels(item, 99), memoryview(bytes(item) * 3)
    assert _stored_pixels(thrice, 99) == (3 * pixels, 3 * parts) and pixels > 0
    assert _stored_pixels(thrice, 3 * parts) == (3 * pixels, 3 * parts)
    with pytest.raises(ValueError, match="too many parts"):
        _stored_pixels(thrice, 3 * parts - 1)


def test_a_number_of_an_avif_without_end_is_not_followed():
    looked = []

    class Noted(avif._Reader):
        def flag(self):
            looked.append(1)
            return super().flag()

    with pytest.raises(ValueError, match="without end"):
        Noted(memoryview(bytes(10_000))).uvlc()
    assert len(looked) == 32
    reader = avif._Reader(memoryview(b"\x10\xff"))  # three zeros, a one, three bits
    reader.uvlc()
    assert reader.bits(9) == 0b0_1111_1111


def box(kind, content):
    return struct.pack(">I", 8 + len(content)) + kind + content


def avif_with(*parts):
    """The beginning of an AVIF file with these boxes in its list of pictures."""
    brand = box(b"ftyp", b"avif" + bytes(4) + b"avifmif1miaf")
    return brand + box(b"meta", bytes(4) + b"".join(parts))


LONG = bytes(2**16 + 1)


@pytest.mark.parametrize(
    "data",
    [
        avif_with(box(b"iloc", LONG)),
        avif_with(box(b"iinf", LONG)),
        avif_with(box(b"pitm", b""), box(b"iref", LONG)),
        avif_with(box(b"iprp", box(b"ipco", b"") + box(b"ipma", LONG))),
        avif_with(box(b"iprp", box(b"ipco", box(b"ispe", b"") * 2001))),
        avif_with(*[box(b"free", b"")] * 2001),
        avif_with()[:28] + box(b"free", b"") * 2001,
        avif_with() + box(b"meta", bytes(4) + box(b"free", b"") * 50) * 50,  # many in all
        avif_with(box(b"iloc", LONG)) + b"what follows is no box",
        avif_with() + avif_with(box(b"iloc", LONG))[28:],
    ],
)
def test_an_avif_of_very_long_lists_is_not_opened(data, monkeypatch):
    def opened(*args, **options):
        raise AssertionError("opened")

    monkeypatch.setattr(Image, "open", opened)
    with pytest.raises(ImageError) as raised:
        read_photo(data)
    assert is_one_sentence(str(raised.value)) and "save it anew" in str(raised.value)


def shared(times, held):
    """A HEIC file that says so many times that the same ``held`` bytes belong to it."""
    picture = pillow_heif.from_bytes("RGB", (64, 48), RGB.tobytes())
    note = {"type": "mime", "metadata_type": "mime", "data": b"note"}
    kinds = [f"application/x{number}" for number in range(times)]
    picture.info["metadata"] = [{**note, "content_type": kind} for kind in kinds]
    buffer = io.BytesIO()
    picture.save(buffer, quality=50)
    data = bytearray(buffer.getvalue())
    # Behind the lengths of its fields and their number, an entry has its own number, 2 bytes; a
    # file's, 2; where its parts begin, 4; how many there are, 2; and one of them, 4 and 4.
    entries = data.index(b"iloc") + 12
    assert data[entries - 4 : entries] == b"\x44\x40" + struct.pack(">H", times + 1)
    for entry in range(entries + 18, entries + 18 * (times + 1), 18):
        assert data[entry + 8 : entry + 10] == b"\0\1"
        data[entry + 4 : entry + 8] = struct.pack(">I", len(data))
        data[entry + 10 : entry + 18] = struct.pack(">II", 0, held)
    return bytes(data) + bytes(held)


def test_bytes_of_a_heic_that_are_listed_again_and_again_are_not_read(monkeypatch):
    """With a hundred times more of them, libheif would take gigabytes before it tells the size."""
    assert read_photo(shared(20, 100_000)).rgb.shape == RGB.shape
    monkeypatch.setattr(pi_heif, "open_heif", lambda *_, **__: pytest.fail("opened"))
    file = shared(50, 100_000)
    for data in (file, file[:8] + b"avif" + file[12:]):
        with pytest.raises(ImageError, match="save it anew"):
            read_photo(data)


@pytest.mark.parametrize("kind", [b"Exi\x80", b"m\xffme"])
def test_a_heic_whose_items_are_not_told_in_text_is_damaged(kind, monkeypatch):
    """pi-heif 1.4 would end the process."""
    picture = pillow_heif.from_bytes("RGB", (64, 48), RGB.tobytes())
    buffer = io.BytesIO()
    picture.save(buffer, exif=Image.Exif().tobytes() + bytes(20), xmp=b"<x/>")
    whole = buffer.getvalue()
    assert read_photo(whole).rgb.shape == RGB.shape
    monkeypatch.setattr(pi_heif, "open_heif", lambda *_, **__: pytest.fail("opened"))
    for said in (b"Exif\0", b"application/rdf"):
        assert whole.count(said) >= 1
        data = whole.replace(said, kind + said[4:], 1)
        with pytest.raises(ImageError, match="damaged"):
            read_photo(data)


def test_an_avif_of_usual_lists_is_opened(tmp_path):
    assert not has_long_lists(saved("AVIF", icc_profile=b"x" * 2**17))
    assert not has_long_lists(avif_with(box(b"iloc", LONG[1:])))
    assert not has_long_lists(saved("AVIF")[:-10])  # cut off: Pillow finds out
    assert not has_long_lists(b"")
