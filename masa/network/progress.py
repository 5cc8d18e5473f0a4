"""Progress of long computations, and how they are cancelled."""

from __future__ import annotations

from collections.abc import Callable

OnShare = Callable[[float], None]
"""Called with the share of a call's work that is done, from 0 to 1. To cancel the call, it raises
an exception."""


def ignore(share: float) -> None:
    """An :data:`OnShare` that does nothing."""


def between(on_share: OnShare, start: float, end: float) -> OnShare:
    """An :data:`OnShare` for a part of the work, from share ``start`` to ``end`` of the whole."""
    return lambda share: on_share(start + share * (end - start))
