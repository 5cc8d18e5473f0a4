"""What determines a run, and the learning rate that follows from it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from masa.errors import UserError
from masa.training.data import Augmentation

Stage = Literal["rec", "full"]
OptimizerName = Literal["adam", "muon"]

_FLAGS = {
    "learning_rate": "lr",
    "learning_rate_final": "lr-final",
    "learning_rate_discriminator": "lr-discriminator",
    "val_minutes": "val-every",
    "val_steps": "val-every",
    "save_minutes": "save-every",
    "log_steps": "log-every",
}
"""Options whose name is not that of the setting."""

_FILE_NAMES = {
    "learning_rate": "lr",
    "learning_rate_final": "lr_final",
    "learning_rate_discriminator": "lr_discriminator",
}
"""Settings that have another name in checkpoints and logs. In the code ``lr`` is a photo."""

_SEEDS = 2**64  # how many PyTorch's generators take


@dataclass(frozen=True)
class Settings:
    """All that determines a run. Times are wall-clock times of all sessions together."""

    data: str
    """Folder with ``input`` and ``ref``."""
    out: str
    """Folder of the run: checkpoint, log, best weights."""
    val: str | None = None
    """Test set to validate on, as CUFED5 or a folder of pairs; first references are used."""
    init: str | None = None
    """Weights to start from: a shipped name or a file."""
    stage: Stage = "rec"
    """``rec``: L1 alone; ``full``: also perceptual and adversarial losses."""
    config: dict[str, Any] = field(default_factory=dict)
    """Fields of ``MASAConfig`` that differ from those of ``init``, or from the defaults."""
    augmentation: Augmentation = field(default_factory=Augmentation)
    crop: int = 160
    """Pixels, a multiple of 32."""
    batch: int = 6
    """Samples per step and process."""
    optimizer: OptimizerName = "adam"
    """``adam`` as in the paper, or ``muon``; learning rates mean about the same to both."""
    learning_rate: float = 2e-4
    """Highest learning rate."""
    learning_rate_final: float = 1e-6
    """Learning rate at the end of the cosine."""
    warmup: int = 100
    """Steps in which the learning rate rises to its highest."""
    steps: int | None = None
    """Length of the run; with ``hours`` too, what is reached first ends it."""
    hours: float | None = None
    ema: float = 0.999
    """Decay of the weights' moving average, which is what is validated and kept. It is reached
    after 9 / (1 - ema) steps; before, the average covers about the last ninth of all steps."""
    clip: float = 0.5
    """Largest norm of the gradient."""
    device: str = "auto"
    precision: str = "auto"
    seed: int = 0
    val_minutes: float = 20.0
    """Between validations; 0 for none but the first and last."""
    val_steps: int | None = None
    """Instead of ``val_minutes``."""
    save_minutes: float = 5.0
    """Between checkpoints."""
    log_steps: int = 10
    """Steps that a line of the log sums up."""
    workers: int | None = None
    """Processes that prepare samples; by default none on the CPU, else four."""
    cache: bool = True
    """Keep all decoded pictures in memory."""
    vgg: str | None = None
    """File with VGG19's or VGG16's weights for the perceptual loss; if not given, VGG19's are
    downloaded once."""
    perceptual_weight: float = 1.0
    adversarial_weight: float = 5e-3
    grid_weight: float = 0.0
    """Of a term against a grid in the results, which the paper does not have."""
    learning_rate_discriminator: float = 1e-4

    def __post_init__(self) -> None:
        if self.stage not in get_args(Stage):
            raise UserError(f"There is no stage '{self.stage}': use rec or full.")
        if self.optimizer not in get_args(OptimizerName):
            raise UserError(f"There is no optimizer '{self.optimizer}': use adam or muon.")
        if self.steps is None and self.hours is None:
            raise UserError("The length of the training is missing: give --steps or --hours.")
        if self.precision == "fp16":
            raise UserError("Training in fp16 would need loss scaling: use bf16 or fp32.")
        positive = (
            "batch",
            "learning_rate",
            "learning_rate_discriminator",
            "clip",
            "steps",
            "hours",
            "save_minutes",
            "val_steps",
            "log_steps",
        )
        at_least_0 = (
            "learning_rate_final",
            "warmup",
            "val_minutes",
            "workers",
            "seed",
            "perceptual_weight",
            "adversarial_weight",
            "grid_weight",
        )
        for name in positive + at_least_0:
            value = getattr(self, name)
            if value is None:
                continue
            if not math.isfinite(value) or value < 0 or (value == 0 and name in positive):
                least = "more than 0" if name in positive else "0 or more"
                flag = _FLAGS.get(name, name.replace("_", "-"))
                raise UserError(f"--{flag} is {value}: give {least}.")
        if self.seed >= _SEEDS:
            raise UserError(f"--seed is {self.seed}: give less than 2 to the power of 64.")
        if not 0 <= self.ema < 1:
            raise UserError(f"--ema is {self.ema}: give a decay from 0 up to, not including, 1.")

    def to_dict(self) -> dict[str, Any]:
        """Plain values, by the names that they have in checkpoints and logs."""
        return {_FILE_NAMES.get(name, name): value for name, value in asdict(self).items()}


def scheduled_learning_rate(settings: Settings, step: int, progress: float) -> float:
    """For step ``step`` (from 0) at ``progress`` (0 to 1) of the run: a ramp, then a cosine."""
    lowest = settings.learning_rate_final
    ramp = min(1.0, (step + 1) / settings.warmup) if settings.warmup else 1.0
    cosine = (1 + math.cos(math.pi * min(progress, 1.0))) / 2
    return ramp * (lowest + (settings.learning_rate - lowest) * cosine)


_RECORDED = (
    "crop",
    "batch",
    "optimizer",
    "lr",
    "lr_final",
    "stage",
    "seed",
    "config",
    "augmentation",
)


def recorded_settings(settings: Mapping[str, Any], processes: int = 1) -> dict[str, Any]:
    """Those of a session's settings that the log and the card state, by their names in files.

    ``batch`` becomes the samples per step of all processes together.
    """
    found = {key: settings[key] for key in _RECORDED if key in settings}
    return {**found, "batch": processes * found["batch"]}


def validated_on(settings: Mapping[str, Any]) -> tuple[str | None, str]:
    """The scenes of a session and how their LRs are made, by its settings' names in files.

    Only scores on the same can be compared.
    """
    folder = settings.get("val")
    degrade = settings["augmentation"].get("degrade", "off")
    return folder and str(Path(folder).resolve()), degrade
