"""Peak memory is what was really taken, or not told."""

import ctypes
import importlib.util
import platform
import sys

import numpy as np
import pytest
import torch

from masa import memory
from masa.memory import Peak, measured_peak

CPU = torch.device("cpu")
MEGABYTE = 2**20

linux = pytest.mark.skipif(platform.system() != "Linux", reason="only Linux tells")


@linux
def test_the_most_at_a_time_counts_even_if_it_is_freed():
    kept = np.ones(100 * MEGABYTE, np.uint8)  # in use before: not counted
    with measured_peak(CPU) as peak:
        assert peak == Peak("cpu")
        for _ in range(3):
            np.ones(200 * MEGABYTE, np.uint8)
    assert 198 * MEGABYTE < peak.bytes < 300 * MEGABYTE  # the system counts in batches
    with measured_peak(CPU) as later:
        pass
    assert later.bytes < 50 * MEGABYTE
    assert kept[0] == 1


def test_where_it_cannot_be_measured_nothing_is_claimed(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "_RESET", tmp_path / "missing")
    with measured_peak(CPU) as peak:
        pass
    assert peak.bytes is None
    monkeypatch.setattr(memory, "_RESET", tmp_path / "reset")
    monkeypatch.setattr(memory, "_STATUS", tmp_path / "missing")
    (tmp_path / "reset").touch()
    with measured_peak(CPU) as peak:
        pass
    assert peak.bytes is None


def test_without_a_c_library_nothing_is_tuned(monkeypatch):
    """As on Windows, where none can be opened without its name."""

    def unnamed(name):
        raise TypeError("bad argument type for built-in operation")

    monkeypatch.setattr(ctypes, "CDLL", unnamed)
    spec = importlib.util.spec_from_file_location("fresh", memory.__file__)
    fresh = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "fresh", fresh)  # where dataclasses look their module up
    spec.loader.exec_module(fresh)
    fresh.keep_freed_memory()
    fresh.give_back()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_tensors_count():
    device = torch.device("cuda")
    with measured_peak(device) as peak:
        torch.ones(64 * MEGABYTE, dtype=torch.uint8, device=device)
    assert peak == Peak("cuda", 64 * MEGABYTE)
