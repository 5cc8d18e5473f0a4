"""The paper's ablations in kind: tables 3 and 4 of several networks, figure 5 of one.

Everything is measured by :mod:`masa.measuring.evaluate`, as means over scenes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from masa.config import ADAPTATIONS, SCALE, Adaptation, MASAConfig
from masa.machine.cost import executed_cost
from masa.measuring.evaluate import Upscale, evaluate, mean_scores, predictor_upscale
from masa.measuring.ladder import FAMILIES, LIGHT, Rung
from masa.measuring.scenes import Scene
from masa.pictures.photo import Pixels
from masa.predictor import Predictor

# ---------------------------------------------------------------------------- tables 3 and 4


@dataclass(frozen=True)
class Case:
    """What a network is given in place of the scenes' own references."""

    name: str
    change: Rung | None = None
    """``None``: the references as they are."""
    has_reference: bool = True
    """If not, the LR is its own reference."""


NEAREST = Case("the reference as it is")
ALONE = Case("no reference", has_reference=False)


def light_cases() -> list[Case]:
    """Every family of luminance and colour at both of its ends."""
    rungs = [rung for name in LIGHT for rung in FAMILIES[name].rungs(FAMILIES[name].values(3))]
    return [Case(rung.title, rung) for rung in rungs]


@dataclass(frozen=True)
class Reached:
    """Means over scenes, on luma."""

    psnr: float
    """dB."""
    ssim: float


def measure_case(case: Case, predictor: Predictor, scenes: Sequence[Scene]) -> Reached:
    """What a network reaches. Raises ``UserError`` for pictures that cannot be used."""
    plain = predictor_upscale(predictor)

    def changed(lr: Pixels, ref: Pixels | None) -> Pixels:
        if ref is not None and case.change is not None:
            ref = case.change.apply(ref).rgb
        return plain(lr, ref)

    if not case.has_reference:
        scenes = [replace(scene, refs=()) for scene in scenes]
    return _means(changed, scenes, predictor.config)


def _means(upscale: Upscale, scenes: Sequence[Scene], config: MASAConfig) -> Reached:
    rows = list(evaluate(upscale, scenes, seams=SCALE * config.lr_block))
    score = mean_scores(rows)["masa"]
    return Reached(score.psnr, score.ssim)


@dataclass(frozen=True)
class Network:
    """One network and what it reaches."""

    name: str
    """Networks whose names differ in ``-seed2`` and so on alone are trainings of the same."""
    config: MASAConfig
    parameters: int
    reached: Mapping[str, Reached]
    """By the names of all cases."""


PAPER_ADAPTATION: dict[Adaptation, float] = {"sam": 27.54, "adain": 27.30, "none": 27.32}
"""dB on CUFED5 in the paper's table 3, as far as they are known here: SAM's, the baseline's, and
AdaIN's from SAM's lead of 0.24 dB."""
PAPER_MODEL = {4: 27.54}
"""dB on CUFED5 in the paper's table 4 by DRAM's model, likewise."""

_SEED = re.compile(r"-seed\d+$")


def tables(networks: Sequence[Network], cases: Sequence[Case]) -> str:
    """Markdown: table 3 (networks whose DRAM is whole), table 4 (networks with SAM), and every
    change of light.

    ``cases`` are the changes of light. Of several seeds the mean is given, with half the distance
    between the highest and the lowest after ``±``.
    """
    groups = _by_training(networks)
    adaptations, models = {}, {}
    for name, group in groups.items():
        config = group[0].config
        if config.dram_model == 4:
            words = ADAPTATIONS[config.adaptation]
            adaptations[name] = words, PAPER_ADAPTATION.get(config.adaptation)
        if config.adaptation == "sam":
            models[name] = f"Model {config.dram_model}", PAPER_MODEL.get(config.dram_model)
    parts = [
        "### Adaptation, as in table 3",
        _table("adaptation", adaptations, groups, cases),
        "### Aggregation, as in table 4",
        _table("DRAM", models, groups, cases),
        "### Under each change of light",
        _changes(groups, cases),
        "Numbers are PSNR in dB / SSIM. *Gain kept* is what the reference still brings under the "
        "changes of light, on average, as a share of what it brings as it is. The paper's networks "
        "have 64 channels, and its numbers are of CUFED5; – stands for one that is not known here.",
    ]
    return "\n\n".join(parts) + "\n"


def _by_training(networks: Sequence[Network]) -> dict[str, list[Network]]:
    """Seeds of one training together, by the name that they share; others by their own."""
    alike: dict[tuple[str, MASAConfig], list[Network]] = {}
    for network in networks:
        alike.setdefault((_SEED.sub("", network.name), network.config), []).append(network)
    return {name if len(group) > 1 else group[0].name: group for (name, _), group in alike.items()}


