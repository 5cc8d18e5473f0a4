"""What the tabs say and draw: one table that the page, the export and the tests read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from demo.figures import adaptation, aggregation, coarse, cost, fine, pixel, result
from demo.figures.figure import Drawn
from demo.figures.places import block_at, clip_pixel
from demo.runs.exploration import Exploration


@dataclass(frozen=True)
class View:
    """What a visitor has chosen to look at."""

    row: int = 0
    column: int = 0
    """LR pixel; its block is the chosen block."""
    scale: int = 4
    """Of the adaptation and aggregation tabs: 1, 2 or 4."""
    channel: int | None = None
    """Single feature channel, or ``None`` for all as colours."""

    @classmethod
    def opening(cls, x: Exploration) -> View:
        """What is shown first: the middle of the picture, and the largest scale kept."""
        return cls(x.lr.height // 2, x.lr.width // 2, max(x.scales))

    def clipped(self, x: Exploration) -> View:
        """The nearest choice that exists in ``x``."""
        row, column = clip_pixel(x, self.row, self.column)
        scale = self.scale if self.scale in x.scales else max(x.scales)
        return replace(self, row=row, column=column, scale=scale)

    def block(self, x: Exploration) -> int:
        """Number of the chosen LR block."""
        return block_at(x, self.row, self.column)


@dataclass(frozen=True)
class Figure:
    """One figure of a tab."""

    id: str
    title: str
    caption: str
    """What is drawn and how to read it, in two sentences."""
    draw: Callable[[Exploration, View], Drawn | None]
    """``None``: not to be had for this run, or not computed yet."""
    depends: frozenset[str] = frozenset()
    """Fields of the view that it shows; ``pixel`` stands for row and column."""
    clickable: bool = False
    wide: bool = False
    late: bool = False
    """Shows results that are computed after the picture is on screen."""
    missing: Callable[[Exploration, View], str] = lambda x, v: ""
    """In a sentence, why ``draw`` gives ``None``."""


@dataclass(frozen=True)
class Tab:
    """One step of the method."""

    id: str
    label: str
    question: str
    figures: tuple[Figure, ...]


_LATER = (
    "Not there yet: it needs another run of the network, which follows the picture. After Stop, "
    "press Enlarge for it."
)
_NO_HR = (
    "This needs the sharp photo, which is known only when the small photo is made from it: choose "
    "“It is sharp”."
)
_NO_TRUTH = (
    "Nobody measured where the matches of this pair truly lie: see the first example for that."
)


_ALONE = "No reference was given, so there is nothing to compare with."


def _alone_or_later(x: Exploration, view: View) -> str:
    return _ALONE if x.self_reference else _LATER


def _unknown_or_later(x: Exploration, view: View) -> str:
    return _NO_HR if x.hr is None else _alone_or_later(x, view)


_PIXEL, _SCALE = frozenset({"pixel"}), frozenset({"scale"})
_CHANNEL = frozenset({"scale", "channel"})

RESULT = Tab(
    "result",
    "Result",
    "What did the reference give?",
    (
        Figure(
            "compared",
            "With and without the reference, and the truth",
            "The whole pictures, and below them a part, enlarged. Where no reference was given, "
            "bicubic enlargement stands beside the result; the truth is known only when the small "
            "photo was made from a sharp one.",
            lambda x, v: result.compared(x) if x.plain is not None else None,
            wide=True,
            late=True,
            missing=lambda x, v: _LATER,
        ),
        Figure(
            "gift",
            "What the reference changed",
            "Distance in brightness between the results with and without the reference. Where it "
            "is black, the reference made no difference.",
            lambda x, v: result.reference_gift(x),
            late=True,
            missing=_alone_or_later,
        ),
        Figure(
            "error",
            "Error of the result",
            "Distance of each pixel's brightness from the sharp photo. It is known only when "
            "the small photo was made from a sharp one.",
            lambda x, v: result.error_map(x),
            missing=lambda x, v: _NO_HR,
        ),
        Figure(
            "gain",
            "Where the reference helped",
            "Each block's error without the reference minus its error with it. Purple blocks came "
            "closer to the sharp photo, orange ones went further away.",
            lambda x, v: result.gain_map(x),
            late=True,
            missing=_unknown_or_later,
        ),
    ),
)

COARSE = Tab(
    "coarse",
    "Coarse blocks",
    "Where in the reference does each block of the photo look?",
    (
        Figure(
            "lr_blocks",
            "Your photo, in blocks",
            "Each block has a colour that says where it lies. Click a block to follow it, or press "
            "the arrow keys.",
            lambda x, v: coarse.lr_blocks(x, v.block(x)),
            _PIXEL,
            clickable=True,
        ),
        Figure(
            "ref_blocks",
            "The reference, where they look",
            "The same colours where the blocks found their best match. Neighbours that look at "
            "neighbouring places keep the order of the colours.",
            lambda x, v: coarse.ref_blocks(x, v.block(x)),
            _PIXEL,
            clickable=True,
        ),
        Figure(
            "block_pair",
            "The block and its match",
            "The block's centre is compared with every place of the reference through patches, "
            "narrow to wide (their dilations). Around the best place, a Ref block is cut for "
            "the next step: the larger the reference, the larger it is.",
            lambda x, v: coarse.block_pair(x, v.block(x)),
            _PIXEL,
        ),
        Figure(
            "score_maps",
            "How well every place fits this block",
            "Cosine similarity with each place of the reference for each dilation, and their sum. "
            "The best place of the sum wins (ring 1); the runners-up are numbered.",
            lambda x, v: coarse.score_maps(x, v.block(x)),
            _PIXEL,
        ),
        Figure(
            "score_heat",
            "How sure each block is",
            "The winning score of every block, a sum of one cosine for each dilation. Low "
            "scores mean that the reference holds nothing alike.",
            lambda x, v: coarse.score_heat(x),
            clickable=True,
        ),
    ),
)

FINE = Tab(
    "fine",
    "Fine matching",
    "Which patch of the reference fits each pixel best?",
    (
        Figure(
            "displacement",
            "How far each pixel's match lies away",
            "Colour is the direction, strength the distance from the pixel's own place. Smooth "
            "colours mean that whole objects were found again.",
            lambda x, v: fine.displacement(x),
            clickable=True,
        ),
        Figure(
            "similarity",
            "How alike the matched patches are",
            "Cosine similarity of each pixel's patch with its match, at most 1. The copied "
            "features are multiplied by it.",
            lambda x, v: fine.similarity(x),
            clickable=True,
        ),
        Figure(
            "given",
            "What the network is given",
            "The reference's own pixels, moved to where the matches put them. The network gets "
            "features moved in the same way, never these pixels. Click any pixel, here or in the "
            "other maps, to follow it.",
            lambda x, v: fine.given(x),
            clickable=True,
        ),
        Figure(
            "discontinuities",
            "Where neighbours' matches jump",
            "Lines where adjacent pixels take their texture from places that are not adjacent. "
            "Jumps along a grid come from the blocks.",
            lambda x, v: fine.discontinuities(x),
            clickable=True,
        ),
        Figure(
            "patch_search",
            "The search for one pixel",
            "The pixel's patch, its similarity with every patch of the Ref block, and the best "
            "one. The last picture shows the full-size pixels whose features are copied.",
            lambda x, v: fine.patch_search(x, v.row, v.column),
            _PIXEL,
        ),
        Figure(
            "disparity_error",
            "Error of the matches",
            "Distance between each match and the true place, in pixels of the sharp photo. The "
            "truth was measured for the two cameras of the first example only.",
            lambda x, v: fine.disparity_error(x),
            clickable=True,
            missing=lambda x, v: _NO_TRUTH,
        ),
    ),
)

ADAPTATION = Tab(
    "adaptation",
    "Adaptation",
    "How is the reference fitted to the light of your photo?",
    (
        Figure(
            "feature_maps",
            "Features before and after",
            "Features of the photo, of the reference before and after adaptation, and what "
            "changed. Like colours are like features: all share one basis.",
            lambda x, v: adaptation.feature_maps(x, v.scale, v.channel),
            _CHANNEL,
            wide=True,
        ),
        Figure(
            "modulation",
            "What is learned per pixel",
            "Gamma stretches and beta moves one channel of the normalised reference features, "
            "pixel by pixel. Zero in both would be plain AdaIN.",
            lambda x, v: adaptation.modulation(x, v.scale, v.channel),
            _CHANNEL,
            wide=True,
            missing=lambda x, v: adaptation.why_not_learned(x, v.scale),
        ),
        Figure(
            "statistics",
            "Mean and spread of every channel",
            "Each channel's mean and standard deviation for photo and reference, before and "
            "after. Where a network adapts, the reference's should come close to the photo's.",
            lambda x, v: adaptation.statistics(x, v.scale),
            _SCALE,
            wide=True,
        ),
    ),
)

AGGREGATION = Tab(
    "aggregation",
    "Aggregation",
    "How do photo and reference share the work?",
    (
        Figure(
            "branches",
            "The two branches and what they become",
            "Features of the reference branch, of the photo branch, and after merging. Like "
            "colours are like features.",
            lambda x, v: aggregation.branches(x, v.scale),
            _SCALE,
            wide=True,
            missing=lambda x, v: aggregation.why_not(x),
        ),
        Figure(
            "residuals",
            "What each branch adds",
            "Size of the residuals that the branches add: the reference's features minus the "
            "photo's, and the other way round. Both are mean absolute values over channels.",
            lambda x, v: aggregation.residuals(x, v.scale),
            _SCALE,
            wide=True,
            missing=lambda x, v: aggregation.why_not(x),
        ),
        Figure(
            "ref_off",
            "Without the reference branch's residual",
            "The result when the reference's features are passed on unrefined, and what that "
            "changes. The network was not trained for it.",
            lambda x, v: aggregation.switched_off(x, "ref"),
            wide=True,
            late=True,
            missing=lambda x, v: _LATER,
        ),
        Figure(
            "lr_off",
            "Without the photo branch's residual",
            "The result when the photo's features are passed on unrefined, and what that "
            "changes. The network was not trained for it.",
            lambda x, v: aggregation.switched_off(x, "lr"),
            wide=True,
            late=True,
            missing=lambda x, v: _LATER,
        ),
    ),
)

PIXEL = Tab(
    "pixel",
    "One pixel",
    "Where did this pixel come from?",
    (
        Figure(
            "chosen_pixel",
            "The result",
            "Click anywhere, press the arrow keys, or move the sliders above. The chosen pixel is "
            "followed back to the reference.",
            lambda x, v: pixel.chosen(x, v.row, v.column),
            _PIXEL,
            clickable=True,
        ),
        Figure(
            "shares",
            "Which reference it came from",
            "Which reference each pixel of the photo took its texture from. The shares are of "
            "the whole photo.",
            lambda x, v: pixel.reference_shares(x),
            clickable=True,
            missing=lambda x, v: pixel.why_no_shares(x),
        ),
        Figure(
            "provenance",
            "From the result back to the reference",
            "The pixel, its block, the block it searched, and the patches that overlap there "
            "with their weights. On the right are the pixels of the reference that were copied.",
            lambda x, v: pixel.provenance(x, 4 * v.row + 2, 4 * v.column + 2),
            _PIXEL,
            wide=True,
        ),
    ),
)

COST = Tab(
    "cost",
    "Cost",
    "What does it cost?",
    (
        Figure(
            "multiply_adds",
            "Multiply-adds of the matching",
            "Coarse and fine matching at these sizes beside dense matching of the same features. "
            "The scale is logarithmic.",
            lambda x, v: cost.multiply_adds(x),
        ),
        Figure(
            "stages",
            "Seconds and memory of this run",
            "Measured time of each stage of this very run, and the memory it took. What was still "
            "known from the run before takes no time.",
            lambda x, v: cost.stages(x),
        ),
    ),
)

TABS = (RESULT, COARSE, FINE, ADAPTATION, AGGREGATION, PIXEL, COST)
FIGURES = {figure.id: figure for tab in TABS for figure in tab.figures}
