"""Training: it learns, goes on exactly where it stopped, and survives what goes wrong."""

import argparse
import errno
import io
import json
import math
import os
import shutil
import signal
import socket
import subprocess
import sys
from dataclasses import replace
from multiprocessing import active_children
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from helpers import needs_bf16, picture
from PIL import Image
from safetensors.torch import save_file
from torch import nn

import masa.measuring.evaluate
import masa.training.build
import masa.training.console
import masa.training.trainer
import masa.training.validation
from masa.__main__ import main
from masa.commands.train import add_arguments, parse_interval, settings_from
from masa.config import MASAConfig
from masa.errors import UserError
from masa.measuring.evaluate import SceneScores, Score
from masa.network.model import MASA
from masa.predictor import Predictor
from masa.training import vgg
from masa.training.build import make_model
from masa.training.checkpoint import load_checkpoint, save_checkpoint
from masa.training.console import duration
from masa.training.data import Augmentation
from masa.training.discriminator import Discriminator
from masa.training.history import TrainingRun, history_json, read_run
from masa.training.settings import OptimizerName, Settings, scheduled_learning_rate
from masa.training.trainer import Summary, Timer, Trainer, train
from masa.training.validation import Validation
from masa.weights import invents_detail, load_model, save_weights

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """Five pairs, each of a picture and the same one moved a little."""
    folder = tmp_path_factory.mktemp("pairs")
    for part, shift in (("input", 0), ("ref", 3)):
        (folder / part).mkdir()
        for k in range(5):
            smooth = Image.fromarray(picture(6, 7, k)).resize((56, 48), Image.Resampling.BICUBIC)
            moved = np.roll(np.array(smooth), shift, axis=1)
            Image.fromarray(moved).save(folder / part / f"{k}.png")
    return folder


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """Two scenes like CUFED5's."""
    folder = tmp_path_factory.mktemp("scenes")
    for k in range(2):
        Image.fromarray(picture(48, 64, 10 + k)).save(folder / f"00{k}_0.png")
        Image.fromarray(picture(48, 48, 20 + k)).save(folder / f"00{k}_1.png")
    return folder


@pytest.fixture
def settings(pairs, tmp_path):
    """A run of six steps of a narrow network on small crops."""
    return Settings(
        data=str(pairs),
        out=str(tmp_path / "run"),
        config={"channels": 4},
        crop=32,
        batch=2,
        steps=6,
        warmup=2,
        log_steps=1,
        device="cpu",
        precision="fp32",
    )


@pytest.fixture
def stop_after(monkeypatch):
    """Has training interrupted after a given step, in a given way."""
    advance = Trainer.advance

    def set_up(step, how=Trainer.stop):
        def patched(self, batch):
            parts = advance(self, batch)
            if self.step == step:
                how(self)
            return parts

        monkeypatch.setattr(Trainer, "advance", patched)

    return set_up


def log_of(settings, without=("seconds",)):
    """The log's numbers."""
    lines = [json.loads(line) for line in (Path(settings.out) / "log.jsonl").open()]
    lines = [line for line in lines if "settings" not in line]
    return [{k: v for k, v in line.items() if k not in without} for line in lines]


def checkpoint_of(settings):
    return load_checkpoint(Path(settings.out) / "last.pt")