def _table(
    kind: str,
    told: Mapping[str, tuple[str, float | None]],
    groups: Mapping[str, Sequence[Network]],
    cases: Sequence[Case],
) -> str:
    """A row per group that is ``told`` of: its words and the paper's number."""
    if not told:
        return "None of the networks belongs here."
    lines = [
        f"| network | {kind} | parameters | {NEAREST.name} | {ALONE.name} | changed light, mean | "
        "gain kept | paper |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    names = [case.name for case in cases]
    for name, (words, paper) in told.items():
        group = groups[name]
        kept = [share for network in group if (share := _kept(network, names)) is not None]
        cells = [
            f"{name}{f' ({len(group)} seeds)' if len(group) > 1 else ''}",
            words,
            f"{group[0].parameters:,}",
            *(_cell(group, of) for of in ([NEAREST.name], [ALONE.name], names)),
            f"{fmean(kept):.0%}" if kept else "–",
            "–" if paper is None else f"{paper:.2f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _changes(groups: Mapping[str, Sequence[Network]], cases: Sequence[Case]) -> str:
    lines = [f"| | {' | '.join(groups)} |", "|---|" + "---:|" * len(groups)]
    for case in [NEAREST, *cases, ALONE]:
        cells = (_cell(group, [case.name]) for group in groups.values())
        lines.append(f"| {case.name.replace('-', '−')} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(group: Sequence[Network], cases: Sequence[str]) -> str:
    """The mean over seeds and cases, and its spread over seeds."""
    if not cases:
        return "–"
    psnr = [fmean(network.reached[case].psnr for case in cases) for network in group]
    ssim = [fmean(network.reached[case].ssim for case in cases) for network in group]
    spread = f" ± {(max(psnr) - min(psnr)) / 2:.2f}" if len(group) > 1 else ""
    return f"{fmean(psnr):.2f}{spread} / {fmean(ssim):.4f}"


_LEAST_GAIN = 0.05  # dB; a share of less would say nothing


def _kept(network: Network, cases: Sequence[str]) -> float | None:
    """The share of the reference's gain that is left under the changes; ``None`` for no gain."""
    alone = network.reached[ALONE.name].psnr
    gain = network.reached[NEAREST.name].psnr - alone
    if gain < _LEAST_GAIN or not cases:
        return None
    return fmean(network.reached[case].psnr - alone for case in cases) / gain


# ---------------------------------------------------------------------------- figure 5

LR_BLOCKS = (4, 8, 16, 32)
REF_FACTORS = (0.5, 1.0, 1.5, 2.0, 3.0)
DILATIONS = ((1,), (1, 2), (1, 2, 3), (1, 2, 3, 4))


@dataclass(frozen=True)
class Setting:
    """One way to match."""

    varied: str
    """``LR block``, ``Ref block`` or ``dilations``: what differs from the network's own."""
    value: str
    """In words, of it."""
    config: MASAConfig
    is_own: bool
    """This is what the network was trained with."""

    @property
    def key(self) -> str:
        """Equal for settings that match alike."""
        c = self.config
        return f"{c.lr_block} {c.ref_factor:g} {','.join(map(str, c.dilations))}"


def settings(config: MASAConfig) -> list[Setting]:
    """All that are compared, in three series which each contain the network's own setting."""
    blocks = sorted({*LR_BLOCKS, config.lr_block})
    factors = sorted({*REF_FACTORS, config.ref_factor})
    dilations = sorted({*DILATIONS, config.dilations})
    varied = [
        *(("LR block", f"{b}", replace(config, lr_block=b)) for b in blocks),
        *(("Ref block", f"{f:g}", replace(config, ref_factor=f)) for f in factors),
        *(("dilations", ",".join(map(str, d)), replace(config, dilations=d)) for d in dilations),
    ]
    return [Setting(*one, is_own=one[2] == config) for one in varied]


@dataclass(frozen=True)
class Tradeoff:
    """What matching in one way reaches and costs; means over scenes."""

    psnr: float
    """dB."""
    ssim: float
    matching: float
    """Multiply-adds of coarse and fine matching, as this program does it."""
    total: float
    """Of a run that reads the whole reference; of large ones, a run reads what matches point to."""


def measure_setting(setting: Setting, predictor: Predictor, scenes: Sequence[Scene]) -> Tradeoff:
    """A network that matches in another way than it was trained for. Raises ``UserError``."""
    costs = []

    def upscale(lr: Pixels, ref: Pixels | None) -> Pixels:
        result = predictor.run(lr, [] if ref is None else [ref], matching=setting.config)
        sizes = result.lr.rgb.shape[:2], result.ref.down.shape[:2]
        costs.append(executed_cost(*sizes, setting.config))
        return result.rgb

    reached = _means(upscale, scenes, setting.config)
    return Tradeoff(
        reached.psnr,
        reached.ssim,
        fmean(cost.matching for cost in costs),
        fmean(cost.total for cost in costs),
    )


PAPER_TRADEOFF = (
    "In the paper, on CUFED5: 27.54 dB for 367.93·10^9 multiply-adds in all, and 27.60 dB for "
    "787.77·10^9 with smaller LR blocks."
)


def tradeoff_table(found: Sequence[tuple[Setting, Tradeoff]]) -> str:
    """Markdown: a row per setting, and below them what is known of the paper's."""
    lines = [
        "| varied | value | PSNR | SSIM | matching, 10^9 multiply-adds | "
        "all, 10^9, with the whole reference |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for setting, reached in found:
        lines.append(
            f"| {setting.varied} | {setting.value} | {reached.psnr:.2f} dB | {reached.ssim:.4f} | "
            f"{reached.matching / 1e9:.2f} | {reached.total / 1e9:.1f} |"
        )
    return "\n".join([*lines, "", PAPER_TRADEOFF]) + "\n"
