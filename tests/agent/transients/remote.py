"""Remote data in a test's own trio loop: a mount that implements the real Protocol, with a server that can be told how
to behave, and the transients over it."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import trio

from agent.dagstore.access import Access
from agent.dagstore.failures import ErrorClass, ShardError
from agent.dagstore.mounts import DataChanged, Fingerprint, Probe, probing
from agent.dagstore.mounts.environment import Environment
from agent.dagstore.transients import Settings, Transient, Transients, open_transients

CHUNK = 1 << 16
BOOT = b"b" * 16


@dataclass(eq=False)
class Server:
    """Gives ranges of `data`, and counts what it gives."""

    data: bytes
    etag: str = '"1"'
    ranges: bool = True
    piece_bytes: int = CHUNK
    gate: trio.Event = field(default_factory=trio.Event)  # closed: nothing is sent
    fail: list[ShardError] = field(default_factory=list)  # what the next requests meet
    fail_late: list[ShardError] = field(default_factory=list)  # likewise, those of probing apart
    away: ShardError | None = None  # what all requests meet
    looks: int = 0
    cut_after: list[int] = field(default_factory=list)  # bytes after which the next requests break off
    requests: list[tuple[int, int]] = field(default_factory=list)
    given: Counter[int] = field(default_factory=Counter)  # by chunk
    sent_bytes: int = 0
    streams: int = 0
    most_streams: int = 0

    def __post_init__(self) -> None:
        self.gate.set()

    def hold(self) -> None:
        self.gate = trio.Event()

    def sees(self) -> list[tuple[int, int]]:
        """The requests in chunks, those of probing apart."""
        return [
            (offset // CHUNK, -(-(offset + length) // CHUNK))
            for offset, length in self.requests
            if length > probing.SAMPLE_BYTES
        ]


@dataclass(frozen=True)
class RemoteMount:
    """The mount of what a `Server` has."""

    server: Server
    url: str = "test:/remote"

    @property
    def path(self) -> Path | None:
        return None

    @property
    def origin(self) -> str:
        return self.url

    def access(self, environment: Environment | None = None) -> Access | None:
        return None

    async def look(self, environment: Environment) -> Fingerprint:
        await trio.lowlevel.checkpoint()
        self.server.looks += 1
        if self.server.away is not None:
            raise self.server.away
        return Fingerprint(len(self.server.data), etag=self.server.etag)

    async def probe(self, environment: Environment) -> Probe:
        return await probing.probe(self, environment)

    @asynccontextmanager
    async def stream(
        self, environment: Environment, offset: int, length: int, expected: Fingerprint
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        server = self.server
        server.requests.append((offset, length))
        await trio.lowlevel.checkpoint()
        if server.away is not None:
            raise server.away
        if server.fail:
            raise server.fail.pop(0)
        if server.fail_late and length > probing.SAMPLE_BYTES:
            raise server.fail_late.pop(0)
        if offset and not server.ranges:
            raise ShardError(ErrorClass.INVALID, "no ranges here")
        changed = expected.differs_from(Fingerprint(len(server.data), etag=server.etag))
        if changed:
            raise DataChanged(self, changed)
        server.streams += 1
        server.most_streams = max(server.most_streams, server.streams)
        try:
            async with aclosing(self._pieces(offset, length)) as pieces:
                yield pieces
        finally:
            server.streams -= 1

    async def _pieces(self, offset: int, length: int) -> AsyncGenerator[bytes, None]:
        server = self.server
        cut = server.cut_after.pop(0) if server.cut_after and length > probing.SAMPLE_BYTES else length
        for start in range(offset, offset + min(length, cut), server.piece_bytes):
            await server.gate.wait()
            await trio.lowlevel.checkpoint()
            piece = server.data[start : min(start + server.piece_bytes, offset + min(length, cut))]
            server.sent_bytes += len(piece)
            if length > probing.SAMPLE_BYTES:
                server.given[start // CHUNK] += 1
            yield piece
        if cut < length:
            raise ShardError(ErrorClass.BUSY, "the line was cut")

    def __str__(self) -> str:
        return self.url


def random_data(chunks: int, *, short: int = 0) -> bytes:
    return os.urandom(chunks * CHUNK - short)


@asynccontextmanager
async def transients_at(
    directory: Path, settings: Settings | None = None, *, keys: tuple[str, ...] = ("key",), boot: bytes = BOOT
) -> AsyncIterator[tuple[Transients, set[str]]]:
    """Transients in a directory, and the set of the keys that are in use."""
    used: set[str] = set()
    async with open_transients(
        directory,
        Environment(),
        settings or Settings(),
        in_use=used.__contains__,
        boot=boot,
    ) as transients:
        await transients.start(keys)
        yield transients, used


@asynccontextmanager
async def opened(directory: Path, *mounts: RemoteMount) -> AsyncIterator[tuple[Transients, Transient]]:
    """The transient of what the first mount has, in use, and those that it is one of."""
    fingerprint = await mounts[0].look(Environment())
    async with (
        transients_at(directory) as (transients, _),
        transients.use("key", mounts, fingerprint) as transient,
    ):
        yield transients, transient


async def read(
    transients: Transients, mount: RemoteMount, offset: int, length: int, *, key: str = "key"
) -> bytes:
    """The bytes as another process would find them, after they were asked for."""
    fingerprint = await mount.look(Environment())
    async with transients.use(key, [mount], fingerprint) as transient:
        await transient.ensure(offset, length)
        with Path(transient.access.data).open("rb") as file:
            return os.pread(file.fileno(), length, offset)
