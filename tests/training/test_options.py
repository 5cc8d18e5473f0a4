"""The command's options and the settings behind them."""

import argparse
from dataclasses import replace

import pytest
from outcome import log_of

from masa.__main__ import main
from masa.commands.train import add_arguments, parse_interval, settings_from
from masa.errors import UserError
from masa.training import console
from masa.training.console import Display, duration
from masa.training.data import Augmentation
from masa.training.settings import Settings
from masa.training.trainer import Timer, train


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
        {"grid_weight": -1.0},
        {"seed": 2**64},
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


def test_without_a_terminal_a_line_a_minute_tells_how_far_it_is(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr(console.time, "perf_counter", lambda: now[0])
    display = Display(0.25, active=True)
    for second in range(0, 130, 10):
        now[0], display.loss = float(second), 0.5
        display.show(step=second, progress=0.25 + second / 400)
    display.close()
    assert capsys.readouterr().err.splitlines() == [
        "40.0 %, step 60, loss 0.50000, 4 min left",
        "55.0 %, step 120, loss 0.50000, 3 min left",
    ]


def test_at_a_terminal_a_bar_tells_how_far_it_is(monkeypatch, capsys):
    monkeypatch.setattr(console.sys.stderr, "isatty", lambda: True, raising=False)
    display = Display(0.0, active=True)
    display.show(step=3, progress=0.5)
    display.close()
    told = capsys.readouterr().err
    assert "50.0%" in told and "step 3" in told
    Display(0.0, active=False).show(step=4, progress=0.6)
    assert not capsys.readouterr().err
