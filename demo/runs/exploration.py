"""What stays of a run for a visitor to explore: light arrays on the CPU.

A trace at LR 128x128 is several hundred megabytes; what is kept here is under
:data:`KEPT_BYTES`. All figures are drawn from it alone, so that a click never waits for the
network.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from demo.runs.request import FinishedRun
from masa.config import Adaptation, Size
from masa.machine.cost import Cost, dense_matching_cost, paper_cost
from masa.machine.memory import Peak
from masa.network.aggregation import Branches
from masa.network.decoder import ScaleTrace
from masa.network.matching import CoarseMatch, Matches
from masa.network.progress import OnShare, ignore
from masa.network.transfer import plan_transfer, transfer
from masa.pictures.photo import Pixels
from masa.pictures.resize import to_uint8
from masa.pictures.shifts import Shift
from masa.reference.alignment import Alignment
from masa.reference.canvas import LRCanvas, RefCanvas
from masa.reference.views import Reference

KEPT_BYTES = 64 * 2**20
"""Bound on an exploration of an LR of 128x128 with a Ref of 512x512, used as it is and aligned."""

VIEW = 216
"""Most pixels a side at which single channels are kept; larger maps are averaged down."""


@dataclass(frozen=True, eq=False)
class ChannelStatistics:
    """Per channel, over all pixels of the map: ``(C,)`` float32 each."""

    mean: NDArray[np.float32]
    std: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class ScaleView:
    """What adaptation and aggregation did at one scale (1, 2 or 4), as far as it is shown."""

    adaptation: Adaptation
    colours: Mapping[str, Pixels]
    """Feature maps as RGB ``(scale * h, scale * w, 3)``: ``lr``, ``before``, ``after`` on one
    shared PCA basis and one shared range; ``difference`` is the length of ``after - before`` as a
    grey level, 254 at ``difference_peak`` and 255 beyond. DRAM's ``ref_branch``, ``lr_branch``,
    ``merged`` on a basis of their own; missing at x1."""
    difference_peak: float
    explained: float
    """Share of the features' variance that the three colours show, 0 to 1."""
    channels: Mapping[str, NDArray[np.uint8]]
    """Levels ``(C, height, width)``, at most ``VIEW`` a side, of ``lr``, ``before``, ``after`` and,
    where they are learned, ``gamma`` and ``beta``."""
    ranges: Mapping[str, NDArray[np.float32]]
    """For each of those, ``(C, 2)``: what levels 0 and 255 of a channel stand for."""
    statistics: Mapping[str, ChannelStatistics]
    """Of ``lr``, ``before`` and ``after``."""
    added: Mapping[str, NDArray[np.float32]]
    """DRAM's ``ref_residual`` and ``lr_residual``: their mean absolute value over channels,
    ``(height, width)`` at most ``VIEW`` a side; empty at x1."""

    def gap(self, which: str) -> float:
        """:func:`channel_gap` of ``which`` (``before``, ``after``) to the LR."""
        return channel_gap(self.statistics, which)


def channel_gap(statistics: Mapping[str, ChannelStatistics], which: str) -> float:
    """Distance of the channel distributions of ``which`` (``before``, ``after``) to the LR's.

    Each channel counts as a normal distribution; the distance between two of them is
    ``sqrt((m1 - m2)² + (s1 - s2)²)`` (2-Wasserstein), taken in units of the LR channel's own
    deviation; the median over channels is returned. 0: alike; 1: off by a whole deviation.
    """
    lr, other = statistics["lr"], statistics[which]
    distance = np.hypot(lr.mean - other.mean, lr.std - other.std)
    return float(np.median(distance / np.maximum(lr.std, 1e-6)))


