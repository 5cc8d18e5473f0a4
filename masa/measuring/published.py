"""The paper's table 1 in kind: three public test sets, each measured as the paper did."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from masa.measuring.ablation import Reached
from masa.measuring.scenes import Layout


@dataclass(frozen=True)
class PublishedSet:
    """A test set of the paper, and what its networks reach there: PSNR in dB and SSIM, on luma."""

    name: str
    layout: Layout
    """It also says which references are used: all of CUFED5's, stitched; one of each of Sun80's
    pictures, drawn at random; for Urban100 the LR itself."""
    pictures: int
    """How many the whole set has."""
    rec: Reached
    """The paper's MASA-rec, trained with L1 alone."""
    full: Reached
    """The paper's MASA, trained with all losses."""


PUBLISHED = (
    PublishedSet("CUFED5", "cufed5", 126, Reached(27.54, 0.814), Reached(24.92, 0.729)),
    PublishedSet("Sun80", "sun80", 80, Reached(30.15, 0.815), Reached(27.12, 0.708)),
    PublishedSet("Urban100", "urban100", 100, Reached(26.09, 0.786), Reached(23.78, 0.712)),
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
        ours = [_cell(reached[one.name][network], 4) for network in networks]
        lines.append(f"| {' | '.join([one.name, *ours, _cell(one.rec), _cell(one.full)])} |")
    lines += ["", "PSNR in dB / SSIM.", ""]
    lines += [f"- {one.name}: {protocols[one.name]}" for one in measured]
    return "\n".join(lines) + "\n"


def _cell(reached: Reached, digits: int = 3) -> str:
    return f"{reached.psnr:.2f} / {reached.ssim:.{digits}f}"
