"""The two pieces every part of the network is made of."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from masa.progress import OnShare


def conv3x3(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    """3x3 convolution with bias that keeps (stride 1) or halves (stride 2) the size."""
    return nn.Conv2d(inputs, outputs, 3, stride, 1)


def conv_relu(conv: nn.Module, x: Tensor) -> Tensor:
    """``relu(conv(x))``; the rectifier writes over the convolution's own fresh output."""
    return F.relu(conv(x), inplace=True)


def conv_pair(conv: nn.Conv2d, a: Tensor, b: Tensor) -> Tensor:
    """``conv(torch.cat((a, b), 1))`` without the copy: a convolution is linear in its inputs."""
    weight_a, weight_b = conv.weight.split((a.shape[1], b.shape[1]), dim=1)
    out = F.conv2d(a, weight_a, conv.bias, conv.stride, conv.padding)
    return out.add_(F.conv2d(b, weight_b, None, conv.stride, conv.padding))


class ResidualBlock(nn.Module):
    """``x + conv2(relu(conv1(x)))``, without normalisation."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = conv3x3(channels, channels)
        self.conv2 = conv3x3(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """``(N, C, H, W)`` to the same."""
        return self.conv2(conv_relu(self.conv1, x)).add_(x)


def run_blocks(blocks: nn.Sequential, x: Tensor, on_share: OnShare) -> Tensor:
    """``blocks(x)``, telling after each block how far it is."""
    for number, block in enumerate(blocks, start=1):
        x = block(x)
        on_share(number / len(blocks))
    return x


def residual_blocks(channels: int, count: int) -> nn.Sequential:
    """``count`` residual blocks in a row."""
    return nn.Sequential(*(ResidualBlock(channels) for _ in range(count)))


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