def equal(a, b):
    """Whether two nested states hold equal numbers, bit for bit."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(equal, a, b))
    return a == b


def same_run(a, b):
    """Whether two checkpoints are equal but for folders and times."""
    a, b = (
        {k: v for k, v in c.items() if k not in ("settings", "seconds", "validated")}
        for c in (a, b)
    )
    return equal(a, b)


# ------------------------------------------------------------------------------- learning


def test_the_loss_falls(settings, tmp_path):
    torch.manual_seed(0)
    spoilt = MASA(MASAConfig(channels=4))
    with torch.no_grad():
        spoilt.decoder.conv_out.bias.fill_(0.1)  # a tenth too bright, which is soon unlearned
    save_weights(tmp_path / "spoilt.safetensors", spoilt.state_dict(), spoilt.config)
    run = replace(settings, steps=20, learning_rate=1e-2, init=str(tmp_path / "spoilt.safetensors"))
    assert train(run) == Summary(20, pytest.approx(0, abs=600), True, None)
    losses = [line["loss"] for line in log_of(run)]
    assert len(losses) == 20
    assert losses[0] > 0.08
    assert np.mean(losses[-5:]) < 0.05


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"adaptation": "spade"},
        {"dram_ref": False, "dram_lr": False},
        {"dram_ref": False},
        {"dram_lr": False},
    ],
)
def test_every_weight_is_trained(settings, config):
    settings = replace(settings, config=settings.config | config)
    torch.manual_seed(settings.seed)
    before = make_model(settings).state_dict()
    train(settings)
    after = checkpoint_of(settings)["model"]
    assert [key for key in before if torch.equal(before[key], after[key])] == []


def test_the_average_follows_the_weights(settings, monkeypatch):
    train(replace(settings, steps=1))
    first = checkpoint_of(settings)
    monkeypatch.setattr(Trainer, "_average", lambda self: None)
    train(replace(settings, steps=2))
    second = checkpoint_of(settings)
    assert equal(first["ema"], second["ema"])
    monkeypatch.undo()
    train(replace(settings, steps=3))
    third = checkpoint_of(settings)
    decay = 3 / 12  # of step 2, counted from 0
    key = "enc.conv_L1.weight"
    expected = decay * second["ema"][key] + (1 - decay) * third["model"][key]
    assert torch.allclose(third["ema"][key], expected, atol=1e-7)


def test_learning_rate_is_a_ramp_and_a_cosine():
    run = Settings("", "", steps=100, learning_rate=1.0, learning_rate_final=0.1, warmup=10)
    rates = [scheduled_learning_rate(run, step, step / 100) for step in range(101)]
    assert rates[0] == pytest.approx(0.1, rel=1e-3)
    assert max(rates) == rates[9] or max(rates) == rates[10]
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert scheduled_learning_rate(run, 50, 0.5) == pytest.approx(0.55)
    assert rates[100] == pytest.approx(0.1)
    assert scheduled_learning_rate(run, 200, 2.0) == pytest.approx(0.1)


def test_gradients_are_clipped(settings):
    train(replace(settings, clip=1e-6, steps=1, learning_rate=1e-3, warmup=0))
    # Adam scales gradients away, so what is clipped shows in its memory of them.
    moments = checkpoint_of(settings)["optimizer"]["state"].values()
    norm = torch.stack([m["exp_avg"].norm() for m in moments]).norm() / 0.1
    assert norm.item() == pytest.approx(1e-6, rel=1e-2)


# ------------------------------------------------------------------------------- sessions


@pytest.mark.parametrize(
    ("optimizer", "degrade"),
    [*((name, "off") for name in get_args(OptimizerName)), ("adam", "photo")],
)
def test_an_interrupted_run_ends_like_an_uninterrupted_one(
    settings, stop_after, tmp_path, optimizer, degrade
):
    settings = replace(settings, optimizer=optimizer, config={"channels": 16})  # wide for Muon
    settings = replace(settings, augmentation=Augmentation(degrade=degrade))
    train(settings)
    halves = replace(settings, out=str(tmp_path / "halves"))
    stop_after(3)
    first = train(halves)
    assert (first.step, first.finished) == (3, False)
    stop_after(None)
    torch.manual_seed(99)
    assert train(halves).finished
    assert log_of(halves) == log_of(settings)
    assert same_run(checkpoint_of(halves), checkpoint_of(settings))


def test_so_does_one_whose_references_are_aligned(settings, stop_after, turned_pairs, tmp_path):
    settings = replace(settings, data=str(turned_pairs), augmentation=Augmentation(align=0.5))
    train(settings)
    halves = replace(settings, out=str(tmp_path / "halves"))
    stop_after(3)
    assert train(halves).step == 3
    stop_after(None)
    assert train(halves).finished
    assert log_of(halves) == log_of(settings)
    assert same_run(checkpoint_of(halves), checkpoint_of(settings))
    assert checkpoint_of(settings)["settings"]["augmentation"]["align"] == 0.5
    (run,), _ = read_run(Path(settings.out))
    assert run.settings["augmentation"]["align"] == 0.5
    without = replace(settings, out=str(tmp_path / "off"), augmentation=Augmentation())
    train(without)
    assert log_of(without) != log_of(settings)


def test_so_does_one_that_was_killed_between_checkpoints(settings, stop_after, tmp_path):
    train(settings)
    killed = replace(settings, out=str(tmp_path / "killed"))
    stop_after(3)
    train(killed)
    state = (tmp_path / "killed/last.pt").read_bytes()
    stop_after(5)
    train(killed)
    (tmp_path / "killed/last.pt").write_bytes(state)
    with (tmp_path / "killed/log.jsonl").open("a") as file:
        file.write('{"step": 6, "sec')
    stop_after(None)
    train(killed)
    assert log_of(killed) == log_of(settings)
    assert same_run(checkpoint_of(killed), checkpoint_of(settings))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_ends(settings, stop_after, number, capsys):
    before = signal.getsignal(number)
    stop_after(2, lambda trainer: os.kill(os.getpid(), number))
    summary = train(settings)
    assert (summary.step, summary.finished) == (2, False)
    assert checkpoint_of(settings)["step"] == 2
    assert signal.getsignal(number) is before
    assert "saved" in capsys.readouterr().err


def test_a_signal_saves_even_if_nobody_reads_what_is_said(settings, stop_after, monkeypatch):
    """Ctrl-C reaches ``tee`` too, which is gone at once."""

    class Gone(io.StringIO):
        def write(self, text):
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stderr", Gone())
    stop_after(2, lambda trainer: os.kill(os.getpid(), signal.SIGINT))
    assert train(settings).step == 2
    assert checkpoint_of(settings)["step"] == 2


@pytest.fixture
def interruptible():
    """Ctrl-C raises, also where a script has started the tests in its background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_a_second_signal_is_obeyed_unless_it_is_the_first_ones_echo(
    settings, stop_after, monkeypatch
):
    stop_after(1, lambda trainer: [os.kill(os.getpid(), signal.SIGINT) for _ in range(2)])
    assert train(settings).step == 1

    def impatient(trainer):
        os.kill(os.getpid(), signal.SIGINT)
        masa.training.console.time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    stop_after(2, impatient)
    monkeypatch.setattr(masa.training.console, "_IMPATIENT_SECONDS", 0.001)
    with pytest.raises(KeyboardInterrupt):
        train(settings)
    assert checkpoint_of(settings)["step"] == 1


