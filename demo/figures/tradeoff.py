"""What does a thorough search bring? PSNR against its cost, as in the paper's figure 5."""

from __future__ import annotations

from collections.abc import Sequence
from math import floor, log10

from demo.figures.draw import BLUE, ORANGE, WHITE, WIDE, Colour, stack, text
from demo.figures.figure import Drawn
from demo.figures.plots import GREEN, Line, Mark, disc, key, line_plot, ring, triangle
from masa.measuring.ablation import Setting, Tradeoff

_STYLES: dict[str, tuple[Colour, Mark]] = {
    "LR block": (BLUE, disc),
    "Ref block": (ORANGE, triangle),
    "dilations": (GREEN, ring),
}
_KEY = {
    "LR block": "LR block, pixels a side",
    "Ref block": "Ref block, times the LR block",
    "dilations": "dilations",
}
_BESIDE = {
    "LR block": (-8.0, 0.0, "rm"),
    "Ref block": (0.0, -7.0, "md"),
    "dilations": (8.0, 0.0, "lm"),
}
"""Where a mark's value is written: pixels right and down of it, and the words' anchor."""
_LEAST_DB = 0.1  # the upright axis spans so much at least: what is nearly equal should look so
_MOST_DB = 0.5  # what is so much worse than the best has no mark: the others would look alike


def tradeoff(weights: str, found: Sequence[tuple[Setting, Tradeoff]]) -> Drawn:
    """A line for each thing that is varied, with a mark and its value for each setting.

    Lines join the marks in the order of ``found``. The lower axis is logarithmic. What is far worse
    than the best is told below the figure instead.
    """
    best, most = max(found, key=lambda pair: pair[1].psnr)
    far = [pair for pair in found if pair[1].psnr < most.psnr - _MOST_DB]
    series = {
        varied: [
            (log10(reached.matching / 1e9), reached.psnr, setting.value)
            for setting, reached in found
            if setting.varied == varied and (setting, reached) not in far
        ]
        for varied in _STYLES
    }
    lines = [
        Line([(x, y) for x, y, _ in places], _STYLES[varied][1], _STYLES[varied][0])
        for varied, places in series.items()
    ]
    every = [x for places in series.values() for x, _, _ in places]
    plot = line_plot(
        lines,
        (),
        ("multiply-adds of matching, 10^9; each mark's value is written at it", "PSNR, dB"),
        _ticks(min(every), max(every)),
        _LEAST_DB,
        height=320,
        width=WIDE,
    )
    for (varied, places), spots in zip(series.items(), plot.places, strict=True):
        colour, (right, down, anchor) = _STYLES[varied][0], _BESIDE[varied]
        for (_, _, value), spot in zip(places, spots, strict=True):
            if spot is not None:
                at = spot[0] + right, spot[1] + down
                text(plot.image, value, *at, colour=colour, anchor=anchor, halo=WHITE)
    own = next(reached for setting, reached in found if setting.is_own)
    return Drawn(
        stack([plot.image, key([(_STYLES[v][1], _KEY[v]) for v in series], WIDE)]),
        f"Curves of the PSNR of {weights} against the multiply-adds of its matching, as LR block, "
        "Ref block and dilations are varied.",
        f"{weights} as it was trained has {own.psnr:.2f} dB, for {own.matching / 1e9:.2g}·10^9 "
        f"multiply-adds of matching. The most is {most.psnr:.2f} dB, for "
        f"{most.matching / 1e9:.2g}·10^9 ({best.varied} {best.value}). The network was trained "
        f"with its own setting alone.{_too_far(far)}",
    )


def _too_far(far: Sequence[tuple[Setting, Tradeoff]]) -> str:
    """What has no mark, for the end of the summary; empty if all have one."""
    if not far:
        return ""
    named = (f"{one.varied} {one.value} ({reached.psnr:.2f} dB)" for one, reached in far)
    return f" Too far below to be drawn: {', '.join(named)}."


def _ticks(low: float, high: float) -> list[tuple[float, str]]:
    """Round numbers between 10^low and 10^high, at their logarithms."""
    powers = range(floor(low), floor(high) + 1)
    numbers = [factor * 10.0**power for power in powers for factor in (1, 2, 5)]
    return [(log10(n), f"{n:g}") for n in numbers if low <= log10(n) <= high]
