"""Primitives of drawing: arrays in, arrays out, nothing of the network.

Pictures are ``uint8`` arrays ``(H, W, 3)`` on white. Places are (x, y) or ``Box`` in the
picture's own pixels, measured from its top left corner, so that pixel 0 reaches from 0 to 1.
What marks a place (``outline``, ``text``, ...) draws on the picture it is given and returns it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import matplotlib
import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw, ImageFont

from masa.pictures.photo import Pixels

Colour = tuple[int, int, int]
Corners = NDArray[np.float64]
"""``(n, 2)``: the corners (x, y) of a convex polygon, in order around it."""

WIDTH = 470
"""Figure pixels across a figure that stands beside another one."""
WIDE = 940
"""Figure pixels across a figure that has a row of its own."""
TALL = 560
"""Most figure pixels down a single picture, for sources much taller than wide."""
SMALL, NORMAL = 13, 15
"""Heights of letters in pixels: numbers and remarks; titles."""
GAP = 12
"""Figure pixels between neighbours."""

WHITE: Colour = (255, 255, 255)
BLACK: Colour = (0, 0, 0)
INK: Colour = (34, 34, 40)
UNKNOWN: Colour = (200, 200, 205)
"""Stands for values that do not exist."""
ORANGE: Colour = (230, 120, 0)
BLUE: Colour = (0, 100, 190)
"""Can be told apart with every kind of colour vision, on light and dark ground."""

_FINE = 4  # bits of a pixel's fraction in OpenCV's drawing


@dataclass(frozen=True)
class Box:
    """A rectangle in a picture's pixels; right and bottom are the first beyond it."""

    left: float
    top: float
    right: float
    bottom: float

    def scaled(self, zoom: float, left: float = 0, top: float = 0) -> Box:
        """The same place after enlarging by ``zoom`` and moving to (left, top)."""
        return Box(
            left + zoom * self.left,
            top + zoom * self.top,
            left + zoom * self.right,
            top + zoom * self.bottom,
        )

    def within(self, other: Box) -> Box | None:
        """The common part, ``None`` if there is none."""
        part = Box(
            max(self.left, other.left),
            max(self.top, other.top),
            min(self.right, other.right),
            min(self.bottom, other.bottom),
        )
        return part if part.left < part.right and part.top < part.bottom else None

    @classmethod
    def around(cls, corners: Corners) -> Box:
        """The smallest one that holds a polygon."""
        left, top = corners.min(0)
        right, bottom = corners.max(0)
        return cls(float(left), float(top), float(right), float(bottom))

    @property
    def centre(self) -> tuple[float, float]:
        """(x, y)."""
        return (self.left + self.right) / 2, (self.top + self.bottom) / 2


def blank(height: int, width: int, colour: Colour = WHITE) -> Pixels:
    """``(height, width, 3)`` of one colour."""
    row = np.full((1, width, 3), colour, np.uint8)
    return row.repeat(height, axis=0)  # a hundred times faster than to fill every pixel


def fit_zoom(rows: int, columns: int, width: float = WIDTH, height: float = TALL) -> float:
    """Largest factor at which a picture of ``rows`` x ``columns`` fits into a space."""
    return min(width / columns, height / rows)


def enlarge(picture: NDArray[np.uint8], zoom: float) -> NDArray[np.uint8]:
    """``(H, W[, 3])`` resized by ``zoom``, to one pixel a side at least.

    Pixels stay squares of even size at any factor above 1. Below 1, they are averaged.
    """
    rows, columns = picture.shape[:2]
    size = (max(1, round(columns * zoom)), max(1, round(rows * zoom)))
    if size == (columns, rows):
        return picture.copy()
    picture = np.ascontiguousarray(picture)
    if zoom <= 1:
        return _u8(cv2.resize(picture, size, interpolation=cv2.INTER_AREA))
    whole = int(np.ceil(zoom - 1e-9))
    picture = np.repeat(np.repeat(picture, whole, axis=0), whole, axis=1)
    if picture.shape[1::-1] == size:
        return picture
    return _u8(cv2.resize(picture, size, interpolation=cv2.INTER_AREA))


def grey(picture: Pixels, strength: float = 1.0) -> Pixels:
    """A picture without colour; at ``strength`` under 1 also pale, as a ground to paint on."""
    light = cv2.cvtColor(np.ascontiguousarray(picture), cv2.COLOR_RGB2GRAY).astype(np.float32)
    light = 255 - strength * (255 - light)
    return _u8(cv2.cvtColor(light.round().astype(np.uint8), cv2.COLOR_GRAY2RGB))