def test_a_finished_run_is_left_as_it_is(settings, scenes):
    finished = replace(settings, val=str(scenes), steps=1)
    train(finished)
    lines, state = log_of(finished, ()), checkpoint_of(finished)
    assert train(finished).finished
    assert log_of(finished, ()) == lines
    assert equal(checkpoint_of(finished), state)


def test_time_adds_up_over_sessions_and_ends_the_run(settings, stop_after, monkeypatch):
    clock = iter(range(10**6))  # a second passes each time somebody looks
    monkeypatch.setattr(masa.training.trainer.time, "perf_counter", lambda: float(next(clock)))
    timed = replace(settings, steps=None, hours=60 / 3600)
    stop_after(4)
    first = train(timed)
    assert 4 <= first.seconds < 60
    stop_after(None)
    second = train(timed)
    assert second.finished
    assert 60 <= second.seconds < 70
    rates = [line["lr"] for line in log_of(timed)]
    assert rates[2:] == sorted(rates[2:], reverse=True)


def test_signals_to_the_group_do_not_reach_workers(settings, stop_after):
    groups = []
    stop_after(1, lambda trainer: groups.extend(os.getpgid(c.pid) for c in active_children()))
    assert train(replace(settings, workers=1, steps=1)).finished
    assert len(groups) == 1
    assert os.getpgid(0) not in groups


def test_without_resume_it_starts_anew(settings):
    train(settings)
    train(replace(settings, steps=2), resume=False)
    assert [line["step"] for line in log_of(settings)] == [1, 2]


def test_a_run_does_not_change_its_network_stage_or_optimizer(settings):
    train(replace(settings, steps=1))
    with pytest.raises(UserError, match="adaptation"):
        train(replace(settings, config={"channels": 4, "adaptation": "none"}))
    with pytest.raises(UserError, match="stage"):
        train(replace(settings, stage="full"))
    with pytest.raises(UserError, match="optimizer"):
        train(replace(settings, optimizer="muon"))
    train(replace(settings, steps=2, config={}))  # what is not said is not contradicted
    assert checkpoint_of(settings)["config"]["channels"] == 4


def test_a_run_remembers_what_it_started_from(settings, tmp_path):
    config = MASAConfig(channels=4)
    paths = [tmp_path / f"{name}.safetensors" for name in ("first", "second")]
    for path in paths:
        save_weights(path, MASA(config).state_dict(), config)
    first, second = map(str, paths)
    train(replace(settings, init=first, steps=1))
    with pytest.raises(UserError, match="leave out --init"):
        train(replace(settings, init=second, steps=2))
    train(replace(settings, steps=2))  # what is not said is not contradicted
    train(replace(settings, init=first, steps=3))
    assert read_run(Path(settings.out))[1] == first


def test_the_log_says_what_each_part_was_trained_with(settings):
    train(replace(settings, steps=1))
    train(replace(settings, steps=2))  # how long is not what with
    train(replace(settings, steps=4, learning_rate=1e-5))
    (first, second), init = read_run(Path(settings.out))
    assert init is None
    assert (first.steps, first.settings["lr"]) == (2, settings.learning_rate)
    assert (second.steps, second.settings["lr"], second.settings["batch"]) == (2, 1e-5, 2)
    assert first.seconds + second.seconds == checkpoint_of(settings)["seconds"]
    # A log that does not say so, of an older version, is told from the checkpoint.
    log = Path(settings.out) / "log.jsonl"
    lines = [line for line in log.read_text().splitlines() if "settings" not in line]
    log.write_text("".join(line + "\n" for line in lines))
    (whole,), _ = read_run(Path(settings.out))
    assert (whole.steps, whole.settings["lr"]) == (4, 1e-5)
    train(replace(settings, steps=5, learning_rate=1e-6))
    old, new = read_run(Path(settings.out))[0]
    assert [(run.steps, run.settings["lr"]) for run in (old, new)] == [(4, 1e-5), (1, 1e-6)]


