"""The encoder: one set of weights for LR, Ref and Ref-down."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from masa.network.layers import conv3x3, conv_relu, residual_blocks, run_blocks
from masa.network.progress import OnShare, between, ignore


class Pyramid(NamedTuple):
    """Features of one image at three sizes, each ``(N, C, ...)``."""

    l1: Tensor
    """At the image's own size."""
    l2: Tensor
    """At half of it."""
    l3: Tensor
    """At a quarter of it."""


_SHARES = (0.74, 0.95, 1.0)  # share of the multiply-adds done after each level


class Encoder(nn.Module):
    """Three levels of a convolution and four residual blocks, each level half the size."""

    HALO = 64
    """Pixels around a tile that its level-3 features depend on (60, rounded up to 4 · 16)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv_L1 = conv3x3(3, channels)
        self.blk_L1 = residual_blocks(channels, 4)
        self.conv_L2 = conv3x3(channels, channels, stride=2)
        self.blk_L2 = residual_blocks(channels, 4)
        self.conv_L3 = conv3x3(channels, channels, stride=2)
        self.blk_L3 = residual_blocks(channels, 4)

    def level1(self, image: Tensor, on_share: OnShare = ignore) -> Tensor:
        """RGB ``(N, 3, H, W)`` in [0, 1] to ``(N, C, H, W)``, the features that are matched."""
        return run_blocks(self.blk_L1, conv_relu(self.conv_L1, image), on_share)

    def forward(self, image: Tensor, on_share: OnShare = ignore) -> Pyramid:
        """RGB ``(N, 3, H, W)`` in [0, 1], H and W multiples of 4, to all three levels."""
        first, second, third = _SHARES
        l1 = self.level1(image, between(on_share, 0, first))
        l2 = run_blocks(self.blk_L2, conv_relu(self.conv_L2, l1), between(on_share, first, second))
        l3 = run_blocks(self.blk_L3, conv_relu(self.conv_L3, l2), between(on_share, second, third))
        return Pyramid(l1, l2, l3)
