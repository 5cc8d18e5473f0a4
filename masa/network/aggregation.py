"""Dual residual aggregation: LR and Ref features refine each other (section 3.4)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from masa.network.layers import conv3x3, conv_cat_relu, conv_relu, deconv_relu
from masa.network.tiling import write_over


class Aggregated(NamedTuple):
    """DRAM's output; its two branches and their residuals, ``None`` unless kept."""

    out: Tensor
    """``(N, C, 2H, 2W)``."""
    ref_branch: Tensor | None
    """``(N, C, 2H, 2W)``: Ref features plus the detail that the LR lacks (equations 10 and 11)."""
    lr_branch: Tensor | None
    """``(N, C, 2H, 2W)``: LR features, upsampled with the detail that the Ref lacks (12 and 13)."""
    ref_residual: Tensor | None
    """``(N, C, H, W)``: what the Ref features have beyond the LR's; 0 if switched off."""
    lr_residual: Tensor | None
    """``(N, C, H, W)``: what the LR features have beyond the Ref's; 0 if switched off."""


class Branches(NamedTuple):
    """Which features DRAM refines; the paper's Models 1 to 4 (table 4) are the combinations."""

    ref: bool = True
    lr: bool = True


BOTH = Branches()


def _deconv(channels: int) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(channels, channels, 3, 2, 1, output_padding=1)


class DualResidualAggregation(nn.Module):
    """DRAM: merges LR features with Ref features of twice their size.

    A branch that is switched off passes its features on without their residual. With both off, the
    LR's features are only enlarged and concatenated with the Ref's (the paper's Model 1).
    """

    HALO = 4
    """Output pixels around a tile that its output depends on."""

    def __init__(self, channels: int, branches: Branches = BOTH) -> None:
        """``branches`` are those it has convolutions for: the others can never be switched on."""
        super().__init__()
        self.branches = branches
        if branches.ref:
            self.conv_down_a = conv3x3(channels, channels, stride=2)
            self.conv_up_a = _deconv(channels)
        if branches.lr:
            self.conv_down_b = conv3x3(channels, channels, stride=2)
        self.conv_up_b = _deconv(channels)
        self.conv_cat = conv3x3(2 * channels, channels)

    def forward(self, lr: Tensor, ref: Tensor, branches: Branches, keep: bool = True) -> Aggregated:
        """``lr`` ``(N, C, H, W)`` and ``ref`` ``(N, C, 2H, 2W)`` to ``(N, C, 2H, 2W)``.

        ``branches`` may switch off some of those it has. Unless ``keep`` is set, and without
        gradients, the output is written over ``ref``.
        """
        over = not keep and not torch.is_grad_enabled()
        ref_residual = lr_residual = torch.zeros((), dtype=lr.dtype, device=lr.device).expand_as(lr)
        ref_branch, lr_branch = ref, lr
        if branches.lr and self.branches.lr:
            lr_residual = lr - conv_relu(self.conv_down_b, ref)
            lr_branch = lr + lr_residual
        if branches.ref and self.branches.ref:
            ref_residual = conv_relu(self.conv_down_a, ref) - lr
            detail = deconv_relu(self.conv_up_a, ref_residual)
            ref_branch = ref.add_(detail) if over else ref + detail
            del detail  # large
        lr_branch = deconv_relu(self.conv_up_b, lr_branch)

        def merge(rows: slice) -> Tensor:
            return conv_cat_relu(self.conv_cat, ref_branch[:, :, rows], lr_branch[:, :, rows])

        if over:
            return Aggregated(write_over(ref_branch, merge, 1), None, None, None, None)
        return Aggregated(merge(slice(None)), ref_branch, lr_branch, ref_residual, lr_residual)