def test_runs_of_older_versions_go_on_and_are_read(settings):
    """Checkpoint and log as they were written when settings were called ``lr`` and so on."""
    train(replace(settings, steps=2, learning_rate=3e-4, learning_rate_final=1e-5))
    path, log = (Path(settings.out) / name for name in ("last.pt", "log.jsonl"))
    old = {
        "data": "D",
        "out": "O",
        "stage": "rec",
        "config": {"channels": 4},
        "augmentation": {"swap": True, "orient": "apart", "hard": 0.0},
        "crop": 32,
        "batch": 2,
        "lr": 3e-4,
        "lr_final": 1e-5,
        "lr_discriminator": 1e-4,
        "seed": 0,
    }
    state = load_checkpoint(path)
    assert {key: state["settings"][key] for key in old if key.startswith("lr")} == {
        key: value for key, value in old.items() if key.startswith("lr")
    }
    state["settings"] = old
    del state["validated"]
    save_checkpoint(path, state)
    recorded = {"crop": 32, "batch": 2, "lr": 3e-4, "lr_final": 1e-5, "seed": 0}
    log.write_text(
        json.dumps({"step": 0, "seconds": 0.0, "settings": recorded})
        + '\n{"step": 2, "seconds": 0.001, "lr": 0.0001, "loss": 0.25, "grad_norm": 0.5}\n'
    )
    train(replace(settings, steps=4))
    (first, second), init = read_run(Path(settings.out))
    assert init is None
    assert (first.steps, first.settings) == (2, recorded)
    assert (second.steps, second.settings["lr"]) == (2, settings.learning_rate)
    assert [line["step"] for line in log_of(settings)] == [2, 3, 4]
    assert log_of(settings)[0]["lr"] == 1e-4


def test_a_damaged_checkpoint_is_refused(settings):
    path = Path(settings.out) / "last.pt"
    path.parent.mkdir()
    for content in (b"not a checkpoint", b"", b"\x80\x02.", b"\x80\x02c\xff\n\n."):
        path.write_bytes(content)
        with pytest.raises(UserError, match="damaged"):
            train(settings)
    torch.save({"format": 99}, path)
    with pytest.raises(UserError, match="another version"):
        train(settings)


def test_a_full_disk_keeps_the_old_checkpoint(tmp_path, monkeypatch):
    path = tmp_path / "last.pt"
    save_checkpoint(path, {"format": 1, "step": 1})

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        save_checkpoint(path, {"format": 1, "step": 2})
    assert load_checkpoint(path)["step"] == 1
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_does_not_end_training(settings, monkeypatch, capsys):
    attempts = []

    def full_at_first(path, state):
        attempts.append(state["step"])
        if len(attempts) == 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        save_checkpoint(path, state)

    monkeypatch.setattr(masa.training.trainer, "save_checkpoint", full_at_first)
    monkeypatch.setattr(masa.training.trainer, "_RETRY_SECONDS", 0.0)
    assert train(replace(settings, save_minutes=1e-9)).finished
    assert attempts[:2] == [1, 2]
    assert "No space left on device" in capsys.readouterr().err
    assert checkpoint_of(settings)["step"] == 6


def test_a_disk_that_stays_full_is_an_error_in_the_end(settings, monkeypatch):
    def full(path, state):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(masa.training.trainer, "save_checkpoint", full)
    with pytest.raises(UserError, match="No space left on device"):
        train(settings)


@pytest.mark.parametrize("save_minutes", [1e9, 1e-9])
def test_a_run_that_diverges_keeps_its_last_good_checkpoint(settings, monkeypatch, save_minutes):
    objective = masa.training.trainer.L1Objective.__call__

    def diverging(self, result, truth):
        loss, parts = objective(self, result, truth)
        return loss * math.nan if diverging.calls == 4 else loss, parts

    def counted(self, result, truth):
        diverging.calls += 1
        return diverging(self, result, truth)

    diverging.calls = 0
    monkeypatch.setattr(masa.training.trainer.L1Objective, "__call__", counted)
    train(replace(settings, steps=2))
    with pytest.raises(UserError, match=r"diverged.*lower --lr"):
        train(replace(settings, log_steps=3, save_minutes=save_minutes))
    saved = checkpoint_of(settings)
    assert saved["step"] == (3 if save_minutes < 1 else 2)
    assert all(value.isfinite().all() for value in saved["model"].values())


