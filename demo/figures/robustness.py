"""How steady is each network? Curves over a ladder of changes, and the pictures behind them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from demo.figures.adaptation import channel_plots
from demo.figures.draw import (
    BLUE,
    GAP,
    INK,
    NORMAL,
    ORANGE,
    SMALL,
    WIDE,
    WIDTH,
    Box,
    Colour,
    arrange,
    blank,
    dot,
    enlarge,
    line_height,
    outline,
    stack,
    text,
)
from demo.figures.figure import Drawn
from demo.figures.parts import minus
from demo.figures.plots import (
    GREEN,
    GREY,
    PURPLE,
    DashedLine,
    Line,
    LinePlot,
    Mark,
    dash,
    dashed,
    diamond,
    disc,
    key,
    line_plot,
    overlaid,
    ring,
    triangle,
)
from demo.figures.steadiness import along, match_words, verdict
from demo.runs.exploration import ChannelStatistics, channel_gap
from masa.measuring.ladder import FAMILIES, NAMED, Changed, changed_by
from masa.measuring.robustness import UNCHANGED, Curve
from masa.pictures.photo import Pixels
from masa.pictures.shifts import Shifted

_Style = tuple[Colour, Mark]

_STYLES: tuple[_Style, ...] = (
    (BLUE, disc),
    (ORANGE, triangle),
    (GREEN, ring),
    (PURPLE, diamond),
    (INK, dash),
)
"""Of the first network, the second, and so on: told apart by shape as well as by colour."""
MOST_NETWORKS = len(_STYLES)
_ALONE, _BICUBIC = 3, 10  # pixels of a dash
_LEAST_DB = 0.5  # an axis spans so much at least: what is nearly equal should look so


def _styles(curves: Sequence[Curve]) -> list[_Style]:
    """Of each curve: that of its network, the mark framed where references are aligned."""
    numbers = {name: i for i, name in enumerate(dict.fromkeys(curve.network for curve in curves))}
    found = []
    for curve in curves:
        colour, mark = _STYLES[numbers[curve.network]]
        found.append((colour, _framed(mark, colour) if curve.aligned else mark))
    return found


def _framed(mark: Mark, colour: Colour) -> Mark:
    def draw(picture: Pixels, place: tuple[float, float]) -> None:
        x, y = place
        mark(picture, place)
        outline(picture, Box(x - 6, y - 6, x + 6, y + 6), colour, 1)

    return draw


@dataclass(frozen=True)
class Spot:
    """A mark of a curve, to be clicked."""

    x: float
    y: float
    line: str
    """A curve's, see :attr:`masa.measuring.robustness.Curve.line`."""
    value: float


def nearest(spots: Sequence[Spot], at: tuple[float, float]) -> Spot | None:
    """The mark nearest to figure pixel (x, y); ``None`` if there are none."""
    return min(spots, key=lambda s: (s.x - at[0]) ** 2 + (s.y - at[1]) ** 2, default=None)


# ---------------------------------------------------------------------------- curves


def quality(
    curves: Sequence[Curve],
    measured: bool,
    chosen: tuple[str, float] | None = None,
    width: int = WIDTH,
) -> tuple[Drawn, tuple[Spot, ...]]:
    """PSNR of networks along one family, with what they reach without reference, and bicubic.

    Where the family changes the photo, these two change along it too.

    Where alignment can undo the changes, each network has a second curve, with references aligned.

    ``measured`` says that PSNR is against the truth, not against the unchanged result. ``chosen``,
    a curve's line and a value, gets a circle. Raises ``ValueError`` without any curve.
    """
    plot = _quality_plot(curves, measured, width)
    spots = _spots(curves, plot)
    _encircle(plot.image, spots, chosen)
    family = curves[0].family
    changed = changed_by(family)
    what = "PSNR" if measured else f"likeness to the result with {changed} unchanged"
    kind = "thin" if changed == "the photo" else "dashed"
    names = ", ".join(curve.line for curve in curves)
    drawn = Drawn(
        stack([plot.image, key(_entries(curves), width)]),
        f"Curves of the {what} of {names} as {changed} is changed ({family}), with {kind} "
        "lines for no reference and for bicubic.",
        verdict(curves, measured),
    )
    return drawn, spots