def blend(picture: Pixels, colour: ArrayLike, share: ArrayLike) -> Pixels:
    """``picture`` with ``share`` (0 to 1) of ``colour`` over it.

    ``colour`` is one colour or ``(H, W, 3)``, ``share`` a number or ``(H, W)``.
    """
    weight = np.asarray(share, np.float32)
    if weight.ndim == 2:
        weight = weight[:, :, None]
    over = np.asarray(colour, np.float32)
    mixed = picture + weight * (over - picture)
    return np.clip(mixed.round(), 0, 255).astype(np.uint8)


def outline(picture: Pixels, box: Box, colour: Colour, thickness: int = 2) -> Pixels:
    """A rectangle's edge, drawn inside ``box``; it may reach beyond the picture."""
    left, top = round(box.left), round(box.top)
    right, bottom = max(round(box.right), left + 1), max(round(box.bottom), top + 1)
    edge = min(thickness, right - left, bottom - top)
    for part in (
        (top, top + edge, left, right),
        (bottom - edge, bottom, left, right),
        (top, bottom, left, left + edge),
        (top, bottom, right - edge, right),
    ):
        y0, y1, x0, x1 = (max(0, value) for value in part)
        picture[y0:y1, x0:x1] = colour
    return picture


def emphasise(picture: Pixels, box: Box, colour: Colour = ORANGE, thickness: int = 3) -> Pixels:
    """An outline around ``box`` that shows on any ground: white, ``colour``, white."""
    for grown, colours, width in (
        (thickness + 2, WHITE, thickness + 2),
        (thickness + 1, colour, thickness),
    ):
        around = Box(box.left - grown, box.top - grown, box.right + grown, box.bottom + grown)
        outline(picture, around, colours, width)
    return picture


def outline_polygon(
    picture: Pixels, corners: Corners, colour: Colour, thickness: int = 2, grown: int = 0
) -> Pixels:
    """A polygon's edge, drawn inside it once it has been ``grown`` by so many pixels."""
    whole = corners.round()
    outwards = _outwards(whole)
    # OpenCV fills what lies between two polygons, with the pixels that they pass through.
    first = _fixed(whole + (grown - 0.5) * outwards)
    last = _fixed(whole + (grown - thickness + 0.5) * outwards)
    cv2.fillPoly(picture, [first, last], colour, shift=_FINE)
    return picture


def _outwards(corners: Corners) -> Corners:
    """``(n, 2)``: how corners move if each side of their polygon moves out by one pixel."""
    sides = np.roll(corners, -1, 0) - corners
    length = np.hypot(sides[:, 0], sides[:, 1])
    from_middle = corners - corners.mean(0)
    if not length.all():  # a polygon that is a line or a point
        return np.sign(from_middle)
    normal = np.stack((sides[:, 1], -sides[:, 0]), 1) / length[:, None]
    normal *= np.where((normal * from_middle).sum(1) < 0, -1, 1)[:, None]
    before = np.roll(normal, 1, 0)
    # Both sides at the corner move by one; sharp corners would move very far.
    return (before + normal) / np.maximum(1 + (before * normal).sum(1), 0.25)[:, None]


def emphasise_polygon(
    picture: Pixels, corners: Corners, colour: Colour = ORANGE, thickness: int = 3
) -> Pixels:
    """An outline around a polygon that shows on any ground, like :func:`emphasise`."""
    outline_polygon(picture, corners, WHITE, thickness + 2, grown=thickness + 2)
    outline_polygon(picture, corners, colour, thickness, grown=thickness + 1)
    return picture


def line(
    picture: Pixels,
    points: Sequence[tuple[float, float]],
    colour: Colour,
    thickness: int = 2,
    halo: Colour | None = WHITE,
) -> Pixels:
    """Straight lines through points (x, y), with an edge of ``halo`` unless that is ``None``."""
    fixed = _fixed(points)
    if halo is not None:
        cv2.polylines(picture, [fixed], False, halo, thickness + 2, cv2.LINE_AA, _FINE)
    cv2.polylines(picture, [fixed], False, colour, thickness, cv2.LINE_AA, _FINE)
    return picture


