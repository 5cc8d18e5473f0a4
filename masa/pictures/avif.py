"""AVIF files whose header tells a smaller size than they hold: found before they are decoded.

The size in the header of an AVIF file need not be that of the AV1 pictures in it, which libavif
decodes, up to 16384 x 16384 pixels, and then scales. Pillow has no switch for less. So the sizes
are read here from the AV1 pictures' own headers. Boxes are those of ISO/IEC 14496-12 and 23008-12,
the fields and their names those of the AV1 specification, sections 5.3 to 5.9.
"""

from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple

from PIL import Image

_TIMES, _ROOM = 2, 2**22
"""How much larger than the header says all pictures of a file may be: so many times, and so many
pixels more. Transparency and thumbnails count too, and tiles may reach beyond the picture."""

_MOST_OBUS = 10_000
"""Parts of AV1 data that are looked at in a file; each of its pictures has a few."""

_MOST_LISTED = 2**16
"""Bytes of each list of pictures in a file. One of 256 tiles takes some 6 KB; libavif goes through
the whole list for each of its entries."""

_LISTS = (b"iinf", b"iloc", b"iref", b"ipma", b"grpl")
_MOST_BOXES = 2000
"""Boxes of a file that are looked at, within others too; it has some dozens."""

_BRANDS = (b"avif", b"avis", b"mif1", b"msf1")
_SEQUENCE_HEADER, _FRAME_HEADERS = 1, (3, 6, 7)
_KEY_FRAME, _SWITCH_FRAME = 0, 3
_SELECT = 2


def is_avif(data: bytes) -> bool:
    """Whether Pillow takes a file for AVIF; it would do so for some HEIC files too."""
    return data[4:8] == b"ftyp" and data[8:12] in _BRANDS


def still_picture(data: bytes) -> bytes:
    """An AVIF file with the brand of still pictures: of an animation its cover is decoded."""
    return data[:8] + b"avif" + data[12:]


def has_long_lists(data: bytes) -> bool:
    """Whether an AVIF or HEIC file lists so many pictures that opening it would take very long; or
    the same bytes again and again, which libheif would hold once for each time.

    Of a damaged file, what lies before the damage is looked at: the decoders get no farther.
    """
    todo, seen, held = [memoryview(data)], 0, 0
    while todo:
        with suppress(ValueError):
            for kind, content in _boxes(todo.pop()):
                seen += 1
                if seen > _MOST_BOXES or (kind in _LISTS and len(content) > _MOST_LISTED):
                    return True
                if kind == b"iloc":
                    for _, _, extents in _entries(content):
                        held += sum(min(length or len(data), len(data)) for _, length in extents)
                        if held > _TIMES * len(data) + _ROOM:
                            return True
                if kind in (b"meta", b"iprp", b"ipco"):
                    todo.append(content[4:] if kind == b"meta" else content)
    return False


def is_told_in_text(data: bytes) -> bool:
    """Whether all that a HEIC or AVIF file says of its items, such as their kind, is UTF-8.

    Of a damaged file, what lies before the damage is looked at.
    """
    with suppress(ValueError):
        for kind, content in _boxes(memoryview(data)):
            if kind == b"meta" and not all(map(_is_text, _told(content[4:]))):
                return False
    return True


def _told(meta: memoryview) -> Iterator[memoryview]:
    """Kinds of a file's items, and the texts that follow each."""
    with suppress(ValueError):
        for kind, content in _boxes(meta):
            if kind == b"iinf":
                for _, item_kind, texts in _items(content):
                    yield from (item_kind, texts)


def _is_text(data: memoryview) -> bool:
    try:
        str(data, "utf-8")
    except UnicodeDecodeError:
        return False
    return True


def colour_numbers(data: bytes) -> dict[str, int]:
    """The numbers of ITU-T H.273 by which an AVIF file describes its picture's colours.

    They are called as pi-heif calls those of a HEIC file. Empty without any, and of a damaged file.
    """
    with suppress(KeyError, IndexError, ValueError):
        parts = _meta(memoryview(data))
        properties = dict(_boxes(parts[b"iprp"]))
        all_there = list(_boxes(properties[b"ipco"]))
        for place in _places_of_properties(properties[b"ipma"], _primary(parts[b"pitm"])):
            kind, content = all_there[place]
            if kind == b"colr" and content[:4] == b"nclx":
                reader = _Reader(content[4:])
                names = ("color_primaries", "transfer_characteristics")
                return {name: reader.bits(16) for name in names}
    return {}


def check_stored_size(data: bytes, pixels: int) -> None:
    """Raises ``DecompressionBombError`` if a file's pictures have far more pixels than ``pixels``.

    ``data`` is what :func:`still_picture` returns, ``pixels`` the header's width times height.
    Raises ``ValueError`` for what is no such file, and where single frames have sizes of their own.
    """
    stored = obus = 0
    for item in _av1_items(memoryview(data)):
        pixels_of_item, obus_of_item = _stored_pixels(item, _MOST_OBUS - obus)
        stored, obus = stored + pixels_of_item, obus + obus_of_item
    if stored > _TIMES * pixels + _ROOM:
        raise Image.DecompressionBombError(f"{stored} pixels, and {pixels} by the header")


