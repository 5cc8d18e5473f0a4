"""What does it cost? Multiply-adds, seconds, and the matching with other settings."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from demo.figures.draw import BLUE, ORANGE, UNKNOWN, Colour, blend, enlarge, grey, stack
from demo.figures.figure import Drawn
from demo.figures.parts import HALF, Part, compose
from demo.figures.places import lr_panel, lr_zoom
from demo.figures.plots import Bar, bar_chart, key, square
from demo.figures.view import View
from demo.runs.exploration import Exploration
from demo.runs.rematch import DenseMatch, Rematch, distances, share_of
from masa.machine.cost import dense_matching_cost, executed_cost, paper_cost
from masa.pictures.photo import Pixels

BILLION = 1e9
PAPER_SIZES = (128, 128), (128, 128)
"""LR and Ref-down of the paper's table 2."""

_STAGES = {
    "encode_lr": "Reading the photo",
    "align": "Aligning the reference",
    "encode_ref": "Reading the reference",
    "match": "Finding matches",
    "decode": "Painting",
}


# ---------------------------------------------------------------------------- this run


def multiply_adds(x: Exploration, view: View) -> Drawn:
    """What each part of the network multiplies and adds at these sizes, and dense matching.

    Both kinds of matching are counted alike: patches that are compared, times their length.
    """
    matching = x.paper.matching
    bars = [
        _bar("Dense matching: every place with every place", x.dense, ORANGE),
        _bar("Matching as here, both steps together", matching, BLUE),
        _bar("   coarse: every block with every place", x.paper.coarse, BLUE),
        _bar("   fine: every pixel with its Ref block", x.paper.fine, BLUE),
        _bar("Reading the photo", x.cost.encode_lr),
        *([_bar("Comparing the views of references", x.cost.align)] if x.cost.align else []),
        _bar("Reading the reference", x.cost.encode_ref),
        _bar("Painting", x.cost.decode),
    ]
    image = bar_chart(
        bars,
        "billion multiply-adds",
        lambda value: f"{value / BILLION:g}",
        logarithmic=True,
    )
    saved = x.dense / matching
    comes_to = "comes down to" if x.cost.fine < x.paper.fine else "takes"
    return Drawn(
        image,
        "Bar chart of the multiply-adds of dense matching, of this matching and its two steps, and "
        "of the rest of the network, on a logarithmic scale.",
        f"Matching takes {billions(matching)} multiply-adds, dense matching of the same features "
        f"would take {billions(x.dense)}: {saved:.3g} times as many. The whole network takes "
        f"{billions(x.cost.total)}; as overlapping patches share their products here, fine "
        f"matching itself {comes_to} {billions(x.cost.fine)}.",
    )


def stages(x: Exploration, view: View) -> Drawn:
    """Measured seconds of each stage of this run, and its memory if that was measured."""
    bars = [
        Bar(name, x.seconds[stage], f"{x.seconds[stage]:.2f} s", BLUE)
        for stage, name in _STAGES.items()
        if stage in x.seconds
    ]
    total = sum(bar.value for bar in bars)
    image = bar_chart(bars, "seconds", lambda value: f"{value:g}")
    longest = max(bars, key=lambda bar: bar.value)
    share = longest.value / max(total, 1e-9)
    words = (
        f"This run took {total:.1f} s; {'most of it' if share > 0.5 else 'the largest part'}, "
        f"{share:.0%}, went into {longest.name.lower()}."
    )
    if "match" in x.seconds:
        share = x.seconds["match"] / max(total, 1e-9)
        words += f" Matching, which the method is about, took {share:.0%}."
    if x.peak is None or x.peak.bytes is None:
        words += " Its memory could not be measured on this system."
    else:
        image = stack([image, _memory_chart(x, x.peak.bytes)], gap=18)
        where = {
            "cuda": "memory of the graphics card",
            "cpu": "memory of the whole server process",
        }[x.peak.device]
        words += (
            f" It took {_megabytes(x.peak.bytes)} at most, on top of what was in use before "
            f"({where}), and all features kept for these tabs count as well."
        )
    alt = (
        "Bar chart of the seconds that each stage of this run took, and of its memory if measured."
    )
    return Drawn(image, alt, words)


def _memory_chart(x: Exploration, peak: int) -> Pixels:
    kept = x.kept_bytes()
    bars = [
        Bar("Memory at most, while it ran", peak, _megabytes(peak), BLUE),
        Bar("Your session keeps, on the server", kept, _megabytes(kept)),
    ]
    return bar_chart(bars, "megabytes", lambda value: f"{value / 2**20:g}", unit=2**20)


def _megabytes(count: int) -> str:
    return f"{count / 2**20:,.0f} MB"


