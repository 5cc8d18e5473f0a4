"""The pieces every part of the network is made of.

While gradients are recorded these are PyTorch's plain convolutions. Without gradients, on a CPU
whose oneDNN can do so, what follows a convolution (a rectifier, a sum) is part of it, sums are
written over an operand, and large maps are worked on in strips of rows. The values are the same
but for the order in which float numbers are added.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from masa.network.progress import OnShare


def conv3x3(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    """3x3 convolution with bias that keeps (stride 1) or halves (stride 2) the size."""
    return nn.Conv2d(inputs, outputs, 3, stride, 1)


def conv_relu(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """``relu(conv(x))``."""
    return convolve(x, conv.weight, conv.bias, conv.stride[0], relu=True)


def conv_pair(conv: nn.Conv2d, a: Tensor, b: Tensor) -> Tensor:
    """``relu(conv(torch.cat((a, b), 1)))`` without the copy: a convolution is linear."""
    weight_a, weight_b = conv.weight.split((a.shape[1], b.shape[1]), dim=1)
    out = convolve(a, weight_a, conv.bias)
    return convolve_onto(out, b, weight_b, relu=True)


def deconv_relu(conv: nn.ConvTranspose2d, x: Tensor) -> Tensor:
    """``relu(conv(x))`` for DRAM's transposed convolutions: ``(N, C, H, W)`` to twice the size."""
    if _fuses(x, conv.weight):
        return torch.ops.mkldnn._convolution_transpose_pointwise(
            x, conv.weight, conv.bias, (1, 1), (1, 1), (2, 2), (1, 1), 1, "relu", (), ""
        )
    return F.relu(conv(x), inplace=True)


def convolve(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: int = 1, relu: bool = False
) -> Tensor:
    """3x3 convolution of ``(N, C, H, W)``, zeros around it, rectified if asked for."""
    if _fuses(x, weight):
        steps, ones = (stride, stride), (1, 1)
        return torch.ops.mkldnn._convolution_pointwise(
            x, weight, bias, ones, steps, ones, 1, "relu" if relu else "none", (), ""
        )
    out = F.conv2d(x, weight, bias, stride, 1)
    return F.relu(out, inplace=True) if relu else out


def convolve_onto(
    total: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    relu: bool = False,
    pad_rows: bool = True,
) -> Tensor:
    """``total + conv(x)``, rectified if asked for; writes over ``total`` where it can.

    Without ``pad_rows`` there are no zeros above and below ``x``: the result is two rows shorter.
    """
    padding, ones = (int(pad_rows), 1), (1, 1)
    if _fuses(x, weight):
        attribute = "relu" if relu else None
        return torch.ops.mkldnn._convolution_pointwise_.binary(
            total, x, weight, bias, padding, ones, ones, 1, "add", 1, attribute, (), ""
        )
    out = F.conv2d(x, weight, bias, 1, padding).add_(total)
    return F.relu(out, inplace=True) if relu else out


def has_bf16(device: torch.device) -> bool:
    """Whether ``device`` has convolutions in bfloat16 of its own.

    Of a CPU, oneDNN wants AVX-512, or what ARM's newer ones have; on others PyTorch emulates them,
    far more slowly than it computes float32.
    """
    if device.type != "cpu":
        return True
    mkldnn = torch.backends.mkldnn.is_available()
    return mkldnn and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def fuses(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether oneDNN's fused convolutions, which know no gradients, exist there in this type."""
    return (
        device.type == "cpu"
        and (dtype == torch.float32 or (dtype == torch.bfloat16 and has_bf16(device)))
        and torch.backends.mkldnn.is_available()
        and bool(torch.backends.mkldnn.enabled)
    )


def _fuses(x: Tensor, weight: Tensor) -> bool:
    """Whether they can be used now for these two."""
    return (
        not torch.is_grad_enabled()
        and not torch.is_autocast_enabled("cpu")
        and x.dtype == weight.dtype
        and fuses(x.device, x.dtype)
    )


_STRIP = 2**16
"""Pixels of a residual block's inner map that are held at a time: enough for two cores."""


class ResidualBlock(nn.Module):
    """``x + conv2(relu(conv1(x)))``, without normalisation."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = conv3x3(channels, channels)
        self.conv2 = conv3x3(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """``(N, C, H, W)`` to the same. Without gradients it may write over ``x``."""
        strips = min(math.ceil(x.shape[2] * x.shape[3] / _STRIP), x.shape[2] // 4)
        if strips > 1 and x.shape[0] == 1 and _fuses(x, self.conv1.weight):
            return self._in_strips(x, strips)
        return convolve_onto(x, conv_relu(self.conv1, x), self.conv2.weight, self.conv2.bias)

    def _in_strips(self, x: Tensor, strips: int) -> Tensor:
        """The same, written over ``x`` strip by strip from the top, so that the map between the
        two convolutions is never whole."""
        height = x.shape[2]
        outside = torch.zeros_like(x[:, :, :1])
        above = outside  # the inner map's rows before the strip that its first rows still need
        for strip in range(strips):
            top, bottom = height * strip // strips, height * (strip + 1) // strips
            first = max(top - 1, 0)  # results are written up to here, so what follows is unchanged
            inner = conv_relu(self.conv1, x[:, :, first : bottom + 1])
            inner = inner[:, :, top - first : bottom - first]
            self._add(x, first, torch.cat((above, inner[:, :, :2]), 2))
            self._add(x, top + 1, inner)
            above = inner[:, :, -2:].clone()
        self._add(x, height - 1, torch.cat((above, outside), 2))
        return x

    def _add(self, x: Tensor, row: int, inner: Tensor) -> None:
        """Adds ``conv2(inner)`` to ``x`` from ``row`` on: two rows fewer than ``inner`` has."""
        target = x[:, :, row : row + inner.shape[2] - 2]
        convolve_onto(target, inner, self.conv2.weight, self.conv2.bias, pad_rows=False)


def run_blocks(blocks: nn.Sequential, x: Tensor, on_share: OnShare) -> Tensor:
    """``blocks(x)``, telling after each block how far it is. It may write over ``x``."""
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
