"""What the tabs say and draw: one table that the page, the export and the tests read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from demo.figures import (
    adaptation,
    aggregation,
    alignment,
    blocks,
    coarse,
    cost,
    fine,
    pixel,
    result,
)
from demo.figures.view import Choose, Draw, View, lr_pixel, result_pixel
from demo.runs.exploration import Exploration


def _never(x: Exploration, view: View) -> str:
    """Of figures that every run has."""
    return ""


@dataclass(frozen=True)
class Figure:
    """One figure of a tab."""

    id: str
    title: str
    caption: str
    """What is drawn and how to read it, in two or three sentences."""
    draw: Draw
    depends: frozenset[str] = frozenset()
    """Fields of the view that it shows; ``pixel`` stands for row and column."""
    click: Choose | None = None
    """What a click on it chooses; ``None`` if it cannot be clicked."""
    in_blocks: bool = False
    """Arrow keys on it move by a whole block, not by a pixel."""
    wide: bool = False
    late: bool = False
    """Shows results that are computed after the picture is on screen."""
    missing: Callable[[Exploration, View], str] = _never
    """In a sentence, why ``draw`` gives ``None``."""

    @property
    def clickable(self) -> bool:
        """Whether a click on it chooses something."""
        return self.click is not None


@dataclass(frozen=True)
class Tab:
    """One step of the method."""

    id: str
    label: str
    question: str
    figures: tuple[Figure, ...]

    @property
    def controls(self) -> frozenset[str]:
        """Which controls stand above it: those of the fields that its figures show."""
        return frozenset().union(*(figure.depends for figure in self.figures))


_LATER = (
    "This needs another run of the network, which starts once the picture is shown; if you pressed "
    "Stop, press Enlarge to get it."
)
_NO_HR = (
    "This needs the sharp photo, which is known only when the small photo is made from it: choose "
    "“It is sharp”."
)
_NO_TRUTH = (
    "The true places of these matches were not measured; those of the example “Motorcycle” are "
    "known."
)
_ALONE = "No reference was given, so there is nothing to compare with."


def _later(x: Exploration, view: View) -> str:
    return _LATER


def _no_hr(x: Exploration, view: View) -> str:
    return _NO_HR


def _no_truth(x: Exploration, view: View) -> str:
    return _NO_TRUTH


def _alone_or_later(x: Exploration, view: View) -> str:
    return _ALONE if x.self_reference else _LATER


def _no_ref_branch_or_later(x: Exploration, view: View) -> str:
    return aggregation.lacks(x, "ref") or _LATER


def _no_lr_branch_or_later(x: Exploration, view: View) -> str:
    return aggregation.lacks(x, "lr") or _LATER


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
            "gift",
            "What the reference changed",
            "Distance in brightness between the results with and without the reference. Where it "
            "is black, the reference made no difference.",
            result.reference_gift,
            late=True,
            missing=_alone_or_later,
        ),
        Figure(
            "error",
            "Error of the result",
            "Distance of each pixel's brightness from the sharp photo. It is known only when "
            "the small photo was made from a sharp one.",
            result.error_map,
            missing=_no_hr,
        ),
        Figure(
            "gain",
            "Where the reference helped",
            "Each block's error without the reference minus its error with it. Purple blocks came "
            "closer to the sharp photo, orange ones went further away.",
            result.gain_map,
            late=True,
            missing=_unknown_or_later,
        ),
        Figure(
            "compared",
            "With and without the reference, and the truth",
            "The whole pictures, and below them a part, enlarged. Where no reference was given, "
            "bicubic enlargement stands beside the result; the truth is known only when the small "
            "photo was made from a sharp one.",
            result.compared,
            wide=True,
            late=True,
            missing=_later,
        ),
    ),
)

ALIGN = Tab(
    "align",
    "Align",
    "How does the reference lie on your photo?",
    (
        Figure(
            "alignment",
            "Your photo in the reference",
            "The orange frame is your photo's, and the arrow in it points to the photo's top. The "
            "reference is sampled once, from its own pixels, as your camera would have seen it. "
            "The ring is the chosen pixel: click to move it.",
            alignment.alignment,
            _PIXEL,
            click=alignment.pixel_under,
            wide=True,
            missing=alignment.why_not_aligned,
        ),
        Figure(
            "agreeing",
            "Features that agree",
            "Places that look alike in both pictures, and that agree on how the reference lies. A "
            "few of them are joined, spread over the photo.",
            alignment.agreeing,
            wide=True,
            missing=alignment.why_not_aligned,
        ),
        Figure(
            "views",
            "What each block took",
            "References are looked at as they are and aligned. Matching compares these views, "
            "keeps those that help, and finds the best place for each block among them. Click a "
            "block to follow it.",
            alignment.views,
            _PIXEL,
            click=lr_pixel,
            in_blocks=True,
            missing=alignment.why_not_aligned,
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
            blocks.lr_blocks,
            _PIXEL,
            click=lr_pixel,
            in_blocks=True,
        ),
        Figure(
            "ref_blocks",
            "The reference, where they look",
            "The same colours where the blocks found their best match. Neighbours that look at "
            "neighbouring places keep the order of the colours.",
            blocks.ref_blocks,
            _PIXEL,
            click=blocks.matched_block,
            in_blocks=True,
        ),
        Figure(
            "block_pair",
            "The block and its match",
            "The block's centre is compared with every place of the reference through patches, "
            "narrow to wide (their dilations). Around the best place, a Ref block is cut for "
            "the next step: the larger the reference, the larger it is.",
            coarse.block_pair,
            _PIXEL,
        ),
        Figure(
            "score_maps",
            "How well every place fits this block",
            "Cosine similarity with each place of the reference for each dilation, and their sum. "
            "The best place of the sum wins (ring 1); the runners-up are numbered.",
            coarse.score_maps,
            _PIXEL,
        ),
        Figure(
            "score_heat",
            "How sure each block is",
            "The winning score of every block, a sum of one cosine for each dilation. Low "
            "scores mean that the reference holds nothing alike.",
            coarse.score_heat,
            click=lr_pixel,
            in_blocks=True,
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
            fine.displacement,
            click=lr_pixel,
        ),
        Figure(
            "similarity",
            "How alike the matched patches are",
            "Cosine similarity of each pixel's patch with its match, at most 1. The copied "
            "features are multiplied by it.",
            fine.similarity,
            click=lr_pixel,
        ),
        Figure(
            "given",
            "What the network is given",
            "The reference's own pixels, moved to where the matches put them. The network gets "
            "features moved in the same way, never these pixels. Click any pixel, here or in the "
            "other maps, to follow it.",
            fine.given,
            click=result_pixel,
        ),
        Figure(
            "discontinuities",
            "Where neighbours' matches jump",
            "Lines where adjacent pixels take their texture from places that are not adjacent, or "
            "from two views of references. Jumps along a grid come from the blocks.",
            fine.discontinuities,
            click=lr_pixel,
        ),
        Figure(
            "patch_search",
            "The search for one pixel",
            "The pixel's patch, its similarity with every patch of the Ref block, and the best "
            "one. The last picture shows the full-size pixels whose features are copied.",
            fine.patch_search,
            _PIXEL,
        ),
        Figure(
            "disparity_error",
            "Error of the matches",
            "Distance between each match and the true place, in pixels of the sharp photo. The "
            "truth was measured for the two cameras of the first example only.",
            fine.disparity_error,
            click=lr_pixel,
            missing=_no_truth,
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
            adaptation.feature_maps,
            _CHANNEL,
            wide=True,
        ),
        Figure(
            "modulation",
            "What is learned per pixel",
            "Gamma stretches and beta moves one channel of the normalised reference features, "
            "pixel by pixel. With zero in both, SAM is AdaIN, and SPADE passes nothing on.",
            adaptation.modulation,
            _CHANNEL,
            wide=True,
            missing=adaptation.why_not_learned,
        ),
        Figure(
            "statistics",
            "Mean and spread of every channel",
            "Each channel's mean and standard deviation for photo and reference, before and "
            "after. Where a network adapts, the reference's should come close to the photo's.",
            adaptation.statistics,
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
            aggregation.branches,
            _SCALE,
            wide=True,
            missing=aggregation.why_not,
        ),
        Figure(
            "residuals",
            "What each branch adds",
            "Size of the residuals that the branches add: the reference's features minus the "
            "photo's, and the other way round. Both are mean absolute values over channels.",
            aggregation.residuals,
            _SCALE,
            wide=True,
            missing=aggregation.why_not,
        ),
        Figure(
            "ref_off",
            "Without the reference branch's residual",
            "The result when the reference's features are passed on unrefined, and what that "
            "changes. The network was not trained for it.",
            aggregation.ref_off,
            wide=True,
            late=True,
            missing=_no_ref_branch_or_later,
        ),
        Figure(
            "lr_off",
            "Without the photo branch's residual",
            "The result when the photo's features are passed on unrefined, and what that "
            "changes. The network was not trained for it.",
            aggregation.lr_off,
            wide=True,
            late=True,
            missing=_no_lr_branch_or_later,
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
            pixel.chosen,
            _PIXEL,
            click=result_pixel,
        ),
        Figure(
            "shares",
            "Which reference it came from",
            "Which reference each pixel of the photo took its texture from. The shares are of "
            "the whole photo.",
            pixel.reference_shares,
            click=lr_pixel,
            missing=pixel.why_no_shares,
        ),
        Figure(
            "provenance",
            "From the result back to the reference",
            "The pixel, its block, the block it searched, and the patches that overlap there "
            "with their weights. On the right are the pixels of the reference that were copied.",
            pixel.provenance,
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
            cost.multiply_adds,
        ),
        Figure(
            "stages",
            "Seconds and memory of this run",
            "Measured time of each stage of this very run, and the memory it took. What was still "
            "known from the run before takes no time.",
            cost.stages,
        ),
    ),
)

TABS = (RESULT, ALIGN, COARSE, FINE, ADAPTATION, AGGREGATION, PIXEL, COST)
FIGURES = {figure.id: figure for tab in TABS for figure in tab.figures}
