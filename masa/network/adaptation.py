"""Spatial adaptation: Ref features take on the LR's statistics (section 3.3, equations 6-9)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from masa.config import Adaptation
from masa.network.layers import conv3x3, conv_cat_relu, conv_relu, convolve
from masa.network.tiling import write_over


class ChannelStats(NamedTuple):
    """Mean and biased variance of each channel over an image's pixels, float32."""

    mean: Tensor
    """``(N, C, 1, 1)``."""
    var: Tensor
    """``(N, C, 1, 1)``."""
    pixels: int
    """Number of pixels."""

    @property
    def unbiased_std(self) -> Tensor:
        """``(N, C, 1, 1)``, with ``pixels - 1`` in the denominator."""
        return (self.var * (self.pixels / max(self.pixels - 1, 1)) + _TINY).sqrt()


_TINY = 1e-12  # keeps the square root's gradient finite in a channel that is constant
_EPS = 1e-5  # of the instance normalisation


def channel_stats(parts: Iterable[Tensor]) -> ChannelStats:
    """Statistics of an image that comes in disjoint ``parts``, each ``(N, C, h, w)``.

    The parts' means and variances are merged (Chan et al.), which is exact and, unlike sums of
    squares, does not cancel where a channel's mean is much larger than its spread.
    """
    means, variances, counts = [], [], []
    for part in parts:
        mean, var = _mean_and_variance(part)
        means.append(mean)
        variances.append(var)
        counts.append(part.shape[2] * part.shape[3])
    if len(counts) == 1:
        return ChannelStats(means[0], variances[0], counts[0])
    weights = torch.tensor(counts, device=means[0].device) / sum(counts)
    weights = weights.view(-1, 1, 1, 1, 1)
    all_means, all_variances = torch.stack(means), torch.stack(variances)
    mean = (weights * all_means).sum(0)
    var = (weights * (all_variances + (all_means - mean) ** 2)).sum(0)
    return ChannelStats(mean, var, sum(counts))


_STRIP = 8192  # pixels whose squares are held at a time: they stay in the processor's cache