def _stored_pixels(item: memoryview, most_obus: int) -> tuple[int, int]:
    """Pixels of all frames in the AV1 data of one picture, and its parts; each frame is decoded,
    shown or not."""
    header, stored, count = None, 0, 0
    for count, (kind, content) in enumerate(_obus(item), 1):
        if count > most_obus:
            raise ValueError("too many parts")
        if kind == _SEQUENCE_HEADER:
            header = _sequence_header(_Reader(content))
        elif kind in _FRAME_HEADERS:
            if header is None or _sets_size(_Reader(content), header):
                raise ValueError("a frame of another size")
            stored += header.width * header.height
    return stored, count


class _Reader:
    """Reads numbers, most significant bit first. Raises ``ValueError`` at the end of the data."""

    def __init__(self, data: memoryview) -> None:
        self._data = data
        self._at = 0

    def bits(self, count: int) -> int:
        """The next ``count`` bits."""
        end = self._at + count
        first, last = self._at // 8, -(-end // 8)
        if last > len(self._data):
            raise ValueError("cut off")
        self._at = end
        return (int.from_bytes(self._data[first:last]) >> (8 * last - end)) & ((1 << count) - 1)

    def flag(self) -> bool:
        """The next bit."""
        return bool(self.bits(1))

    def leb128(self) -> int:
        """A number in groups of 7 bits, the lowest first, each with a bit that says "more"."""
        value = 0
        for place in range(8):
            more, group = self.flag(), self.bits(7)
            value |= group << (7 * place)
            if not more:
                return value
        raise ValueError("a number without end")

    def uvlc(self) -> None:
        """Pass over a number of less than 32 bits, whose length is told by the zeros before it."""
        zeros = 0
        while not self.flag():
            zeros += 1
            if zeros == 32:
                raise ValueError("a number without end")
        self.bits(zeros)

    def rest(self) -> memoryview:
        """The bytes that were not read."""
        return self._data[-(-self._at // 8) :]


# ---------------------------------------------------------------------------- boxes


def _boxes(data: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    """The kind and the content of each box in ``data``."""
    while data:
        reader = _Reader(data)
        size, kind, start = reader.bits(32), reader.bits(32).to_bytes(4), 8
        if size == 1:
            size, start = reader.bits(64), 16
        size = size or len(data)  # 0: to the end
        if not start <= size <= len(data):
            raise ValueError("a box that does not fit")
        yield kind, data[start:size]
        data = data[size:]


def _meta(data: memoryview) -> dict[bytes, memoryview]:
    """The boxes in the file's "meta" box, which lists its pictures."""
    meta = next((content for kind, content in _boxes(data) if kind == b"meta"), None)
    if meta is None:
        raise ValueError("no list of pictures")
    return dict(_boxes(meta[4:]))


def _av1_items(data: memoryview) -> Iterator[memoryview]:
    """The AV1 data of each picture that the file's "meta" box lists."""
    parts = _meta(data)
    pictures = {number for number, kind, _ in _items(parts[b"iinf"]) if kind == b"av01"}
    length = 0
    for number, source, extents in _places(parts[b"iloc"], data, parts.get(b"idat")):
        if number not in pictures:
            continue
        length += sum(map(len, extents))
        if length > 2 * len(source):
            raise ValueError("places that overlap")
        yield extents[0] if len(extents) == 1 else memoryview(b"".join(extents))


def _items(iinf: memoryview) -> Iterator[tuple[int, memoryview, memoryview]]:
    """The number of each item, its kind and the texts that follow; without those cut short."""
    reader = _Reader(iinf)
    version = reader.bits(32) >> 24
    reader.bits(32 if version else 16)  # their count
    for kind, content in _boxes(reader.rest()):
        if kind != b"infe":
            continue
        entry = _Reader(content)
        with suppress(ValueError):
            version = entry.bits(32) >> 24
            number = entry.bits(16 if version < 3 else 32)
            entry.bits(16)  # protection
            yield number, entry.rest()[:4], entry.rest()[4:]


def _primary(pitm: memoryview) -> int:
    """The number of the item that is the file's picture."""
    reader = _Reader(pitm)
    version = reader.bits(32) >> 24
    return reader.bits(32 if version else 16)


def _places_of_properties(ipma: memoryview, item: int) -> Iterator[int]:
    """Where an item's properties are in the list of all, from 0."""
    reader = _Reader(ipma)
    version, flags = reader.bits(8), reader.bits(24)
    for _ in range(reader.bits(32)):
        number = reader.bits(32 if version else 16)
        for _ in range(reader.bits(8)):
            reader.bits(1)  # whether a decoder must know it
            place = reader.bits(15 if flags & 1 else 7)  # from 1; 0 for none
            if number == item and place:
                yield place - 1


def _places(
    iloc: memoryview, file: memoryview, idat: memoryview | None
) -> Iterator[tuple[int, memoryview, list[memoryview]]]:
    """Each item's number, what its data lie in, and the parts of that which hold them."""
    for number, method, extents in _entries(iloc):
        source = idat if method == 1 else file
        if method > 1 or source is None:
            raise ValueError("data in an unknown place")
        yield (
            number,
            source,
            [source[at : at + length] if length else source[at:] for at, length in extents],
        )


def _entries(iloc: memoryview) -> Iterator[tuple[int, int, list[tuple[int, int]]]]:
    """Each item's number, how its place is told, and starts and lengths of its parts; 0 is all."""
    reader = _Reader(iloc)
    version = reader.bits(32) >> 24
    offset_size, length_size, base_size, index_size = (8 * reader.bits(4) for _ in range(4))
    wide = 32 if version == 2 else 16
    for _ in range(reader.bits(wide)):
        number = reader.bits(wide)
        method = reader.bits(16) & 15 if version else 0
        reader.bits(16)  # which file: this one
        base = reader.bits(base_size)
        extents = []
        for _ in range(reader.bits(16)):
            reader.bits(index_size if version else 0)
            start = base + reader.bits(offset_size)
            extents.append((start, reader.bits(length_size)))
        yield number, method, extents


# ---------------------------------------------------------------------------- AV1


class _SequenceHeader(NamedTuple):
    """What tells the size of the frames that follow it, and how to read their headers."""

    width: int
    height: int
    is_reduced: bool
    """It has one frame, without a header of its own before the size."""
    presentation_time_bits: int
    frame_id_bits: int
    screen_content_tools: int
    """0 or 1, or ``_SELECT``: the frame says which; so too the next."""
    integer_mv: int


def _obus(data: memoryview) -> Iterator[tuple[int, memoryview]]:
    """The kind and the content of each "open bitstream unit" of AV1 data."""
    while data:
        reader = _Reader(data)
        _, kind, has_extension, has_size, _ = (reader.bits(count) for count in (1, 4, 1, 1, 1))
        reader.bits(8 * has_extension)
        size = reader.leb128() if has_size else len(reader.rest())
        data = reader.rest()
        yield kind, data[:size]
        data = data[size:]


def _sequence_header(reader: _Reader) -> _SequenceHeader:
    reader.bits(4)  # seq_profile, still_picture
    is_reduced = reader.flag()
    presentation_time_bits = 0
    if is_reduced:
        reader.bits(5)  # seq_level_idx
    else:
        presentation_time_bits = _operating_points(reader)
    sizes = reader.bits(4) + 1, reader.bits(4) + 1
    width, height = (reader.bits(bits) + 1 for bits in sizes)
    if is_reduced:
        return _SequenceHeader(width, height, True, 0, 0, _SELECT, _SELECT)
    frame_id_bits = reader.bits(4) + reader.bits(3) + 3 if reader.flag() else 0
    reader.bits(7)  # use_128x128_superblock to enable_dual_filter
    if reader.flag():  # enable_order_hint
        reader.bits(2)
    screen_content_tools = _SELECT if reader.flag() else reader.bits(1)
    integer_mv = _SELECT
    if screen_content_tools and not reader.flag():
        integer_mv = reader.bits(1)
    return _SequenceHeader(
        width,
        height,
        False,
        presentation_time_bits,
        frame_id_bits,
        screen_content_tools,
        integer_mv,
    )


def _operating_points(reader: _Reader) -> int:
    """Passes over them and the times before them; bits of a frame's presentation time, if any."""
    presentation_time_bits = delay_bits = 0
    has_model = equal_picture_interval = False
    if reader.flag():  # timing_info_present_flag
        reader.bits(64)
        equal_picture_interval = reader.flag()
        if equal_picture_interval:
            reader.uvlc()
        has_model = reader.flag()
        if has_model:
            delay_bits = reader.bits(5) + 1
            reader.bits(32 + 5)
            presentation_time_bits = reader.bits(5) + 1
    has_display_delay = reader.flag()
    for _ in range(reader.bits(5) + 1):
        reader.bits(12)  # operating_point_idc
        if reader.bits(5) > 7:  # seq_level_idx
            reader.bits(1)  # seq_tier
        if has_model and reader.flag():
            reader.bits(2 * delay_bits + 1)
        if has_display_delay and reader.flag():
            reader.bits(4)
    return 0 if equal_picture_interval else presentation_time_bits


def _sets_size(reader: _Reader, header: _SequenceHeader) -> bool:
    """Whether a frame has a size of its own, which may be larger than the sequence header's."""
    if header.is_reduced or reader.flag():  # show_existing_frame
        return False
    frame_type = reader.bits(2)
    is_shown = reader.flag()
    reader.bits(header.presentation_time_bits if is_shown else 1)
    if frame_type != _SWITCH_FRAME and not (frame_type == _KEY_FRAME and is_shown):
        reader.bits(1)  # error_resilient_mode
    reader.bits(1)  # disable_cdf_update
    tools = header.screen_content_tools
    if tools == _SELECT:
        tools = reader.bits(1)
    if tools and header.integer_mv == _SELECT:
        reader.bits(1)
    reader.bits(header.frame_id_bits)
    return frame_type == _SWITCH_FRAME or reader.flag()
