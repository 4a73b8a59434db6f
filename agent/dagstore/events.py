"""News about shards, imports and retrievals, fanned out: publishing never waits, and a subscriber that does not keep
up is cut.

What travels is the key of a shard, or what names one of the others, alone. A subscriber looks it up when it
gets round to it, so that any number of changes to one cost one place in the buffer, and what it reports is never older
than the moment it reports it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import trio


@dataclass(frozen=True, slots=True)
class ImportKey:
    """One import, under the name that it has, or had when it was removed."""

    number: int
    name: str


@dataclass(frozen=True, slots=True)
class RetrievalKey:
    """One retrieval."""

    number: int


Key = str | ImportKey | RetrievalKey
"""What has changed: a shard, by its key, or something else."""
_K = TypeVar("_K")


class Subscription(Generic[_K]):
    """One reader's keys that changed since it last looked; get one from a `Hub`."""

    def __init__(self, limit: int, on_cut: Callable[[], None]) -> None:
        self._limit = limit
        self._on_cut = on_cut
        self._pending: dict[_K, None] = {}  # a set that keeps order
        self._arrived = trio.Event()
        self._closed = False

    async def wait_changed(self) -> list[_K]:
        """The keys that changed since the last call, in order of their first change; none once it was cut or the
        hub closed."""
        while not self._pending and not self._closed:
            await self._arrived.wait()
        changed = list(self._pending)
        self._pending.clear()
        if not self._closed:
            self._arrived = trio.Event()
        return changed

    def _add(self, key: _K) -> bool:
        """Takes the key; False if this was one too many and the subscription is over."""
        self._pending[key] = None
        self._arrived.set()
        if len(self._pending) <= self._limit:
            return True
        self._close()
        self._on_cut()
        return False

    def _close(self) -> None:
        self._pending.clear()
        self._closed = True
        self._arrived.set()


class Hub:
    """Hands each published key to all subscriptions that are about its kind."""

    def __init__(self, *, buffer: int) -> None:
        self._buffer = buffer
        self._of_shards: set[Subscription[str]] = set()
        self._of_all: set[Subscription[Key]] = set()
        self._closed = False

    def subscribe(self, on_cut: Callable[[], None]) -> Subscription[str]:
        """A subscription that sees every change of a shard from now on; give it back to `unsubscribe`.

        `on_cut` is called, at most once, if it falls behind by more than the buffer holds; it must not wait.
        """
        subscription = Subscription[str](self._buffer, on_cut)
        if self._closed:
            subscription._close()
        else:
            self._of_shards.add(subscription)
        return subscription

    def subscribe_all(self, on_cut: Callable[[], None]) -> Subscription[Key]:
        """Likewise, and it sees changes of all else, too."""
        subscription = Subscription[Key](self._buffer, on_cut)
        if self._closed:
            subscription._close()
        else:
            self._of_all.add(subscription)
        return subscription

    def unsubscribe(self, subscription: Subscription[str] | Subscription[Key]) -> None:
        self._of_shards.discard(subscription)
        self._of_all.discard(subscription)

    def publish(self, key: str) -> None:
        """Tells all subscriptions of a shard, at once and without waiting for any of them."""
        self._of_shards -= {one for one in self._of_shards.copy() if not one._add(key)}
        self._tell_all(key)

    def publish_other(self, key: ImportKey | RetrievalKey) -> None:
        """Likewise of what is no shard."""
        self._tell_all(key)

    def close(self) -> None:
        """Ends all subscriptions; what they have not read yet is lost."""
        self._closed = True
        for one in self._of_shards:
            one._close()
        for all_ in self._of_all:
            all_._close()
        self._of_shards.clear()
        self._of_all.clear()

    def subscriber_count(self) -> int:
        return len(self._of_shards) + len(self._of_all)

    def _tell_all(self, key: Key) -> None:
        self._of_all -= {one for one in self._of_all.copy() if not one._add(key)}
