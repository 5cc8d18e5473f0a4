"""A cache of encoded features, so that the same picture is not encoded twice."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

_Value = TypeVar("_Value")


class FeatureCache:
    """Keeps the most recently used values, of one or several predictors; it is thread-safe.

    It holds at most ``most`` values and ``most_bytes`` bytes. The least recently used values are
    dropped before a new one is made, so that this also holds while it is made. A value larger than
    ``most_bytes`` is not kept.
    """

    def __init__(self, most: int = 4, most_bytes: int = 2 * 2**30) -> None:
        self.most, self._most_bytes = most, most_bytes
        self._values: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()  # with their sizes
        self._lock = threading.Lock()

    @property
    def bytes(self) -> int:
        """Bytes held now."""
        return sum(size for _, size in self._values.values())

    def get(self, key: Hashable, size: int, make: Callable[[], _Value]) -> _Value:
        """The value kept for ``key``, or else ``make()``, which takes ``size`` bytes."""
        keep = self.most > 0 and size <= self._most_bytes
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
                return self._values[key][0]
            if keep:
                self._make_room(size)
        value = make()  # outside the lock: it may take seconds
        if keep:
            with self._lock:
                self._values.pop(key, None)
                self._make_room(size)  # again: other threads may have added values
                self._values[key] = value, size
        return value

    def _make_room(self, size: int) -> None:
        while len(self._values) >= self.most or self.bytes + size > self._most_bytes:
            self._values.popitem(last=False)
