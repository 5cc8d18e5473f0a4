"""Training goes on exactly where it stopped, and what it leaves tells how it went."""

import io
import json
import os
import signal
import sys
from dataclasses import replace
from multiprocessing import active_children
from pathlib import Path
from typing import get_args

import pytest
import torch
from accelerate.state import AcceleratorState
from helpers import needs_bf16
from outcome import checkpoint_of, equal, log_of, same_run

import masa.training.console
import masa.training.trainer
from masa.config import MASAConfig
from masa.errors import UserError
from masa.network.model import MASA
from masa.training.checkpoint import load_checkpoint, save_checkpoint
from masa.training.data import Augmentation
from masa.training.history import read_run
from masa.training.settings import OptimizerName
from masa.training.trainer import train
from masa.weights import save_weights


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


def test_a_new_run_does_not_keep_the_best_of_the_one_before(settings, scenes, stop_after, capsys):
    settings, best = replace(settings, steps=1), Path(settings.out) / "best.safetensors"
    validated = replace(settings, val=str(scenes))
    train(validated)

    def fail(trainer):
        raise UserError("No memory.")

    stop_after(1, fail)
    with pytest.raises(UserError, match="No memory"):
        train(settings, resume=False)
    stop_after(None)
    train(replace(settings, steps=2))
    assert best.is_file()  # no other run has come as far as a checkpoint
    assert "removed" not in capsys.readouterr().err
    train(settings, resume=False)
    assert not best.exists()
    assert f"'{best}' was of the run before" in capsys.readouterr().err
    train(validated, resume=False)
    assert best.is_file()
    train(replace(settings, init=str(best)), resume=False)
    train(replace(settings, steps=2))
    assert best.is_file()  # what it began with


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


@needs_bf16
def test_another_precision_is_told_and_noted(settings, fresh_accelerate, capsys):
    train(replace(settings, steps=1))
    AcceleratorState._reset_state(reset_partial_state=True)
    train(replace(settings, steps=2, precision="bf16"))
    assert "cpu, bf16 (fp32 before)" in capsys.readouterr().err
    runs, _ = read_run(Path(settings.out))
    assert [run.settings["precision"] for run in runs] == ["fp32", "bf16"]


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
