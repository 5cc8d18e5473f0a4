"""Where did this pixel come from? One pixel of the result, followed back to the reference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

from demo.figures.draw import (
    BLACK,
    INK,
    NORMAL,
    ORANGE,
    SMALL,
    TALL,
    WHITE,
    WIDE,
    WIDTH,
    Box,
    Colour,
    arrange,
    blank,
    blend,
    emphasise,
    emphasise_polygon,
    enlarge,
    fit_zoom,
    grey,
    line,
    line_height,
    outline,
    stack,
    text,
    wrap,
)
from demo.figures.figure import Drawn, Panel
from demo.figures.places import (
    RefView,
    block_at,
    block_corner,
    in_view,
    lr_panel,
    lr_zoom,
    matched_cells,
    padding_words,
    place_words,
    ref_block,
    ref_view,
    reference_words,
)
from demo.figures.view import View
from demo.runs.exploration import Exploration
from masa.config import SCALE
from masa.network.transfer import TransferPlan, plan_transfer, scaled_similarity
from masa.pictures.photo import Pixels

FIELD = 12
"""LR pixels a side that are shown around the chosen one."""

MARKS: tuple[Colour, ...] = (
    (0, 114, 178),
    (230, 140, 0),
    (208, 104, 164),
    (0, 130, 102),
    (120, 80, 30),
    (86, 170, 225),
    (190, 60, 0),
    (90, 90, 100),
    (150, 120, 220),
)
"""Told apart by most eyes; numbers stand beside them."""

_PART, _LINK = 216, 25  # width of one of four pictures in a row, and of the gap that links cross
_TILE = 80


def chosen(x: Exploration, view: View) -> Drawn:
    """The result with the chosen LR pixel framed. Panel ``hr`` is in pixels of the result."""
    row, column = view.pixel(x)
    rows, columns = x.result.shape[:2]
    zoom = min(fit_zoom(rows, columns, WIDTH, TALL), 8.0)
    picture = enlarge(x.result, zoom)
    geometry = x.matches.geometry
    top, left = block_corner(x, block_at(x, row, column))
    block = Box(left, top, left + geometry.block, top + geometry.block)
    outline(picture, block.scaled(SCALE * zoom), WHITE, 1)
    emphasise(picture, _cell(row, column).scaled(SCALE * zoom), thickness=2)
    similarity = float(x.matches.similarity[0, 0, row, column])
    at = (int(v) for v in x.matches.position[0, :, row, column])
    return Drawn(
        picture,
        "The result with a frame around the chosen pixel of the small photo.",
        f"Pixel (row {row}, column {column}) of the small photo matched {place_words(x, *at)} with "
        f"a cosine similarity of {similarity:.3f}.",
        (Panel("hr", 0, 0, rows, columns, zoom),),
    )


@dataclass(frozen=True)
class Piece:
    """A Ref-down cell that was copied to an LR pixel."""

    row: int
    column: int
    """On the Ref-down grid."""
    weight: float
    """Its share of the pixel; the shares of all pieces sum to 1."""
    voters: tuple[tuple[int, int], ...]
    """(row, column) of the LR pixels whose matched patches put it there."""


def pieces_of(x: Exploration, row: int, column: int) -> list[Piece]:
    """What LR pixel (row, column) is made of, the largest share first.

    Matched patches of the pixel's neighbours in its block cover it too; where they continue one
    another they bring the same cell.
    """
    plan = _plan_of_block(x, row, column)
    side = x.matches.geometry.block
    inside = (0, row % side, column % side)
    weights, rows, columns = (v[inside].tolist() for v in (plan.weight, plan.row, plan.column))
    radius = x.matches.geometry.radius
    steps = range(-radius, radius + 1)
    around = [(row + down, column + across) for down in steps for across in steps]
    found: dict[tuple[int, int], list[tuple[float, tuple[int, int]]]] = {}
    for cell_row, cell_column, weight, voter in zip(rows, columns, weights, around, strict=True):
        if weight > 0:
            found.setdefault((cell_row, cell_column), []).append((weight, voter))
    pieces = [
        Piece(*cell, sum(weight for weight, _ in votes), tuple(voter for _, voter in votes))
        for cell, votes in found.items()
    ]
    return sorted(pieces, key=lambda piece: -piece.weight)


def _plan_of_block(x: Exploration, row: int, column: int) -> TransferPlan:
    """The plan of one LR block, as if it were all: patches of other blocks never count."""
    matches, side = x.matches, x.matches.geometry.block
    top, left = block_corner(x, block_at(x, row, column))
    here = np.s_[..., top : top + side, left : left + side]
    return plan_transfer(
        replace(
            matches,
            geometry=replace(matches.geometry, lr_height=side, lr_width=side),
            position=matches.position[here],
            similarity=matches.similarity[here],
        )
    )


def factor_at(x: Exploration, row: int, column: int) -> float:
    """What features copied to pixel (row, column) of the result are multiplied by.

    That is the similarity, interpolated between the small photo's pixels as the network does.
    """
    plan = _plan_of_block(x, row // SCALE, column // SCALE)
    side = SCALE * plan.geometry.block
    factors = scaled_similarity(plan.similarity, plan.geometry, SCALE)
    return float(factors[0, 0, row % side, column % side])


def provenance(x: Exploration, view: View) -> Drawn:
    """The chosen LR pixel, one of its result pixels, the Ref block searched and what was copied.

    Of the 4 x 4 result pixels, the one below and right of their middle is followed.
    """
    lr_row, lr_column = view.pixel(x)
    row, column = _followed(lr_row, lr_column)
    number = block_at(x, lr_row, lr_column)
    pieces = pieces_of(x, lr_row, lr_column)

    result, photo, cell, block = _result_and_photo(x, lr_row, lr_column, pieces)
    overview, searched = _searched_part(x, number, pieces[0])
    searching = _ref_block_with_pieces(x, number, pieces)
    upper, corners = arrange(
        [result, photo, overview.picture, searching],
        [
            "The result",
            "Small photo and block",
            _reference_title(x, pieces[0]),
            f"Ref block, full size{in_view(x, pieces[0].row)}",
        ],
        gap=_LINK,
        least=_PART,
    )
    # The line ends left of the pixel's neighbours, so that it does not hide their numbers.
    side = cell.right - cell.left
    around = Box(max(0, cell.left - side), cell.top, cell.right, cell.bottom)
    _link(upper, cell, corners[0], around, corners[1])
    # If a Ref block reaches over two references, the part that holds the match is linked.
    main = overview.point(pieces[0].row, pieces[0].column)
    held = [b for b in searched if b.left <= main[0] < b.right and b.top <= main[1] < b.bottom]
    for box in (held or searched)[:1]:
        # Only the part of the block that is in the picture.
        shown = block.within(Box(0, 0, photo.shape[1], photo.shape[0])) or cell
        _link(upper, shown, corners[1], box, corners[2])
        _fan(upper, box, corners[2], corners[3], searching.shape[0])
    lower = _sum_of_pieces(x, pieces, row, column)
    first = pieces[0]
    source = place_words(x, first.row, first.column)
    covering = _count(sum(len(piece.voters) for piece in pieces), "matched patch", "es")
    origin = (
        f"{covering} cover it, and all bring the same piece: {source}"
        if len(pieces) == 1
        else f"{covering} cover it and bring {len(pieces)} pieces of the reference; the largest "
        f"share, **{_share(first.weight)}**, comes from {source}"
    )
    return Drawn(
        stack([upper, lower], gap=16),
        "A pixel of the result linked to its pixel and block in the small photo, to the block of "
        "the reference that was searched, and to the pieces copied from there.",
        f"Result pixel (row {row}, column {column}) lies in pixel (row {lr_row}, column "
        f"{lr_column}) of the small photo. {origin}. Features copied here are multiplied by the "
        f"similarity, interpolated to this pixel: {factor_at(x, row, column):.3f}.",
    )


def _result_and_photo(
    x: Exploration, row: int, column: int, pieces: Sequence[Piece]
) -> tuple[Pixels, Pixels, Box, Box]:
    """The result and the small photo around LR pixel (row, column), at one scale, with marks.

    Then where in both pictures the LR pixel is, and its block.
    """
    field = _field(x, row, column)
    zoom = _PART / max(field.bottom - field.top, field.right - field.left)
    left, top = -zoom * field.left, -zoom * field.top
    result = _cut(x.result, field.scaled(SCALE), zoom / SCALE)
    photo = _cut(x.lr.crop(x.lr.rgb), field, zoom)
    cell = _cell(row, column).scaled(zoom, left, top)
    emphasise(result, cell, thickness=2)
    followed = _cell(*_followed(row, column)).scaled(zoom / SCALE, left, top)
    outline(result, followed, BLACK, 1)
    block_top, block_left = block_corner(x, block_at(x, row, column))
    side = x.matches.geometry.block
    block = Box(block_left, block_top, block_left + side, block_top + side)
    block = block.scaled(zoom, left, top)
    outline(photo, block, WHITE, 3)
    outline(photo, block, BLACK, 1)
    for place, piece in enumerate(pieces):
        for voter in piece.voters:
            _number_mark(photo, _cell(*voter).scaled(zoom, left, top), place)
    emphasise(photo, cell, thickness=2)
    return result, photo, cell, block


def _searched_part(x: Exploration, number: int, match: Piece) -> tuple[RefView, list[Box]]:
    """The references with the Ref block of a block framed, and its boxes in that picture."""
    overview = ref_view(x, _PART, _PART + 84)
    overview.number()
    outlines = overview.outlines(ref_block(x, number))
    for outlined in outlines:
        emphasise_polygon(overview.picture, outlined, thickness=2)
    searched = [Box.around(outlined) for outlined in outlines]
    if not searched:  # all in the padding of a reference narrower than others: show its edge
        at = overview.point(match.row, match.column)
        searched = [Box(at[0] - 3, at[1] - 3, at[0] + 3, at[1] + 3)]
        emphasise(overview.picture, searched[0], thickness=2)
    return overview, searched


def _ref_block_with_pieces(x: Exploration, number: int, pieces: Sequence[Piece]) -> Pixels:
    """The canvas's pixels in the Ref block of a block, with the copied cells framed."""
    crop = ref_block(x, number, x.matches.geometry.radius)
    zoom = fit_zoom(crop.height, crop.width, _PART, _PART + 84)
    picture = enlarge(x.ref.pixels(crop), zoom / SCALE)
    boxes = [
        _cell(piece.row, piece.column).scaled(zoom, -zoom * crop.left, -zoom * crop.top)
        for piece in pieces
    ]
    for place, box in reversed(list(enumerate(boxes))):
        emphasise(picture, box, MARKS[place % len(MARKS)], 2)
    for place, box in reversed(list(enumerate(boxes))):
        _name_piece(picture, box, place)
    return picture