def test_divergence_is_found_before_it_is_validated(settings, scenes, monkeypatch):
    monkeypatch.setattr(
        masa.training.trainer.L1Objective,
        "__call__",
        lambda *given: (math.nan * given[1].mean(), {}),
    )
    with pytest.raises(UserError, match="diverged shortly before step 2"):
        train(replace(settings, val=str(scenes), val_steps=2, log_steps=100))


# ----------------------------------------------------------------------------- validation


def test_validation_measures_the_average_and_keeps_the_best(settings, scenes):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    summary = train(replace(settings, val=str(scenes), val_steps=4))
    lines = [line for line in log_of(settings) if "val_ref" in line]
    assert [line["step"] for line in lines] == [0, 4, 6]
    assert {"val_ref", "val_self", "val_unrelated", "bicubic"} <= lines[0].keys()
    assert len({line["bicubic"] for line in lines}) == 1
    assert summary.best == max(line["val_ref"] for line in lines)

    final = load_model(Path(settings.out) / "final.safetensors")
    assert final.config == MASAConfig(channels=4)
    average = checkpoint_of(settings)["ema"]
    assert all(torch.equal(v, average[k].half().float()) for k, v in final.state_dict().items())
    load_model(Path(settings.out) / "best.safetensors")

    board = EventAccumulator(settings.out).Reload().Tags()
    assert {"train/loss", "train/lr", "validation/val_ref"} <= set(board["scalars"])
    assert set(board["images"]) == {"scene/000", "scene/001"}


@pytest.mark.parametrize("precision", ["fp32", pytest.param("bf16", marks=needs_bf16)])
def test_validation_is_as_precise_as_training(
    settings, scenes, precision, monkeypatch, fresh_accelerate
):
    used = []

    def predictor(model, device, chosen):
        used.append(chosen)
        return Predictor(model, device, chosen)

    monkeypatch.setattr(masa.training.validation, "Predictor", predictor)
    run = replace(settings, val=str(scenes), precision=precision, steps=1)
    train(run)
    assert used == 2 * [precision]
    average = checkpoint_of(run)["ema"].values()
    assert all(value.dtype == torch.float32 for value in average)


def test_validation_needs_two_scenes_with_references(settings, tmp_path):
    Image.fromarray(picture(48, 48)).save(tmp_path / "000_0.png")
    Image.fromarray(picture(48, 48)).save(tmp_path / "000_1.png")
    with pytest.raises(UserError, match="two or more"):
        train(replace(settings, val=str(tmp_path)))


def test_worse_weights_do_not_replace_the_best(settings, scenes, monkeypatch):
    def spoil(self):
        with torch.no_grad():
            self.ema.decoder.conv_out.bias.add_(0.1)

    monkeypatch.setattr(Trainer, "_average", spoil)
    train(replace(settings, val=str(scenes), val_steps=3, steps=3))
    values = [line["val_ref"] for line in log_of(settings) if "val_ref" in line]
    assert values[1] < values[0]
    best, final = (
        load_model(Path(settings.out) / f"{name}.safetensors").decoder.conv_out.bias.mean()
        for name in ("best", "final")
    )
    assert final - best > 0.25
    assert checkpoint_of(settings)["best"] == values[0]


def test_validation_ends_early_when_asked_to_stop(settings, scenes, monkeypatch):
    started = []

    def interrupted(scene):
        started.append(scene.name)
        os.kill(os.getpid(), signal.SIGTERM)
        return picture(48, 48)

    monkeypatch.setattr(masa.measuring.evaluate, "read_references", interrupted)
    summary = train(replace(settings, val=str(scenes)))
    assert (summary.step, summary.finished, summary.best) == (0, False, None)
    assert started == ["000", "001"]  # the second as the first one's unrelated reference


def test_only_the_first_validation_may_end_a_training(
    settings, scenes, tmp_path, monkeypatch, capsys
):
    """What is wrong with the scenes is said early; hours of training are not lost to it later."""
    scenes = shutil.copytree(scenes, tmp_path / "scenes")
    settings = replace(settings, val=str(scenes), val_steps=1, steps=3)
    validate = Trainer._validate

    def vanishing(self, log):
        if self.step == 1:
            for path in scenes.glob("001_0*"):
                path.rename(path.with_name("gone"))
        validate(self, log)

    monkeypatch.setattr(Trainer, "_validate", vanishing)
    summary = train(settings)
    assert summary.finished
    assert [line["step"] for line in log_of(settings) if "val_ref" in line] == [0]
    told = capsys.readouterr().err
    assert "step 1 is not validated" in told and "001_0" in told
    assert (Path(settings.out) / "final.safetensors").exists()
    (scenes / "001_0.png").write_text("no picture")
    with pytest.raises(UserError, match="001_0"):
        train(settings, resume=False)


