"""Several processes train as one."""

import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from outcome import checkpoint_of, log_of

import masa.training.trainer
import masa.training.validation
from masa.errors import UserError
from masa.predictor import Predictor
from masa.training.history import read_run
from masa.training.trainer import Trainer, train
from masa.weights import read_state

ROOT = Path(__file__).resolve().parents[2]


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
    assert list(Path(settings.out).iterdir()) == []
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
    # A later session goes on after the samples of both.
    assert checkpoint_of(double)["samples"] == checkpoint_of(single)["samples"] == 8
    (run,), _ = read_run(Path(double.out))
    assert run.settings["batch"] == 4
    for name in ("best", "final"):
        assert read_state(Path(double.out) / f"{name}.safetensors")[1]["batch"] == "4"