def _followed(row: int, column: int) -> tuple[int, int]:
    """The pixel of the result that is followed for an LR pixel: below and right of the middle."""
    return SCALE * row + SCALE // 2, SCALE * column + SCALE // 2


def why_no_shares(x: Exploration, view: View) -> str:
    """In a sentence, why :func:`reference_shares` gives ``None``."""
    if x.self_reference:
        return "No reference was given, so all of the texture is the photo's own."
    return "There is one reference, so all of the texture came from it."


def reference_shares(x: Exploration, view: View) -> Drawn | None:
    """Which reference each LR pixel was given; ``None`` unless there are several.

    Panel ``lr`` is in LR pixels.
    """
    count = len(x.refs)
    if count == 1:
        return None
    number = x.ref.locate(*matched_cells(x)).number
    shares = np.bincount(number.ravel(), minlength=count) / number.size
    zoom = lr_zoom(x, WIDTH, TALL - 100)
    colours = np.array(MARKS, np.uint8)[number % len(MARKS)]
    picture = grey(enlarge(x.lr.crop(x.lr.rgb), zoom), 0.8)
    picture = blend(picture, enlarge(colours, zoom), 0.5)
    image, ((left, top),) = arrange([picture], ["Which reference each pixel used"], least=WIDTH)
    rows = [_share_row(x, i, float(share)) for i, share in enumerate(shares)]
    listed = ", ".join(
        f"{reference_words(x, int(i))} gave **{shares[i]:.1%}**" for i in np.argsort(-shares)
    )
    summary = f"Of all pixels of the photo, {listed}."
    if words := padding_words(x):
        summary = f"{summary} {words}"
    return Drawn(
        stack([image, *rows], gap=8),
        "The small photo's pixels coloured by the reference that each took its texture from, with "
        "every reference's share.",
        summary,
        (lr_panel(x, zoom, left, top),),
    )


