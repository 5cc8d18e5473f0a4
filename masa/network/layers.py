"""Convolutions, residual blocks and their initialisation: what every part of the network uses.

These are PyTorch's plain layers. Where :mod:`masa.network.fused` can compute the same faster, which
it cannot while gradients are recorded, they use it.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from masa.network.fused import (
    can_fuse,
    fused_add_conv,
    fused_conv,
    fused_deconv_relu,
    residual_in_strips,
    strip_count,
)
from masa.network.progress import OnShare


def conv3x3(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    """3x3 convolution with bias that keeps (stride 1) or halves (stride 2) the size."""
    return nn.Conv2d(inputs, outputs, 3, stride, 1)


def convolve(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: int = 1, relu: bool = False
) -> Tensor:
    """3x3 convolution of ``(N, C, H, W)`` with zero padding, then ReLU if asked for."""
    if can_fuse(x, weight):
        return fused_conv(x, weight, bias, stride, relu)
    out = F.conv2d(x, weight, bias, stride, 1)
    return F.relu(out, inplace=True) if relu else out


def add_convolved(
    total: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None = None, relu: bool = False
) -> Tensor:
    """``total + conv(x)``, then ReLU if asked for. Without gradients ``total`` may be changed."""
    if can_fuse(x, weight):
        return fused_add_conv(total, x, weight, bias, relu, pad_rows=True)
    out = F.conv2d(x, weight, bias, 1, 1).add_(total)
    return F.relu(out, inplace=True) if relu else out


def conv_relu(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """``relu(conv(x))``."""
    return convolve(x, conv.weight, conv.bias, conv.stride[0], relu=True)


def conv_cat_relu(conv: nn.Conv2d, a: Tensor, b: Tensor) -> Tensor:
    """``relu(conv(torch.cat((a, b), 1)))`` without the concatenated copy.

    A convolution is linear, so it is the sum of one over ``a``'s channels and one over ``b``'s.
    """
    weight_a, weight_b = conv.weight.split((a.shape[1], b.shape[1]), dim=1)
    out = convolve(a, weight_a, conv.bias)
    return add_convolved(out, b, weight_b, relu=True)


def deconv_relu(conv: nn.ConvTranspose2d, x: Tensor) -> Tensor:
    """``relu(conv(x))`` for DRAM's transposed convolutions: ``(N, C, H, W)`` to twice the size."""
    if can_fuse(x, conv.weight):
        return fused_deconv_relu(x, conv.weight, conv.bias)
    return F.relu(conv(x), inplace=True)


class ResidualBlock(nn.Module):
    """``x + conv2(relu(conv1(x)))``, without normalisation."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = conv3x3(channels, channels)
        self.conv2 = conv3x3(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """``(N, C, H, W)`` to the same. Without gradients it may write over ``x``."""
        strips = strip_count(x)
        if strips > 1 and can_fuse(x, self.conv1.weight):
            return residual_in_strips(x, self.conv1, self.conv2, strips)
        return add_convolved(x, conv_relu(self.conv1, x), self.conv2.weight, self.conv2.bias)


def residual_blocks(channels: int, count: int) -> nn.Sequential:
    """``count`` residual blocks in a row."""
    return nn.Sequential(*(ResidualBlock(channels) for _ in range(count)))


def run_blocks(blocks: nn.Sequential, x: Tensor, on_share: OnShare) -> Tensor:
    """``blocks(x)``, telling after each block how far it is. It may write over ``x``."""
    for number, block in enumerate(blocks, start=1):
        x = block(x)
        on_share(number / len(blocks))
    return x


def upsample2(x: Tensor) -> Tensor:
    """Bilinear x2 (``align_corners=False``): ``(N, C, H, W)`` to ``(N, C, 2H, 2W)``."""
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)


@torch.no_grad()
def initialise(module: nn.Module) -> None:
    """Fill all convolutions of ``module`` in place with the released code's initialisation.

    Weights are drawn from ``N(0, 0.5 sqrt(2 / (9 out)))``, a tenth of that inside residual
    blocks, and biases are 0.
    """
    in_blocks = {
        conv
        for block in module.modules()
        if isinstance(block, ResidualBlock)
        for conv in (block.conv1, block.conv2)
    }
    for conv in module.modules():
        if isinstance(conv, (nn.Conv2d, nn.ConvTranspose2d)):
            std = 0.5 * math.sqrt(2 / (9 * conv.out_channels))
            nn.init.normal_(conv.weight, 0, std * (0.1 if conv in in_blocks else 1))
            if conv.bias is not None:
                nn.init.zeros_(conv.bias)


def channels_last(module: nn.Module) -> None:
    """Lay out all convolutions' weights as channels-last, in place."""
    for conv in module.modules():
        if isinstance(conv, (nn.Conv2d, nn.ConvTranspose2d)):
            conv.weight.data = conv.weight.data.contiguous(memory_format=torch.channels_last)
