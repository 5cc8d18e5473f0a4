"""How much memory a piece of work took, measured or not claimed at all; and what is kept."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
    give_back()  # kept by the C library, it would be used again without being counted
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


def peak_resident() -> int | None:
    """The most memory this process ever had resident, in bytes; ``None`` where it is not told."""
    return _status("VmHWM")


def keep_freed_memory() -> None:
    """Let the C library reuse large blocks rather than return them to the system after each use.

    Feature maps of a training step are larger than what it keeps by default, and asking for their
    pages anew each time takes long. A page that serves many sizes would only grow by
    it, because they leave gaps. Does nothing where the C library is not glibc.
    """
    _tune(_MMAP_MAX, 0)
    _tune(_TRIM_THRESHOLD, 2**31 - 1)
    _tune(_TOP_PAD, 256 * 2**20)


def share_pools() -> None:
    """Let threads share few pools of memory; to be called before there are threads.

    By itself glibc has a pool per thread, and what a thread's work took stays in its pool.
    """
    _tune(_ARENA_MAX, 2)


def give_back() -> None:
    """Return memory that is free, but kept by the C library, to the system: milliseconds."""
    if hasattr(_LIBRARY, "malloc_trim"):
        _LIBRARY.malloc_trim(0)


_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX, _ARENA_MAX = -1, -2, -4, -8  # of glibc's <malloc.h>
_LIBRARY: Any = None
with suppress(TypeError):  # Windows wants a library's name
    _LIBRARY = ctypes.CDLL(None)


def _tune(parameter: int, value: int) -> None:
    if hasattr(_LIBRARY, "mallopt"):
        _LIBRARY.mallopt(parameter, value)