def _sum_of_pieces(x: Exploration, pieces: list[Piece], row: int, column: int) -> Pixels:
    """The copied cells with their weights, and their sum."""
    lr_row, lr_column = row // SCALE, column // SCALE
    zoom = _TILE / (3 * SCALE)
    inside = Box(SCALE, SCALE, 2 * SCALE, 2 * SCALE).scaled(zoom)
    down, across = SCALE + row % SCALE, SCALE + column % SCALE
    followed = Box(across, down, across + 1, down + 1).scaled(zoom)
    gap = (WIDE - 10 * _TILE) // 9
    height = _TILE + 8 + line_height(NORMAL)
    page = blank(height, WIDE)
    left = 0
    middle = _TILE / 2
    # Patches larger than 3 x 3 pixels may bring more pieces than fit.
    shown = pieces if len(pieces) <= 9 else pieces[:8]
    for place, piece in enumerate(shown):
        colour = MARKS[place % len(MARKS)]
        tile = _around(x.ref.rgb, piece.row, piece.column, zoom)
        emphasise(tile, inside, colour, 2)
        outline(tile, followed, WHITE, 1)
        page[:_TILE, left : left + _TILE] = tile
        _number_mark(page, Box(left, _TILE + 6, left + 20, _TILE + 26), place)
        words = "all" if len(pieces) == 1 else f"x {_share(piece.weight)}"
        text(page, words, left + 26, _TILE + 16, NORMAL, anchor="lm")
        sign = "+" if place + 1 < len(pieces) else "="
        text(page, sign, left + _TILE + gap / 2, middle, NORMAL, anchor="mm", bold=True)
        left += _TILE + gap
    if len(shown) < len(pieces):
        words = f"{len(pieces) - len(shown)} more,\nx {_share(pieces[-1].weight)} at least"
        text(page, words, left + _TILE / 2, middle, anchor="mm")
        text(page, "=", left + _TILE + gap / 2, middle, NORMAL, anchor="mm", bold=True)
        left += _TILE + gap
    tile = _around(x.lr.crop(x.moved), lr_row, lr_column, zoom)
    emphasise(tile, inside, thickness=2)
    outline(tile, followed, WHITE, 1)
    page[:_TILE, left : left + _TILE] = tile
    text(page, "given", left, _TILE + 16, NORMAL, anchor="lm")
    words = (
        f"Similarity {factor_at(x, row, column):.3f} here: the network's features, copied in the "
        "same way, are multiplied by it."
    )
    room = WIDE - left - _TILE - 2 * gap
    if room >= 200:
        text(page, wrap(words, room, NORMAL), left + _TILE + 2 * gap, middle, NORMAL, anchor="lm")
        return page
    return stack([page, text(blank(line_height(NORMAL), WIDE), words, 0, 0, NORMAL)], gap=6)


