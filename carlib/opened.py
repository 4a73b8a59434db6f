"""Stores that are kept open: a few, by key, the longest unused closed first, and never one that somebody reads from."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, Protocol, TypeVar


class Closable(Protocol):
    """What is opened and must be closed."""

    def close(self) -> None: ...


S = TypeVar("S", bound=Closable)


class _Entry(Generic[S]):
    def __init__(self) -> None:
        self.holders = 0
        self.opening = threading.Lock()
        self.store: S | None = None


class OpenStores(Generic[S]):
    """Opens what is used with ``make`` and keeps ``most`` open; more only while they are all in use."""

    def __init__(self, make: Callable[[str], S], *, most: int) -> None:
        self._make = make
        self._most = most
        self._lock = threading.Lock()
        self._entries: OrderedDict[str, _Entry[S]] = OrderedDict()
        self._closed = False

    @contextmanager
    def use(self, key: str) -> Iterator[S]:
        """The store, which is not closed before the block ends; several callers share one.

        Raises what ``make`` raises, and ValueError after :meth:`close`.
        """
        with self._lock:
            if self._closed:
                raise ValueError("these stores were closed")
            entry = self._entries.setdefault(key, _Entry())
            entry.holders += 1
            self._entries.move_to_end(key)
        try:
            with entry.opening:  # a second caller waits for the first
                if entry.store is None:
                    entry.store = self._make(key)
            yield entry.store
        finally:
            with self._lock:
                entry.holders -= 1
                surplus = self._surplus()
            for store in surplus:
                store.close()

    def drop(self, key: str) -> None:
        """Opens ``key`` anew when it is next used; what is in use stays open until it no longer is."""
        with self._lock:
            entry = self._entries.pop(key, None)
            if entry is not None and entry.holders:
                self._entries[f"\0{id(entry)}"] = (
                    entry  # under a name that nobody asks for; goes with its last holder
                )
                self._entries.move_to_end(f"\0{id(entry)}", last=False)
                return
        if entry is not None and entry.store is not None:
            entry.store.close()

    def close(self) -> None:
        """Closes what nobody uses now, and the rest when its last user is done."""
        with self._lock:
            self._closed = True
            surplus = self._surplus()
        for store in surplus:
            store.close()

    def __len__(self) -> int:
        return len(self._entries)

    def _surplus(self) -> list[S]:
        """Takes out what is to be closed."""
        idle = [key for key, entry in self._entries.items() if not entry.holders]
        dropped = [key for key in idle if key.startswith("\0") or self._entries[key].store is None]
        excess = len(idle) if self._closed else max(0, len(self._entries) - self._most)
        taken = [self._entries.pop(key) for key in dict.fromkeys([*dropped, *idle[:excess]])]
        return [entry.store for entry in taken if entry.store is not None]
