"""The log of a run: what a full disk leaves of it can be read."""

import contextlib
import os
import resource
import sys

import numpy as np
import pytest

import masa.training.runlog
from masa.training.console import say
from masa.training.runlog import RunLog, read_log, strip


def line(step):
    return {"step": step, "seconds": step / 4, "loss": 0.25}


@pytest.fixture
def no_board(monkeypatch):
    """Without TensorBoard's files."""
    monkeypatch.setattr(masa.training.runlog, "_tensorboard", lambda folder, step: None)


@pytest.mark.usefixtures("no_board")
def test_a_line_that_was_cut_off_does_not_spoil_the_next(tmp_path, capsys):
    log, path = RunLog(tmp_path, None, active=True), tmp_path / "log.jsonl"
    log.write(line(1))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 9, limits[1]))
    try:
        log.write(line(2))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_text().endswith('\n{"step": ')
    assert "could not be written" in capsys.readouterr().err
    log.write(line(3))
    assert read_log(path) == [line(1), line(3)]
    RunLog(tmp_path, 3, active=True).write(line(4))  # the next session
    assert read_log(path) == [line(1), line(3), line(4)]
    assert len(path.read_text().splitlines()) == 3


@pytest.mark.usefixtures("no_board")
def test_settings_are_said_when_they_change(tmp_path):
    log = RunLog(tmp_path, None, active=True)
    assert not log.tells_settings
    log.settings(0, 0.0, {"lr": 1.0})
    log.settings(0, 0.0, {"lr": 1.0})
    log.write(line(1))
    log = RunLog(tmp_path, 1, active=True)
    assert log.tells_settings
    log.settings(1, 0.5, {"lr": 1.0})
    log.settings(1, 0.5, {"lr": 2.0})
    said = [found["settings"]["lr"] for found in read_log(tmp_path / "log.jsonl")[::2]]
    assert said == [1.0, 2.0]
    assert not RunLog(tmp_path, None, active=True).tells_settings  # anew
    assert read_log(tmp_path / "log.jsonl") == []


@pytest.mark.parametrize(("step", "left"), [(None, [1]), (1, [1, 2])])
def test_tensorboard_forgets_what_the_log_forgets(tmp_path, step, left):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    log = RunLog(tmp_path, None, active=True)
    for number in (1, 2, 3):
        log.write(line(number))
    log.close()
    (events,) = tmp_path.glob("events*")
    events.rename(tmp_path / "events.out.tfevents.1.earlier")  # files are read by their names
    log = RunLog(tmp_path, step, active=True)
    log.write(line(1 if step is None else step + 1))
    log.close()
    board = EventAccumulator(str(tmp_path)).Reload()
    assert [found.step for found in board.Scalars("train/loss")] == left


def test_what_is_no_line_of_a_log_is_left_out(tmp_path):
    path = tmp_path / "log.jsonl"
    assert read_log(path) == []
    path.write_bytes(b'\n[1]\n7\n{"step": 1}\n{"step": 1, "seconds": NaN}\n\0\xff\n')
    assert read_log(path) == []


def test_strips_are_as_high_as_their_highest_picture():
    row = strip([np.zeros((4, 3, 3), np.uint8), np.zeros((6, 2, 3), np.uint8)])
    assert row.shape == (6, 5, 3)
    assert (row[4:, :3] == 255).all()
    assert (row[:, 3:] == 0).all()


def test_a_line_that_nobody_reads_is_lost_without_a_word(monkeypatch):
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "w") as pipe:
        monkeypatch.setattr(sys, "stderr", pipe)
        say("Stopping after this step.")
        with contextlib.suppress(BrokenPipeError):
            pipe.close()  # what is left in its buffer
        say("And when it is closed.")