def _share_row(x: Exploration, number: int, share: float) -> Pixels:
    """One reference in small, its share in words and as a bar."""
    ref = x.refs[number]
    small = enlarge(ref, fit_zoom(ref.shape[0], ref.shape[1], 76, 48))
    row = blank(54, WIDTH)
    top, left = (54 - small.shape[0]) // 2, 3 + (76 - small.shape[1]) // 2
    row[top : top + small.shape[0], left : left + small.shape[1]] = small
    frame = Box(left - 3, top - 3, left + small.shape[1] + 3, top + small.shape[0] + 3)
    outline(row, frame, MARKS[number % len(MARKS)], 3)
    name = reference_words(x, number)
    text(row, f"{name[0].upper()}{name[1:]}: {share:.1%}", 96, 14, NORMAL, anchor="lm")
    full = WIDTH - 100
    row[30:42, 96 : 96 + full] = (235, 235, 240)
    row[30:42, 96 : 96 + round(full * share)] = MARKS[number % len(MARKS)]
    return row


def _field(x: Exploration, row: int, column: int) -> Box:
    """Up to ``FIELD`` LR pixels a side around one, inside the visitor's picture."""
    height, width = min(FIELD, x.lr.height), min(FIELD, x.lr.width)
    top = min(max(row - height // 2, 0), x.lr.height - height)
    left = min(max(column - width // 2, 0), x.lr.width - width)
    return Box(left, top, left + width, top + height)


def _cell(row: int, column: int) -> Box:
    return Box(column, row, column + 1, row + 1)


def _cut(picture: Pixels, box: Box, zoom: float) -> Pixels:
    """What lies in a box with whole sides, enlarged."""
    part = picture[round(box.top) : round(box.bottom), round(box.left) : round(box.right)]
    return enlarge(part, zoom)


def _around(picture: Pixels, row: int, column: int, zoom: float) -> Pixels:
    """A cell of ``SCALE`` x ``SCALE`` pixels and the cells around it; beyond, the edge repeats."""
    reach = np.arange(-SCALE, 2 * SCALE)
    rows = (SCALE * row + reach).clip(0, picture.shape[0] - 1)
    columns = (SCALE * column + reach).clip(0, picture.shape[1] - 1)
    return enlarge(picture[rows[:, None], columns], zoom)


def _ink_on(colour: Colour) -> Colour:
    """White or dark, whichever can be read better on a mark."""
    return INK if np.dot(colour, (0.299, 0.587, 0.114)) > 120 else WHITE  # luma of BT.601


def _number_mark(picture: Pixels, box: Box, place: int) -> None:
    """A filled square with the number of a piece, if there is room for it."""
    colour = MARKS[place % len(MARKS)]
    inner = Box(box.left + 1, box.top + 1, box.right - 1, box.bottom - 1)
    left, top, right, bottom = (
        max(0, round(v)) for v in (inner.left, inner.top, inner.right, inner.bottom)
    )
    picture[top:bottom, left:right] = colour
    if bottom - top >= 13:
        text(picture, f"{place + 1}", *box.centre, SMALL, _ink_on(colour), "mm", bold=True)


def _name_piece(picture: Pixels, box: Box, place: int) -> None:
    """The number of a piece inside its frame, or beside it if that is too small."""
    colour = MARKS[place % len(MARKS)]
    x, anchor = box.centre[0], "mm"
    if box.bottom - box.top < SMALL:
        # On the side towards the middle, where there is room.
        right = box.right < 0.8 * picture.shape[1]
        x, anchor = (box.right + 5, "lm") if right else (box.left - 5, "rm")
    ink = colour if _ink_on(colour) == WHITE else INK
    text(picture, f"{place + 1}", x, box.centre[1], SMALL, ink, anchor, WHITE, bold=True)


def _link(
    page: Pixels, start: Box, start_corner: tuple[int, int], end: Box, end_corner: tuple[int, int]
) -> None:
    """A line from the right side of one place to the left side of another."""
    begin = start.scaled(1, *start_corner)
    finish = end.scaled(1, *end_corner)
    points = [(begin.right + 4, begin.centre[1]), (finish.left - 4, finish.centre[1])]
    line(page, points, ORANGE, 2)


def _fan(
    page: Pixels, box: Box, corner: tuple[int, int], end: tuple[int, int], height: int
) -> None:
    """Two lines from a small place to the edges of its enlargement."""
    small = box.scaled(1, *corner)
    line(page, [(small.right + 3, small.top - 3), (end[0] - 2, end[1])], ORANGE, 1)
    line(page, [(small.right + 3, small.bottom + 3), (end[0] - 2, end[1] + height)], ORANGE, 1)


def _reference_title(x: Exploration, piece: Piece) -> str:
    if len(x.refs) == 1:
        return "The photo itself" if x.self_reference else "Reference"
    number = x.ref.locate(piece.row, piece.column).number
    return f"Reference {int(number) + 1} of {len(x.refs)}"


def _share(weight: float) -> str:
    """A weight as the fraction that it is, patches out of at most nine."""
    value = Fraction(weight).limit_denominator(64)
    return f"{value.numerator}/{value.denominator}" if value.denominator > 1 else "1"


def _count(number: int, thing: str, plural: str) -> str:
    return f"{number} {thing}" + ("" if number == 1 else plural)
