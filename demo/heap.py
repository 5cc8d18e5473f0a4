"""Memory that is free again goes back to the system, where the C library is glibc.

By itself it keeps a pool per thread, and what a visitor's run took stays with the process: after
thirty visitors several hundred megabytes.
"""

from __future__ import annotations

import ctypes

_ARENA_MAX = -8  # M_ARENA_MAX of <malloc.h>
_ARENAS = 2


def share_pools() -> None:
    """Let threads share few pools of memory; to be called before there are threads."""
    if hasattr(_LIBRARY, "mallopt"):
        _LIBRARY.mallopt(_ARENA_MAX, _ARENAS)


def give_back() -> None:
    """Return free memory to the system: milliseconds."""
    if hasattr(_LIBRARY, "malloc_trim"):
        _LIBRARY.malloc_trim(0)


_LIBRARY = ctypes.CDLL(None)