def test_too_large_a_batch_is_a_sentence(settings, monkeypatch):
    def full(self, batch):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    monkeypatch.setattr(Trainer, "advance", full)
    with pytest.raises(UserError, match="--batch"):
        train(settings)


def test_short_sessions_are_validated_too(settings, scenes, stop_after, monkeypatch):
    clock = iter(range(10**6))  # a second passes each time somebody looks
    monkeypatch.setattr(masa.training.trainer.time, "perf_counter", lambda: float(next(clock)))
    monkeypatch.setattr(Validation, "scores", lambda self, model, stopping: [FLAT])
    often = replace(settings, val=str(scenes), val_minutes=0.4, steps=30)
    for step in range(3, 30, 3):  # some 10 seconds each
        stop_after(step)
        train(often)
    validated = [line["seconds"] for line in log_of(often, ()) if "val_ref" in line]
    assert len(validated) > 2
    assert all(24 <= gap < 48 for gap in np.diff(validated))


FLAT = SceneScores(
    "flat",
    dict.fromkeys(("bicubic", "masa", "self", "unrelated"), Score(20.0, 0.5, 1.0, 0.5)),
    {"hr": picture(8, 8)},
)


# ------------------------------------------------------------------------- initial weights


def test_initial_weights_are_taken(settings, tmp_path):
    source = MASA(MASAConfig(channels=4, adaptation="adain"))
    save_weights(tmp_path / "w.safetensors", source.state_dict(), source.config, {}, torch.float32)
    model = make_model(replace(settings, init=str(tmp_path / "w.safetensors"), config={}))
    assert model.config == source.config
    assert equal(model.state_dict(), source.state_dict())
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_what_fits_is_taken_from_weights_of_another_network(settings, tmp_path, capsys):
    source = MASA(MASAConfig(channels=4, adaptation="none"))
    save_weights(tmp_path / "w.safetensors", source.state_dict(), source.config, {}, torch.float32)
    init = replace(settings, init=str(tmp_path / "w.safetensors"), config={"adaptation": "sam"})
    state = make_model(init).state_dict()
    assert all(torch.equal(value, state[key]) for key, value in source.state_dict().items())
    assert "6 of" in capsys.readouterr().err


def test_missing_weights_are_named(settings):
    with pytest.raises(UserError, match="nowhere"):
        train(replace(settings, init="nowhere.safetensors"))


# ------------------------------------------------------------------------------ full stage


class Features(nn.Module):
    """Stands in for VGG19."""

    name = "other features"

    def __init__(self):
        super().__init__()
        torch.manual_seed(5)
        self.conv = nn.Conv2d(3, 4, 3, 2).requires_grad_(False)

    def forward(self, image):
        return self.conv(image)


def test_full_stage_resumes_exactly(settings, scenes, stop_after, monkeypatch, tmp_path):
    monkeypatch.setattr(masa.training.build, "load_vgg", lambda path: Features())
    monkeypatch.setattr(masa.training.build, "Discriminator", lambda size: Discriminator(size, 4))
    settings = replace(settings, stage="full", steps=2, val=str(scenes))
    train(settings)
    lines = log_of(settings)
    assert {"l1", "perceptual", "adversarial", "discriminator"} <= lines[1].keys()
    assert not (Path(settings.out) / "best.safetensors").exists()
    halves = replace(settings, out=str(tmp_path / "halves"))
    stop_after(1)
    train(halves)
    stop_after(None)
    train(halves)
    assert log_of(halves) == lines
    assert same_run(checkpoint_of(halves), checkpoint_of(settings))
    stop_after(3)
    resumed = Trainer(replace(halves, steps=3, learning_rate_discriminator=2e-5))
    assert {g["lr"] for g in resumed.objective._optimizer.param_groups} == {2e-5}
    with pytest.raises(UserError, match="another crop"):
        train(replace(halves, crop=64))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"data": "nowhere"}, "There is no folder"),
        ({"val": "nowhere"}, "There is no folder"),
        ({"crop": 100}, "multiple of 32"),
    ],
)
def test_what_is_wrong_is_found_before_anything_is_fetched(settings, monkeypatch, change, words):
    monkeypatch.setattr(masa.training.build, "load_vgg", lambda path: pytest.fail("fetched"))
    with pytest.raises(UserError, match=words):
        train(replace(settings, stage="full", **change))


def test_full_stage_needs_vgg(settings):
    with pytest.raises(UserError, match="VGG19"):
        train(replace(settings, stage="full", vgg="nowhere.pth"))


