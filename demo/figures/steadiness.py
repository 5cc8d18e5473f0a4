"""Which network is the steadiest, in words and in a table: read from its curves over a ladder.

A network with references aligned, and the same without, are compared like two networks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import isfinite, isinf
from statistics import fmean

from demo.figures.parts import minus
from demo.figures.result import SLIGHT_DB, amount, decibels, gain_db, signed
from masa.measuring.ladder import FAMILIES, NAMED, changed_by
from masa.measuring.robustness import Curve

_LEAST_TOLD = 0.005  # dB: less is written as nothing
_ALIKE = 0.02  # of the gain: networks that keep so nearly the same are level


def verdict(curves: Sequence[Curve], measured: bool) -> str:
    """Markdown: which network stays steadiest along a family, with its numbers.

    There is at least one curve. While curves are still being measured, only values that all of
    them have are compared.
    """
    family = curves[0].family
    changed = changed_by(family)
    curves = _in_common([curve for curve in curves if len(curve.levels) > 1])
    if not curves:
        what = "photos" if changed == "the photo" else "references"
        return f"The changed {what} are still to come."
    if not measured:
        return _unmeasured(curves, family)
    parts = []
    for curve in curves:
        worst, loss = curve.worst, curve.drop(curve.worst)
        told = (
            f"{curve.line} has {decibels(curve.unchanged.psnr)} with {changed} as it is; "
            f"the changes {'bring' if curve.mean_drop < 0 else 'cost'} it "
            f"{amount(abs(curve.mean_drop))} dB on average"
        )
        if loss > 0:
            told += f", at worst {amount(loss)} dB ({minus(worst.title)})"
            alone = curve.alone if worst.alone is None else worst.alone
            if alone is not None and worst.psnr < alone:
                told += "; it then has less than without any reference"
        parts.append(f"{told}.")
    if len(curves) > 1:
        parts = [*parts, _best(curves)]
        if (
            family == NAMED or FAMILIES[family].replaced_by is None
        ):  # a switch is meant to change the result
            parts.insert(0, f"**{_steadiest(curves)}**")
    if kept := _kept(curves):
        parts.insert(0, f"**{kept}**")
    return " ".join(part for part in parts if part)


def _in_common(curves: Sequence[Curve]) -> list[Curve]:
    """The curves at the values that all of them have."""
    values = [{level.value for level in curve.levels} for curve in curves]
    shared = set.intersection(*values) if values else set()
    return [
        replace(curve, levels=tuple(level for level in curve.levels if level.value in shared))
        for curve in curves
    ]


def _steadiest(curves: Sequence[Curve]) -> str:
    family = along(curves[0].family)
    first, lead = _leaders({curve.line: curve.mean_change for curve in curves})
    if len(first) == len(curves):
        return f"No network is steadier than another {family}."
    if len(first) > 1:
        return f"{' and '.join(first)} are the steadiest {family}, level with each other."
    return f"{first[0]} is the steadiest {family}, by {amount(lead)} dB on average."


def _kept(curves: Sequence[Curve]) -> str:
    """Which network keeps most of the reference's gain at the hardest change, and what lost it.

    Empty until the results with the matches of the unchanged reference are there.
    """
    shares: dict[str, float] = {}
    told = []
    for curve in curves:
        if curve.pinned is None or curve.alone is None:
            return ""
        value = curve.pinned.value
        level = next(level for level in curve.levels if level.value == value)
        gain, left = curve.unchanged.psnr - curve.alone, level.psnr - curve.alone
        if gain < SLIGHT_DB:
            told.append(f"to {curve.line} it adds nothing")
            continue
        shares[curve.line] = left / gain
        losses = {
            "matching": curve.pinned.psnr - level.psnr,
            "the changed features": curve.unchanged.psnr - curve.pinned.psnr,
        }
        words = [f"{left:.2f} of {gain:.2f} dB"]
        words += [
            f"{who} {'lost' if loss > 0 else 'won'} {abs(loss):.2f}"
            for who, loss in losses.items()
            if abs(loss) >= _LEAST_TOLD
        ]
        numbers = minus(f"{left / gain:.0%} ({', '.join(words)})")
        told.append(f"{curve.line} {numbers}")  # a name keeps its hyphens
    if not shares:
        return ""
    hardest = minus(curves[0].pinned.title) if curves[0].pinned else ""
    highest = max(shares.values())
    most = [line for line, share in shares.items() if share > highest - _ALIKE]
    if highest <= 0:
        lead = f"Nothing is left of what the reference adds at {hardest}"
    elif len(shares) == 1:
        lead = f"Kept of what the reference adds at {hardest}"
    elif len(most) == len(shares):
        lead = (
            f"No network keeps a larger share of what the reference adds than another at {hardest}"
        )
    else:
        verb = "keeps" if len(most) == 1 else "keep"
        names = " and ".join(most)
        lead = f"{names} {verb} the largest share of what the reference adds at {hardest}"
    return f"{lead}: {'; '.join(told)}."


def _leaders(changes: Mapping[str, float]) -> tuple[list[str], float]:
    """Of two or more networks, those that change least, and the first one's lead in dB.

    Those that differ from the first by less than ``SLIGHT_DB`` are among them.
    """
    order = sorted(changes, key=lambda name: changes[name])
    behind = {name: gain_db(changes[name], changes[order[0]]) for name in order}
    return [name for name in order if behind[name] < SLIGHT_DB], behind[order[1]]


def _best(curves: Sequence[Curve]) -> str:
    """Whose results are the best on average, as a steady network need not be a good one."""
    means = {curve.line: fmean(level.psnr for level in curve.levels) for curve in curves}
    best, second = sorted(means, key=lambda name: -means[name])[:2]
    lead = gain_db(means[best], means[second])
    if lead < SLIGHT_DB:
        return ""
    return (
        f"The best results, all values together, come from {best}, by {amount(lead)} dB on average."
    )


def along(family: str) -> str:
    """Where networks are compared, for the end of a sentence."""
    return "under these changes of light" if family == NAMED else f"along {family}"


def _unmeasured(curves: Sequence[Curve], family: str) -> str:
    parts = []
    for curve in curves:
        worst = curve.worst
        how = (
            "unchanged"
            if isinf(worst.psnr)
            else f"{worst.psnr:.1f} dB alike ({minus(worst.title)})"
        )
        parts.append(f"{curve.line}'s result is at worst {how}")
    lead = ""
    if len(curves) > 1:
        first, _ = _leaders({curve.line: -curve.worst.psnr for curve in curves})
        if len(first) == len(curves):
            lead = f"**No network changes less than another {along(family)}.** "
        else:
            verb = "changes" if len(first) == 1 else "change"
            lead = f"**{' and '.join(first)} {verb} least {along(family)}.** "
    return (
        f"{lead}{'; '.join(parts)}, compared with its own result with {changed_by(family)} "
        "unchanged. The sharp photo is not known: this tells how steady a network is, not how good."
    )


def match_words(curves: Sequence[Curve]) -> str:
    """How similar matches are with each network, and with which change they are least so."""
    words = []
    for curve in curves:
        far = min(curve.levels, key=lambda level: level.similarity)
        if far is curve.unchanged:
            continue
        moved = "" if far.moved is None else f", {far.moved:.0%} of the pixels elsewhere"
        words.append(
            f"{curve.line}: {curve.unchanged.similarity:.2f} unchanged, "
            f"{far.similarity:.2f} at {minus(far.title)}{moved}."
        )
    return " ".join(words)


def table(curves: Sequence[Curve], measured: bool) -> str:
    """Markdown: a row per value; PSNR of each network, and in brackets what the change cost.

    Where the family changes the photo, no reference and bicubic follow each value; else the last
    rows are theirs. A sentence before the table says what its numbers are.
    """
    curves = list(curves)
    names, changed = [curve.line for curve in curves], changed_by(curves[0].family)
    lines = [
        f"PSNR in dB; in brackets, the difference to the result with {changed} as it is."
        if measured
        else f"Likeness to the result with {changed} as it is: PSNR in dB.",
        "",
        "| change | " + " | ".join(names) + " |",
        "|---|" + "---:|" * len(names),
    ]
    values = sorted({level.value for curve in curves for level in curve.levels})
    for value in values:
        cells, title = [], ""
        for curve in curves:
            level = next((lv for lv in curve.levels if lv.value == value), None)
            if level is None:
                cells.append("")
                continue
            title = level.title
            cells.append(_cell(curve.drop(level), level.psnr, measured))
        lines.append(f"| {minus(title)} | " + " | ".join(cells) + " |")
        lines += _baselines(curves, value)
    if changed == "the photo":
        return "\n".join(lines)
    for name, field in (("no reference", "alone"), ("bicubic", "bicubic")):
        known = [getattr(curve, field) for curve in curves]
        if None not in known:
            lines.append(f"| {name} | " + " | ".join(f"{psnr:.2f}" for psnr in known) + " |")
    return "\n".join(lines)


def _baselines(curves: Sequence[Curve], value: float) -> list[str]:
    """Rows of no reference and bicubic for the photo at ``value``; none where it is as it is."""
    lines = []
    for name, field in (("no reference", "alone"), ("bicubic", "bicubic")):
        known = [
            next((getattr(lv, field) for lv in curve.levels if lv.value == value), None)
            for curve in curves
        ]
        if any(psnr is not None for psnr in known):
            cells = ("" if psnr is None else f"{psnr:.2f}" for psnr in known)
            lines.append(f"| – {name} | " + " | ".join(cells) + " |")
    return lines


def _cell(drop: float, psnr: float, measured: bool) -> str:
    if not isfinite(psnr):
        return "the same"
    return f"{psnr:.2f} ({signed(-drop)})" if measured and drop else f"{psnr:.2f}"
