"""Training, in sessions that can be interrupted at any time.

One loop serves one process and several (``accelerate launch -m masa train ...``). All that a
session needs to go on exactly where the last one stopped is in ``last.pt``.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import torch
from accelerate.utils import gather_object
from torch import Tensor
from torch.utils.data import DataLoader

from masa.errors import UserError
from masa.training.build import build
from masa.training.checkpoint import CHECKPOINT, FORMAT, load_checkpoint, save_checkpoint
from masa.training.console import Display, duration, leave_group, on_signals, say
from masa.training.data import Sample, SampleStream
from masa.training.losses import L1Objective, Parts
from masa.training.runlog import RunLog
from masa.training.settings import (
    Settings,
    recorded_settings,
    scheduled_learning_rate,
    validated_on,
)
from masa.training.validation import PICTURES, Validation, log_line
from masa.weights import find_weights, save_weights, trained_full

BEST = "best.safetensors"
FINAL = "final.safetensors"

_RETRY_SECONDS = 60.0  # after a checkpoint could not be written


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

    With ``resume``, a checkpoint in ``settings.out`` is continued. Raises ``UserError`` for what
    the user can change: settings, files, a full disk, a training that diverged.
    """
    trainer = Trainer(settings, resume)
    with on_signals(trainer.stop):
        return trainer.run()