def arrow(
    picture: Pixels,
    start: tuple[float, float],
    end: tuple[float, float],
    colour: Colour = INK,
    thickness: int = 1,
    head: float = 5,
) -> Pixels:
    """From (x, y) to (x, y), with a filled head and a white edge; a dot if they are the same."""
    length = float(np.hypot(end[0] - start[0], end[1] - start[1]))
    if length < 1:
        return dot(picture, end, 1.5, colour)
    along = np.array([end[0] - start[0], end[1] - start[1]]) / length
    across = np.array([-along[1], along[0]])
    reach = min(head, length)
    back = np.array(end) - reach * along
    corners = np.stack((end, back + 0.5 * reach * across, back - 0.5 * reach * across))
    fixed = _fixed(corners)
    shaft = [start, (float(back[0]), float(back[1]))]
    cv2.polylines(picture, [_fixed(shaft)], False, WHITE, thickness + 2, cv2.LINE_AA, _FINE)
    cv2.polylines(picture, [fixed], True, WHITE, 2, cv2.LINE_AA, _FINE)
    cv2.polylines(picture, [_fixed(shaft)], False, colour, thickness, cv2.LINE_AA, _FINE)
    cv2.fillPoly(picture, [fixed], colour, cv2.LINE_AA, _FINE)
    return picture


def shape(picture: Pixels, corners: ArrayLike, colour: Colour) -> Pixels:
    """A filled polygon with a white edge; corners ``(n, 2)`` are (x, y)."""
    fixed = _fixed(corners)
    cv2.polylines(picture, [fixed], True, WHITE, 2, cv2.LINE_AA, _FINE)
    cv2.fillPoly(picture, [fixed], colour, cv2.LINE_AA, _FINE)
    return picture


def dot(
    picture: Pixels, centre: tuple[float, float], radius: float, colour: Colour, filled: bool = True
) -> Pixels:
    """A disc or a ring around (x, y) with a white edge."""
    place = tuple(int(v) for v in _fixed([centre])[0])
    size = round(radius * 2**_FINE)
    if filled:
        cv2.circle(picture, place, size + 2**_FINE, WHITE, -1, cv2.LINE_AA, _FINE)
        cv2.circle(picture, place, size, colour, -1, cv2.LINE_AA, _FINE)
    else:
        cv2.circle(picture, place, size, WHITE, 4, cv2.LINE_AA, _FINE)
        cv2.circle(picture, place, size, colour, 2, cv2.LINE_AA, _FINE)
    return picture


