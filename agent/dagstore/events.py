"""News about shards and imports, fanned out: publishing never waits, and a subscriber that does not keep up is cut.

What travels is the key of a shard, or the number and the name of an import, alone. A subscriber looks the shard up when it gets round to it, so that any number of changes
to one shard cost one place in the buffer, and what it reports is never older than the moment it reports it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import trio


@dataclass(frozen=True, slots=True)
class ImportKey:
    """One import, under the name that it has, or had when it was removed."""

    number: int
    name: str


Key = str | ImportKey

class Subscription:
    """One reader's keys that changed since it last looked; get one from `Hub.subscribe`."""

    def __init__(self, limit: int, on_cut: Callable[[], None]) -> None:
        self._limit = limit
        self._on_cut = on_cut
        self._pending: dict[Key, None] = {}  # a set that keeps order
        self._arrived = trio.Event()
        self._closed = False

    async def wait_changed(self) -> list[Key]:
        """The keys that changed since the last call, in order of their first change; none once it was cut or the
        hub closed."""
        while not self._pending and not self._closed:
            await self._arrived.wait()
        changed = list(self._pending)
        self._pending.clear()
        if not self._closed:
            self._arrived = trio.Event()
        return changed

    def _add(self, key: Key) -> bool:
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
    """Hands each published key to all subscriptions."""

    def __init__(self, *, buffer: int) -> None:
        self._buffer = buffer
        self._subscriptions: set[Subscription] = set()
        self._closed = False

    def subscribe(self, on_cut: Callable[[], None]) -> Subscription:
        """A subscription that sees every change from now on; give it back to `unsubscribe`.

        `on_cut` is called, at most once, if it falls behind by more than the buffer holds; it must not wait.
        """
        subscription = Subscription(self._buffer, on_cut)
        if self._closed:
            subscription._close()
        else:
            self._subscriptions.add(subscription)
        return subscription

    def unsubscribe(self, subscription: Subscription) -> None:
        self._subscriptions.discard(subscription)

    def publish(self, key: Key) -> None:
        """Tells all subscriptions, at once and without waiting for any of them."""
        for subscription in [one for one in self._subscriptions if not one._add(key)]:
            self._subscriptions.discard(subscription)

    def close(self) -> None:
        """Ends all subscriptions; what they have not read yet is lost."""
        self._closed = True
        for subscription in self._subscriptions:
            subscription._close()
        self._subscriptions.clear()

    def subscriber_count(self) -> int:
        return len(self._subscriptions)
