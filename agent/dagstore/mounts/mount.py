"""What a mount is to the dagstore: a URL that survives a restart, and the bytes behind it, which others may change."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from agent.dagstore.failures import ErrorClass, ShardError

if TYPE_CHECKING:  # it does I/O with trio, which the command line must not pay for when it reads a URL
    from agent.dagstore.access import Access
    from agent.dagstore.mounts.environment import Environment

MAX_CHUNK_BYTES: Final = 1 << 20
"""The largest piece that a stream hands over at once."""


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What changes when somebody changes the data; compared before an index made from it is used.

    The catalogue keeps it as JSON; what was not known when it was taken has its default, which says nothing.
    """

    size: int  # bytes
    mtime_ns: int = 0  # of a local file, like the next two; no file has inode 0
    inode: int = 0
    device: int = 0
    etag: str = ""  # strong validator of a remote object, quotes included
    modified: str = ""  # Last-Modified of one without, if it was old enough to be a strong validator

    def differs_from(self, other: Fingerprint) -> str:
        """How `other` differs in what both sides know, for people; empty if it does not.

        The device is left out: its number is not kept by every file system from one boot to the next.
        """
        names = ["size"]
        if self.inode and other.inode:
            names += ["mtime_ns", "inode"]
        if self.etag and other.etag:
            names.append("etag")
        elif self.modified and other.modified:
            names.append("modified")
        pairs = ((name, getattr(self, name), getattr(other, name)) for name in names)
        return ", ".join(f"{name} {old} -> {new}" for name, old, new in pairs if old != new)


@dataclass(frozen=True, slots=True)
class Probe:
    """What asking found out, not what a mount believes of itself."""

    fingerprint: Fingerprint
    ranges: bool  # bytes from the middle were asked for, and were given; else only all of it, from the start
    latency_s: float  # until the first byte of a small range


class DataChanged(ShardError):
    """The data is no longer what the caller expects, so what was indexed from it is of no use: index it anew.

    Its class is CORRUPT, which is what it is to whoever reads; the dagstore treats it as a change.
    """

    def __init__(self, mount: object, difference: str) -> None:
        super().__init__(ErrorClass.CORRUPT, f"{mount} changed since it was looked at: {difference}")


class TryLater(ShardError):
    """BUSY, from a server that cannot be reached, or that is overloaded and may have said when to come back: a fault of
    all that comes from there, not of one object."""

    def __init__(self, message: str, *, after_s: float | None = None) -> None:
        super().__init__(ErrorClass.BUSY, message)
        self.failure = replace(self.failure, after_s=after_s)

    @property
    def after_s(self) -> float | None:
        """Its Retry-After, in seconds from when it answered; None if it did not say."""
        return self.failure.after_s


class Mount(Protocol):
    """The data of one shard: a frozen value, equal to what `mounts.parse` makes of its `url`.

    `str()` of it is for people and for logs, and holds no secrets; its `url` may.
    """

    @property
    def url(self) -> str:
        """The canonical URL, which `parse` turns into an equal mount."""

    @property
    def path(self) -> Path | None:
        """The local file that *is* the data, from its first byte to its last, if there is one."""

    @property
    def origin(self) -> str:
        """What fails and recovers together with the data: the file's folder, `https://host:port`, …"""

    def access(self, environment: Environment | None = None) -> Access | None:
        """How another process reads the data in place; None if only through a copy of it (a transient).

        Short, but may look at a local disk: call it through `environment.threads` where that may hang. What needs an
        environment to know is None without. Raises ShardError as `look` does.
        """

    async def look(self, environment: Environment) -> Fingerprint:
        """What is there now, at the price of one request; reads no data.

        Raises ShardError: gone, denied, busy (`TryLater` where it is known for how long), invalid (nothing that can be
        a shard: not a regular file, no size).
        """

    async def probe(self, environment: Environment) -> Probe:
        """`look`, and whether ranges are given when asked for: a few requests, for registration. Raises likewise."""

    def stream(
        self, environment: Environment, offset: int, length: int, expected: Fingerprint
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """The bytes [offset, offset + length) as they come, in pieces of 1 to `MAX_CHUNK_BYTES`.

        All of them come, or an error: DataChanged if the data is no longer `expected`, invalid for a range that is not
        in it, and what `look` raises, on entering or on the way. Leaving the block early, or by a cancel, ends the
        transfer and leaves nothing open.
        """


def check_range(mount: object, offset: int, length: int, size: int) -> None:
    """Raises ShardError(invalid) unless [offset, offset + length) lies in `size` bytes."""
    if offset < 0 or length < 0 or offset + length > size:
        message = f"{mount} has {size} bytes; there is no range of {length} at {offset}"
        raise ShardError(ErrorClass.INVALID, message)


async def nothing() -> AsyncIterator[bytes]:
    """The pieces of an empty range."""
    no_pieces: tuple[bytes, ...] = ()
    for piece in no_pieces:
        yield piece