@dataclass(frozen=True, eq=False)
class Exploration:
    """One finished run, as its visitor's session keeps it."""

    weights: str
    """Name of the shipped weights that were used."""
    auto: str
    """Name of those that ``auto`` takes for these pictures."""
    branches: Branches
    """Which of DRAM's branches the network refines; the others cannot be switched off."""
    lr: LRCanvas
    ref: RefCanvas
    """Of the views of references that the network used: as they are, or aligned."""
    references: tuple[Reference, ...]
    """As the network was given them; none if the LR was its own."""
    align: bool
    """Whether references were to be aligned."""
    shift: Shift
    """Change of the references' light."""
    degradation: str | None
    """Name of the preset by which the LR was made of a sharp photo; ``None`` if it was not."""
    beyond: tuple[int, ...]
    """References, from 0, of which a view was left out for want of memory."""
    result: Pixels
    """``(4H, 4W, 3)``, like the pictures below: in the visitor's own pixels, without padding."""
    alpha: NDArray[np.uint8] | None
    """``(4H, 4W)``; ``None`` if the photo had no transparency."""
    lr_alpha: NDArray[np.uint8] | None
    """``(H, W)``: the same of the LR."""
    bicubic: Pixels
    hr: Pixels | None
    """``None`` if the target is unknown."""
    plain: Pixels | None
    """The same network with the LR as its own reference; ``None`` until computed."""
    faithful: Pixels | None
    """What the weights of ``auto`` make of the same pictures, where those that were used invent
    detail; ``None`` until computed, and with others."""
    switched_off: Mapping[str, Pixels]
    """Results with a branch of DRAM off: ``ref``, ``lr``, as far as the network has them; empty
    until computed."""
    matches: Matches
    """On the CPU, float32 and int64, as the network used them; one picture (N = 1)."""
    lr_features: Tensor
    """``(C, h, w)`` float32: what was matched."""
    ref_features: Tensor
    """``(C, hr, wr)`` float32."""
    moved: Pixels
    """``(4h, 4w, 3)``: the reference's own pixels where the index map puts them."""
    scales: Mapping[int, ScaleView]
    seconds: Mapping[str, float]
    cost: Cost
    paper: Cost
    dense: int
    """Multiply-adds of dense matching on the same features."""
    dilations: tuple[int, ...]
    """Steps of the dilated patches whose coarse scores were summed."""
    peak: Peak | None = None
    """Memory of the run, with all that was kept for the figures; ``None`` if not measured."""
    notes: tuple[str, ...] = ()
    hint: str = ""
    """What to look for, if this is an example."""
    disparity: NDArray[np.float32] | None = None
    """``(4H, 4W)`` true disparity in HR pixels, NaN where unknown."""

    def visitors_lr(self) -> Pixels:
        """``(H, W, 3)``: the LR without padding."""
        return self.lr.crop(self.lr.rgb).copy()

    @property
    def self_reference(self) -> bool:
        """No reference was given, so the LR was its own."""
        return not self.references

    @property
    def refs(self) -> tuple[Pixels, ...]:
        """``(H, W, 3)`` each: the references, reduced and shifted if that was done; the LR itself
        if there was none."""
        given = tuple(ref.rgb for ref in self.references)
        return given or (self.lr.crop(self.lr.rgb),)

    @property
    def ref_sizes(self) -> tuple[Size, ...]:
        """Rows and columns of each of :attr:`refs` in its own pixels, in which places count; more
        than the picture has if the reference was reduced after it had been aligned."""
        given = tuple(ref.plain.size for ref in self.references)
        return given or ((self.lr.height, self.lr.width),)

    def views(self) -> tuple[Pixels, ...]:
        """``(H, W, 3)`` each: the views of references that the network read; none if the LR was
        its own.

        Another run that is given these, without alignment, reads the same.
        """
        if self.self_reference:
            return ()
        return tuple(self.ref.seen(self.ref.rgb, position) for position in range(self.ref.count))

    @property
    def alignments(self) -> tuple[Alignment | None, ...]:
        """How the photo lies in each reference; ``None`` where nothing in common was found. Empty
        if nothing was to be aligned."""
        return tuple(ref.alignment for ref in self.references) if self.align else ()

    def kept_bytes(self) -> int:
        """Memory that this exploration holds."""
        return _bytes_of(self, set())


