"""Numbers that bound what one visitor may ask of a public page."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from masa.pictures.photo import DEFAULT_LIMITS

_PACKAGE = Path(__file__).resolve().parent
_INSIDE = _PACKAGE / "_assets"
ASSETS = _INSIDE if _INSIDE.is_dir() else _PACKAGE.parent / "assets"
"""Where ``examples`` lie: inside the package where it was installed, beside it in the repository.
"""

LIMITS = replace(
    DEFAULT_LIMITS,
    max_file_bytes=15 * 2**20,
    max_pixels=25_000_000,
    max_lr_pixels=512 * 512,
    max_ref_pixels=1024 * 1024,
)
"""Smaller than the command line's: a free host has two cores, and others are waiting."""

MEMORY = 6 * 2**30
"""Bytes one run may take; less where :func:`masa.machine.memory.memory_bound` says so."""

FEATURES = 8
"""Encoded photos and references that all networks together keep: a pair for each of four."""

FEATURE_MEMORY = 2 * 2**30
"""Bytes that these may take; five of the largest references, 1.7 GiB in float32, just fit."""

PIECE = 256
"""LR pixels a side of the pieces that large pictures are worked on in, so that a run can be stopped
within two seconds on two cores: with larger ones, single steps take longer."""

QUEUE = 40
"""Runs that may wait, of visitors and again of programs; the next one is asked to come back."""

PREVIEW_QUEUE = 8
"""Previews of the laboratory that may wait while one is made; and, in a line of their own, uploads
that may wait to be looked at, whether they are small or sharp."""

ARCHIVE_QUEUE = 8
"""Archives that may wait while one is packed: each is in memory as a whole until it is written."""

KEEP_SECONDS = 3600
"""Age at which uploaded and computed files are deleted, and a session's results forgotten."""

TEMPORARY = 4 * 2**30
"""Bytes that all uploaded and computed files may take, and never more than half of what is free on
their disk at the start."""

SPARED_SECONDS = 300
"""When these are used up, files that were used so recently stay: somebody may still fetch them."""

SESSION_MEMORY = 2 * 2**30
"""Bytes that all visitors' last runs may hold; the least recently used are forgotten first."""

DRAWN_MEMORY = 128 * 2**20
"""Bytes that drawn figures of the examples may take."""

SESSIONS = 200
"""Visitors whose session is remembered, at most; with one more the oldest is forgotten."""

THREADS = 2 * QUEUE + 40
"""Callbacks that may be under way at once: those in line for the network only sleep."""

REQUESTS = 600
"""Requests that may be open at once: a page that is looked at holds one or two open."""

REQUESTS_PER_ADDRESS = 100
"""Of these, of one address."""

RUNS_PER_ADDRESS = QUEUE // 2
"""Events of one address that may wait or run at once: half of the line stays for others."""

SESSIONS_PER_ADDRESS = SESSIONS // 2
"""New sessions of one address within ``KEEP_SECONDS``: half of all places stay for others."""

CALLS_PER_ADDRESS = 1000
"""Requests of one address's programs within ``KEEP_SECONDS``."""

BYTES_PER_ADDRESS = 2**30
"""What one address may send within ``KEEP_SECONDS``, the time for which uploads are kept."""
