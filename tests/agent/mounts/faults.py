"""A mount around another that fails as told: the n-th read is refused, late, cut, wrong, or never ends.

```python
faults = Faults({0: Fail(TryLater("…")), 2: Cut(after=100)})
install(monkeypatch, faults)              # from now on `faulty:` + a URL is that URL's mount with these faults
await dagstore.register("key", faulty_url(inner.url))
assert faults.reads == [(0, 512), …]      # every range that was asked for, in order
```
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trio

from agent.dagstore import mounts
from agent.dagstore.access import Access
from agent.dagstore.failures import ErrorClass, ShardError
from agent.dagstore.mounts import Fingerprint, Mount, Probe, probing
from agent.dagstore.mounts.environment import Environment


@dataclass(frozen=True)
class Fail:
    """The read is refused with this error."""

    error: ShardError


@dataclass(frozen=True)
class Delay:
    """The read begins so late, by the clock of the test."""

    seconds: float


@dataclass(frozen=True)
class Cut:
    """The read ends with BUSY after so many bytes, as if the line were cut."""

    after: int


@dataclass(frozen=True)
class Corrupt:
    """One bit of the byte at this offset of the data is wrong."""

    offset: int


@dataclass(frozen=True)
class Hang:
    """After so many bytes nothing more comes until `released` is set."""

    after: int = 0
    released: trio.Event = field(default_factory=trio.Event)


Fault = Fail | Delay | Cut | Corrupt | Hang


@dataclass(eq=False)
class Faults:
    """Which reads fail how, by number from 0; the others are as the mount inside gives them. Counts all."""

    plan: dict[int, Fault] = field(default_factory=dict)
    access: bool = False  # whether other processes may read in place, past all faults
    reads: list[tuple[int, int]] = field(default_factory=list)  # offset, length
    looks: int = 0
    refuse_looks: ShardError | None = None
    open_streams: int = 0


def faulty_url(url: str) -> str:
    return f"faulty:/{url}"


def install(monkeypatch: pytest.MonkeyPatch, faults: Faults) -> None:
    """Makes `faulty:` URLs mounts with these faults, until the end of the test."""
    monkeypatch.setitem(
        mounts.SCHEMES, "faulty", lambda url: FaultyMount(mounts.parse(url.removeprefix("faulty:/")), faults)
    )


@dataclass(frozen=True)
class FaultyMount:
    """`inner` with `faults`, which all equal mounts share."""

    inner: Mount
    faults: Faults

    @property
    def url(self) -> str:
        return faulty_url(self.inner.url)

    @property
    def path(self) -> Path | None:
        return self.inner.path if self.faults.access else None

    @property
    def origin(self) -> str:
        return faulty_url(self.inner.origin)

    def access(self, environment: Environment | None = None) -> Access | None:
        return self.inner.access(environment) if self.faults.access else None

    async def look(self, environment: Environment) -> Fingerprint:
        self.faults.looks += 1
        await trio.lowlevel.checkpoint()
        if self.faults.refuse_looks is not None:
            raise self.faults.refuse_looks
        return await self.inner.look(environment)

    async def probe(self, environment: Environment) -> Probe:
        return await probing.probe(self, environment)

    @asynccontextmanager
    async def stream(
        self, environment: Environment, offset: int, length: int, expected: Fingerprint
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        fault = self.faults.plan.get(len(self.faults.reads))
        self.faults.reads.append((offset, length))
        if isinstance(fault, Fail):
            raise fault.error
        if isinstance(fault, Delay):
            await trio.sleep(fault.seconds)
        self.faults.open_streams += 1
        try:
            async with (
                self.inner.stream(environment, offset, length, expected) as pieces,
                aclosing(_faulty(pieces, offset, fault)) as faulty,
            ):
                yield faulty
        finally:
            self.faults.open_streams -= 1

    def __str__(self) -> str:
        return f"faulty {self.inner}"


async def _faulty(
    pieces: AsyncIterator[bytes], offset: int, fault: Fault | None
) -> AsyncGenerator[bytes, None]:
    given = 0
    async for piece in pieces:
        match fault:
            case Corrupt(wrong) if offset + given <= wrong < offset + given + len(piece):
                index = wrong - offset - given
                yield piece[:index] + bytes((piece[index] ^ 1,)) + piece[index + 1 :]
            case Cut(after) if given + len(piece) > after:
                if after > given:
                    yield piece[: after - given]
                raise ShardError(ErrorClass.BUSY, f"cut after {after} bytes")
            case Hang(after, released) if not released.is_set() and given + len(piece) > after:
                if after > given:
                    yield piece[: after - given]
                await released.wait()
                yield piece[max(0, after - given) :]
            case _:
                yield piece
        given += len(piece)