def test_the_full_stage_from_command_to_card(pairs, tmp_path, monkeypatch):
    """With VGG16's layers, of random numbers and narrow."""
    monkeypatch.setattr(vgg, "_WIDTHS", (8, 8, 8, 8, 8))
    monkeypatch.setattr(masa.training.build, "Discriminator", lambda size: Discriminator(size, 4))
    tiny = vgg.VGGFeatures(vgg.VGG16)
    for parameter in tiny.parameters():  # by default, nothing would be left after 13 layers
        nn.init.zeros_(parameter) if parameter.ndim == 1 else nn.init.orthogonal_(parameter, 2)
    save_file(tiny.state_dict(), tmp_path / "vgg16.safetensors")
    start, out = tmp_path / "start.safetensors", tmp_path / "masa-full"
    save_weights(start, MASA(MASAConfig(channels=4)).state_dict(), MASAConfig(channels=4))
    options = (
        f"--data {pairs} --out {out} --init {start} --stage full --steps 3 --batch 2 --crop 32"
    )
    options += (
        f" --vgg {tmp_path / 'vgg16.safetensors'} --device cpu --precision fp32 --log-every 1"
    )
    assert main(["train", *options.split()]) == 0
    lines = [json.loads(line) for line in (out / "log.jsonl").open()]
    losses = [line for line in lines if "loss" in line]
    assert len(losses) == 3 and all(line["perceptual"] > 0 for line in losses)
    told = next(line["settings"] for line in lines if "settings" in line)
    assert told["perceptual_features"] == "VGG16 conv5_3"
    assert str(tmp_path) not in json.dumps(told)  # where the file lay is nobody's business
    # The page and the card say what such weights are, by their files alone.
    monkeypatch.setenv("MASA_WEIGHTS", str(tmp_path / "own"))
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "masa-full.safetensors").write_bytes(
        (out / "final.safetensors").read_bytes()
    )
    assert invents_detail("masa-full") and not invents_detail("masa-rec")
    before = tmp_path / "start.json"
    before.write_text(history_json([TrainingRun("start", 3600.0, 10, {"config": {"channels": 4}})]))
    card = f"card {out} --name masa-full --before {before} --out {tmp_path / 'cards'}"
    assert main(card.split()) == 0
    text = (tmp_path / "cards" / "README.md").read_text()
    assert "The network: 4 channels, SAM, DRAM Model 4." in text
    assert "the perceptual loss on VGG16 conv5_3 (weight 1)" in text
    assert "the adversarial loss (weight 0.005)" in text


# -------------------------------------------------------------------- precision, processes


@pytest.fixture
def fresh_accelerate():
    """Accelerate remembers one precision per process."""
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@needs_bf16
def test_bf16_learns_like_fp32(settings, fresh_accelerate):
    train(settings)
    exact = log_of(settings)
    AcceleratorState._reset_state(reset_partial_state=True)
    train(replace(settings, precision="bf16"), resume=False)
    rounded = log_of(settings)
    assert exact != rounded
    for a, b in zip(exact, rounded, strict=True):
        assert a["loss"] == pytest.approx(b["loss"], rel=0.02)
    assert all(v.dtype == torch.float32 for v in checkpoint_of(settings)["model"].values())


@pytest.fixture
def beside(monkeypatch):
    """Pretends that this is the first of two processes, the other having this to say."""

    def pretend(other):
        monkeypatch.setattr(Accelerator, "num_processes", 2)
        for module in (masa.training.trainer, masa.training.validation):
            monkeypatch.setattr(module, "gather_object", lambda mine: [*mine, *other(mine)])

    return pretend


def test_processes_that_found_different_checkpoints_do_not_start(settings, beside):
    train(replace(settings, steps=1))
    beside(lambda mine: [(0, 0.0)])
    with pytest.raises(UserError, match=r"differ \(steps 1, 0\): let --out"):
        train(settings)


def test_all_processes_stop_validating(settings, scenes, beside, monkeypatch):
    """Where one is asked to stop, and where its neighbour was."""
    trainer = Trainer(replace(settings, val=str(scenes)))
    beside(lambda mine: [None])
    assert trainer.validation.scores(trainer.ema, lambda: False) is None
    beside(lambda mine: mine)
    monkeypatch.setattr(Predictor, "_tensor", None)  # nothing is computed any more
    assert trainer.validation.scores(trainer.ema, lambda: True) is None


def test_processes_learn_that_the_first_could_not_save(settings, monkeypatch):
    trainer = Trainer(settings)
    trainer.is_main = False
    assert trainer._save()
    assert not Path(settings.out).exists()
    gathered = "'last.pt' could not be written (No space left on device)"
    monkeypatch.setattr(masa.training.trainer, "gather_object", lambda mine: [gathered, *mine])
    assert not trainer._save()
    with pytest.raises(UserError, match="No space"):
        trainer._save(last_chance=True)


