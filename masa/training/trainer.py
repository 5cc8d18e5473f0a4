"""Training, in sessions that can be interrupted at any time.

One loop serves one process and several (``accelerate launch -m masa train ...``). All that a
session needs to go on exactly where the last one stopped is in ``last.pt``.
"""

from __future__ import annotations

import contextlib
import copy
import io
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import FrameType
from typing import Any, Literal, get_args

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.utils import gather_object
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm import tqdm

from masa.config import MASAConfig
from masa.errors import UserError
from masa.files import write_whole
from masa.machine.device import resolve_device, resolve_precision
from masa.machine.memory import keep_freed_memory
from masa.measuring.evaluate import (
    Row,
    Scene,
    evaluate,
    find_scenes,
    mean_scores,
    predictor_upscale,
)
from masa.network.model import MASA
from masa.pictures.degradation import CLEAN, PRESETS, Degradation
from masa.predictor import Predictor
from masa.training.data import Augmentation, PairDataset, Sample, SampleStream
from masa.training.discriminator import Discriminator
from masa.training.losses import FullObjective, L1Objective, Objective, Parts
from masa.training.optimizer import BETAS, Muon
from masa.training.runlog import RunLog, say
from masa.training.vgg import load_vgg
from masa.weights import load_model, save_weights

Stage = Literal["rec", "full"]
OptimizerName = Literal["adam", "muon"]

CHECKPOINT = "last.pt"
BEST = "best.safetensors"
FINAL = "final.safetensors"
FORMAT = 1
"""Version of the checkpoint's layout."""

_FLAGS = {
    "val_minutes": "val-every",
    "val_steps": "val-every",
    "save_minutes": "save-every",
    "log_steps": "log-every",
}
"""Options that are called otherwise than the setting that they give."""

_RETRY_SECONDS = 60.0  # after a checkpoint could not be written
_PLAIN_SECONDS = 60.0  # between progress lines where there is no terminal
_IMPATIENT_SECONDS = 3.0  # after a first signal
_STRIPS = 3  # scenes shown in TensorBoard


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
    lr: float = 2e-4
    """Highest learning rate."""
    lr_final: float = 1e-6
    """Learning rate at the end of the cosine."""
    warmup: int = 100
    """Steps in which the learning rate rises to its highest."""
    steps: int | None = None
    """Length of the run; with ``hours`` too, what is reached first ends it."""
    hours: float | None = None
    ema: float = 0.999
    """Decay of the weights' moving average, which is what is validated and kept."""
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
    """File with VGG19's weights for the perceptual loss; downloaded once if not given."""
    perceptual_weight: float = 1.0
    adversarial_weight: float = 5e-3
    lr_discriminator: float = 1e-4

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
            "lr",
            "lr_discriminator",
            "clip",
            "steps",
            "hours",
            "save_minutes",
            "val_steps",
            "log_steps",
        )
        at_least_0 = (
            "lr_final",
            "warmup",
            "val_minutes",
            "workers",
            "seed",
            "perceptual_weight",
            "adversarial_weight",
        )
        for name in positive + at_least_0:
            value = getattr(self, name)
            if value is None:
                continue
            if not math.isfinite(value) or value < 0 or (value == 0 and name in positive):
                least = "more than 0" if name in positive else "0 or more"
                flag = _FLAGS.get(name, name.replace("_", "-"))
                raise UserError(f"--{flag} is {value}: give {least}.")
        if not 0 <= self.ema < 1:
            raise UserError(f"--ema is {self.ema}: give a decay from 0 up to, not including, 1.")


_TOLD = ("crop", "batch", "optimizer", "lr", "lr_final", "stage", "seed", "config", "augmentation")


def told(settings: Mapping[str, Any], processes: int = 1) -> dict[str, Any]:
    """Those of a session's settings that say what was learned from what; samples per step of all
    processes together as ``batch``."""
    found = {key: settings[key] for key in _TOLD if key in settings}
    return {**found, "batch": processes * found["batch"]}


@dataclass(frozen=True)
class Summary:
    """How a session ended."""

    step: int
    """Steps of all sessions."""
    seconds: float
    """Of all sessions."""
    finished: bool
    """Whether the run is complete, rather than interrupted."""
    best: float | None
    """Best validation PSNR, dB."""


def train(settings: Settings, resume: bool = True) -> Summary:
    """Run one session: to the end, or until SIGINT or SIGTERM, after which all is saved.

    With ``resume``, a checkpoint in ``settings.out`` is continued. Raises ``UserError`` if
    something that the person at the keyboard can change is in the way.
    """
    trainer = Trainer(settings, resume)
    with _on_signals(trainer.stop):
        return trainer.run()


