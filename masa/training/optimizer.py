"""Muon: momentum whose updates of each kernel are orthogonalised.

Adam scales each weight by itself. A convolution's kernel is a matrix, and its gradients lie in few
directions of it; Muon (Jordan et al., 2024) replaces the update by the nearest orthogonal matrix,
so that rare directions are learned as fast as common ones.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim.adam import adam

MOMENTUM = 0.95
BETAS = (0.9, 0.999)
_RMS = 0.2  # of Adam's typical steps: with it, one learning rate serves both (Liu et al., 2025)
_NARROW = 16  # kernels with fewer inputs or outputs are left to Adam
_ROUNDS = 5
# Steep at 0, so that after these rounds all singular values are near 1.
_QUINTIC = (3.4445, -4.7750, 2.0315)


class Muon(torch.optim.Optimizer):
    """Muon for kernels ``(out, in, h, w)`` of some width, Adam for all other parameters."""

    def __init__(self, parameters: Iterable[Tensor], lr: float) -> None:
        kernels: list[Tensor] = []
        others: list[Tensor] = []
        for parameter in parameters:
            wide = parameter.ndim == 4 and min(parameter.shape[:2]) >= _NARROW
            (kernels if wide else others).append(parameter)
        # "turned" (by Muon) is the groups' name for it in checkpoints.
        groups: list[dict[str, Any]] = [
            {"params": kernels, "turned": True},
            {"params": others, "turned": False},
        ]
        super().__init__([group for group in groups if group["params"]], {"lr": lr})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One update by the parameters' gradients."""
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            (self._muon if group["turned"] else self._adam)(parameters, group["lr"])

    def _muon(self, kernels: list[Tensor], lr: float) -> None:
        # Kernels of one shape are orthogonalised together.
        alike: dict[torch.Size, list[tuple[Tensor, Tensor]]] = defaultdict(list)
        for kernel in kernels:
            assert kernel.grad is not None
            state = self.state[kernel]
            if not state:
                state["momentum"] = torch.zeros_like(kernel)
            momentum = state["momentum"].lerp_(kernel.grad, 1 - MOMENTUM)
            ahead = torch.lerp(kernel.grad, momentum, MOMENTUM)  # Nesterov's
            alike[kernel.shape].append((kernel, ahead.flatten(1)))
        for shape, pairs in alike.items():
            updates = orthogonal(torch.stack([matrix for _, matrix in pairs]))
            size = lr * _RMS * math.sqrt(max(updates.shape[1:]))
            for (kernel, _), update in zip(pairs, updates, strict=True):
                kernel.sub_(update.view(shape), alpha=size)

    def _adam(self, parameters: list[Tensor], lr: float) -> None:
        for parameter in parameters:
            if not self.state[parameter]:
                self.state[parameter] = {
                    "step": torch.zeros(()),
                    "exp_avg": torch.zeros_like(parameter),
                    "exp_avg_sq": torch.zeros_like(parameter),
                }
        states = [self.state[parameter] for parameter in parameters]
        adam(
            parameters,
            [p.grad for p in parameters if p.grad is not None],
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [],
            [state["step"] for state in states],
            amsgrad=False,
            beta1=BETAS[0],
            beta2=BETAS[1],
            lr=lr,
            weight_decay=0.0,
            eps=1e-8,
            maximize=False,
        )


def orthogonal(matrices: Tensor) -> Tensor:
    """The matrices ``(N, rows, columns)`` with all singular values brought near 1 (0.7 to 1.2).

    By Newton-Schulz iteration, which takes nothing but products of matrices.
    """
    if matrices.shape[1] > matrices.shape[2]:
        return orthogonal(matrices.mT).mT
    x = matrices / matrices.norm(dim=(1, 2), keepdim=True).clamp_min(1e-12)
    a, b, c = _QUINTIC
    for _ in range(_ROUNDS):
        square = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(square, square, square, beta=b, alpha=c), x, beta=a)
    return x
