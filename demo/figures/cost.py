"""What does it cost? Multiply-adds, seconds, and the matching with other settings."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from demo.figures.draw import BLUE, ORANGE, UNKNOWN, Colour, blend, enlarge, grey, stack
from demo.figures.figure import Drawn
from demo.figures.parts import HALF, Part, compose
from demo.figures.places import lr_panel, lr_zoom
from demo.figures.plots import Bar, bar_chart, key, square
from demo.runs.exploration import Exploration
from masa.config import MASAConfig, Size
from masa.errors import UserError
from masa.machine.cost import dense_matching_cost, executed_cost, paper_cost
from masa.network.matching import SCORE_BYTES, Geometry, Matches, match
from masa.pictures.photo import Pixels

BILLION = 1e9
PAPER_SIZES = (128, 128), (128, 128)
"""LR and Ref-down of the paper's table 2."""
DENSE_BUDGET = 160 * 10**9
"""Multiply-adds a dense search may take; at larger sizes only some LR pixels are searched for."""
REMATCH_BUDGET = 200 * 10**9
"""Multiply-adds that matching with other settings may take."""
REMATCH_BYTES = 400 * 2**20
"""Memory that the scores of one block may take."""
LR_BLOCKS = (4, 8, 16, 32)
"""LR block sides to choose from."""

_STAGES = {
    "encode_lr": "Reading the photo",
    "encode_ref": "Reading the reference",
    "match": "Finding matches",
    "decode": "Painting",
}


# ---------------------------------------------------------------------------- this run


def multiply_adds(x: Exploration) -> Drawn:
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


def stages(x: Exploration) -> Drawn:
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


@dataclass(frozen=True, eq=False)
class DenseMatch:
    """The best place in all of the reference for LR pixels, found by comparing with every place."""

    position: NDArray[np.int64]
    """``(2, h, w)``: (row, column) on the Ref-down grid; -1 where it was not searched."""
    step: int
    """Only every ``step``-th row and column of the LR was searched, from ``step // 2`` on."""
    multiply_adds: int
    seconds: float


@dataclass(frozen=True, eq=False)
class Rematch:
    """The matching of one run's features with other settings, and how it compares."""

    config: MASAConfig
    matches: Matches
    """On whole LR blocks: rows and columns beyond them are left out."""
    agreement_with_dense: float | None
    """Share of LR pixels matched to the very place that dense matching finds; ``None`` if that is
    not known. Like the others, over the visitor's own pixels."""
    near_dense: float | None
    """Share of those within one pixel of it."""
    agreement_with_run: float
    """Share of those matched to the same place as in the run."""
    mean_similarity: float
    multiply_adds: int
    """Of the matching, as this program does it."""
    seconds: float

    @property
    def geometry(self) -> Geometry:
        """Blocks and sizes."""
        return self.matches.geometry


