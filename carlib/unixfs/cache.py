"""Parsed nodes that are worth keeping, bounded by what they weigh."""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock
from typing import Generic, TypeVar

Value = TypeVar("Value")

_KEPT = 4  # so that the path to one leaf of an oversized tree is not parsed again for every leaf


class NodeCache(Generic[Value]):
    """Least recently used nodes go first once all weigh more than ``max_weight`` (links); thread-safe.

    The last few stay whatever they weigh.  One cache can serve many files: keys are binary CIDs.
    """

    __slots__ = ("_entries", "_lock", "_max_weight", "_weight")

    def __init__(self, max_weight: int) -> None:
        self._max_weight = max_weight
        self._entries: OrderedDict[bytes, tuple[Value, int]] = OrderedDict()
        self._weight = 0
        self._lock = Lock()

    def get(self, key: bytes) -> Value | None:
        with self._lock:
            entry = self._entries.get(key)
            if entry is None:
                return None
            self._entries.move_to_end(key)
            return entry[0]

    def put(self, key: bytes, value: Value, weight: int) -> None:
        with self._lock:
            previous = self._entries.pop(key, None)
            if previous is not None:
                self._weight -= previous[1]
            self._entries[key] = (value, weight)
            self._weight += weight
            while self._weight > self._max_weight and len(self._entries) > _KEPT:
                self._weight -= self._entries.popitem(last=False)[1][1]

    @property
    def weight(self) -> int:
        """What the nodes held now weigh."""
        return self._weight
