"""What a run works with, made from its settings: network, optimiser, loss, data, scenes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs

from masa.config import MASAConfig
from masa.errors import UserError
from masa.machine.device import resolve_device, resolve_precision
from masa.machine.memory import keep_freed_memory
from masa.measuring.scenes import Scene, find_scenes
from masa.network.model import MASA
from masa.training.console import say
from masa.training.data import PairDataset
from masa.training.discriminator import Discriminator
from masa.training.losses import FullObjective, L1Objective, Objective
from masa.training.optimizer import BETAS, Muon
from masa.training.settings import Settings
from masa.training.vgg import load_vgg
from masa.weights import load_model


@dataclass
class Ingredients:
    """What a run works with; its state is not yet restored from a checkpoint."""

    model: MASA
    optimizer: torch.optim.Optimizer
    scenes: list[Scene]
    """What to validate on; empty for no validation."""
    dataset: PairDataset
    objective: Objective
    accelerator: Accelerator
    precision: Literal["fp32", "bf16"]


def build(settings: Settings, saved: dict[str, Any] | None = None) -> Ingredients:
    """Make what the settings ask for, with the network of the checkpoint ``saved`` if given.

    Raises ``UserError`` for settings that cannot be met, or that contradict the checkpoint.
    """
    device = resolve_device(settings.device)
    if device.type == "cpu":
        keep_freed_memory()
    elif device.type == "cuda":
        torch.backends.cudnn.benchmark = True  # all batches have the same size
    half = resolve_precision(settings.precision, device) == torch.bfloat16
    precision: Literal["fp32", "bf16"] = "bf16" if half else "fp32"
    torch.manual_seed(settings.seed)
    model = make_model(settings, saved)
    optimizer = make_optimizer(settings, model, device)
    # What takes longest comes last: pictures are decoded, and VGG's weights downloaded.
    scenes = validation_scenes(settings.val) if settings.val else []
    dataset = PairDataset(
        settings.data, settings.crop, settings.augmentation, settings.seed, settings.cache
    )
    objective = make_objective(settings)
    ddp = DistributedDataParallelKwargs(gradient_as_bucket_view=True)
    accelerator = Accelerator(
        cpu=device.type == "cpu",
        mixed_precision="bf16" if half else "no",
        kwargs_handlers=[ddp],
    )
    return Ingredients(model, optimizer, scenes, dataset, objective, accelerator, precision)


def make_model(settings: Settings, saved: dict[str, Any] | None = None) -> MASA:
    """The network to train: a checkpoint's configuration, initial weights, or a fresh one.

    Where the settings' configuration differs from that of the initial weights, the tensors of
    equal name and shape are taken and the rest is fresh. Raises ``UserError`` if the settings
    contradict the checkpoint.
    """
    if saved:
        return MASA(_saved_config(settings, saved))
    if not settings.init:
        return _fresh_model(_configured(MASAConfig(), settings))
    initial = load_model(settings.init)
    model = MASA(_configured(initial.config, settings))
    fresh = _take_what_fits(model, initial)
    if fresh:
        count = len(model.state_dict())
        say(f"{fresh} of {count} tensors do not fit '{settings.init}': they start untrained")
    return model


def _fresh_model(config: MASAConfig) -> MASA:
    """An untrained network. With one seed, all begin alike in the tensors that they share.

    Otherwise a layer more or less would change the random numbers of all layers after it, and
    networks that are compared would differ by more than that layer.
    """
    usual = MASAConfig()
    whole = MASA(
        replace(
            config,
            adaptation=usual.adaptation,
            dram_ref=usual.dram_ref,
            dram_lr=usual.dram_lr,
        )
    )
    if config == whole.config:
        return whole
    model = MASA(config)
    _take_what_fits(model, whole)
    return model


def _take_what_fits(model: MASA, other: MASA) -> int:
    """Copy tensors of equal name and shape; returns how many of ``model`` have none."""
    own = model.state_dict()
    fitting = {
        key: value
        for key, value in other.state_dict().items()
        if key in own and own[key].shape == value.shape
    }
    model.load_state_dict(fitting, strict=model.config == other.config)
    return len(own) - len(fitting)


def _saved_config(settings: Settings, saved: dict[str, Any]) -> MASAConfig:
    """The checkpoint's network. Raises ``UserError`` if the settings ask for another run."""
    first = saved["settings"].get("init")
    if settings.init and settings.init != first:
        raise UserError(
            f"The run in '{settings.out}' started from {first or 'nothing'}: leave out --init "
            "to go on with it, or choose another --out."
        )
    config = MASAConfig.from_dict(saved["config"])
    wrong = [k for k, v in settings.config.items() if getattr(config, k) != v]
    # Checkpoints from before there was a choice are Adam's.
    known = {"optimizer": "adam", **saved["settings"]}
    lasting = ["stage", "optimizer"]
    if known["stage"] == "full":
        lasting.append("crop")  # the discriminator's size follows from it
    wrong += [k for k in lasting if known[k] != getattr(settings, k)]
    if wrong:
        raise UserError(
            f"The run in '{settings.out}' was started with another {', '.join(wrong)}: choose "
            "another --out."
        )
    return config


def _configured(config: MASAConfig, settings: Settings) -> MASAConfig:
    try:
        return replace(config, **settings.config)
    except ValueError as error:
        raise UserError(f"This network cannot be built: {error}.") from None


def make_optimizer(settings: Settings, model: MASA, device: torch.device) -> torch.optim.Optimizer:
    """The optimiser of the network's weights, which will be on ``device``."""
    if settings.optimizer == "muon":
        return Muon(model.parameters(), settings.learning_rate)
    fused = device.type in ("cpu", "cuda")
    return torch.optim.Adam(model.parameters(), settings.learning_rate, betas=BETAS, fused=fused)


def make_objective(settings: Settings) -> Objective:
    """The loss of the stage. Raises ``UserError`` where VGG's weights are missing."""
    if settings.stage == "rec":
        return L1Objective()
    vgg = load_vgg(settings.vgg)
    return FullObjective(
        vgg,
        Discriminator(settings.crop),
        settings.perceptual_weight,
        settings.adversarial_weight,
        settings.learning_rate_discriminator,
        vgg.name,
        settings.grid_weight,
    )


def validation_scenes(folder: str) -> list[Scene]:
    """Scenes with their first references. Raises ``UserError`` if they do not suffice."""
    found = find_scenes(folder, refs=1)
    scenes = [replace(scene, refs=scene.refs[:1]) for scene in found]  # other layouts give all
    if len(scenes) < 2 or not all(scene.refs for scene in scenes):
        raise UserError(
            f"'{folder}' cannot be validated on: it needs two or more pictures with references, "
            "as NNN_0 with NNN_1, or input/NAME with ref/NAME."
        )
    return scenes
