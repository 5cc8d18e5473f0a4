"""The paper's table 1 in kind: three public test sets, each measured as the paper did."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from masa.measuring.ablation import Reached
from masa.measuring.scenes import Layout

Told = tuple[float | None, float | None]
"""PSNR in dB and SSIM, on luma, as the paper tells them; ``None`` for what is not known here."""


@dataclass(frozen=True)
class PublishedSet:
    """A test set of the paper, and what its networks reach there."""

    name: str
    layout: Layout
    """It also says which references are used: all of CUFED5's, stitched; one of each of Sun80's
    pictures, drawn at random; for Urban100 the LR itself."""
    pictures: int
    """How many the whole set has."""
    rec: Told
    """The paper's MASA-rec, trained with L1 alone."""
    full: Told
    """The paper's MASA, trained with all losses."""


PUBLISHED = (
    PublishedSet("CUFED5", "cufed5", 126, (27.54, None), (24.92, None)),
    PublishedSet("Sun80", "sun80", 80, (None, None), (None, None)),
    PublishedSet("Urban100", "urban100", 100, (26.09, 0.786), (None, None)),
)


def published_table(
    reached: Mapping[str, Mapping[str, Reached]], protocols: Mapping[str, str]
) -> str:
    """Markdown: a row per measured set, a column per network, the paper's numbers beside them.

    ``reached`` is by the names of sets and networks, ``protocols`` by those of sets.
    """
    measured: Sequence[PublishedSet] = [one for one in PUBLISHED if one.name in reached]
    networks = list(reached[measured[0].name])
    lines = [
        f"| | {' | '.join(networks)} | paper, L1 alone | paper, all losses |",
        "|---|" + "---:|" * (len(networks) + 2),
    ]
    for one in measured:
        found = [reached[one.name][network] for network in networks]
        ours = [f"{score.psnr:.2f} / {score.ssim:.4f}" for score in found]
        lines.append(f"| {' | '.join([one.name, *ours, _cell(*one.rec), _cell(*one.full)])} |")
    lines += ["", "PSNR in dB / SSIM; – stands for a number that is not known here.", ""]
    lines += [f"- {one.name}: {protocols[one.name]}" for one in measured]
    return "\n".join(lines) + "\n"


def _cell(psnr: float | None, ssim: float | None) -> str:
    known = "–" if psnr is None else f"{psnr:.2f}", "–" if ssim is None else f"{ssim:.3f}"
    return "–" if psnr is None and ssim is None else " / ".join(known)