@pytest.mark.slow
def test_two_processes_with_half_the_batch_do_the_same(settings, scenes, tmp_path):
    single = replace(settings, batch=4, steps=2, val=str(scenes))
    train(single)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    launch = "-m accelerate.commands.launch --multi_gpu --num_processes 2 --num_machines 1 "
    launch += f"--mixed_precision no --dynamo_backend no --main_process_port {port} -m masa train"
    options = f"--data {single.data} --val {single.val} --out {tmp_path}/two --channels 4 --crop 32"
    options += " --batch 2 --steps 2 --warmup 2 --log-every 1 --device cpu --precision fp32"
    command = [sys.executable, *launch.split(), *options.split()]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert "2 processes" in done.stderr
    double = replace(single, out=str(tmp_path / "two"))
    for one, two in zip(log_of(single), log_of(double), strict=True):
        assert one == pytest.approx(two, rel=1e-4)
    a, b = (checkpoint_of(s)["model"] for s in (single, double))
    assert all(torch.allclose(a[key], b[key], atol=1e-4) for key in a)


# --------------------------------------------------------------------------------- options


def test_the_command_tells_whether_the_run_is_complete(settings, stop_after):
    words = f"train --data {settings.data} --out {settings.out} --channels 4 --crop 32 --batch 2"
    words += " --steps 2 --log-every 1 --device cpu --precision fp32"
    stop_after(1)
    assert main(words.split()) == 1
    stop_after(None)
    assert main(words.split()) == 0
    assert [line["step"] for line in log_of(settings)] == [1, 2]
    first = log_of(settings, ())[0]
    stop_after(1)
    assert main([*words.split(), "--no-resume"]) == 1
    (again,) = log_of(settings, ())
    assert (again["loss"], again["step"]) == (first["loss"], 1)
    assert again["seconds"] != first["seconds"]


def options(*extra):
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return settings_from(parser.parse_args(["--data", "D", "--out", "O", *extra]))


def test_options_default_to_the_settings():
    assert options("--steps", "5") == Settings("D", "O", steps=5)


def test_options_reach_the_settings():
    text = (
        "--hours 2 --adaptation none --no-dram-ref --no-swap --orient off --val-every 7 --lr 1e-3 "
        "--seed 4 --save-every 2 --no-cache --hard 0.5 --align 0.25 --precision bf16"
    )
    given = options(*text.split())
    assert given == Settings(
        "D",
        "O",
        hours=2,
        config={"adaptation": "none", "dram_ref": False},
        augmentation=Augmentation(swap=False, orient="off", hard=0.5, align=0.25),
        val_minutes=0,
        val_steps=7,
        learning_rate=1e-3,
        seed=4,
        save_minutes=2,
        cache=False,
        precision="bf16",
    )


def test_intervals():
    assert parse_interval("20m") == (20.0, None)
    assert parse_interval("500") == (0.0, 500)
    with pytest.raises(UserError, match="often"):
        parse_interval("often")


@pytest.mark.parametrize(
    "wrong",
    [
        {"steps": None},
        {"steps": 0},
        {"steps": None, "hours": float("inf")},
        {"learning_rate": float("nan")},
        {"batch": 0},
        {"clip": -1.0},
        {"ema": 1.0},
        {"stage": "half"},
        {"optimizer": "sgd"},
        {"precision": "fp16"},
        {"learning_rate_discriminator": 0.0},
        {"adversarial_weight": -1.0},
        {"perceptual_weight": float("nan")},
    ],
)
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(UserError):
        Settings("D", "O", **{"steps": 1, **wrong})


@pytest.mark.parametrize(
    "flag",
    ["--save-every", "--val-every", "--log-every", "--lr", "--lr-final", "--lr-discriminator"],
)
def test_options_are_refused_by_their_names(flag):
    with pytest.raises(UserError, match=f"^{flag} is -1"):
        options("--steps", "1", f"{flag}=-1")
    with pytest.raises(UserError, match=r"^--val-every is -1"):
        options("--steps", "1", "--val-every=-1m")


def test_impossible_networks_are_refused(settings):
    with pytest.raises(UserError, match="channels"):
        train(replace(settings, config={"channels": 0}))


# ------------------------------------------------------------------------------- helpers


def test_timers():
    timer = Timer(10.0, now=5.0)
    assert [timer.due(1, now) for now in (6.0, 14.9, 15.0, 16.0, 25.0)] == [0, 0, 1, 0, 1]
    timer.postpone(27.0)
    assert [timer.due(1, now) for now in (26.0, 27.0)] == [False, True]
    assert not Timer(0.0, now=0.0).due(1, 1e9)
    assert [step for step in range(1, 10) if Timer(0.0, 0.0, steps=4).due(step, 0.0)] == [4, 8]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(40, "40 s"), (720, "12 min"), (11100, "3 h 05 min"), (float("inf"), "unknown time")],
)
def test_durations(seconds, text):
    assert duration(seconds) == text
