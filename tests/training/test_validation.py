"""Validation measures the averaged weights, keeps the best, and never costs a run."""

import json
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import is_one_sentence, needs_bf16, picture
from outcome import checkpoint_of, log_of
from PIL import Image

import masa.measuring.evaluate
import masa.training.trainer
import masa.training.validation
from masa.config import MASAConfig
from masa.errors import UserError
from masa.measuring.evaluate import SceneScores, Score
from masa.pictures.degradation import PRESETS, lr_from_hr
from masa.pictures.resize import enlarge_x4
from masa.predictor import Predictor
from masa.training.build import validation_scenes
from masa.training.checkpoint import save_checkpoint
from masa.training.data import Augmentation
from masa.training.trainer import Trainer, train
from masa.training.validation import Validation
from masa.weights import load_model, read_state


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


def test_a_validation_that_was_interrupted_is_made_up_for(settings, scenes, stop_after, tmp_path):
    settings = replace(settings, val=str(scenes), val_steps=2)
    train(settings)
    halves = replace(settings, out=str(tmp_path / "halves"))
    stop_after(2)
    assert train(halves).step == 2
    stop_after(None)
    assert train(halves).finished
    assert log_of(halves) == log_of(settings)


def test_scenes_have_their_first_reference_alone(tmp_path):
    """Also those of the page's examples, which may have several."""
    entries = [{"name": n, "hr": f"{n}.png", "refs": [f"{n}_a.png", f"{n}_b.png"]} for n in "xy"]
    (tmp_path / "examples.json").write_text(json.dumps(entries))
    scenes = validation_scenes(str(tmp_path))
    assert [scene.refs for scene in scenes] == [(tmp_path / f"{n}_a.png",) for n in "xy"]


def test_a_scene_without_a_first_reference_is_one_sentence_of_train(settings, tmp_path):
    for name in ("000_0", "000_2", "001_0", "001_1"):
        Image.fromarray(picture(48, 48)).save(tmp_path / f"{name}.png")
    with pytest.raises(UserError, match="has no reference 1, only 2: ") as caught:
        train(replace(settings, val=str(tmp_path)))
    assert "--refs" not in str(caught.value) and is_one_sentence(str(caught.value))


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


def test_the_best_is_chosen_anew_on_other_scenes_or_lrs(settings, scenes, monkeypatch, capsys):
    """Not where the folder is only called by another name, or after a session without scenes."""
    psnr = iter((31.0, 32.0, 30.0, 29.0, 28.0, 27.0))
    monkeypatch.setattr(Validation, "scores", lambda self, model, stopping: [flat(next(psnr))])

    def best_of(steps, degrade, val):
        """Best PSNR and the step of the best weights, and whether other ones were given up."""
        augmentation = Augmentation(degrade=degrade)
        summary = train(replace(settings, steps=steps, val=val, augmentation=augmentation))
        metadata = read_state(Path(settings.out) / "best.safetensors")[1]
        assert metadata["best_val_psnr"] == f"{summary.best:.4f}"
        return summary.best, int(metadata["step"]), "chosen on other" in capsys.readouterr().err

    def make_older():
        state = checkpoint_of(settings)
        del state["best_on"]
        save_checkpoint(Path(settings.out) / "last.pt", state)

    one, other = str(scenes), settings.data
    assert best_of(1, "off", one) == (32.0, 1, False)
    assert best_of(2, "photo", one) == (30.0, 2, True)
    make_older()
    assert best_of(3, "photo", one) == (30.0, 2, False)
    make_older()
    assert best_of(4, "photo", other) == (28.0, 4, True)
    assert best_of(5, "photo", None) == (28.0, 4, False)
    assert best_of(6, "photo", os.path.relpath(other)) == (28.0, 4, False)


@pytest.mark.parametrize(
    ("degrade", "presets"), [("off", ("clean", "clean")), ("photo", ("clean", "web JPEG 90"))]
)
def test_scenes_are_degraded_like_what_is_trained_on(
    settings, scenes, monkeypatch, degrade, presets
):
    seen = []

    def upscale(lr, ref):
        seen.append(lr)
        return enlarge_x4(lr)

    monkeypatch.setattr(masa.training.validation, "predictor_upscale", lambda *_: upscale)
    augmentation = Augmentation(degrade=degrade)
    trainer = Trainer(replace(settings, val=str(scenes), augmentation=augmentation))
    assert trainer.validation.scores(trainer.ema, lambda: False)
    assert len(seen) == 2 * 3  # with the scene's reference, the LR itself and an unrelated one
    for number, lr in enumerate(seen):
        scene = number // 3
        hr = picture(48, 64, 10 + scene)
        assert np.array_equal(lr, lr_from_hr(hr, PRESETS[presets[scene]], seed=scene)[0])


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


def test_short_sessions_are_validated_too(settings, scenes, stop_after, monkeypatch):
    clock = iter(range(10**6))  # a second passes each time somebody looks
    monkeypatch.setattr(masa.training.trainer.time, "perf_counter", lambda: float(next(clock)))
    monkeypatch.setattr(Validation, "scores", lambda self, model, stopping: [flat()])
    often = replace(settings, val=str(scenes), val_minutes=0.4, steps=30)
    for step in range(3, 30, 3):  # some 10 seconds each
        stop_after(step)
        train(often)
    validated = [line["seconds"] for line in log_of(often, ()) if "val_ref" in line]
    assert len(validated) > 2
    assert all(24 <= gap < 48 for gap in np.diff(validated))


def flat(psnr=20.0):
    score = Score(psnr, 0.5, 1.0, 0.5, 0.0, 0.0)
    methods = ("bicubic", "masa", "self", "unrelated")
    return SceneScores("flat", dict.fromkeys(methods, score), {"hr": picture(8, 8)})