@torch.inference_mode()
def explore(run: FinishedRun, on_share: OnShare = ignore) -> Exploration:
    """Condense a finished run whose trace kept the scales that are to be shown."""
    result, trace = run.result, run.result.trace
    matches = _to_cpu(trace.matches)
    lr_size, ref_size = result.lr.rgb.shape[:2], result.ref.down.shape[:2]
    config = run.config
    pixels = torch.from_numpy(result.ref.rgb.copy()).permute(2, 0, 1)[None].float().div_(255)
    scales = {}
    for scale, part in ((1, trace.x1), (2, trace.x2), (4, trace.x4)):
        if part is not None:
            on_share(scale / 8)
            scales[scale] = view_scale(part)
    on_share(0.9)
    return Exploration(
        weights=run.request.weights,
        auto=run.request.auto,
        branches=Branches(config.dram_ref, config.dram_lr),
        lr=result.lr,
        ref=result.ref,
        references=result.references,
        align=run.request.align,
        shift=run.request.shift,
        degradation=run.request.degradation if run.request.is_hr else None,
        beyond=result.beyond,
        result=result.rgb,
        alpha=result.alpha,
        lr_alpha=run.alpha,
        bicubic=result.bicubic,
        hr=run.hr,
        plain=None,
        faithful=None,
        switched_off={},
        matches=matches,
        lr_features=result.lr_features.pyramid.l1[0].float().cpu(),
        ref_features=result.ref_features.down[0].float().cpu(),
        moved=to_uint8(transfer(pixels, plan_transfer(matches), 4, weighted=False)),
        scales=scales,
        seconds=dict(result.seconds),
        cost=result.cost,
        paper=paper_cost(lr_size, ref_size, config),
        dense=dense_matching_cost(lr_size, ref_size, config),
        dilations=config.dilations,
        peak=run.peak,
        notes=result.notes,
    )


def view_scale(part: ScaleTrace) -> ScaleView:
    """Condense what one scale's trace holds, of the first picture in the batch."""
    adapted = part.adapted
    maps = {
        "lr": part.lr[0],
        "before": part.ref[0],
        "after": adapted.out[0],
        "gamma": None if adapted.gamma is None else adapted.gamma[0],
        "beta": None if adapted.beta is None else adapted.beta[0],
    }
    present = {name: tensor.float() for name, tensor in maps.items() if tensor is not None}
    compared = [present[name] for name in ("lr", "before", "after")]
    painted, explained = _paint(compared)
    colours = dict(zip(("lr", "before", "after"), painted, strict=True))
    difference = (present["after"] - present["before"]).square().sum(0).sqrt()
    peak = _high(difference)
    grey = (difference / peak * 254).ceil().clamp(0, 255).to(torch.uint8).cpu().numpy()
    colours["difference"] = np.repeat(grey[:, :, None], 3, axis=2)
    added: dict[str, NDArray[np.float32]] = {}
    if part.aggregated is not None:
        kept = {k: m[0] for k, m in part.aggregated._asdict().items() if m is not None}
        painted, _ = _paint([kept[name].float() for name in ("ref_branch", "lr_branch", "out")])
        colours.update(zip(("ref_branch", "lr_branch", "merged"), painted, strict=True))
        added = {name: _size_of_features(kept[name]) for name in ("ref_residual", "lr_residual")}
    channels, ranges = _quantise(present)
    return ScaleView(
        adaptation=part.adaptation,
        colours=colours,
        difference_peak=peak,
        explained=explained,
        channels=channels,
        ranges=ranges,
        statistics={
            name: ChannelStatistics(
                present[name].mean((1, 2)).cpu().numpy(),
                present[name].std((1, 2), correction=0).cpu().numpy(),
            )
            for name in ("lr", "before", "after")
        },
        added=added,
    )


