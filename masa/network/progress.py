"""How long computations tell how far they are, and how they are stopped."""

from __future__ import annotations

from collections.abc import Callable

OnShare = Callable[[float], None]
"""Called with the share of a call's work that is done, from 0 to 1. What it raises ends the
call: that is how a run is cancelled."""


def ignore(share: float) -> None:
    """An :data:`OnShare` for callers that do not want to know."""


def between(on_share: OnShare, start: float, end: float) -> OnShare:
    """An :data:`OnShare` for a part of the work, from share ``start`` to ``end`` of the whole."""
    return lambda share: on_share(start + share * (end - start))