def learning_rate(settings: Settings, step: int, progress: float) -> float:
    """For step ``step`` (from 0) at ``progress`` (0 to 1) of the run: a ramp, then a cosine."""
    ramp = min(1.0, (step + 1) / settings.warmup) if settings.warmup else 1.0
    cosine = (1 + math.cos(math.pi * min(progress, 1.0))) / 2
    return ramp * (settings.lr_final + (settings.lr - settings.lr_final) * cosine)


class _StoppedError(Exception):
    """Ends a validation early."""


class Trainer:
    """The state of a run and the loop that advances it."""

    def __init__(self, settings: Settings, resume: bool = True) -> None:
        self.settings = settings
        self.out = Path(settings.out)
        self.device = resolve_device(settings.device)
        if self.device.type == "cpu":
            keep_freed_memory()
        elif self.device.type == "cuda":
            torch.backends.cudnn.benchmark = True  # all batches have the same size
        dtype = resolve_precision(settings.precision, self.device)
        self.precision = "bf16" if dtype == torch.bfloat16 else "fp32"
        saved = load_checkpoint(self.out / CHECKPOINT) if resume else None
        torch.manual_seed(settings.seed)
        self.model = make_model(settings, saved)
        self.ema = copy.deepcopy(self.model).requires_grad_(False).eval()
        self.optimizer = make_optimizer(settings, self.model, self.device)
        # What takes longest comes last: pictures are decoded, and VGG19's weights fetched.
        self.scenes = validation_scenes(settings.val) if settings.val else []
        self.dataset = PairDataset(
            settings.data, settings.crop, settings.augmentation, settings.seed, settings.cache
        )
        self.objective = make_objective(settings)

        config = self.model.config
        ddp = DistributedDataParallelKwargs(
            gradient_as_bucket_view=True,
            # A branch of DRAM that is switched off leaves its convolutions without gradients.
            find_unused_parameters=not (config.dram_ref and config.dram_lr),
        )
        self.accelerator = Accelerator(
            cpu=self.device.type == "cpu",
            mixed_precision="bf16" if self.precision == "bf16" else "no",
            kwargs_handlers=[ddp],
        )
        self.device = self.accelerator.device
        self.is_main = self.accelerator.is_main_process
        self.ema.to(self.device)
        self.objective.prepare(self.accelerator)
        self.wrapped, self.optimizer = self.accelerator.prepare(self.model, self.optimizer)
        self._averaged: list[Tensor] = list(self.ema.parameters())
        self._trained: list[Tensor] = list(self.model.parameters())

        self.step = 0
        self.samples = 0
        self.best: float | None = None
        self._validated = 0.0  # when, in the run's time
        self._seconds_before = 0.0
        self._before: dict[str, Any] | None = None  # what a resumed run was trained with
        self._init = settings.init  # what its first session started from, said again or not
        if saved:
            self._restore(saved)
        self._check_start()
        self._started = time.perf_counter()
        self._seconds = self._seconds_before
        self._asked_to_stop = False  # by a signal, in this process, at any time
        self._stopping = False  # agreed upon by all processes

    # ------------------------------------------------------------------------ the loop

    def stop(self) -> None:
        """Ask the loop to save and end after the current step."""
        self._asked_to_stop = True

    @property
    def progress(self) -> float:
        """Share of the run that is done, by steps or by time, whichever is further."""
        shares = [0.0]
        if self.settings.steps:
            shares.append(self.step / self.settings.steps)
        if self.settings.hours:
            shares.append(self._seconds / (3600 * self.settings.hours))
        return min(1.0, max(shares))

    def run(self) -> Summary:
        """Advance the run to its end or until :meth:`stop`."""
        settings = self.settings
        self._tell_start()
        log = RunLog(self.out, None if self._before is None else self.step, self.is_main)
        if self._before and not log.tells_settings:  # an older log, or one that a full disk cut
            log.settings(0, 0.0, self._before)
        processes = self.accelerator.num_processes
        log.settings(self.step, self._seconds, told(asdict(settings), processes))
        validation = Timer(settings.val_minutes * 60, self._validated, settings.val_steps)
        saving = Timer(settings.save_minutes * 60, self._seconds)
        window: list[Parts] = []
        display: Display | None = None
        try:
            if self.scenes and self.step == 0:
                self._validate(log)
            display = Display(self.progress, self.is_main)
            batches = self.batches()
            while self.progress < 1 and not self._stopping:
                window.append(self._advance(next(batches)))
                self._agree()
                save = saving.due(self.step, self._seconds)
                ending = self.progress >= 1 or self._stopping
                validate = bool(self.scenes) and validation.due(self.step, self._seconds)
                if self.step % settings.log_steps == 0 or save or validate or ending:
                    display.loss = self._log(log, window)
                    window = []
                display.show(self.step, self.progress)
                if validate and self.progress < 1:
                    self._validate(log)
                if save and not self._save():
                    saving.postpone(self._seconds + _RETRY_SECONDS)
            done = self.progress >= 1 and not self._stopping
            if self.scenes and done and self._validated < self._seconds:
                self._validate(log)
            finished = self.progress >= 1 and not self._stopping
            self._save(last_chance=True)
        finally:
            if display:
                display.close()
            log.close()
        self._tell_end(finished)
        self._disconnect()
        return Summary(self.step, self._seconds, finished, self.best)

    def _disconnect(self) -> None:
        """Part from the other processes; nothing can be trained after this."""
        # Were a wrapper the connection's last owner, it would close it holding Python's lock,
        # and wait for a thread that needs the lock.
        self.wrapped, self.objective = self.model, L1Objective()
        self.accelerator.free_memory()
        self.accelerator.end_training()

    def advance(self, batch: Sample) -> Parts:
        """One step: forward, backward, update. Nothing here waits for the device.

        Returns the parts of the loss and the gradient's norm, still on the device.
        """
        rate = learning_rate(self.settings, self.step, self.progress)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        loss, parts = self.objective(self.wrapped(batch.lr, batch.ref, batch.ref_down), batch.hr)
        self.accelerator.backward(loss)
        norm = self.accelerator.clip_grad_norm_(self._trained, self.settings.clip)
        self.optimizer.step()
        self._average()
        self.step += 1
        self.samples += self.settings.batch * self.accelerator.num_processes
        return {"loss": loss.detach(), "grad_norm": norm, **parts}

    def _advance(self, batch: Sample) -> Parts:
        try:
            return self.advance(batch)
        except torch.OutOfMemoryError:
            raise UserError(
                "The graphics card has too little free memory for a step: give a smaller --batch "
                "or --crop; the last checkpoint is intact."
            ) from None

    @torch.no_grad()
    def _average(self) -> None:
        """Move the averaged weights towards the trained ones."""
        # Fast at first, so that the start is soon forgotten.
        decay = min(self.settings.ema, (1 + self.step) / (10 + self.step))
        torch._foreach_lerp_(self._averaged, self._trained, 1 - decay)

    def _agree(self) -> None:
        """Take the time and whether to stop, all that decisions are made by, for all processes."""
        self._seconds = self._seconds_before + time.perf_counter() - self._started
        self._stopping = self._asked_to_stop
        if self.accelerator.num_processes > 1:
            mine = [self._seconds if self.is_main else 0.0, float(self._stopping)]
            state = torch.tensor(mine, dtype=torch.float64, device=self.device)
            seconds, stops = self.accelerator.reduce(state, "sum").tolist()
            self._seconds, self._stopping = seconds, stops > 0

    def batches(self) -> Iterator[Sample]:
        """Batches from the run's position on, without end."""
        workers = self.settings.workers
        if workers is None:
            workers = 0 if self.device.type == "cpu" else 4
        loader = DataLoader(
            self.dataset,
            self.settings.batch,
            sampler=SampleStream(len(self.dataset), self.settings.seed, self.samples),
            num_workers=workers,
            # Its own, as a loader draws from it: a session must not change the global one.
            generator=torch.Generator(),
            pin_memory=self.device.type == "cuda",
            worker_init_fn=_leave_group,
        )
        return iter(self.accelerator.prepare(loader))

    # ------------------------------------------------------------------------ reports

    def _tell_start(self) -> None:
        if not self.is_main:
            return
        what = "starting" if self._before is None else f"resuming at step {self.step}"
        processes = self.accelerator.num_processes
        on = f"{self.device.type}, {self.precision}"
        on += f", {processes} processes" * (processes > 1)
        say(f"{self.out}: {what}; {len(self.dataset)} pairs, {len(self.scenes)} scenes; {on}")

    def _tell_end(self, finished: bool) -> None:
        if not self.is_main:
            return
        end = "finished" if finished else "interrupted; the same command goes on from here"
        best = "" if self.best is None else f"; best validation {self.best:.3f} dB"
        say(f"{self.out}: step {self.step} after {duration(self._seconds)}, {end}{best}")

    def _log(self, log: RunLog, window: list[Parts]) -> float:
        """Log the means of the steps in ``window``; returns the loss.

        Raises ``UserError`` if training has diverged. Nothing is saved or validated without being
        logged first, so the checkpoint is from before that.
        """
        means = {key: torch.stack([parts[key] for parts in window]).mean() for key in window[0]}
        values = torch.stack(list(means.values())).to(torch.float32)
        if self.accelerator.num_processes > 1:
            values = self.accelerator.reduce(values, "mean")
        line = dict(zip(means, values.tolist(), strict=True))
        if not all(map(math.isfinite, line.values())):
            raise UserError(
                f"The training diverged shortly before step {self.step}: go on from its last "
                "checkpoint with a lower --lr or --clip."
            )
        rate = self.optimizer.param_groups[0]["lr"]
        log.write({"step": self.step, "seconds": self._seconds, "lr": rate, **line})
        return line["loss"]

    def _validate(self, log: RunLog) -> None:
        """Measure the averaged weights, log, and keep them if they are the best so far."""
        scores = self._scores()
        self._agree()
        if scores is None:
            return
        self._validated = self._seconds
        means = mean_scores(scores)
        line = {
            "val_ref": means["masa"].psnr,
            "val_self": means["self"].psnr,
            "val_unrelated": means["shuffled"].psnr,
            "bicubic": means["bicubic"].psnr,
            "val_ssim": means["masa"].ssim,
        }
        log.write({"step": self.step, "seconds": self._seconds, **line})
        log.pictures(self.step, scores[:_STRIPS])
        if self.is_main:
            say(
                f"step {self.step}: {line['val_ref']:.3f} dB with references, "
                f"{line['val_self']:.3f} with the LR itself, {line['val_unrelated']:.3f} with "
                f"unrelated ones, {line['bicubic']:.3f} bicubic"
            )
        # In the full stage, PSNR falls while pictures get sharper: it cannot tell the best.
        if self.settings.stage == "rec" and (self.best is None or line["val_ref"] > self.best):
            self.best = line["val_ref"]
            self._save_weights(BEST)

    def _scores(self) -> list[Row] | None:
        """All scenes' rows, shared among processes; ``None`` if there are none this time.

        That is if one is asked to stop meanwhile, or if something came into the way since the first
        validation, which raises a ``UserError`` instead: a long training is worth more than one of
        its validations.
        """
        accelerator = self.accelerator
        predictor = Predictor(self.ema, self.device.type, self.precision)
        mine = range(accelerator.process_index, len(self.scenes), accelerator.num_processes)

        def check() -> None:
            if self._asked_to_stop:
                raise _StoppedError

        part: list[tuple[int, Row]] | str | None
        try:
            measured = evaluate(
                predictor_upscale(predictor, check),
                self.scenes,
                ("self", "shuffled"),
                numbers=mine,
                keep=_STRIPS,
                degradations=self._degradations(),
            )
            part = list(zip(mine, measured, strict=True))
        except _StoppedError:
            part = None
        except UserError as error:
            part = str(error)
        rows: list[tuple[int, Row]] = []
        for found in gather_object([part]):
            if isinstance(found, str):
                if self.step == 0:
                    raise UserError(found)
                if self.is_main:
                    say(f"step {self.step} is not validated: {found}")
                return None
            if found is None:
                return None
            rows += found
        return [row for _, row in sorted(rows, key=lambda pair: pair[0])]

    def _degradations(self) -> list[Degradation]:
        """Of validation scenes in turn: as the LRs that are trained on."""
        clean = self.settings.augmentation.degrade == "off"
        return [CLEAN] if clean else list(PRESETS.values())

    # ------------------------------------------------------------------------ checkpoints

    def _state(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "settings": {**asdict(self.settings), "init": self._init},
            "config": self.model.config.to_dict(),
            "model": self.model.state_dict(),
            "ema": self.ema.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "objective": self.objective.state_dict(),
            "step": self.step,
            "samples": self.samples,
            "seconds": self._seconds,
            "best": self.best,
            "validated": self._validated,
            "torch_rng": torch.get_rng_state(),
        }

    def _restore(self, saved: dict[str, Any]) -> None:
        self.model.load_state_dict(saved["model"])
        self.ema.load_state_dict(saved["ema"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.objective.load_state_dict(saved["objective"])
        self._before = told(saved["settings"])
        self._init = saved["settings"].get("init")
        self.step, self.samples = saved["step"], saved["samples"]
        self.best, self._seconds_before = saved["best"], saved["seconds"]
        self._validated = saved.get("validated", saved["seconds"])  # lacking in older checkpoints
        torch.set_rng_state(saved["torch_rng"].cpu())

    def _check_start(self) -> None:
        """Raise ``UserError`` in all processes unless all of them start from the same state."""
        starts = gather_object([(self.step, self._seconds_before)])
        if len(set(starts)) > 1:
            raise UserError(
                f"The machines' checkpoints in '{self.out}' differ (steps "
                f"{', '.join(str(step) for step, _ in starts)}): let --out be a folder that they "
                f"share, or copy {CHECKPOINT} to each."
            )

    def _save(self, last_chance: bool = False) -> bool:
        """Write the checkpoint; ``False``, with a message, if the disk does not take it.

        At the last chance, that is a ``UserError``, and the averaged weights are written too. All
        processes learn how it went, so that they save again at the same step.
        """
        problem = None
        if self.is_main:
            try:
                save_checkpoint(self.out / CHECKPOINT, self._state())
            except OSError as error:
                reason = error.strerror or error
                problem = f"'{self.out / CHECKPOINT}' could not be written ({reason})"
        problem = gather_object([problem])[0]
        if problem and last_chance:
            raise UserError(
                f"{problem}: make room on the disk; an older checkpoint there is intact."
            )
        if problem and self.is_main:
            say(f"{problem}; training goes on, and the next attempt is in a minute.")
        if last_chance:
            self._save_weights(FINAL)
        return not problem

    def _save_weights(self, name: str) -> None:
        if not self.is_main:
            return
        metadata = {
            "step": str(self.step),
            "hours": f"{self._seconds / 3600:.2f}",
            "stage": self.settings.stage,
            "batch": str(self.settings.batch * self.accelerator.num_processes),
            "best_val_psnr": "" if self.best is None else f"{self.best:.4f}",
        }
        try:
            save_weights(self.out / name, self.ema.state_dict(), self.model.config, metadata)
        except OSError as error:
            say(f"'{self.out / name}' could not be written ({error.strerror or error}).")


def make_optimizer(settings: Settings, model: MASA, device: torch.device) -> torch.optim.Optimizer:
    """What moves the network's weights, which will be on ``device``."""
    if settings.optimizer == "muon":
        return Muon(model.parameters(), settings.lr)
    fused = device.type in ("cpu", "cuda")
    return torch.optim.Adam(model.parameters(), settings.lr, betas=BETAS, fused=fused)


def make_objective(settings: Settings) -> Objective:
    """The loss of the stage. Raises ``UserError`` where VGG19's weights are missing."""
    if settings.stage == "rec":
        return L1Objective()
    return FullObjective(
        load_vgg(settings.vgg),
        Discriminator(settings.crop),
        settings.perceptual_weight,
        settings.adversarial_weight,
        settings.lr_discriminator,
    )


# ---------------------------------------------------------------------------- parts of a run


def make_model(settings: Settings, saved: dict[str, Any] | None = None) -> MASA:
    """The network to train: a checkpoint's configuration, initial weights, or a fresh one.

    Where the settings' configuration differs from that of the initial weights, what fits is
    taken from them and the rest is fresh. Raises ``UserError`` if the settings contradict the
    checkpoint.
    """
    if saved:
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
        return MASA(config)
    if not settings.init:
        return MASA(_configured(MASAConfig(), settings))
    initial = load_model(settings.init)
    config = _configured(initial.config, settings)
    model = MASA(config)
    fitting = {
        key: value
        for key, value in initial.state_dict().items()
        if key in model.state_dict() and model.state_dict()[key].shape == value.shape
    }
    model.load_state_dict(fitting, strict=config == initial.config)
    fresh = len(model.state_dict()) - len(fitting)
    if fresh:
        say(f"{fresh} of {len(model.state_dict())} tensors are not in '{settings.init}' and fresh")
    return model


def validation_scenes(folder: str) -> list[Scene]:
    """Scenes with their first references. Raises ``UserError`` if they do not suffice."""
    scenes = find_scenes(folder, refs=1)
    if len(scenes) < 2 or not all(scene.refs for scene in scenes):
        raise UserError(
            f"'{folder}' cannot be validated on: it needs two or more pictures with references, "
            "as NNN_0 with NNN_1, or input/NAME with ref/NAME."
        )
    return scenes


def _configured(config: MASAConfig, settings: Settings) -> MASAConfig:
    try:
        return replace(config, **settings.config)
    except ValueError as error:
        raise UserError(f"This network cannot be built: {error}.") from None


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write ``state`` so that at any time either the old or the new file is whole.

    Raises ``OSError``, in which case the old file remains.
    """
    buffer = io.BytesIO()
    torch.save(state, buffer)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, buffer.getbuffer())


def load_checkpoint(path: Path) -> dict[str, Any] | None:
    """The state in ``path``, read without running any code in it; ``None`` if there is no file.

    Raises ``UserError`` if it cannot be used.
    """
    if not path.exists():
        return None
    advice = "move it away to start anew, or choose another --out"
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        version = state["format"]
    except Exception:  # arbitrary bytes make a reader raise nearly every built-in exception
        raise UserError(f"The checkpoint '{path}' is damaged: {advice}.") from None
    if version != FORMAT:
        raise UserError(f"The checkpoint '{path}' is of another version ({version}): {advice}.")
    return state


class Timer:
    """Says when something that is done every so often is due."""

    def __init__(self, interval: float, now: float, steps: int | None = None) -> None:
        """Every ``steps`` steps if given, else every ``interval`` seconds after ``now``, if not 0.

        ``now`` is always the run's time, so that all processes decide alike.
        """
        self._interval, self._steps = interval, steps
        self._next = now + interval

    def due(self, step: int, now: float) -> bool:
        """Whether it is time; if so, that counts as done."""
        if self._steps:
            return step % self._steps == 0
        if not self._interval or now < self._next:
            return False
        self._next = now + self._interval
        return True

    def postpone(self, until: float) -> None:
        """Be due at ``until`` next."""
        self._next = until


class Display:
    """A progress bar, or a line per minute where standard error is no terminal."""

    def __init__(self, progress: float, active: bool) -> None:
        self.loss = math.nan
        self._active = active
        self._start, self._began = progress, time.perf_counter()
        self._next = self._began + _PLAIN_SECONDS
        self._bar = None
        if active and sys.stderr.isatty():
            layout = "{percentage:5.1f}% |{bar}| {desc}"
            self._bar = tqdm(total=1.0, initial=progress, bar_format=layout, dynamic_ncols=True)

    def show(self, step: int, progress: float) -> None:
        """The run has come to ``step`` and to the share ``progress``."""
        if not self._active:
            return
        now = time.perf_counter()
        if self._bar is not None:
            self._bar.set_description_str(self._text(step, progress, now), refresh=False)
            self._bar.update(progress - self._bar.n)
        elif now >= self._next:
            self._next = now + _PLAIN_SECONDS
            say(f"{100 * progress:.1f} %, {self._text(step, progress, now)}")

    def close(self) -> None:
        """Leave the terminal to others."""
        if self._bar is not None:
            self._bar.close()

    def _text(self, step: int, progress: float, now: float) -> str:
        gained = progress - self._start
        left = (1 - progress) * (now - self._began) / gained if gained > 0 else math.inf
        loss = "" if math.isnan(self.loss) else f", loss {self.loss:.5f}"
        return f"step {step}{loss}, {duration(left)} left"


def duration(seconds: float) -> str:
    """Rounded, as ``3 h 05 min``, ``12 min`` or ``40 s``."""
    if not math.isfinite(seconds):
        return "unknown time"
    minutes = round(seconds / 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60:02} min"
    return f"{minutes} min" if seconds >= 90 else f"{round(seconds)} s"


def _leave_group(worker: int) -> None:
    """Ctrl-C, and what stops a job, reach a whole group of processes; only the main one, which
    still needs its workers, shall act on it."""
    if hasattr(os, "setsid"):
        os.setsid()
    else:
        signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextlib.contextmanager
def _on_signals(stop: Callable[[], None]) -> Iterator[None]:
    """Call ``stop`` on SIGINT or SIGTERM; who sends a second one later is impatient and obeyed.

    Launchers of several processes pass on a signal that the terminal has already sent to all, so
    one that follows at once is taken for the same.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    signals = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.getsignal(number) for number in signals}
    first: float | None = None

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal first
        if first is None:
            first = time.monotonic()
            stop()
            say("Stopping after this step; the state will be saved.")
        elif time.monotonic() - first > _IMPATIENT_SECONDS:
            restore()
            signal.raise_signal(number)

    try:
        for number in signals:
            signal.signal(number, handle)
        yield
    finally:
        restore()