@torch.inference_mode()
def dense_match(
    x: Exploration,
    budget: int = DENSE_BUDGET,
    on_share: Callable[[float], None] = lambda share: None,
) -> DenseMatch:
    """Compare LR patches with all patches of the reference, on the features of a finished run.

    So many LR pixels are left out, evenly, that no more than ``budget`` multiply-adds are needed.
    Scores are held a few megabytes at a time. ``on_share`` is told the share done and may raise.
    """
    start = time.perf_counter()
    patch, rim = x.matches.geometry.patch, x.matches.geometry.radius
    lr, ref = x.lr_features[None], x.ref_features[None]
    height, width, ref_width = *lr.shape[2:], ref.shape[3]
    per_pixel = dense_matching_cost((1, 1), _size(ref), _searched(x, MASAConfig()))
    step = 1
    while len(_sampled(height, step)) * len(_sampled(width, step)) * per_pixel > budget:
        step += 1
    rows, columns = _sampled(height, step), _sampled(width, step)
    padded = F.pad(lr, (rim,) * 4, mode="replicate")
    columns_apart = ref_width - 2 * rim
    strip = max(1, _PATCH_BYTES // (4 * patch**2 * lr.shape[1] * ref_width))
    starts = range(0, ref.shape[2] - 2 * rim, strip)
    best = torch.full((len(rows) * len(columns),), -torch.inf)
    place = torch.zeros(len(best), dtype=torch.int64)
    group = max(1, _PATCH_BYTES // (4 * patch**2 * lr.shape[1] * width))
    for number, first in enumerate(range(0, len(rows), group)):
        taken = rows[first : first + group]
        mine = F.unfold(padded[:, :, taken[0] : taken[-1] + patch], patch, stride=(step, 1))
        mine = mine[0].unflatten(1, (len(taken), width))[:, :, columns].flatten(1)
        mine = F.normalize(mine.T, dim=1)
        part = slice(first * len(columns), (first + len(taken)) * len(columns))
        for top in starts:
            theirs = F.unfold(ref[:, :, top : top + strip + 2 * rim], patch)[0]
            theirs = F.normalize(theirs, dim=0)
            some = max(1, SCORE_BYTES // (4 * theirs.shape[1]))
            found = [(chunk @ theirs).max(1) for chunk in mine.split(some)]
            score = torch.cat([values for values, _ in found])
            index = torch.cat([index for _, index in found]) + top * columns_apart
            better = score > best[part]  # the first of equals stays, as in one argmax
            best[part] = torch.where(better, score, best[part])
            place[part] = torch.where(better, index, place[part])
        on_share(min(1.0, (number + 1) * group / len(rows)))
    position = np.full((2, height, width), -1, np.int64)
    found_at = place.view(len(rows), len(columns)).numpy()
    where = np.ix_(np.arange(2), rows, columns)
    position[where] = np.stack((found_at // columns_apart, found_at % columns_apart)) + rim
    searched = len(rows) * len(columns)
    return DenseMatch(position, step, searched * per_pixel, time.perf_counter() - start)


_PATCH_BYTES = 64 * 2**20  # of patches laid out side by side


def _whole_blocks(x: Exploration, config: MASAConfig) -> Size:
    height, width = (side - side % config.lr_block for side in x.lr_features.shape[1:])
    return height, width


def rematch_cost(x: Exploration, config: MASAConfig) -> int:
    """Multiply-adds of :func:`rematch`.

    Raises ``UserError`` if the photo holds no whole block or the search would be too large.
    """
    config = _searched(x, config)
    block = config.lr_block
    size, ref_size = _whole_blocks(x, config), _size(x.ref_features)
    if not all(size):
        raise UserError(f"This photo is smaller than one block of {block} x {block} pixels.")
    geometry = Geometry.of(size, ref_size, config)
    count = executed_cost(size, ref_size, config).matching
    rim = 2 * geometry.radius
    pairs = (geometry.ref_block_height + rim) * (geometry.ref_block_width + rim)
    if count > REMATCH_BUDGET or 8 * pairs * (block + rim) ** 2 > REMATCH_BYTES:
        raise UserError(
            "With these settings the search is too large for these pictures: choose another size "
            "of block."
        )
    return count


def rematch(x: Exploration, config: MASAConfig, dense: DenseMatch | None = None) -> Rematch:
    """Match a run's features again with another LR block, Ref block or other dilations.

    Only those three fields of ``config`` count. Features were kept for multiples of 8 pixels: of
    larger blocks, only whole ones are matched, from the top left. Raises ``UserError`` like
    :func:`rematch_cost`.
    """
    count = rematch_cost(x, config)
    config = _searched(x, config)
    height, width = _whole_blocks(x, config)
    start = time.perf_counter()
    with torch.inference_mode():
        found = match(x.lr_features[None, :, :height, :width], x.ref_features[None], config)
    seconds = time.perf_counter() - start
    position = found.position[0].numpy()
    shown = np.s_[..., : min(height, x.lr.height), : min(width, x.lr.width)]
    distance = None if dense is None else _distances(position[shown], dense.position[shown])
    known = None if distance is None else distance[distance >= 0]
    in_run = _distances(position[shown], x.matches.position[0].numpy()[shown])
    return Rematch(
        config=config,
        matches=found,
        agreement_with_dense=None if known is None else _share(known == 0),
        near_dense=None if known is None else _share(known <= 1),
        agreement_with_run=_share(in_run == 0),
        mean_similarity=float(found.similarity[0, 0].numpy()[shown].mean()),
        multiply_adds=count,
        seconds=seconds,
    )


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
    distance[:rows, :columns] = _distances(position, other[:, :rows, :columns])
    known = distance[distance >= 0]
    if step > 1:
        # Every sampled pixel stands for the square around it.
        near = [np.arange(side) // step * step + step // 2 for side in distance.shape]
        near = [np.minimum(n, side - 1) for n, side in zip(near, distance.shape, strict=True)]
        distance = distance[np.ix_(*near)]
    colours = np.array([UNKNOWN, _SAME, BLUE, ORANGE], np.uint8)
    kind = np.select([distance < 0, distance == 0, distance == 1], [0, 1, 2], 3)
    zoom = lr_zoom(x, HALF)
    ground = grey(enlarge(np.ascontiguousarray(x.lr.crop(x.lr.rgb)), zoom), 0.5)
    picture = blend(ground, enlarge(colours[kind], zoom), enlarge(_COVER[kind], zoom) / 255)
    entries = [
        (square(_SAME), f"same place: {_share(known == 0):.0%}"),
        (square(BLUE), f"its neighbour: {_share(known == 1):.0%}"),
        (square(ORANGE), f"elsewhere: {_share(known > 1):.0%}"),
    ]
    if (kind == 0).any():
        entries.append((square(UNKNOWN), "not compared"))
    return Part(stack([picture, key(entries, HALF)], gap=6), title, lr_panel(x, zoom))


_COVER = np.array([230, 0, 180, 200], np.uint8)  # how opaque each kind's colour is


def _distances(position: NDArray, other: NDArray) -> NDArray[np.int64]:
    """Pixels between two maps of places, the larger of rows and columns; -1 where unknown."""
    distance = np.abs(position - other).max(axis=0)
    return np.where(other[0] < 0, -1, distance)


def _searched(x: Exploration, config: MASAConfig) -> MASAConfig:
    """``config`` with what the kept features fix."""
    return replace(config, channels=x.lr_features.shape[0], patch=x.matches.geometry.patch)


def _sampled(side: int, step: int) -> NDArray[np.intp]:
    """Every ``step``-th of ``side`` pixels, at least one."""
    return np.arange(min(step // 2, side - 1), side, step)


def _share(these: NDArray[np.bool_]) -> float:
    return float(these.mean()) if these.size else 0.0


def _size(features: torch.Tensor) -> Size:
    return features.shape[-2], features.shape[-1]
