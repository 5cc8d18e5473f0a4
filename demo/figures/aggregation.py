"""How do photo and reference share the work? DRAM's two branches, and the result without one."""

from __future__ import annotations

from demo.figures.figure import Drawn
from demo.figures.parts import (
    HALF,
    THIRD,
    busiest,
    compose,
    high_of,
    luma_change,
    map_part,
    picture_part,
)
from demo.figures.result import DETAIL, decibels, gain_db, signed
from demo.figures.view import View
from demo.runs.exploration import Exploration
from masa.network.aggregation import BOTH, Branches
from masa.pictures.metrics import psnr_y

_TITLES = {
    "ref_branch": "Reference branch",
    "lr_branch": "Photo branch",
    "merged": "Merged",
}
_BRANCH = {"ref": "reference", "lr": "photo"}
_JOINED = "In this network neither branch takes anything over from the other: they are only joined"
_TAKEN_OVER = {
    BOTH: "Each branch has taken over what it lacked from the other",
    Branches(lr=False): (
        "In this network only the reference branch has taken over what it lacked from the other"
    ),
    Branches(ref=False): (
        "In this network only the photo branch has taken over what it lacked from the other"
    ),
    Branches(ref=False, lr=False): _JOINED,
}
"""What the branches are before they are merged, by those that the network refines."""


def why_not(x: Exploration, view: View) -> str:
    """In words for visitors, why there are no branches to show at the chosen scale."""
    offered = " or ".join(f"x{scale}" for scale in sorted(x.scales) if has_branches(x, scale))
    return (
        "At the photo's own size, x1, there is no dual aggregation: one convolution merges photo "
        "and reference. "
        + (f"Choose {offered}." if offered else "The other sizes of this run were not kept.")
    )


def has_branches(x: Exploration, scale: int) -> bool:
    """Whether this scale has a DRAM and was kept; x1 has none."""
    kept = x.scales.get(scale)
    return kept is not None and "merged" in kept.colours


def branches(x: Exploration, view: View) -> Drawn | None:
    """Both branches' features and what they are merged to, as colours on one basis.

    ``None`` if there is no DRAM at this scale, or the scale was not kept.
    """
    scale = view.scale
    if not has_branches(x, scale):
        return None
    parts = [
        picture_part(x, x.lr.crop(x.scales[scale].colours[name]), f"{title} (×{scale})", THIRD)
        for name, title in _TITLES.items()
    ]
    return compose(
        parts,
        f"Colour pictures of the features at {scale} times the photo's size: of the branch that "
        "carries the reference, of the one that carries the photo, and after they are merged.",
        f"Like colours mean like features in all three pictures. {_TAKEN_OVER[x.branches]}, and "
        "the decoder goes on with the merged features.",
        columns=3,
    )


def residuals(x: Exploration, view: View) -> Drawn | None:
    """How large the residual of each branch is; ``None`` like :func:`branches`.

    Sizes only: the sign, which says who has more, differs between channels.
    """
    scale = view.scale
    if not has_branches(x, scale):
        return None
    added = {name: x.lr.crop(x.scales[scale].added[f"{name}_residual"]) for name in _BRANCH}
    high = high_of(*added.values())
    titles = {
        "ref": f"Reference branch: reference minus photo (×{scale})",
        "lr": f"Photo branch: photo minus reference (×{scale})",
    }
    parts = [
        map_part(
            x,
            added[name],
            "mean absolute value over channels",
            low=0,
            high=high,
            title=title,
            width=HALF,
        )
        for name, title in titles.items()
    ]
    ref, lr = (float(values.mean()) for values in added.values())
    return compose(
        parts,
        "Two maps of the size of the residuals, of the reference's features minus the photo's and "
        "of the photo's minus the reference's; bright is much.",
        f"{_more(ref, lr)} Bright places are where the two differ most."
        if ref or lr
        else f"{_JOINED}.",
        columns=2,
    )


def _more(ref: float, lr: float) -> str:
    if not ref or not lr:
        return f"In this network the {'photo' if ref else 'reference'} branch takes nothing over."
    larger, smaller = ("reference", "photo") if ref > lr else ("photo", "reference")
    return (
        f"On average the residual of the {larger} branch is {max(ref, lr) / min(ref, lr):.1f} "
        f"times that of the {smaller} branch ({ref:.3g} in the reference branch, {lr:.3g} in the "
        "photo branch)."
    )


def lacks(x: Exploration, which: str) -> str:
    """In a sentence, that the network has no such branch (``ref``, ``lr``); empty if it has."""
    if getattr(x.branches, which):
        return ""
    return (
        f"In this network the {_BRANCH[which]} branch takes nothing over, so there is nothing to "
        "switch off."
    )


def ref_off(x: Exploration, view: View) -> Drawn | None:
    """The result without the residual of DRAM's reference branch, beside the full one.

    ``None`` until it is computed, and if the network has no such residual. Both pictures repeat,
    enlarged, where they differ most.
    """
    return _switched_off(x, "ref")


def lr_off(x: Exploration, view: View) -> Drawn | None:
    """The same as :func:`ref_off` for the photo's branch."""
    return _switched_off(x, "lr")


def _switched_off(x: Exploration, which: str) -> Drawn | None:
    without = x.switched_off.get(which)
    if without is None:
        return None
    change = luma_change(x.result, without)
    place = busiest(change, DETAIL // 2, DETAIL) if change.any() else None
    branch = _BRANCH[which]
    parts = [
        picture_part(x, x.result, "The result", THIRD, place),
        picture_part(x, without, f"{branch.capitalize()} branch off", THIRD, place),
        map_part(
            x,
            change,
            "difference on Y",
            "grey levels",
            0,
            high_of(change),
            title="What that changed",
            width=THIRD,
        ),
    ]
    words = (
        f"Without the {branch} branch's residual the result changes by {change.mean():.2f} grey "
        "levels on average"
        if change.any()
        else f"Without the {branch} branch's residual the result is the same"
    )
    if x.hr is None:
        words += ". Whether for the worse, only the sharp photo could tell."
    elif not change.any():
        words += "."
    else:
        full, off = psnr_y(x.result, x.hr), psnr_y(without, x.hr)
        words += (
            f", and PSNR goes from {decibels(full)} to {decibels(off)} "
            f"({signed(gain_db(off, full))} dB)."
        )
    return compose(
        parts,
        f"The result, the same with the {branch} branch's residual switched off, and a map of "
        "where they differ.",
        words
        if place is None
        else f"{words} The enlarged parts are the {place.width} x {place.height} pixels that "
        "differ most.",
        columns=3,
    )
