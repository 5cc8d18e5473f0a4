"""``masa train``: train a network, in as many sessions as it takes."""

from __future__ import annotations

import argparse
from dataclasses import MISSING, fields
from typing import Any, get_args

from masa.config import Adaptation
from masa.errors import UserError
from masa.machine.device import Device
from masa.pictures.degradation import Degrade
from masa.training.data import Augmentation, Orient
from masa.training.settings import OptimizerName, Settings, Stage
from masa.training.trainer import train

EPILOG = """examples:
  with a GPU:      python -m masa train --data CUFED/train --val CUFED5 --out runs/rec --hours 24
  several GPUs:    accelerate launch -m masa train --data CUFED/train --out runs/rec --hours 24
  with a laptop:   python -m masa train --data pairs --val scenes --init masa-rec --out runs/mine \\
                       --lr 1e-4 --hours 8
  sharper:         python -m masa train --data CUFED/train --init runs/rec/best.safetensors \\
                       --stage full --lr 1e-4 --out runs/full --hours 6

Ctrl-C saves and stops; the same command goes on from there.
Progress: tensorboard --logdir runs
"""

_PRECISIONS = ("auto", "fp32", "bf16")
_CONFIG_FLAGS = ("channels", "adaptation", "dram_ref", "dram_lr")
_Group = argparse._ArgumentGroup  # the type has no public name
_DEFAULTS = {
    f.name: f.default
    for kind in (Settings, Augmentation)
    for f in fields(kind)
    if f.default is not MISSING
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options; their defaults are those of ``Settings`` and ``Augmentation``."""
    _run_options(parser.add_argument_group("the run"))
    _network_options(parser.add_argument_group("the network"))
    _optimisation_options(parser.add_argument_group("optimisation"))
    _augmentation_options(parser.add_argument_group("augmentation"))
    _machine_options(parser.add_argument_group("machine"))


def _option(group: _Group, name: str, text: str, **keywords: Any) -> None:
    """An option with a value; ``dest`` is its setting's name where that is another one."""
    setting = keywords.get("dest", name.replace("-", "_"))
    value = keywords.pop("default", _DEFAULTS.get(setting))
    shown = "" if value is None else f" (default: {value})"
    group.add_argument(f"--{name}", default=value, help=text + shown, **keywords)


def _switch(group: _Group, name: str, text: str) -> None:
    """An option that is on or off, ``--name`` and ``--no-name``."""
    value = _DEFAULTS.get(name.replace("-", "_"))
    group.add_argument(
        f"--{name}",
        action=argparse.BooleanOptionalAction,
        default=value,
        help=text if value is None else f"{text} (default: {'yes' if value else 'no'})",
    )


def _run_options(group: _Group) -> None:
    _option(group, "data", "folder with input/NAME.jpg and ref/NAME.jpg", required=True)
    _option(group, "out", "folder of the run, as runs/NAME", required=True)
    _option(group, "val", "folder to validate on: NNN_0 with reference NNN_1, or input/ and ref/")
    _option(group, "init", "weights to start from: a shipped name or a file")
    _option(
        group, "stage", "rec: L1; full: L1, perceptual and adversarial", choices=get_args(Stage)
    )
    _option(group, "steps", "length of the run in steps; this or --hours is needed", type=int)
    _option(group, "hours", "length of the run in hours of all sessions together", type=float)
    group.add_argument(
        "--resume",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="continue from OUT/last.pt if it exists (default: yes)",
    )


def _network_options(group: _Group) -> None:
    _option(group, "channels", "width (default: as the initial weights, or 64)", type=int)
    _option(
        group,
        "adaptation",
        "how the reference is fitted to the LR (default: as the initial weights, or sam)",
        choices=get_args(Adaptation),
    )
    _switch(group, "dram-ref", "DRAM refines the reference's features")
    _switch(group, "dram-lr", "DRAM refines the LR's features")


def _optimisation_options(group: _Group) -> None:
    _option(group, "crop", "side of training crops in pixels, a multiple of 32", type=int)
    _option(group, "batch", "samples per step and process", type=int)
    _option(
        group,
        "optimizer",
        "adam, as in the paper, or muon",
        choices=get_args(OptimizerName),
    )
    _option(group, "lr", "highest learning rate", dest="learning_rate", type=float)
    _option(group, "lr-final", "learning rate at the end", dest="learning_rate_final", type=float)
    _option(group, "warmup", "steps until the highest learning rate", type=int)
    _option(
        group,
        "ema",
        "decay of the averaged weights; lower in the first 9 / (1 - EMA) steps",
        type=float,
    )
    _option(group, "clip", "largest norm of the gradient", type=float)
    _option(group, "seed", "of all random choices", type=int)
    _option(
        group,
        "vgg",
        "file with VGG19's or VGG16's weights, for --stage full (default: VGG19, downloaded once)",
    )
    _option(group, "perceptual-weight", "for --stage full", type=float)
    _option(group, "adversarial-weight", "for --stage full", type=float)
    _option(
        group,
        "grid-weight",
        "for --stage full: of a term against a grid in the results, which the paper does not have",
        type=float,
    )
    _option(
        group,
        "lr-discriminator",
        "for --stage full",
        dest="learning_rate_discriminator",
        type=float,
    )


def _augmentation_options(group: _Group) -> None:
    _switch(group, "swap", "picture and reference change roles in half of the samples")
    _switch(group, "luminance", "other gain and offset on reference or picture")
    _option(group, "orient", "flips and quarter turns of the two", choices=get_args(Orient))
    _option(group, "ref-jitter", "pixels by which the reference's crop is moved", type=int)
    _option(group, "hard", "share of crops chosen for their texture", type=float)
    _option(group, "align", "share of references aligned with the picture first", type=float)
    _option(
        group,
        "degrade",
        "photo: LRs with blur, noise and JPEG, as people upload them",
        choices=get_args(Degrade),
    )


def _machine_options(group: _Group) -> None:
    _option(group, "device", "where to compute", choices=get_args(Device))
    _option(group, "precision", "auto takes bf16 where it is faster", choices=_PRECISIONS)
    _option(
        group, "workers", "processes that prepare samples (default: 0 on CPUs, else 4)", type=int
    )
    _switch(group, "cache", "keep decoded pictures in memory")
    _option(group, "save-every", "minutes between checkpoints", dest="save_minutes", type=float)
    _option(
        group,
        "val-every",
        "between validations: minutes, as 20m, or steps, as 500; 0m for the first and last alone",
        default="20m",
    )
    _option(group, "log-every", "steps that a line of the log sums up", dest="log_steps", type=int)


def run(args: argparse.Namespace) -> int:
    """Train; 0 if the run is complete, 1 if it was interrupted and can be resumed."""
    return 0 if train(settings_from(args), args.resume).finished else 1


def settings_from(args: argparse.Namespace) -> Settings:
    """The run that the options describe."""
    values = vars(args)
    minutes, steps = parse_interval(args.val_every)
    config = {name: values[name] for name in _CONFIG_FLAGS if values[name] is not None}
    augmentation = Augmentation(**{f.name: values[f.name] for f in fields(Augmentation)})
    special: dict[str, Any] = {
        "config": config,
        "augmentation": augmentation,
        "val_minutes": minutes,
        "val_steps": steps,
    }
    plain = {f.name: values[f.name] for f in fields(Settings) if f.name not in special}
    return Settings(**plain, **special)


def parse_interval(text: str) -> tuple[float, int | None]:
    """``20m`` to (20.0 minutes, None), ``500`` to (0.0, 500 steps)."""
    try:
        if text.endswith("m"):
            return float(text[:-1]), None
        return 0.0, int(text)
    except ValueError:
        raise UserError(
            f"--val-every is '{text}': give minutes, as 20m, or steps, as 500."
        ) from None