def paper_table() -> str:
    """Markdown: the paper's table 2, and what this program counts at the same sizes."""
    paper, executed = paper_cost(*PAPER_SIZES), executed_cost(*PAPER_SIZES)
    dense = dense_matching_cost(*PAPER_SIZES)
    rows = [
        ("SRNTT, in the paper", "6,005.78", ""),
        ("TTSR, in the paper", "618.48", ""),
        ("MASA, in the paper", "8.84", "367.93"),
        ("MASA here, counted like that", _g(paper.matching), _g(paper.total)),
        ("MASA here, what it really does", _g(executed.matching), _g(executed.total)),
        ("dense matching of its own features", _g(dense), ""),
    ]
    lines = [
        "**Billions of multiply-adds** for a photo of 128 x 128 pixels and a reference of "
        "512 x 512:",
        "",
        "| network | matching | whole network |",
        "|---|---:|---:|",
        *(f"| {name} | {matching} | {whole} |" for name, matching, whole in rows),
        "",
        f"TTSR matches features four times as wide: of its {618.48 / 8.84:.0f} times the cost, "
        f"matching in two steps accounts for {dense / paper.matching:.1f} times. What is really "
        "done is less than what the paper counts, because overlapping patches share their products "
        "and a transposed convolution works at its smaller side. With SAM the network "
        "has 4.03 million parameters.",
    ]
    return "\n".join(lines)


def billions(count: float) -> str:
    """A number of multiply-adds in words."""
    if count >= BILLION:
        return f"{count / BILLION:,.1f} billion"
    return f"{count / 1e6:,.1f} million"


def _g(count: int) -> str:
    return f"{count / BILLION:,.2f}"


def _bar(name: str, count: int, colour: Colour | None = None) -> Bar:
    words = billions(count)
    return Bar(name, count, words) if colour is None else Bar(name, count, words, colour)


# ---------------------------------------------------------------------------- other settings


def rematch_figure(x: Exploration, found: Rematch, dense: DenseMatch | None = None) -> Drawn:
    """Where other settings find other places than dense matching, and than the run."""
    height = min(found.geometry.lr_height, x.lr.height)
    width = min(found.geometry.lr_width, x.lr.width)
    position = found.matches.position[0].numpy()[:, :height, :width]
    parts = [_agreement(x, position, x.matches.position[0].numpy(), "Compared with the run", 1)]
    if dense is not None:
        title = "Compared with dense matching"
        parts.insert(0, _agreement(x, position, dense.position, title, dense.step))
    return compose(
        parts,
        "Maps of the photo's pixels: pale where other settings find the same place in the "
        "reference, blue where they find its neighbour, orange where they find another.",
        _rematch_in_words(x, found, dense),
        columns=2,
    )


def _rematch_in_words(x: Exploration, found: Rematch, dense: DenseMatch | None) -> str:
    geometry, config = found.geometry, found.config
    words = (
        f"Blocks of {config.lr_block} x {config.lr_block} pixels, Ref blocks of "
        f"{geometry.ref_block_height} x {geometry.ref_block_width}, dilations "
        f"{', '.join(map(str, config.dilations))}: {billions(found.multiply_adds)} multiply-adds, "
        f"{found.seconds:.2f} s, mean similarity {found.mean_similarity:.3f}. "
    )
    if dense is not None and found.agreement_with_dense is not None:
        words += (
            f"{found.agreement_with_dense:.0%} of the pixels find the very place that dense "
            f"matching finds, {found.near_dense:.0%} come within one pixel of it; "
        )
    words += f"{found.agreement_with_run:.0%} find the same place as in the run."
    if dense is not None and dense.step > 1:
        words += f" Dense matching was tried for one pixel in {dense.step**2} only."
    if geometry.lr_height < x.lr.height or geometry.lr_width < x.lr.width:
        words += (
            f" Only whole blocks were matched, {geometry.lr_width} x {geometry.lr_height} of "
            f"{x.lr.width} x {x.lr.height} pixels."
        )
    return words


_SAME: Colour = (255, 255, 255)


def _agreement(x: Exploration, position: NDArray, other: NDArray, title: str, step: int) -> Part:
    """A map of where ``position`` ``(2, rows, columns)`` and ``other`` ``(2, h, w)`` differ."""
    rows, columns = position.shape[1:]
    distance = np.full((x.lr.height, x.lr.width), -1)
    distance[:rows, :columns] = distances(position, other[:, :rows, :columns])
    known = distance[distance >= 0]
    if step > 1:
        # Each sampled pixel stands for the square around it.
        near = [np.arange(side) // step * step + step // 2 for side in distance.shape]
        near = [np.minimum(n, side - 1) for n, side in zip(near, distance.shape, strict=True)]
        distance = distance[np.ix_(*near)]
    colours = np.array([UNKNOWN, _SAME, BLUE, ORANGE], np.uint8)
    kind = np.select([distance < 0, distance == 0, distance == 1], [0, 1, 2], 3)
    zoom = lr_zoom(x, HALF)
    ground = grey(enlarge(np.ascontiguousarray(x.lr.crop(x.lr.rgb)), zoom), 0.5)
    picture = blend(ground, enlarge(colours[kind], zoom), enlarge(_COVER[kind], zoom) / 255)
    entries = [
        (square(_SAME), f"same place: {share_of(known == 0):.0%}"),
        (square(BLUE), f"its neighbour: {share_of(known == 1):.0%}"),
        (square(ORANGE), f"elsewhere: {share_of(known > 1):.0%}"),
    ]
    if (kind == 0).any():
        entries.append((square(UNKNOWN), "not compared"))
    return Part(stack([picture, key(entries, HALF)], gap=6), title, lr_panel(x, zoom))


_COVER = np.array([230, 0, 180, 200], np.uint8)  # how opaque each kind's colour is
