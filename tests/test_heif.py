"""HEIC, HEIF and AVIF: the files of phones, written by the libraries themselves."""

import contextlib
import io
import struct
from pathlib import Path

import cv2
import numpy as np
import pillow_heif
import pytest
from helpers import is_one_sentence
from photos import UPRIGHT, heic, noise, refusal, smooth, stored, swapped_profile
from PIL import Image

from masa.errors import UserError
from masa.pictures import avif
from masa.pictures.colours import holds_hdr, profile_of
from masa.pictures.folders import find_pairs, pictures_in
from masa.pictures.formats import ACCEPTED, FORMATS_IN_WORDS, SUFFIXES
from masa.pictures.photo import ImageError, Limits
from masa.pictures.read import read_photo

ROOT = Path(__file__).resolve().parent.parent


def exif_of(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif.tobytes()


def test_heic_gives_its_exact_pixels(tmp_path):
    pixels = noise(33, 67)
    path = tmp_path / "IMG_1.HEIC"
    path.write_bytes(heic(pixels))
    for source in (path, str(path), path.read_bytes()):
        photo = read_photo(source)
        np.testing.assert_array_equal(photo.rgb, pixels)
        assert photo.alpha is None
        assert photo.rgb.flags.c_contiguous and photo.rgb.flags.writeable
        assert photo.name == ("" if isinstance(source, bytes) else "IMG_1.HEIC")


def test_heic_as_phones_store_it():
    pixels = smooth(64, 96)
    picture = pillow_heif.from_bytes("RGB", (96, 64), pixels.tobytes())
    buffer = io.BytesIO()
    picture.save(buffer, quality=90)  # less colour than brightness, and its own matrix
    assert np.abs(read_photo(buffer.getvalue()).rgb.astype(int) - pixels).max() <= 10


def test_avif_gives_nearly_its_pixels():
    pixels = smooth(64, 96)
    photo = read_photo(stored(pixels, "AVIF", quality=98, subsampling="4:4:4"))
    assert np.abs(photo.rgb.astype(int) - pixels).max() <= 4
    pixels = np.dstack([pixels, smooth(64, 96)[:, :, 0]])
    photo = read_photo(stored(pixels, "AVIF", quality=100, subsampling="4:4:4"))
    np.testing.assert_array_equal(photo.alpha, pixels[:, :, 3])


def test_grey_and_transparency_of_heic():
    grey = noise(20, 24, 0)
    np.testing.assert_array_equal(read_photo(heic(grey, "L")).rgb[:, :, 1], grey)
    colour = noise(20, 24, 4)
    colour[:, :, 3] |= 1  # nothing is hidden
    photo = read_photo(heic(colour, "RGBA"))
    np.testing.assert_array_equal(photo.rgb, colour[:, :, :3])
    np.testing.assert_array_equal(photo.alpha, colour[:, :, 3])


def test_colours_multiplied_by_alpha_are_divided_again():
    multiplied = np.full((20, 24, 4), 100, np.uint8)
    multiplied[:, :, 3] = 200
    photo = read_photo(heic(multiplied, "RGBa"))
    assert np.abs(photo.rgb.astype(int) - 127.5).max() <= 1
    assert (photo.alpha == 200).all()


@pytest.mark.parametrize("bits", [10, 12])
@pytest.mark.parametrize("mode", ["RGB;16", "RGBA;16", "I;16L"])
def test_deep_heic_is_scaled_to_the_nearest_level(monkeypatch, mode, bits):
    monkeypatch.setattr(pillow_heif.options, "SAVE_HDR_TO_12_BIT", bits == 12)
    full = 2**bits - 1
    values = np.linspace(0, full, 64 * 32).round().astype(np.uint16).reshape(32, 64)
    channels = {"RGB;16": 3, "RGBA;16": 4, "I;16L": 1}[mode]
    pixels = np.repeat((values << (16 - bits))[:, :, None], channels, axis=2)
    photo = read_photo(heic(pixels, mode))
    expected = np.rint(values / full * 255)
    shown = photo.rgb[:, :, 1] if channels < 4 else photo.alpha
    np.testing.assert_array_equal(shown, expected)
    assert photo.rgb[-1, -1, 0] == 255


@pytest.mark.parametrize("bits", [10, 12])
def test_deep_avif_is_scaled(bits):
    full = 2**bits - 1
    values = np.linspace(0, full, 64 * 32).round().astype(np.uint16).reshape(32, 64)
    options = [cv2.IMWRITE_AVIF_DEPTH, bits, cv2.IMWRITE_AVIF_QUALITY, 100]
    _, file = cv2.imencode(".avif", np.dstack([values] * 3), options)
    rgb = read_photo(file.tobytes()).rgb
    assert np.abs(rgb - (values / full * 255)[:, :, None]).max() <= 1


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_turned_exactly_once(orientation):
    """HEIF and AVIF turn by boxes of their own, and phones say the same again in EXIF."""
    pixels, expected = smooth(48, 64), UPRIGHT[orientation](smooth(48, 64))
    exif = exif_of(orientation)
    phone = heic(pixels, exif=exif)
    assert b"irot" in phone or b"imir" in phone or orientation == 1
    assert exif[6:] in phone
    np.testing.assert_array_equal(read_photo(phone).rgb, expected)
    web = stored(pixels, "AVIF", quality=100, subsampling="4:4:4", exif=exif)
    rgb = read_photo(web).rgb
    assert rgb.shape == expected.shape
    assert np.abs(rgb.astype(int) - expected).max() <= 3


def test_exif_alone_does_not_turn_heic():
    """As the standard has it: some programs turn the picture and leave the old EXIF in place."""
    upright = heic(smooth(48, 64), exif=exif_of(1))
    stale = upright.replace(exif_of(1)[6:], exif_of(6)[6:])
    assert stale != upright
    np.testing.assert_array_equal(read_photo(stale).rgb, smooth(48, 64))


@pytest.mark.parametrize("kind", ["HEIC", "AVIF"])
def test_a_colour_profile_is_applied(kind):
    pixels = np.full((32, 32, 3), (200, 40, 90), np.uint8)
    profile = swapped_profile()
    if kind == "HEIC":
        data = heic(pixels, icc_profile=profile)
    else:
        data = stored(pixels, "AVIF", icc_profile=profile, quality=100, subsampling="4:4:4")
    assert np.abs(read_photo(data).rgb.astype(int) - [40, 200, 90]).max() <= 2


@pytest.mark.parametrize("full_range", [0, 1])
@pytest.mark.parametrize("matrix", [1, 6])
def test_matrix_and_range_of_the_colours_are_applied(matrix, full_range):
    """Without regard to them, strong colours would be off by twenty levels and more."""
    pixels = np.full((32, 32, 3), (200, 40, 90), np.uint8)
    picture = pillow_heif.from_bytes("RGB", (32, 32), pixels.tobytes())
    colours = {"color_primaries": 1, "transfer_characteristics": 13}
    colours |= {"matrix_coefficients": matrix, "full_range_flag": full_range}
    buffer = io.BytesIO()
    picture.save(buffer, quality=100, chroma=444, **colours)
    assert np.abs(read_photo(buffer.getvalue()).rgb.astype(int) - [200, 40, 90]).max() <= 3


def described(kind, pixels, primaries, curve, **options):
    """A file whose colours are described by numbers of ITU-T H.273."""
    if kind == "HEIC":
        numbers = {"color_primaries": primaries, "transfer_characteristics": curve}
        return heic(pixels, **numbers, **options)
    data = stored(pixels, "AVIF", quality=100, subsampling="4:4:4", **options)
    said = b"nclx" + struct.pack(">HH", 1, 13)
    return data.replace(said, b"nclx" + struct.pack(">HH", primaries, curve))


# Red, green and blue light as sRGB's, by CSS Color 4 and by ITU-R BT.2087.
P3_TO_SRGB = [
    [1.2249402, -0.2249402, 0.0],
    [-0.0420570, 1.0420570, 0.0],
    [-0.0196376, -0.0786361, 1.0982736],
]
REC2020_TO_SRGB = [
    [1.6604910, -0.5876411, -0.0728499],
    [-0.1245505, 1.1328999, -0.0083494],
    [-0.0181508, -0.1005789, 1.1187297],
]


@pytest.mark.parametrize(("primaries", "matrix"), [(12, P3_TO_SRGB), (9, REC2020_TO_SRGB)])
@pytest.mark.parametrize("kind", ["HEIC", "AVIF"])
def test_colours_described_by_numbers_become_srgb(kind, primaries, matrix):
    pixels = noise(32, 32)
    shown = read_photo(described(kind, pixels, 1, 13)).rgb / 255
    light = np.where(shown <= 0.04045, shown / 12.92, ((shown + 0.055) / 1.055) ** 2.4)
    light = np.clip(light @ np.transpose(matrix), 0, 1)
    expected = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    photo = read_photo(described(kind, pixels, primaries, 13))
    assert np.abs(photo.rgb - expected * 255).max() <= 1
    assert photo.notes == ()
    grey = np.repeat(noise(32, 32, 1), 3, axis=2)
    greys = [read_photo(described(kind, grey, number, 13)).rgb for number in (1, primaries)]
    np.testing.assert_array_equal(*greys)


@pytest.mark.parametrize(("primaries", "curve"), [(1, 13), (2, 2), (1, 1), (11, 13)])
def test_other_numbers_change_nothing(primaries, curve):
    pixels = noise(32, 32)
    photo = read_photo(described("HEIC", pixels, primaries, curve))
    np.testing.assert_array_equal(photo.rgb, pixels)
    web = [read_photo(described("AVIF", pixels, *both)) for both in ((1, 13), (primaries, curve))]
    np.testing.assert_array_equal(web[1].rgb, web[0].rgb)
    assert photo.notes == web[1].notes == ()


@pytest.mark.parametrize("kind", ["HEIC", "AVIF"])
def test_a_colour_profile_is_taken_before_numbers(kind):
    pixels = np.full((32, 32, 3), (200, 40, 90), np.uint8)
    photo = read_photo(described(kind, pixels, 9, 16, icc_profile=swapped_profile()))
    assert np.abs(photo.rgb.astype(int) - [40, 200, 90]).max() <= 2
    assert photo.notes == ()


def test_numbers_beside_a_profile_do_not_count():
    """The files that the test above writes lose theirs."""
    numbers = {"color_primaries": 9, "transfer_characteristics": 16}
    both = {"icc_profile": b"a profile", "nclx_profile": numbers}
    assert profile_of(both) == b"a profile" and not holds_hdr(both)
    alone = {"nclx_profile": numbers}
    assert profile_of(alone) not in (None, b"a profile") and holds_hdr(alone)


@pytest.mark.parametrize("curve", [16, 18])
@pytest.mark.parametrize("kind", ["HEIC", "AVIF"])
def test_hdr_colours_have_a_note(tmp_path, kind, curve):
    path = tmp_path / f"sun.{kind.lower()}"
    path.write_bytes(described(kind, smooth(32, 32), 9, curve))
    (note,) = read_photo(path, "small photo").notes
    assert is_one_sentence(note) and note.startswith(f"The small photo '{path.name}' holds HDR")


@pytest.mark.parametrize("primaries", [0, 3, 65535])
def test_numbers_without_a_meaning_do_not_cost_an_avif(primaries):
    pixels = smooth(32, 32)
    plain, odd = (read_photo(described("AVIF", pixels, n, 13)).rgb for n in (1, primaries))
    np.testing.assert_array_equal(odd, plain)


def test_the_primary_picture_of_several_is_taken():
    first, second = (np.full((32, 48, 3), level, np.uint8) for level in (40, 200))
    for primary, level in ((0, 40), (1, 200)):
        several = pillow_heif.from_bytes("RGB", (48, 32), first.tobytes())
        several.add_frombytes("RGB", (48, 32), second.tobytes())
        buffer = io.BytesIO()
        several.save(buffer, primary_index=primary)
        assert np.abs(read_photo(buffer.getvalue()).rgb.astype(int) - level).max() <= 2


def test_both_kinds_may_begin_with_the_general_brand():
    phone = heic(noise(32, 32))
    web = stored(smooth(32, 32), "AVIF", quality=98)
    for data in (phone, web):
        read_photo(data[:8] + b"mif1" + data[12:])


# ---------------------------------------------------------------------------- refused


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("kind", ["HEIC", "AVIF"])
def test_the_header_is_checked_before_anything_is_decoded(kind, monkeypatch):
    pixels = smooth(64, 96)
    data = heic(pixels) if kind == "HEIC" else stored(pixels, "AVIF")
    for name in ("numpy.asarray", "PIL.Image.Image.load"):
        monkeypatch.setattr(name, lambda *_: pytest.fail("it was decoded"))
    assert "96 x 64 pixels" in refusal(data, limits=Limits(max_pixels=96 * 64 - 1))
    size = struct.pack(">II", 96, 64)
    assert "16000 x 9000 pixels" in refusal(data.replace(size, struct.pack(">II", 16000, 9000)))


def test_a_small_header_does_not_hide_a_large_picture():
    """libheif holds the decoder to about what the header says; 16384 is the least it allows."""
    data = heic(np.zeros((5000, 4000, 3), np.uint8))
    small = data.replace(struct.pack(">II", 4000, 5000), struct.pack(">II", 64, 64))
    assert small != data
    assert "damaged" in refusal(small)


def larger_inside(data, width, height):
    """An AVIF file of up to 8191 pixels whose AV1 picture says that it is ``width x height``."""
    start = data.index(b"mdat") + 4
    item = data[start:]
    assert item[:3] == b"\x12\0\x0a"  # a delimiter, then the sequence header, then its length
    header = "".join(f"{byte:08b}" for byte in item[4 : 4 + item[3]])
    # Ten bits, then the lengths less one of width less one and height less one, then these.
    before, lengths = header[:10], [int(header[10:14], 2) + 1, int(header[14:18], 2) + 1]
    after = header[18 + sum(lengths) :].rstrip("0")
    changed = f"{before}{13:04b}{13:04b}{width - 1:014b}{height - 1:014b}{after}"
    changed += "0" * (-len(changed) % 8)
    payload = int(changed, 2).to_bytes(len(changed) // 8, "big")
    larger = item[:3] + bytes([len(payload)]) + payload + item[4 + item[3] :]
    for more in (0, 8):  # the data's length in the list of items, and that of the box around
        old, new = (struct.pack(">I", len(part) + more) for part in (item, larger))
        assert data.count(old) == 1
        data = data.replace(old, new)
    return data[:start] + larger


@pytest.fixture
def never_decoded(monkeypatch):
    monkeypatch.setattr(
        "PIL.AvifImagePlugin.AvifImageFile.load", lambda *_: pytest.fail("it was decoded")
    )


def test_a_small_header_does_not_hide_a_large_avif(never_decoded):
    """Decoded, 16000 x 16000 pixels would take half a gigabyte and ten seconds."""
    honest = stored(smooth(64, 96), "AVIF")
    bomb = larger_inside(honest, 16000, 16000)
    with Image.open(io.BytesIO(bomb)) as image:
        assert image.size == (96, 64), "Pillow is told the small size"
    assert "too many pixels" in refusal(bomb)
    # A picture that is only a little larger than its header says is decoded, and scaled.
    assert larger_inside(honest, 96, 64) != honest
    with pytest.raises(pytest.fail.Exception, match="it was decoded"):
        read_photo(larger_inside(honest, 1024, 1024))


def test_pictures_inside_one_file_count_together(monkeypatch):
    """As in a grid of many tiles; here they are colour and alpha."""
    monkeypatch.setattr(avif, "_ROOM", 0)
    data = stored(np.dstack([smooth(64, 96), smooth(64, 96)[:, :, 0]]), "AVIF")
    avif.check_stored_size(data, 64 * 96)
    with pytest.raises(Image.DecompressionBombError, match=f"{2 * 64 * 96} pixels"):
        avif.check_stored_size(data, 64 * 96 - 1)


def animation():
    pictures = [Image.fromarray(np.roll(smooth(64, 96), 20 * n, 1)) for n in range(3)]
    buffer = io.BytesIO()
    pictures[0].save(
        buffer, "AVIF", save_all=True, append_images=pictures[1:], quality=98, subsampling="4:4:4"
    )
    return buffer.getvalue()


def test_of_an_avif_animation_the_first_picture_is_taken():
    data = animation()
    with Image.open(io.BytesIO(data)) as image:
        assert image.n_frames == 3
    assert np.abs(read_photo(data).rgb.astype(int) - smooth(64, 96)).max() <= 5


def test_a_frame_with_a_size_of_its_own_is_refused(never_decoded):
    """It may be larger than the sequence header says."""
    data = animation()
    mark = data.index(b"\x32", data.index(b"mdat"))  # a frame, with its length after it
    at = mark + 1
    while data[at] & 0x80:
        at += 1
    # show_existing_frame 0, frame_type 00, show_frame 1, disable_cdf_update 0,
    # allow_screen_content_tools 0, and then frame_size_override_flag.
    assert data[at + 1] >> 1 & 0b1111110 == 0b0001000
    flagged = bytearray(data)
    flagged[at + 1] |= 0b10
    assert "damaged" in refusal(bytes(flagged))


def test_any_bytes_are_refused_in_a_sentence_or_read():
    rng = np.random.default_rng(5)
    for data in (stored(smooth(32, 48), "AVIF"), animation()):
        for _ in range(60):
            changed = bytearray(data)
            for _ in range(rng.integers(1, 8)):
                changed[rng.integers(12, len(data))] = rng.integers(256)
            with contextlib.suppress(ImageError):
                assert read_photo(bytes(changed)).rgb.ndim == 3


@pytest.mark.parametrize("kind", ["HEIC", "AVIF"])
def test_truncated_files_are_refused_in_a_sentence(kind):
    pixels = smooth(64, 96)
    data = heic(pixels) if kind == "HEIC" else stored(pixels, "AVIF")
    for part in (0.001, 0.02, 0.1, 0.3, 0.5, 0.8, 0.99):
        sentence = refusal(data[: int(len(data) * part) or 1])
        assert "damaged" in sentence or "cannot be read" in sentence


def test_a_film_is_no_picture():
    film = struct.pack(">I", 20) + b"ftypisom" + bytes(8) + bytes(200)
    assert "cannot be read" in refusal(film)


# ---------------------------------------------------------------------------- the list


def test_one_list_of_formats(tmp_path):
    assert FORMATS_IN_WORDS == "JPEG, PNG, WebP, AVIF, HEIC, TIFF, BMP or GIF"
    assert FORMATS_IN_WORDS in refusal(b"no picture")
    assert FORMATS_IN_WORDS in (ROOT / "README.md").read_text()
    for part in ("input", "ref"):
        (tmp_path / "pairs" / part).mkdir(parents=True)
    with pytest.raises(UserError, match=f"put {FORMATS_IN_WORDS} files there"):
        find_pairs(tmp_path / "pairs")
    with pytest.raises(UserError, match="There is no folder"):
        find_pairs(tmp_path / ("a" * 300))  # no disk has such a name
    assert {".heic", ".heif", ".avif", "image/heic", "image/avif"} <= set(ACCEPTED)
    for suffix in (*SUFFIXES, ".txt", ".svg"):
        (tmp_path / f"a{suffix.upper()}").touch()
    (tmp_path / ".a.jpg").touch()  # as some systems write beside each file
    (tmp_path / "folder.jpg").mkdir()
    found = pictures_in(tmp_path)
    assert {path.name for path in found} == {f"a{suffix.upper()}" for suffix in SUFFIXES}


def test_pillow_stays_as_it_is_for_others():
    data = heic(noise(16, 16))
    read_photo(data)
    with pytest.raises(Image.UnidentifiedImageError):
        Image.open(io.BytesIO(data))