def text(
    picture: Pixels,
    words: str,
    x: float,
    y: float,
    size: int = SMALL,
    colour: Colour = INK,
    anchor: str = "la",
    halo: Colour | None = None,
    bold: bool = False,
) -> Pixels:
    """``words`` in letters of ``size`` pixels; several lines are allowed.

    ``anchor`` says which point of the words (x, y) is: first ``l``, ``m`` or ``r`` for left,
    middle or right, then ``a``, ``m`` or ``d`` for top, middle or bottom. ``halo`` is the colour of
    an edge that keeps the words readable on a photo.
    """
    font = _font(size, bold)
    stroke = 0 if halo is None else max(2, size // 6)
    lines = words.split("\n")
    height = line_height(size)
    shift = {"a": 0.0, "m": 0.5, "d": 1.0}[anchor[1]]
    for number, words_of_line in enumerate(lines):
        middle = y + height * (number + 0.5 - shift * len(lines))
        box = font.getbbox(words_of_line, anchor=f"{anchor[0]}m", stroke_width=stroke)
        left, top = int(np.floor(x + box[0])) - 1, int(np.floor(middle + box[1])) - 1
        right, bottom = int(np.ceil(x + box[2])) + 1, int(np.ceil(middle + box[3])) + 1
        left, top = max(left, 0), max(top, 0)
        part = picture[top : max(bottom, 0), left : max(right, 0)]
        if part.size == 0:
            continue
        patch = Image.fromarray(part)
        ImageDraw.Draw(patch).text(
            (x - left, middle - top),
            words_of_line,
            fill=colour,
            font=font,
            anchor=f"{anchor[0]}m",
            stroke_width=stroke,
            stroke_fill=halo,
        )
        part[:] = np.asarray(patch)
    return picture


def text_width(words: str, size: int = SMALL, bold: bool = False) -> float:
    """Pixels across the longest line of ``words``."""
    return max(_font(size, bold).getlength(part) for part in words.split("\n"))


def line_height(size: int) -> int:
    """Pixels from one line of words to the next."""
    return round(1.35 * size)


def wrap(words: str, width: float, size: int = SMALL) -> str:
    """``words`` with line breaks so that no line is wider than ``width``, words permitting."""
    lines = [""]
    for word in words.split(" "):
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and text_width(longer, size) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return "\n".join(lines)


def stack(pictures: Sequence[Pixels], gap: int = GAP) -> Pixels:
    """Pictures below each other, on the left."""
    width = max(picture.shape[1] for picture in pictures)
    height = sum(picture.shape[0] for picture in pictures) + gap * (len(pictures) - 1)
    page = blank(height, width)
    top = 0
    for picture in pictures:
        page[top : top + picture.shape[0], : picture.shape[1]] = picture
        top += picture.shape[0] + gap
    return page


def arrange(
    pictures: Sequence[Pixels], titles: Sequence[str], gap: int = GAP, least: int = 0
) -> tuple[Pixels, list[tuple[int, int]]]:
    """Pictures in a row, their tops aligned, each under its title, and (left, top) of each there.

    Each picture gets a column of at least ``least`` pixels, over which its title may spread.
    """
    columns = [max(least, picture.shape[1]) for picture in pictures]
    wrapped = [wrap(title, column, NORMAL) for title, column in zip(titles, columns, strict=True)]
    # A single word may be wider than its column.
    columns = [
        max(column, int(np.ceil(text_width(words, NORMAL))))
        for column, words in zip(columns, wrapped, strict=True)
    ]
    lines = max((words.count("\n") + 1 if words else 0) for words in wrapped)
    top = lines * line_height(NORMAL) + (4 if lines else 0)
    height = top + max(picture.shape[0] for picture in pictures)
    page = blank(height, sum(columns) + gap * (len(columns) - 1))
    corners, left = [], 0
    for picture, words, column in zip(pictures, wrapped, columns, strict=True):
        if words:
            text(page, words, left, top - 4, NORMAL, anchor="ld")
        page[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
        corners.append((left, top))
        left += column + gap
    return page, corners


def shelve(
    sizes: Sequence[tuple[int, int]], width: int, height: int, most: float = float("inf")
) -> tuple[float, list[tuple[int, int]]]:
    """Places for pictures of ``(rows, columns)`` in a space: in order, in rows, as large as fits.

    Returns the factor that all are enlarged by, ``most`` at most, and (left, top) of each.
    """
    best: tuple[float, list[tuple[int, int]]] = (0.0, [])
    for per_row in range(1, len(sizes) + 1):
        rows = [sizes[i : i + per_row] for i in range(0, len(sizes), per_row)]
        across = min(
            (width - GAP * (len(row) - 1)) / sum(columns for _, columns in row) for row in rows
        )
        down = (height - GAP * (len(rows) - 1)) / sum(max(r for r, _ in row) for row in rows)
        zoom = min(across, down, most)
        # Of layouts that enlarge about equally, take the later one, which is wider and less tall.
        if zoom < 0.95 * best[0] or zoom <= 0:
            continue
        corners, top = [], 0
        for row in rows:
            left = 0
            for _, columns in row:
                corners.append((left, top))
                left += round(zoom * columns) + GAP
            top += round(zoom * max(r for r, _ in row)) + GAP
        best = (zoom, corners)
    return best


def written(value: float, span: float) -> str:
    """The number at a tick of an axis that is ``span`` long, with digits enough to differ."""
    if span <= 0:
        return f"{value:.3g}".replace("-", "−")
    if max(abs(value), span) >= 1e5 or max(abs(value), span) < 1e-4:
        return f"{value:.1e}".replace("-", "−")
    digits = int(np.clip(2 - np.floor(np.log10(span) + 0.2), 0, 9))
    words = f"{value:.{digits}f}"
    if "." in words:
        words = words.rstrip("0").rstrip(".")
    return "0" if words in ("-0", "") else words.replace("-", "−")


def _fixed(points: ArrayLike) -> NDArray[np.int32]:
    """Points as OpenCV's fixed-point numbers; it counts from pixels' centres."""
    return ((np.asarray(points, np.float64) - 0.5) * 2**_FINE).round().astype(np.int32)


@lru_cache(maxsize=16)
def _font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    # matplotlib brings this font along, so figures look alike wherever they are drawn.
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name
    return ImageFont.truetype(str(path), size)


def _u8(picture: NDArray) -> NDArray[np.uint8]:
    return np.asarray(picture, np.uint8)
