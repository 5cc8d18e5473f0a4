"""Peak memory is what was really taken, or not told."""

import ctypes
import importlib.util
import json
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

from masa.machine import memory
from masa.machine.memory import Peak, control_group_limits, measured_peak, memory_limit

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


GIGABYTE = 2**30


def groups(folder, process_groups, limits):
    """A made-up ``/proc/self/cgroup`` and ``/sys/fs/cgroup``; the limits that a process has."""
    (folder / "cgroup").write_text("".join(f"{line}\n" for line in process_groups))
    for name, limit in limits.items():
        file = folder / "sys" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{limit}\n")
    return control_group_limits(folder / "cgroup", folder / "sys")


V1_UNLIMITED = 9223372036854771712


@pytest.mark.parametrize(
    ("process_groups", "limits", "least"),
    [
        (["0::/"], {}, None),  # the machine's own group has no such file
        (["0::/"], {"memory.max": 3 * GIGABYTE}, 3 * GIGABYTE),
        (["0::/a/b"], {"a/b/memory.max": 5, "a/memory.max": 9, "c/memory.max": 1}, 5),
        (["0::/a/b"], {"a/b/memory.max": "max", "a/memory.max": 7}, 7),
        (["0::/a/b"], {"a/b/memory.max": "max", "a/memory.max": "max"}, None),
        (["0::/on/the/host"], {"memory.max": 4}, 4),
        (["0::/../other"], {"memory.max": 4}, 4),
        (
            ["5:cpu:/d", "4:name=memory:/d", "3:pids,memory:/a", "0::/"],
            {
                "memory/memory.limit_in_bytes": V1_UNLIMITED,
                "memory/a/memory.limit_in_bytes": 6,
                "memory/d/memory.limit_in_bytes": 1,
                "cpu/d/memory.limit_in_bytes": 1,
            },
            6,
        ),
        (["4:memory:/docker/1f"], {"memory/memory.limit_in_bytes": 8}, 8),
        (["1:name=systemd:/", "0::/a:b"], {"unified/a:b/memory.max": 2}, 2),
    ],
)
def test_the_limits_of_control_groups(tmp_path, process_groups, limits, least):
    assert min(groups(tmp_path, process_groups, limits), default=None) == least


def test_without_control_groups_there_are_no_limits(tmp_path):
    assert control_group_limits(tmp_path / "missing", tmp_path) == []


def test_the_memory_limit_is_the_machine_s_or_the_group_s(monkeypatch, tmp_path):
    total = psutil.virtual_memory().total
    monkeypatch.setattr(memory, "_PROCESS_GROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(memory, "_GROUPS", tmp_path / "sys")
    assert memory_limit() == pytest.approx(total, rel=0.01)
    groups(tmp_path, ["0::/"], {"memory.max": 5 * MEGABYTE})
    assert memory_limit() == 5 * MEGABYTE
    groups(tmp_path, ["0::/"], {"memory.max": V1_UNLIMITED})
    assert memory_limit() == pytest.approx(total, rel=0.01)
    monkeypatch.delattr(memory.os, "sysconf")  # as on Windows
    (tmp_path / "cgroup").unlink()
    assert memory_limit() == sys.maxsize


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


RUN = """
import json, sys
import numpy as np, torch
from masa import MASA, Predictor
from masa.machine.cache import FeatureCache
from masa.reference.canvas import canvas_sizes
from masa.machine.memory import measured_peak

lr, ref, tile, keep = json.loads(sys.argv[1])
rng = np.random.default_rng(0)
small, sharp = (rng.integers(0, 256, (side, side, 3), np.uint8) for side in (lr, ref))
predictor = Predictor(MASA(), "cpu", "fp32", features=FeatureCache(0))
predictor.run(small[:16, :16], [sharp[:64, :64]])  # what libraries take at first is not a run's
sizes = canvas_sizes((lr, lr), [(ref, ref)], predictor.config)
predictor.memory = predictor.predicted_bytes(*sizes, tile, keep)
taken = []
for _ in range(3):  # later runs find gaps in freed memory
    with measured_peak(predictor.device) as peak:
        tile = predictor.run(small, [sharp], keep=keep).tile
    assert peak.bytes is not None, "the peak was not measured"
    taken.append(peak.bytes)
print(json.dumps([tile, predictor.memory, max(taken)]))
"""


@linux
@pytest.mark.slow
@pytest.mark.parametrize(
    ("lr", "ref", "wanted", "keep"),
    [(16, 1024, 32, ()), (128, 512, 32, ()), (128, 128, 32, (1, 2, 4)), (64, 256, None, ())],
    ids=str,
)
def test_a_run_stays_below_the_memory_allowed(lr, ref, wanted, keep):
    """In a process of its own, whose memory nothing else takes."""
    command = [sys.executable, "-c", RUN, json.dumps([lr, ref, wanted, keep])]
    root = Path(__file__).resolve().parent.parent
    done = subprocess.run(command, capture_output=True, text=True, cwd=root, check=True)
    tile, allowed, taken = json.loads(done.stdout)
    assert (tile is None) == (wanted is None)
    assert 0 < taken <= allowed
