"""Imports, shards and an exporter over both in a test's own trio loop."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from agent.dagstore.dagstore import Dagstore
from agent.dagstore.events import Hub
from agent.dagstore.mounts.environment import Environment
from agent.dagstore.mounts.pieces import PieceDirectory
from agent.export.exporting import Exporter
from agent.export.holders import Holders
from agent.export.orders import Order
from agent.imports.imports import Imports
from carlib.blockstore import ReadOnlyBlockstore
from carlib.cid import Cid
from carlib.options import WriteOptions
from carlib.writer import creating
from tests.agent.imports.worlds import Threads, imports_at
from tests.agent.stores import dagstore_at


class World:
    """The parts."""

    def __init__(self, dagstore: Dagstore, imports: Imports, workers: Threads) -> None:
        self.dagstore = dagstore
        self.imports = imports
        self.workers = workers
        self.holders = Holders(dagstore, imports, workers)
        self.exporter = Exporter(self.holders, workers, imports.places, imports.reserve)

    async def streamed(self, order: Order) -> bytes:
        pieces: list[bytes] = []

        async def send(data: bytes) -> None:
            pieces.append(data)

        await self.exporter.stream(order, send)
        return b"".join(pieces)


@asynccontextmanager
async def world_at(path: Path, *, pieces: Path | None = None) -> AsyncIterator[World]:
    """A world with its state below `path`; `pieces` is the folder that `lotus:` finds pieces in."""
    workers, hub = Threads(), Hub(buffer=1000)
    environment = None if pieces is None else Environment(pieces=PieceDirectory(pieces))
    async with (
        dagstore_at(path, hub=hub, environment=environment) as dagstore,
        imports_at(path, workers, hub=hub) as importing,
    ):
        yield World(dagstore, importing.imports, workers)


def write_blocks(path: Path, roots: Iterable[Cid], blocks: Iterable[tuple[Cid, bytes]]) -> Path:
    """A CAR of just these blocks."""
    with creating(path, WriteOptions(version=2, identity=True), roots=list(roots)) as car:
        for cid, data in blocks:
            car.put(cid, data)
        car.finish()
    return path


def blocks_of(path: Path) -> dict[Cid, bytes]:
    with ReadOnlyBlockstore.open(path) as store:
        return {cid: store.stored(cid) for cid, _ in store.cids()}


def roots_of(path: Path) -> list[Cid]:
    with ReadOnlyBlockstore.open(path) as store:
        return list(store.roots)


def nothing_else(folder: Path, *names: str) -> bool:
    """Whether these alone are in the folder."""
    return {each.name for each in folder.iterdir()} == set(names)


async def wait_stale(imports: Imports) -> None:
    """Waits until the one import is known to be stale: whoever acquires it has it looked at."""
    (number,) = imports.numbers()
    with trio.fail_after(30):
        while imports.record(number).state != "ImportStateStale":
            await trio.sleep(0.01)