class Trainer:
    """The state of a run and the loop that advances it."""

    def __init__(self, settings: Settings, resume: bool = True) -> None:
        """Raises ``UserError`` for settings that cannot be met, or contradict the checkpoint."""
        self.settings = settings
        self.out = Path(settings.out)
        saved = load_checkpoint(self.out / CHECKPOINT) if resume else None
        made = build(settings, saved)
        self.model, self.dataset, self.objective = made.model, made.dataset, made.objective
        self.accelerator = made.accelerator
        self.is_main = self.accelerator.is_main_process
        self.device, self.precision = self.accelerator.device, made.precision
        self.ema = copy.deepcopy(self.model).requires_grad_(False).eval().to(self.device)
        self.objective.prepare(self.accelerator)
        self.wrapped, self.optimizer = self.accelerator.prepare(self.model, made.optimizer)
        self._averaged: list[Tensor] = list(self.ema.parameters())
        self._trained: list[Tensor] = list(self.model.parameters())
        self.scenes = made.scenes
        degrade = settings.augmentation.degrade
        self.validation = Validation(made.scenes, degrade, self.accelerator, made.precision)

        self.step = 0
        self.samples = 0
        self.best: float | None = None
        self._validated_on = validated_on(settings.to_dict())
        self._best_on = self._validated_on  # what ``best`` was measured on
        self._seconds = 0.0  # of all sessions
        self._validated = 0.0  # when last, in the run's seconds
        self._validated_step = 0
        self._precision_before: str | None = None  # that of the last session
        self._before: dict[str, Any] | None = None  # what a resumed run was trained with
        self._init = settings.init  # what the run's first session started from
        initial = find_weights(settings.init) if settings.init and not saved else None
        self._initial = initial and initial.resolve()  # its file
        # Whether the weights were trained in the stage full, now or before this run.
        self._invents = settings.stage == "full" or (initial is not None and trained_full(initial))
        if saved:
            self._restore(saved)
        self._check_start()
        self._session_start = time.perf_counter() - self._seconds
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
        told = recorded_settings(settings.to_dict(), processes) | self.objective.told
        log.settings(self.step, self._seconds, {**told, "precision": self.precision})
        validation = Timer(settings.val_minutes * 60, self._validated, settings.val_steps)
        saving = Timer(settings.save_minutes * 60, self._seconds)
        window: list[Parts] = []
        display: Display | None = None
        try:
            if self.scenes and (self.step == 0 or self._missed_validation()):
                self._validate(log)
            display = Display(self.progress, self.is_main)
            batches = self.batches()
            while self.progress < 1 and not self._stopping:
                window.append(self._advance(_next(batches)))
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

    def _missed_validation(self) -> bool:
        """Whether the last session ended before it had validated a step that was due."""
        steps = self.settings.val_steps
        is_due = steps is not None and self.step % steps == 0
        return is_due and self._validated_step != self.step

    def _disconnect(self) -> None:
        """Close the connection to the other processes; nothing can be trained after this."""
        # The wrappers go first: the last owner of the connection closes it, and a wrapper would do
        # so holding Python's lock, for which the connection's thread waits.
        self.wrapped, self.objective = self.model, L1Objective()
        self.accelerator.free_memory()
        self.accelerator.end_training()

    def advance(self, batch: Sample) -> Parts:
        """One step: forward, backward, update. Nothing here waits for the device.

        Returns the parts of the loss and the gradient's norm, still on the device.
        """
        rate = scheduled_learning_rate(self.settings, self.step, self.progress)
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
        # Fast at first: from nothing, the start has to be forgotten.
        decay = min(self.settings.ema, (1 + self.step) / (10 + self.step))
        torch._foreach_lerp_(self._averaged, self._trained, 1 - decay)

    def _agree(self) -> None:
        """Share the time and the request to stop, so that all processes decide alike."""
        self._seconds = time.perf_counter() - self._session_start
        self._stopping = self._asked_to_stop
        if self.accelerator.num_processes > 1:
            # The sum of the times is that of the main process.
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
            worker_init_fn=leave_group,
        )
        return iter(self.accelerator.prepare(loader))

    # ------------------------------------------------------------------------ reports

    def _tell_start(self) -> None:
        if not self.is_main:
            return
        what = "starting" if self._before is None else f"resuming at step {self.step}"
        processes = self.accelerator.num_processes
        on = f"{self.device.type}, {self.precision}"
        if self._precision_before not in (None, self.precision):
            on += f" ({self._precision_before} before)"
        on += f", {processes} processes" * (processes > 1)
        say(f"{self.out}: {what}; {len(self.dataset)} pairs, {len(self.scenes)} scenes; {on}")
        if self.scenes and self.best is not None and self._best_on != self._validated_on:
            say(
                f"'{self.out / BEST}' was chosen on other scenes, or with another --degrade: the "
                "next validation replaces it."
            )

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
        try:
            found = self.validation.scores(self.ema, lambda: self._asked_to_stop)
        except UserError as error:
            # Only the first validation may end a training: later, too much would be lost.
            if self.step == 0:
                raise
            if self.is_main:
                say(f"step {self.step} is not validated: {error}")
            found = None
        self._agree()
        if found is None:
            return
        self._validated, self._validated_step = self._seconds, self.step
        line = log_line(found)
        log.write({"step": self.step, "seconds": self._seconds, **line})
        log.pictures(self.step, found[:PICTURES])
        if self.is_main:
            say(
                f"step {self.step}: {line['val_ref']:.3f} dB with references, "
                f"{line['val_self']:.3f} with the LR itself, {line['val_unrelated']:.3f} with "
                f"unrelated ones, {line['bicubic']:.3f} bicubic"
            )
        # In the full stage, PSNR falls while pictures get sharper, so it cannot choose the best.
        rival = self.best if self._best_on == self._validated_on else None
        if self.settings.stage == "rec" and (rival is None or line["val_ref"] > rival):
            before = self.best, self._best_on
            self.best, self._best_on = line["val_ref"], self._validated_on
            if not self._save_weights(BEST):
                # So that the next ones that are as good are written.
                self.best, self._best_on = before

    # ------------------------------------------------------------------------ checkpoints

    def _state(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "settings": {**self.settings.to_dict(), "init": self._init},
            "config": self.model.config.to_dict(),
            "model": self.model.state_dict(),
            "ema": self.ema.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "objective": self.objective.state_dict(),
            "step": self.step,
            "samples": self.samples,
            "seconds": self._seconds,
            "best": self.best,
            "best_on": self._best_on,
            "validated": self._validated,
            "validated_step": self._validated_step,
            "precision": self.precision,
            "invents": self._invents,
            "torch_rng": torch.get_rng_state(),
        }

    def _restore(self, saved: dict[str, Any]) -> None:
        self.model.load_state_dict(saved["model"])
        self.ema.load_state_dict(saved["ema"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.objective.load_state_dict(saved["objective"])
        self._before = recorded_settings(saved["settings"])
        self._init = saved["settings"].get("init")
        self._invents |= saved.get("invents", False)
        self.step, self.samples = saved["step"], saved["samples"]
        self.best, self._seconds = saved["best"], saved["seconds"]
        # What follows is lacking in older checkpoints.
        self._validated = saved.get("validated", saved["seconds"])
        self._validated_step = saved.get("validated_step", saved["step"])
        self._precision_before = saved.get("precision")
        self._best_on = saved.get("best_on") or validated_on(saved["settings"])
        torch.set_rng_state(saved["torch_rng"].cpu())

    def _check_start(self) -> None:
        """Raise ``UserError`` in all processes unless the run's folder can be written to, and all
        of them start from the same state."""
        if problem := gather_object([self._unwritable() if self.is_main else None])[0]:
            raise UserError(
                f"Nothing can be written to '{self.out}' ({problem}): choose another --out."
            )
        starts = gather_object([(self.step, self._seconds)])
        if len(set(starts)) > 1:
            raise UserError(
                f"The machines' checkpoints in '{self.out}' differ (steps "
                f"{', '.join(str(step) for step, _ in starts)}): let --out be a folder that they "
                f"share, or copy {CHECKPOINT} to each."
            )

    def _unwritable(self) -> str | None:
        """Why the run's folder cannot be written to; it is made if there is none."""
        try:
            self.out.mkdir(parents=True, exist_ok=True)
            TemporaryFile(dir=self.out).close()
        except OSError as error:
            return error.strerror or str(error)
        return None

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
            else:
                self._remove_others_best()
        problem = gather_object([problem])[0]
        if last_chance:
            self._save_weights(FINAL)
        if problem and last_chance:
            raise UserError(
                f"{problem}: make room on the disk; an older checkpoint there is intact."
            )
        if problem and self.is_main:
            say(f"{problem}; training goes on, and the next attempt is in a minute.")
        return not problem

    def _remove_others_best(self) -> None:
        """Remove the best weights of a run that this one has just replaced in its folder."""
        path = self.out / BEST
        is_others = self._before is None and self.best is None and path.is_file()
        if not is_others or path.resolve() == self._initial:
            return
        try:
            path.unlink()
            say(f"'{path}' was of the run before in this folder and is removed.")
        except OSError as error:
            say(f"'{path}' is of the run before: it could not be removed ({error.strerror}).")

    def _save_weights(self, name: str) -> bool:
        """Write the averaged weights; ``False``, with a message, if the disk does not take them."""
        if not self.is_main:
            return True
        metadata = {
            "step": str(self.step),
            "hours": f"{self._seconds / 3600:.2f}",
            "stage": "full" if self._invents else "rec",
            "batch": str(self.settings.batch * self.accelerator.num_processes),
            "best_val_psnr": "" if self.best is None else f"{self.best:.4f}",
        }
        try:
            save_weights(self.out / name, self.ema.state_dict(), self.model.config, metadata)
        except OSError as error:
            say(f"'{self.out / name}' could not be written ({error.strerror or error}).")
            return False
        return True


def _next(batches: Iterator[Sample]) -> Sample:
    """The next batch. Raises ``UserError``, of whose text a loader's process has made a traceback
    that ends with it."""
    try:
        return next(batches)
    except UserError as error:
        raise UserError(str(error).rpartition(f"{UserError.__name__}: ")[2].strip()) from None


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
