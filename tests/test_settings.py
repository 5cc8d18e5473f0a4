"""Bounds of the page and the command line follow the memory that there is."""

import argparse

import pytest

from demo.page import front
from demo.runs import request
from demo.settings import FEATURE_MEMORY, MEMORY, SESSION_MEMORY
from masa.commands import options
from masa.machine.memory import AMPLE, memory_bound
from masa.predictor import DEFAULT_MEMORY


def test_bounds_hold_where_there_is_memory():
    assert memory_bound(AMPLE, MEMORY) == memory_bound(64 * AMPLE, MEMORY) == MEMORY
    assert memory_bound(AMPLE, SESSION_MEMORY) == SESSION_MEMORY


def test_in_a_small_container_all_bounds_together_leave_a_third():
    for limit in (2**30, 4 * 2**30, 8 * 2**30, AMPLE):
        bounds = [memory_bound(limit, most) for most in (MEMORY, FEATURE_MEMORY, SESSION_MEMORY)]
        assert 0 < sum(bounds) <= 0.67 * limit
    assert memory_bound(5 * 2**30, MEMORY) == 2 * 2**30


def test_the_page_takes_what_a_container_has(monkeypatch):
    built = {}
    for module in (front, request):
        monkeypatch.setattr(module, "memory_limit", lambda: 5 * 2**30)
    monkeypatch.setattr(request, "Predictor", lambda *args, **options: built.update(options))
    request._predictor.__wrapped__("masa-rec", "cpu")
    assert built["memory"] == 2 * 2**30
    assert front.Front(analytics_enabled=False).shelf._most == SESSION_MEMORY // 3


@pytest.mark.parametrize(
    ("limit", "words", "allowed"),
    [
        (AMPLE, [], DEFAULT_MEMORY),
        (64 * AMPLE, [], DEFAULT_MEMORY),
        (AMPLE // 4, [], DEFAULT_MEMORY // 4),
        (AMPLE // 4, ["--memory", "8"], 8 * 2**30),
    ],
)
def test_a_command_takes_what_a_container_has(monkeypatch, limit, words, allowed):
    monkeypatch.setattr(options, "memory_limit", lambda: limit)
    parser = argparse.ArgumentParser()
    options.add_memory(parser)
    assert parser.parse_args(words).memory == allowed
