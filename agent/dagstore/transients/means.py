"""What transients fetch with, all of them the same: the network, the room on disk, and leave to go somewhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import trio

from agent.dagstore.mounts.environment import Environment
from agent.dagstore.origins import Visit

if TYPE_CHECKING:
    from agent.dagstore.transients.transient import Transient


class Visits(Protocol):
    """Which places that data comes from are to be left alone for a while: `origins.Origins`."""

    def visited(self, url: str, *, begun_s: float | None = None) -> AbstractContextManager[Visit]:
        """For the time of a visit; raises ShardError(busy) if it is to be left alone. `begun_s`: of the first attempt,
        if this is another."""


class Free:
    """No place is ever left alone."""

    @contextmanager
    def visited(self, url: str, *, begun_s: float | None = None) -> Iterator[Visit]:
        yield Visit()


class Room(Protocol):
    """Who gives out the room on disk."""

    async def reserve(self, size_bytes: int) -> None:
        """Raises ShardError(no-space)."""

    def unreserve(self, size_bytes: int) -> None:
        """Gives back what was not written."""

    def wrote(self, transient: Transient, size_bytes: int) -> None:
        """So much of what was reserved is on disk now."""

    def dropped(self, transient: Transient, size_bytes: int) -> None:
        """So much of what is on disk counts no longer."""

    async def make_room(self, size_bytes: int) -> bool:
        """The disk is full: whether anything could be removed."""


@dataclass(frozen=True, slots=True)
class Means:
    """What all transients fetch with."""

    nursery: trio.Nursery
    environment: Environment
    slots: trio.CapacityLimiter  # requests at once
    room: Room
    visits: Visits
    stall_s: float  # without a byte, and a request is given up
    pauses_s: tuple[float, ...]  # between the attempts at a request that somebody waits for
