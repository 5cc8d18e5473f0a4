"""What training does to the weights: it starts from the right ones, and the loss falls."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from helpers import needs_bf16
from outcome import checkpoint_of, equal, log_of

from masa.config import MASAConfig
from masa.errors import UserError
from masa.network.model import MASA
from masa.training.build import make_model
from masa.training.settings import Settings, scheduled_learning_rate
from masa.training.trainer import Summary, Trainer, train
from masa.weights import save_weights


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


def test_the_average_has_the_decay_that_is_asked_for(settings, monkeypatch):
    """From a step on in which its ramp, (1 + step) / (10 + step), is above that."""
    monkeypatch.setattr(Trainer, "_average", lambda self: None)
    train(replace(settings, steps=4))
    before = checkpoint_of(settings)
    monkeypatch.undo()
    train(replace(settings, steps=5, ema=0.2))
    after = checkpoint_of(settings)
    key = "enc.conv_L1.weight"
    expected = 0.2 * before["ema"][key] + 0.8 * after["model"][key]
    assert torch.allclose(after["ema"][key], expected, atol=1e-7)


@pytest.mark.parametrize("optimizer", ["adam", "muon"])
def test_all_parameters_have_the_scheduled_learning_rate(settings, optimizer):
    settings = replace(settings, steps=4, optimizer=optimizer, config={"channels": 16})
    train(settings)
    groups = checkpoint_of(settings)["optimizer"]["param_groups"]
    assert len(groups) == (2 if optimizer == "muon" else 1)
    expected = scheduled_learning_rate(settings, 3, 3 / 4)
    assert [group["lr"] for group in groups] == pytest.approx([expected] * len(groups))


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
