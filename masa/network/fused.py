"""Convolutions of oneDNN that save time and memory in runs without gradients on a CPU.

What follows a convolution (a ReLU, a sum) is computed in the same call, sums are written over an
operand, and the residual blocks of large maps are computed in strips of rows. The values are
those of :mod:`masa.network.layers`, up to the order in which float numbers are added.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


def has_bf16(device: torch.device) -> bool:
    """Whether ``device`` computes convolutions in bfloat16 itself.

    On a CPU, oneDNN needs AVX-512 or ARM's bfloat16 instructions. On others PyTorch emulates
    bfloat16, far more slowly than it computes float32.
    """
    if device.type != "cpu":
        return True
    mkldnn = torch.backends.mkldnn.is_available()
    return mkldnn and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def fuses(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether the convolutions of this file exist on ``device`` in ``dtype``."""
    return (
        device.type == "cpu"
        and (dtype == torch.float32 or (dtype == torch.bfloat16 and has_bf16(device)))
        and torch.backends.mkldnn.is_available()
        and bool(torch.backends.mkldnn.enabled)
    )


def can_fuse(x: Tensor, weight: Tensor) -> bool:
    """Whether this file can compute ``x`` convolved with ``weight`` now: it gives no gradients."""
    return (
        not torch.is_grad_enabled()
        and not torch.is_autocast_enabled("cpu")
        and x.dtype == weight.dtype
        and fuses(x.device, x.dtype)
    )


def fused_conv(x: Tensor, weight: Tensor, bias: Tensor | None, stride: int, relu: bool) -> Tensor:
    """3x3 convolution of ``(N, C, H, W)``, padded by one row and column of zeros, then ReLU."""
    padding, dilation, groups = (1, 1), (1, 1), 1
    after = "relu" if relu else "none"
    return torch.ops.mkldnn._convolution_pointwise(
        x, weight, bias, padding, (stride, stride), dilation, groups, after, (), ""
    )


def fused_add_conv(
    total: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None, relu: bool, pad_rows: bool
) -> Tensor:
    """``total + conv(x)``, then ReLU if asked for, written over ``total``, which is returned.

    Without ``pad_rows`` no zeros are put above and below ``x``: ``total`` has two rows fewer.
    """
    padding, stride, dilation, groups = (int(pad_rows), 1), (1, 1), (1, 1), 1
    after = "relu" if relu else None
    return torch.ops.mkldnn._convolution_pointwise_.binary(
        total, x, weight, bias, padding, stride, dilation, groups, "add", 1, after, (), ""
    )


def fused_deconv_relu(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """ReLU of a 3x3 transposed convolution: ``(N, C, H, W)`` to ``(N, C, 2H, 2W)``."""
    padding, output_padding, stride, dilation, groups = (1, 1), (1, 1), (2, 2), (1, 1), 1
    return torch.ops.mkldnn._convolution_transpose_pointwise(
        x, weight, bias, padding, output_padding, stride, dilation, groups, "relu", (), ""
    )


_STRIP = 2**16  # pixels of a residual block's inner map held at a time: enough for two cores


def strip_count(x: Tensor) -> int:
    """Strips of at least four rows that a residual block of ``(N, C, H, W)`` is computed in."""
    if x.shape[0] > 1:
        return 1
    return max(1, min(math.ceil(x.shape[2] * x.shape[3] / _STRIP), x.shape[2] // 4))


def residual_in_strips(x: Tensor, conv1: nn.Conv2d, conv2: nn.Conv2d, strips: int) -> Tensor:
    """``x + conv2(relu(conv1(x)))``, written over ``x`` ``(1, C, H, W)`` from the top.

    The map between the two convolutions, here the inner map, never exists as a whole. ``conv1``
    reads one row beyond the rows of its result. So a strip's inner rows are computed first, and
    only the rows of ``x`` that no later strip reads are written over.
    """
    height = x.shape[2]
    zeros = torch.zeros_like(x[:, :, :1])  # conv2's padding above and below the image
    above = zeros  # inner rows just above the strip, which conv2 needs for the strip's first rows

    def add_conv2(first: int, inner: Tensor) -> None:
        """Writes the rows of ``x`` from ``first`` on: two fewer than ``inner`` has."""
        rows = x[:, :, first : first + inner.shape[2] - 2]
        fused_add_conv(rows, inner, conv2.weight, conv2.bias, relu=False, pad_rows=False)

    for strip in range(strips):
        top, bottom = height * strip // strips, height * (strip + 1) // strips
        first = max(top - 1, 0)  # the first row of x that is not yet written over
        inner = fused_conv(x[:, :, first : bottom + 1], conv1.weight, conv1.bias, 1, relu=True)
        inner = inner[:, :, top - first : bottom - first]
        add_conv2(first, torch.cat((above, inner[:, :, :2]), 2))
        add_conv2(top + 1, inner)
        above = inner[:, :, -2:].clone()
    add_conv2(height - 1, torch.cat((above, zeros), 2))
    return x
