"""How much memory a piece of work took: measured, or not claimed at all."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@dataclass
class Peak:
    """The most memory in use at a time, beyond what was in use before."""

    device: str
    """``cuda``: tensors on the GPU. ``cpu``: the whole process, whatever its other threads do."""
    bytes: int | None = None
    """``None`` until the work is done, and where it cannot be measured."""


@contextmanager
def measured_peak(device: torch.device) -> Iterator[Peak]:
    """Measures the block; the peak it gives is complete when the block has ended.

    On a GPU this is what PyTorch had allocated there. Elsewhere it is the process' resident
    memory, whose high-water mark only Linux can start anew; other systems give ``None``. Blocks
    must not overlap in one process.
    """
    peak = Peak("cuda" if device.type == "cuda" else "cpu")
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        yield peak
        peak.bytes = torch.cuda.max_memory_allocated(device) - before
        return
    resident = _start_anew()
    yield peak
    highest = None if resident is None else _status("VmHWM")
    if resident is not None and highest is not None:
        peak.bytes = max(0, highest - resident)


def _start_anew() -> int | None:
    """Lowers the high-water mark to what is resident now, which is returned; ``None`` if denied."""
    if not _RESET.exists():
        return None
    # Memory that was freed but kept by the C library would be used again without being counted.
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
    try:
        _RESET.write_text("5")
    except OSError:
        return None
    return _status("VmRSS")


def _status(name: str) -> int | None:
    """A size that Linux tells of this process, in bytes."""
    try:
        found = re.search(rf"^{name}:\s+(\d+) kB$", _STATUS.read_text(), re.MULTILINE)
    except OSError:
        return None
    return None if found is None else 1024 * int(found[1])