def _mean_and_variance(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance per channel of ``(N, C, h, w)``: ``(N, C, 1, 1)`` in float32.

    ``torch.var_mean`` takes several times as long on channels-last images.
    """
    pixels = x.permute(0, 2, 3, 1).flatten(1, 2)
    mean = pixels.mean(1, keepdim=True, dtype=torch.float32)
    squares = [(strip - mean).square().sum(1) for strip in pixels.split(_STRIP, 1)]
    var = torch.stack(squares).sum(0) / pixels.shape[1]
    return mean[:, 0, :, None, None], var[:, :, None, None]


class Adapted(NamedTuple):
    """What an adaptation made of the Ref features, all ``(N, C, H, W)``."""

    out: Tensor
    """The adapted Ref features."""
    gamma: Tensor | None
    """Learned part of the per-pixel scale; ``None`` unless asked for and learned."""
    beta: Tensor | None
    """Learned part of the per-pixel shift; ``None`` unless asked for and learned."""


def _normalised(ref: Tensor, stats: ChannelStats) -> Tensor:
    """``(ref - mean(ref)) / std(ref)``, the instance normalisation of equation (7)."""
    inverse = (stats.var + _EPS).rsqrt()
    return torch.addcmul((-stats.mean * inverse).to(ref.dtype), ref, inverse.to(ref.dtype))


class LearnedAdaptation(nn.Module):
    """Normalises Ref features per channel, then scales and shifts them per pixel.

    ``n * (gamma + a) + (beta + b)``, where ``n`` are the normalised Ref features, gamma and beta
    are convolved from what ``conv_shared`` makes of the features, and ``a`` and ``b`` are the same
    everywhere. Both maps start at zero.
    """

    HALO = 2
    """Pixels around a place that its result depends on, statistics aside."""

    def __init__(self, inputs: int, channels: int) -> None:
        """``inputs`` are the channels that ``conv_shared`` reads."""
        super().__init__()
        # A Sequential of one layer, as its parameters' names in the authors' checkpoints require.
        self.conv_shared = nn.Sequential(conv3x3(inputs, channels))
        self.conv_gamma = conv3x3(channels, channels)
        self.conv_beta = conv3x3(channels, channels)

    def start_at_zero(self) -> None:
        """Zero the weights of gamma and beta; their biases are zero after initialisation."""
        nn.init.zeros_(self.conv_gamma.weight)
        nn.init.zeros_(self.conv_beta.weight)

    def _shared(self, conv: nn.Conv2d, lr: Tensor, ref: Tensor) -> Tensor:
        """``(N, C, H, W)``: what gamma and beta are convolved from."""
        raise NotImplementedError

    def _everywhere(self, lr_stats: ChannelStats) -> tuple[Tensor, Tensor]:
        """``a`` and ``b``, each ``(N, C, 1, 1)`` or ``(1, C, 1, 1)``, float32."""
        raise NotImplementedError

    def forward(
        self,
        lr: Tensor,
        ref: Tensor,
        lr_stats: ChannelStats,
        ref_stats: ChannelStats,
        learned: bool = False,
    ) -> Adapted:
        """``lr`` and ``ref`` ``(N, C, H, W)``; statistics of the whole images they are part of.

        ``learned`` asks for gamma and beta. Unless it does, and without gradients, the result is
        written over ``ref``.
        """
        everywhere = self._everywhere(lr_stats)
        if learned or torch.is_grad_enabled():
            shared = self._shared_of(lr, ref)
            scale, shift = self._scale_and_shift(shared, everywhere)
            out = torch.addcmul(shift, _normalised(ref, ref_stats), scale)
            if not learned:
                return Adapted(out, None, None)
            # Convolved again: what is small is lost in the rounding of a sum with what is large.
            del scale, shift
            zero = torch.zeros_like(everywhere[0][:1])
            return Adapted(out, *self._scale_and_shift(shared, (zero, zero)))

        def adapt(rows: slice) -> Tensor:
            part = ref[:, :, rows]
            scale, shift = self._scale_and_shift(self._shared_of(lr[:, :, rows], part), everywhere)
            return shift.addcmul_(_normalised(part, ref_stats), scale)

        return Adapted(write_over(ref, adapt, self.HALO), None, None)

    def _shared_of(self, lr: Tensor, ref: Tensor) -> Tensor:
        (conv,) = self.conv_shared
        assert isinstance(conv, nn.Conv2d)
        return self._shared(conv, lr, ref)

    def _scale_and_shift(
        self, shared: Tensor, everywhere: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """``gamma + a`` and ``beta + b``."""
        a, b = everywhere
        return _shifted(self.conv_gamma, shared, a), _shifted(self.conv_beta, shared, b)


class SpatialAdaptation(LearnedAdaptation):
    """SAM: gamma and beta from LR and Ref features together, added to the LR's statistics.

    ``n * (gamma + std(lr)) + (beta + mean(lr))`` (equations 8 and 9). Untrained, it is
    :class:`AdaIN`.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(2 * channels, channels)

    def _shared(self, conv: nn.Conv2d, lr: Tensor, ref: Tensor) -> Tensor:
        return conv_cat_relu(conv, lr, ref)

    def _everywhere(self, lr_stats: ChannelStats) -> tuple[Tensor, Tensor]:
        return lr_stats.unbiased_std, lr_stats.mean


class SPADE(LearnedAdaptation):
    """Spatially-adaptive normalisation (Park et al., 2019): gamma and beta from LR features alone.

    ``n * gamma + beta``, with nothing of the LR's statistics. As anywhere here, ``n`` is normalised
    per image, not per batch. Untrained, it passes nothing of the Ref on: its authors' code has
    ``gamma + 1``, but features of deviation 1 are far too large for an untrained network here.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels)

    def _shared(self, conv: nn.Conv2d, lr: Tensor, ref: Tensor) -> Tensor:
        return conv_relu(conv, lr)

    def _everywhere(self, lr_stats: ChannelStats) -> tuple[Tensor, Tensor]:
        zero = torch.zeros_like(lr_stats.mean[:1])
        return zero, zero


def _shifted(conv: nn.Conv2d, x: Tensor, shift: Tensor) -> Tensor:
    """``conv(x) + shift`` with ``shift`` ``(N, C, 1, 1)``, added together with the bias."""
    assert conv.bias is not None
    bias = conv.bias[:, None, None] + shift
    if len(bias) == 1:
        return convolve(x, conv.weight, bias.flatten().to(x.dtype))
    out = convolve(x, conv.weight, None)
    return out.add_(bias.to(out.dtype))


class AdaIN(nn.Module):
    """Adaptive instance normalisation: the LR's mean and deviation, the same everywhere."""

    def forward(
        self,
        lr: Tensor,
        ref: Tensor,
        lr_stats: ChannelStats,
        ref_stats: ChannelStats,
        learned: bool = False,
    ) -> Adapted:
        """As :meth:`LearnedAdaptation.forward`, with nothing learned."""
        scale, shift = lr_stats.unbiased_std.to(ref.dtype), lr_stats.mean.to(ref.dtype)
        return Adapted(torch.addcmul(shift, _normalised(ref, ref_stats), scale), None, None)


class NoAdaptation(nn.Module):
    """Returns Ref features unchanged: the paper's baseline."""

    def forward(
        self,
        lr: Tensor,
        ref: Tensor,
        lr_stats: ChannelStats,
        ref_stats: ChannelStats,
        learned: bool = False,
    ) -> Adapted:
        """As :meth:`LearnedAdaptation.forward`, leaving ``ref`` unchanged."""
        return Adapted(ref, None, None)


def make_adaptation(mode: Adaptation, channels: int) -> LearnedAdaptation | AdaIN | NoAdaptation:
    """The module for :attr:`masa.config.MASAConfig.adaptation`."""
    if mode == "sam":
        return SpatialAdaptation(channels)
    if mode == "spade":
        return SPADE(channels)
    return AdaIN() if mode == "adain" else NoAdaptation()
