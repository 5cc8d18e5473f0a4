"""What training minimises: L1 alone (``rec``), or with perceptual and adversarial terms (``full``).

The released code compares VGG features by their mean absolute difference; the paper's text leaves
the distance open. Unlike it, everything here sees RGB, the discriminator judges truths and results
in one batch, and a fourth term may keep a grid out of the results.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor, nn

from masa.config import SCALE
from masa.training.discriminator import Discriminator

Parts = dict[str, Tensor]
"""Parts of a loss by name, detached scalars, for the log."""


class Objective(Protocol):
    """A loss of results, with the networks that it trains itself, if any."""

    told: dict[str, Any]
    """What the log and the card tell of it beside the stage, plain values by name."""

    def prepare(self, accelerator: Accelerator) -> None:
        """Move to where training happens."""

    def __call__(self, result: Tensor, truth: Tensor) -> tuple[Tensor, Parts]:
        """The scalar to minimise and its parts, for ``(N, 3, H, W)`` each."""

    def state_dict(self) -> dict[str, Any]:
        """All that has been trained, for a checkpoint."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Inverse of :meth:`state_dict`."""


class L1Objective:
    """Mean absolute difference: the ``rec`` stage."""

    def __init__(self) -> None:
        self.told: dict[str, Any] = {}

    def prepare(self, accelerator: Accelerator) -> None:
        """Nothing to move."""

    def __call__(self, result: Tensor, truth: Tensor) -> tuple[Tensor, Parts]:
        """The L1 loss; it has no parts."""
        return F.l1_loss(result, truth), {}

    def state_dict(self) -> dict[str, Any]:
        """Nothing is trained."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing is trained."""


class FullObjective:
    """L1, the L1 distance of VGG features, and a relativistic average GAN: the ``full`` stage.

    A fourth term, :func:`grid_loss`, is not the paper's. Each call first trains the discriminator
    by a step, then judges the result with it.
    """

    def __init__(
        self,
        vgg: nn.Module,
        discriminator: Discriminator,
        perceptual: float = 1.0,
        adversarial: float = 5e-3,
        learning_rate: float = 1e-4,
        features: str = "",
        grid: float = 0.0,
    ) -> None:
        """``perceptual``, ``adversarial`` and ``grid`` weigh their terms against L1's 1; the
        ``learning_rate`` is the discriminator's. ``features`` is what ``vgg``'s are called."""
        self.told = {
            "perceptual_features": features,
            "perceptual_weight": perceptual,
            "adversarial_weight": adversarial,
            "grid_weight": grid,
        }
        self.perceptual, self.adversarial, self.grid = perceptual, adversarial, grid
        self._vgg = vgg
        self._discriminator = discriminator
        self._learning_rate = learning_rate
        self._optimizer: Any = torch.optim.Adam(
            discriminator.parameters(), lr=learning_rate, betas=(0.0, 0.9)
        )

    def prepare(self, accelerator: Accelerator) -> None:
        """Move the networks to the device, the discriminator's copies kept equal."""
        self._accelerator = accelerator
        self._vgg.to(accelerator.device)
        self._wrapped, self._optimizer = accelerator.prepare(self._discriminator, self._optimizer)

    def __call__(self, result: Tensor, truth: Tensor) -> tuple[Tensor, Parts]:
        """The weighted sum; its parts are ``l1``, ``perceptual``, ``adversarial``, ``grid`` and
        ``discriminator``, the last being what the discriminator minimised."""
        discriminator_loss = self._train_discriminator(result.detach(), truth)
        l1 = F.l1_loss(result, truth)
        with self._accelerator.autocast():
            features = self._vgg(result)
            with torch.no_grad():
                wanted = self._vgg(truth)
        perceptual = F.l1_loss(features.float(), wanted.float())
        adversarial = self._adversarial_loss(result, truth)
        grid = grid_loss(result, truth)
        total = l1 + self.perceptual * perceptual + self.adversarial * adversarial
        total = total + self.grid * grid
        parts = {"l1": l1, "perceptual": perceptual, "adversarial": adversarial, "grid": grid}
        detached = {name: value.detach() for name, value in parts.items()}
        return total, {**detached, "discriminator": discriminator_loss}

    def _train_discriminator(self, result: Tensor, truth: Tensor) -> Tensor:
        self._optimizer.zero_grad(set_to_none=True)
        loss = relativistic_loss(*_judged(self._wrapped, result, truth))
        self._accelerator.backward(loss)
        self._optimizer.step()
        return loss.detach()

    def _adversarial_loss(self, result: Tensor, truth: Tensor) -> Tensor:
        """The discriminator's loss with roles exchanged, for the generator alone to minimise."""
        # Not through the wrapper, which would wait for gradients that are not wanted here.
        self._discriminator.requires_grad_(False)
        with self._accelerator.autocast():
            real, fake = _judged(self._discriminator, result, truth)
        self._discriminator.requires_grad_(True)
        return relativistic_loss(fake, real.detach())

    def state_dict(self) -> dict[str, Any]:
        """The discriminator and its optimiser."""
        return {
            "discriminator": self._discriminator.state_dict(),
            "optimizer": self._optimizer.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Inverse of :meth:`state_dict`."""
        self._discriminator.load_state_dict(state["discriminator"])
        self._optimizer.load_state_dict(state["optimizer"])
        for group in self._optimizer.param_groups:
            group["lr"] = self._learning_rate  # as this session was told, not as the one before


def _judged(critic: nn.Module, result: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """Logits ``(N, 1)`` of truths and of results, judged in one batch.

    What all results have in common and no truth has, as a grid or a tint, moves the mean of each
    feature. In a batch of results alone, batch normalisation takes this mean away, and the
    discriminator cannot see it.
    """
    real, fake = critic(torch.cat((truth, result))).float().chunk(2)
    return real, fake


def grid_loss(result: Tensor, truth: Tensor) -> Tensor:
    """How strong a grid lies over results, but not over truths, ``(N, 3, H, W)`` each; a scalar.

    The mean of the error over all tiles of ``SCALE`` x ``SCALE`` pixels of a picture is the part of
    it that repeats, as in :func:`masa.pictures.metrics.grid_strength`. This is that tile's mean
    absolute deviation from its mean, over pictures and channels. Sides are multiples of ``SCALE``.
    """
    tile = F.pixel_unshuffle(result - truth, SCALE).mean((2, 3)).unflatten(1, (-1, SCALE**2))
    return (tile - tile.mean(2, keepdim=True)).abs().mean()


def relativistic_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Of logits ``(N, 1)``: real ones shall exceed the average fake one, fakes fall short of it."""
    to_real = real - fake.mean()
    to_fake = fake - real.mean()
    return (F.softplus(-to_real).mean() + F.softplus(to_fake).mean()) / 2
