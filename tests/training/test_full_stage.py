"""The full objective: from the command to the card."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from outcome import checkpoint_of, log_of, same_run
from safetensors.torch import save_file
from torch import nn

import masa.training.build
import masa.training.trainer
from masa.__main__ import main
from masa.config import MASAConfig
from masa.errors import UserError
from masa.network.model import MASA
from masa.training import vgg
from masa.training.discriminator import Discriminator
from masa.training.history import TrainingRun, history_json
from masa.training.trainer import Trainer, train
from masa.weights import invents_detail, save_weights, trained_full


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
    assert {"l1", "perceptual", "adversarial", "grid", "discriminator"} <= lines[1].keys()
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
        f"--data {pairs} --out {out} --init {start} --stage full --steps 3 --batch 2 --crop 32 "
        "--grid-weight 0.5"
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
    assert "the adversarial loss (weight 0.005), and a loss of a grid (weight 0.5)." in text


def test_what_is_trained_on_from_the_stage_full_says_so_too(settings, stop_after, tmp_path):
    """Also when it goes on, and the weights that it began with are gone."""
    start = tmp_path / "start.safetensors"
    config = MASAConfig(channels=4)
    save_weights(start, MASA(config).state_dict(), config, {"stage": "full"})
    settings = replace(settings, init=str(start))
    stop_after(1)
    train(settings)
    start.unlink()
    stop_after(None)
    train(replace(settings, init=None))
    assert trained_full(Path(settings.out) / "final.safetensors")
    train(replace(settings, init=None, out=str(tmp_path / "other")))
    assert not trained_full(tmp_path / "other" / "final.safetensors")