def matching(
    curves: Sequence[Curve], chosen: tuple[str, float] | None = None, width: int = WIDTH
) -> tuple[Drawn, tuple[Spot, ...]]:
    """Mean similarity along a family, and the share of moved matches if its changes keep places."""
    family = curves[0].family
    lines = [
        Line([(level.value, level.similarity) for level in curve.levels], mark, colour)
        for curve, (colour, mark) in zip(curves, _styles(curves), strict=True)
    ]
    axis = _axis(family)
    ends = _range(curves)
    similar = line_plot(
        lines,
        (),
        (axis, "mean similarity of the matches"),
        _ticks(curves),
        0.02,
        ends,
        110,
        width,
    )
    parts = [similar]
    alt = f"Curves of the mean similarity of matches {along(family)}"
    if family == NAMED or FAMILIES[family].keeps_places:
        alt += ", and of the share of pixels that are matched with another place"
        lines = [
            Line(
                [
                    (level.value, 100 * level.moved)
                    for level in curve.levels
                    if level.moved is not None
                ],
                mark,
                colour,
            )
            for curve, (colour, mark) in zip(curves, _styles(curves), strict=True)
        ]
        moved = (axis, "% of LR pixels matched elsewhere")
        parts.append(line_plot(lines, (), moved, _ticks(curves), 5, ends, 110, width))
        words = (
            "Above: how alike the matched patches are. Below: how many of the photo's pixels are "
            f"matched with another place than with {changed_by(family)} unchanged."
        )
    else:
        is_replaced = FAMILIES[family].replaced_by is not None
        does = "replaces the reference" if is_replaced else "moves the reference's places"
        words = (
            f"How alike the matched patches are. This change {does}, so which matches moved is "
            "not shown."
        )
    spots = _spots(curves, similar)
    for number, curve in enumerate(curves if len(parts) > 1 else ()):
        known = [level for level in curve.levels if level.moved is not None]
        for level, place in zip(known, parts[1].places[number], strict=True):
            if place is not None:
                top = parts[0].image.shape[0] + GAP
                spots += (Spot(place[0], place[1] + top, curve.line, level.value),)
    image = stack([part.image for part in parts])
    _encircle(image, spots, chosen)
    drawn = Drawn(
        stack([image, key(_entries(curves)[: len(curves)], width)]),
        f"{alt}.",
        f"{words} {match_words(curves)}",
    )
    return drawn, spots


def sheet(groups: Sequence[Sequence[Curve]], measured: bool) -> Drawn:
    """Quality along several families, one plot each, for a report."""
    width = (WIDE - GAP) // 2 if len(groups) > 1 else WIDE
    plots = [_quality_plot(curves, measured, width).image for curves in groups]
    titles = [curves[0].family for curves in groups]
    changed = " or ".join(dict.fromkeys(map(changed_by, titles)))
    columns = 2 if len(groups) > 1 else 1
    rows = [
        arrange(plots[i : i + columns], titles[i : i + columns])[0]
        for i in range(0, len(plots), columns)
    ]
    fullest = max(groups, key=len)  # where references are aligned too
    names = ", ".join(curve.line for curve in fullest)
    return Drawn(
        stack([*rows, key(_entries(fullest), WIDE)]),
        f"Curves of the PSNR of {names} as {changed} is changed: {', '.join(titles)}.",
        "\n\n".join(verdict(curves, measured) for curves in groups),
    )


def _quality_plot(curves: Sequence[Curve], measured: bool, width: int) -> LinePlot:
    lines, dashed_lines, baselines = [], [], []
    for curve, (colour, mark) in zip(curves, _styles(curves), strict=True):
        lines.append(Line([(level.value, level.psnr) for level in curve.levels], mark, colour))
        if curve.aligned:
            continue  # without a reference, the network's result is the same
        if changed_by(curve.family) == "the photo":
            baselines += _along_the_photo(curve, colour, mark)
            continue
        if curve.alone is not None:
            dashed_lines.append(DashedLine(curve.alone, colour, _ALONE, mark))
        if curve.bicubic is not None:
            dashed_lines.append(DashedLine(curve.bicubic, GREY, _BICUBIC))
    up = "PSNR, dB" if measured else "likeness to the unchanged result: PSNR, dB"
    axes = _axis(curves[0].family), up
    lines += baselines
    return line_plot(
        lines, dashed_lines, axes, _ticks(curves), _LEAST_DB, _range(curves), 230, width
    )


def _along_the_photo(curve: Curve, colour: Colour, mark: Mark) -> list[Line]:
    """No reference and bicubic, of the same changed photo at each value."""
    alone = [(level.value, level.alone) for level in curve.levels if level.alone is not None]
    bicubic = [(level.value, level.bicubic) for level in curve.levels if level.bicubic is not None]
    return [
        Line(alone, overlaid(dashed(colour, _ALONE), mark), colour, 1),
        Line(bicubic, dashed(GREY, _BICUBIC), GREY, 1),
    ]


def _entries(curves: Sequence[Curve]) -> list[tuple[Mark, str]]:
    styles = _styles(curves)
    entries = [(mark, curve.line) for curve, (_, mark) in zip(curves, styles, strict=True)]
    if any(curve.alone is not None for curve in curves):
        entries.append((dashed(INK, _ALONE), "no reference, with the network's mark"))
        entries.append((dashed(GREY, _BICUBIC), "bicubic"))
    return entries


def _axis(family: str) -> str:
    return NAMED if family == NAMED else f"{family}: {FAMILIES[family].unit}"


def _range(curves: Sequence[Curve]) -> tuple[float, float]:
    """Ends of the lower axis: the family's, so that curves that still grow stay in place."""
    family = curves[0].family
    if family == NAMED:
        return 0, max(level.value for curve in curves for level in curve.levels)
    return FAMILIES[family].low, FAMILIES[family].high


