"""Who asks, and how much of something each address may have."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from ipaddress import IPv6Address, ip_address, ip_network
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import Scope

MOST_ADDRESSES = 10_000
"""Addresses that are remembered at most; the one that asked longest ago is forgotten first."""


def address_of(scope: Scope, proxy_header: str | None) -> str:
    """The address that a request came from: the peer's, or what the proxy named last.

    Of an IPv6 address only the network counts (64 bits), as one visitor has all addresses in it.
    """
    peer = (scope.get("client") or ("",))[0]
    given = Headers(scope=scope).getlist(proxy_header) if proxy_header else []
    # What stands before the last comma came from the visitor, who may write anything there.
    last = given[-1].rpartition(",")[2].strip() if given else ""
    return _network(last) or _network(peer) or peer


def _network(text: str) -> str | None:
    """The network of an address, with or without a port; ``None`` if ``text`` is none."""
    for candidate in (text, _host(text)):
        try:
            address = ip_address(candidate)
        except ValueError:
            continue
        if isinstance(address, IPv6Address):
            if address.ipv4_mapped is not None:
                return str(address.ipv4_mapped)
            return str(ip_network((int(address), 64), strict=False))
        return str(address)
    return None


def _host(text: str) -> str:
    try:
        return urlsplit(f"//{text}").hostname or ""
    except ValueError:
        return ""


class Allowance:
    """How much each address may take within a time; what it took is given back bit by bit.

    An address that took nothing for that long has all of it again, and can be forgotten. For one
    thread only.
    """

    def __init__(
        self, most: float, seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._most, self._seconds, self._clock = most, seconds, clock
        self._taken: OrderedDict[str, tuple[float, float]] = OrderedDict()  # how much, and when

    def take(self, address: str, amount: float = 1) -> bool:
        """Whether ``address`` may take ``amount`` more, which then counts."""
        self.forget()
        now = self._clock()
        taken, then = self._taken.pop(address, (0.0, now))
        taken = max(0.0, taken - (now - then) / self._seconds * self._most)
        allowed = taken + amount <= self._most
        self._taken[address] = (taken + amount if allowed else taken, now)
        if len(self._taken) > MOST_ADDRESSES:
            self._taken.popitem(last=False)
        return allowed

    def forget(self) -> None:
        """Forget addresses that took nothing for that long."""
        now = self._clock()
        while self._taken:
            _, then = next(iter(self._taken.values()))
            if now - then < self._seconds:
                return
            self._taken.popitem(last=False)