def _paint(features: list[Tensor]) -> tuple[list[Pixels], float]:
    """Maps ``(C, H, W)`` as colours on the three main axes of all of them together.

    Every picture uses the same axes and the same range, so that like colours mean like features.
    Returns the pictures and the share of variance that three axes hold.
    """
    sample = torch.cat([f[:, :: _step(f), :: _step(f)].flatten(1) for f in features], 1)
    mean = sample.mean(1, keepdim=True)
    # On the CPU: not every device can compute eigenvectors, or use double precision.
    values, vectors = torch.linalg.eigh((sample - mean).cov().cpu().double())
    axes = vectors[:, -3:].flip(1).to(sample)
    # An axis's sign is arbitrary: make the sum of its weights positive, for stable colours.
    axes = axes * axes.sum(0).sign().where(axes.sum(0) != 0, torch.ones_like(axes[0]))
    projected = axes.T @ (sample - mean)
    low, high = projected.quantile(0.01, dim=1), projected.quantile(0.99, dim=1)
    span = (high - low).clamp_min(1e-6)
    pictures = []
    for f in features:
        coordinates = torch.einsum("ck,chw->hwk", axes, f - mean[:, :, None])
        levels = ((coordinates - low) / span * 255).clamp(0, 255).to(torch.uint8)
        pictures.append(levels.cpu().numpy())
    share = values[-3:].sum() / values.sum().clamp_min(1e-12)
    return pictures, float(share)


def _quantise(
    maps: Mapping[str, Tensor],
) -> tuple[dict[str, NDArray[np.uint8]], dict[str, NDArray[np.float32]]]:
    """Channels as 8-bit levels, each over its own range, with what the levels stand for."""
    channels, ranges = {}, {}
    for name, tensor in maps.items():
        small = _shrunk(tensor)
        low, high = small.amin((1, 2)), small.amax((1, 2))
        span = (high - low).clamp_min(1e-9)[:, None, None]
        levels = ((small - low[:, None, None]) / span * 255).round().to(torch.uint8)
        channels[name] = levels.cpu().numpy()
        ranges[name] = torch.stack((low, high), 1).cpu().numpy()
    return channels, ranges


def _size_of_features(features: Tensor) -> NDArray[np.float32]:
    """Mean absolute value over channels of ``(C, H, W)``, at most ``VIEW`` a side."""
    return _shrunk(features.float().abs().mean(0, keepdim=True))[0].cpu().numpy()


def _shrunk(x: Tensor) -> Tensor:
    """``(C, H, W)`` averaged down to at most ``VIEW`` a side."""
    factor = VIEW / max(x.shape[1:])
    if factor >= 1:
        return x
    height, width = (max(1, round(factor * side)) for side in x.shape[1:])
    if x.device.type == "mps":  # pools only into sizes that divide
        x = x.cpu()
    return F.adaptive_avg_pool2d(x, (height, width))


def _step(x: Tensor) -> int:
    """Stride that leaves at most 128 pixels a side, enough for means and axes."""
    return max(1, -(-max(x.shape[1:]) // 128))


def _high(x: Tensor) -> float:
    """The 99.5th percentile: a peak that single pixels do not set."""
    flat = x.flatten()
    index = max(1, round(0.995 * flat.numel()))
    return max(float(flat.kthvalue(index).values), 1e-9)


def _to_cpu(matches: Matches) -> Matches:
    coarse = matches.coarse
    return Matches(
        matches.geometry,
        CoarseMatch(coarse.index.cpu(), coarse.score.cpu(), coarse.per_dilation.cpu()),
        matches.corner.cpu(),
        matches.index.cpu(),
        matches.position.cpu(),
        matches.similarity.cpu(),
    )


def _bytes_of(value: object, seen: set[int]) -> int:
    if id(value) in seen:
        return 0
    seen.add(id(value))
    if isinstance(value, Tensor):
        return value.untyped_storage().nbytes()
    if isinstance(value, np.ndarray):
        return value.nbytes if value.base is None else _bytes_of(value.base, seen)
    if isinstance(value, Mapping):
        return sum(_bytes_of(v, seen) for v in value.values())
    if isinstance(value, tuple):
        return sum(_bytes_of(v, seen) for v in value)
    if hasattr(value, "__dataclass_fields__"):
        return sum(_bytes_of(getattr(value, f.name), seen) for f in fields(value))  # type: ignore[arg-type, misc]
    return 0