def _ticks(curves: Sequence[Curve]) -> list[tuple[float, str]]:
    if curves[0].family != NAMED:
        return []
    return sorted({(level.value, level.title) for curve in curves for level in curve.levels})


def _spots(curves: Sequence[Curve], plot: LinePlot) -> tuple[Spot, ...]:
    return tuple(
        Spot(*place, curve.line, level.value)
        for curve, places in zip(curves, plot.places[: len(curves)], strict=True)
        for level, place in zip(curve.levels, places, strict=True)
        if place is not None
    )


def _encircle(image: Pixels, spots: Sequence[Spot], chosen: tuple[str, float] | None) -> None:
    for spot in spots:
        if (spot.line, spot.value) == chosen:
            dot(image, (spot.x, spot.y), 8, INK, filled=False)


# ---------------------------------------------------------------------------- pictures


def preview(copies: Sequence[tuple[str, Shifted]], changed: Changed = "the reference") -> Drawn:
    """A picture's changed copies side by side; of a reference's, clipped pixels are counted."""
    columns = min(len(copies), 5)
    side = (WIDE - GAP * (columns - 1)) // columns
    pictures, words = [], []
    for title, shifted in copies:
        rows, across = shifted.rgb.shape[:2]
        small = enlarge(shifted.rgb, min(side / across, side / rows, 1))
        if changed == "the photo":
            pictures.append(small)
            continue
        low, high = (n / (rows * across) for n in (shifted.clipped_low, shifted.clipped_high))
        caption = blank(line_height(SMALL), side)
        kinds = [f"{n:.1%} to {end}" for n, end in ((low, "black"), (high, "white")) if n]
        told = " and ".join(kinds) if kinds else "nothing"
        text(caption, f"clipped: {told}", 0, 0)
        pictures.append(stack([small, caption], gap=2))
        if kinds:
            words.append(f"{minus(title)} clips {told}")
    titles = [title for title, _ in copies]
    rows_of_pictures = [
        arrange(pictures[i : i + columns], titles[i : i + columns], least=side)[0]
        for i in range(0, len(pictures), columns)
    ]
    told = "; ".join(words)
    summary = (
        f"What is clipped is lost to every network: {told}." if told else "Nothing is clipped."
    )
    if changed == "the photo":
        summary = "Every network is given these photos, with the same references."
    return Drawn(
        stack(rows_of_pictures),
        f"{changed.capitalize()} as it is and changed: "
        f"{', '.join(t for t in titles if t != UNCHANGED)}.",
        summary,
    )


def strips(
    lines: Sequence[tuple[str, Sequence[tuple[str, Pixels]]]],
    others: Sequence[tuple[str, Pixels]],
    changed: Changed = "the reference",
) -> Drawn:
    """The same part of every result: a row per line of the curves, a column per change.

    Pictures come with their titles; ``others`` are of the photo as it is, without a reference.
    """
    count = max(len(others), *(len(pictures) for _, pictures in lines))
    side = min((WIDE - GAP * (count - 1)) // count, 3 * max(others[0][1].shape[:2]))

    def row(pictures: Sequence[tuple[str, Pixels]]) -> Pixels:
        enlarged = [enlarge(crop, side / max(crop.shape[:2])) for _, crop in pictures]
        return arrange(enlarged, [title for title, _ in pictures], least=side)[0]

    rows = [row(others)]
    for name, pictures in lines:
        heading = blank(line_height(NORMAL) + 4, WIDE)
        text(heading, name, 0, 3, NORMAL, bold=True)
        rows.append(stack([heading, row(pictures)], gap=2))
    return Drawn(
        stack(rows),
        f"The same part of the results, a row per network and a column per change of {changed}: "
        f"{', '.join(name for name, _ in lines)}.",
        f"Each row is one network, each column one change of {changed}. The part is the one "
        "where the first result differs most from bicubic enlargement.",
    )


def statistics(network: str, title: str, found: Mapping[str, ChannelStatistics]) -> Drawn:
    """Channels of ``lr``, and of the reference ``before`` and ``after`` adaptation, at x1."""
    before, after = (channel_gap(found, which) for which in ("before", "after"))
    shown = dict(found)
    if before == after:
        del shown["after"]  # marks would hide one another
        change, adapted = f"stay {before:.2f} away, as {network} adapts nothing", ""
    else:
        change = f"are {before:.2f} away before the adaptation and {after:.2f} after it"
        adapted = " before and after it is adapted"
    return Drawn(
        channel_plots(shown, 1),
        "Plot of the mean and the standard deviation of each channel at ×1, of the photo and of "
        f"the reference{adapted}.",
        f"{network}, {minus(title)}: the reference's channels {change}. The distance is the "
        "typical (median) channel's to the photo's, in units of the photo's deviation: 0 is "
        "alike, 1 is off by a whole deviation.",
    )
