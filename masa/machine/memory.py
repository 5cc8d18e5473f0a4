"""Memory: what a block of code took, what the process may take, and settings of malloc."""

from __future__ import annotations

import ctypes
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
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
    """Measures the peak memory of the ``with`` block; ``Peak.bytes`` is set when it ends.

    On a GPU this is what PyTorch had allocated there. Elsewhere it is the process's resident
    memory, whose recorded peak only Linux can reset; on other systems ``bytes`` stays ``None``.
    Blocks must not overlap in one process.
    """
    peak = Peak("cuda" if device.type == "cuda" else "cpu")
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        yield peak
        peak.bytes = torch.cuda.max_memory_allocated(device) - before
        return
    resident = _reset_peak()
    yield peak
    highest = None if resident is None else _status("VmHWM")
    if resident is not None and highest is not None:
        peak.bytes = max(0, highest - resident)


def _reset_peak() -> int | None:
    """Resets the recorded peak to the resident memory, which is returned; ``None`` if denied."""
    if not _RESET.exists():
        return None
    give_back()  # memory that the C library kept would be reused without being counted
    try:
        _RESET.write_text("5")
    except OSError:
        return None
    return _status("VmRSS")


def _status(name: str) -> int | None:
    """A size from ``/proc/self/status`` in bytes; ``None`` where there is none."""
    try:
        found = re.search(rf"^{name}:\s+(\d+) kB$", _STATUS.read_text(), re.MULTILINE)
    except OSError:
        return None
    return None if found is None else 1024 * int(found[1])


def peak_resident() -> int | None:
    """Peak resident memory of this process in bytes; ``None`` where it is not known."""
    return _status("VmHWM")


_PROCESS_GROUPS, _GROUPS = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")


def memory_limit() -> int:
    """Bytes that this process may take: the machine's memory, or less inside a container.

    Where neither is known, as on Windows, ``sys.maxsize``.
    """
    return min([_machine_memory(), *control_group_limits(_PROCESS_GROUPS, _GROUPS)])


AMPLE = 15 * 2**30
"""Bytes of memory of a machine, or its container, from which on bounds apply in full."""


def memory_bound(limit: int, most: int) -> int:
    """``most`` bytes, or the same share of less memory, where only ``limit`` bytes may be used.

    On the page it bounds a run, the kept features and the sessions alike, and a third of the limit
    is left for everything else: a container is killed if all together take more.
    """
    return min(most, most * limit // AMPLE)


def control_group_limits(process_groups: Path, groups: Path) -> list[int]:
    """Limits in bytes that Linux control groups (version 1 or 2) set on a process's memory.

    ``process_groups`` is the file that names the process's groups, as ``/proc/self/cgroup``;
    ``groups`` is the folder that the groups are mounted at, as ``/sys/fs/cgroup``. A group's
    parents limit it too. Inside a container, the mounted folder may itself be the process's group
    although the file names it by its path on the host; so the folder's own limit always counts.
    """
    try:
        lines = process_groups.read_text().splitlines()
    except OSError:
        return []
    limits = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            mounts, name = [groups, groups / "unified"], "memory.max"
        elif "memory" in controllers.split(","):
            mounts, name = [groups / "memory"], "memory.limit_in_bytes"
        else:
            continue
        for mount in mounts:
            group = PurePosixPath(path).relative_to("/")
            files = [mount / parent / name for parent in (group, *group.parents)]
            limits += [limit for file in files if (limit := _number(file)) is not None]
    return limits


def _number(file: Path) -> int | None:
    """The number in a file; ``None`` without a file, or for a word, as ``max`` for no limit."""
    try:
        text = file.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdecimal() else None


def _machine_memory() -> int:
    """The machine's memory in bytes; ``sys.maxsize`` where Python cannot tell it."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return sys.maxsize


def keep_freed_memory() -> None:
    """Let the C library keep freed blocks of any size instead of returning them to the system.

    By default it returns blocks as large as a training step's feature maps, and it takes long to
    get their pages from the system again. Not for a server: images of many sizes fragment the
    memory that is kept, which then grows. Does nothing where the C library is not glibc.
    """
    _tune(_MMAP_MAX, 0)
    _tune(_TRIM_THRESHOLD, 2**31 - 1)
    _tune(_TOP_PAD, 256 * 2**20)


def share_pools() -> None:
    """Limit glibc to two malloc arenas; to be called before threads are started.

    By default threads have arenas of their own, each of which keeps memory that was freed in it.
    """
    _tune(_ARENA_MAX, 2)


def give_back() -> None:
    """Return the freed memory that the C library keeps to the system; takes milliseconds."""
    if hasattr(_LIBRARY, "malloc_trim"):
        _LIBRARY.malloc_trim(0)


_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX, _ARENA_MAX = -1, -2, -4, -8  # of glibc's <malloc.h>
_LIBRARY: Any = None
with suppress(TypeError):  # on Windows, CDLL needs a library's name
    _LIBRARY = ctypes.CDLL(None)


def _tune(parameter: int, value: int) -> None:
    if hasattr(_LIBRARY, "mallopt"):
        _LIBRARY.mallopt(parameter, value)
