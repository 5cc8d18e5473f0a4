"""Training survives a full disk, and says what else went wrong."""

import errno
import math
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers import is_one_sentence
from outcome import checkpoint_of

import masa.training.trainer
from masa.errors import UserError
from masa.training.checkpoint import load_checkpoint, save_checkpoint
from masa.training.runlog import RunLog
from masa.training.trainer import Trainer, train
from masa.weights import save_weights


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
    assert (Path(settings.out) / "final.safetensors").is_file()  # smaller: there was room for it


@pytest.mark.parametrize("name", ["taken", "taken/below", "n" * 300])  # no disk has such a name
def test_a_folder_that_cannot_be_made_is_refused_before_the_first_step(settings, tmp_path, name):
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(UserError, match="Nothing can be written to"):
        Trainer(replace(settings, out=str(tmp_path / name)))
    assert (tmp_path / "taken").read_text() == "a file"


def test_so_is_one_that_is_there_and_takes_no_file(settings, monkeypatch):
    def read_only(dir):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(masa.training.trainer, "TemporaryFile", read_only)
    with pytest.raises(UserError, match="Read-only file system"):
        Trainer(settings)


def test_nothing_is_left_of_the_trial_to_write(settings):
    assert list(Trainer(settings).out.iterdir()) == []


def test_the_best_weights_are_written_when_there_is_room_again(settings, scenes, monkeypatch):
    full = True

    def save(path, *arguments):
        if full and path.name == "best.safetensors":
            raise OSError(errno.ENOSPC, "No space left on device")
        save_weights(path, *arguments)

    monkeypatch.setattr(masa.training.trainer, "save_weights", save)
    trainer = Trainer(replace(settings, val=str(scenes)))
    log = RunLog(trainer.out, None, False)
    trainer._validate(log)
    assert trainer.best is None  # nothing is kept, so nothing is the best that is kept
    full = False
    trainer._validate(log)
    assert trainer.best is not None and (trainer.out / "best.safetensors").is_file()
    # Likewise where the best that are kept were chosen on other scenes.
    full, trainer.best, trainer._best_on = True, 99.0, ("elsewhere", "off")
    trainer._validate(log)
    assert trainer.best == 99.0
    full = False
    trainer._validate(log)
    assert trainer.best < 99.0


@pytest.mark.filterwarnings("ignore:A training pair is left out")
@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_pictures_that_vanish_are_one_sentence_from_another_process_too(pairs, settings, tmp_path):
    copied = shutil.copytree(pairs, tmp_path / "pairs")
    trainer = Trainer(replace(settings, data=str(copied), cache=False, workers=1))
    shutil.rmtree(copied)
    with pytest.raises(UserError) as caught:
        trainer.run()
    assert is_one_sentence(str(caught.value))


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


def test_too_large_a_batch_is_a_sentence(settings, monkeypatch):
    def full(self, batch):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    monkeypatch.setattr(Trainer, "advance", full)
    with pytest.raises(UserError, match="--batch"):
        train(settings)
