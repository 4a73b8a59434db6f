"""Shards for tests of the scrubber: real files, indices and worker task; the dagstore and the catalogue are fakes."""

from __future__ import annotations

import os
import random
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import trio

from agent.dagstore.access import Access, FileAccess
from agent.dagstore.events import Hub
from agent.dagstore.failures import ErrorClass, Failure, ShardError
from agent.dagstore.lifecycle import ShardState
from agent.dagstore.mounts import FileMount
from agent.dagstore.mounts.environment import Environment
from agent.dagstore.records import IndexFacts, ShardRow
from agent.dagstore.scrub.records import Depth, ScrubEvent, ScrubState
from agent.dagstore.scrub.repairer import Repairer
from agent.dagstore.scrub.replicas import Replicas
from agent.dagstore.scrub.schedule import ScrubConfig
from agent.dagstore.scrub.scrubber import Scrubber
from agent.workers import Needs
from carlib import indexing
from carlib.blockstore import ReadOnlyBlockstore
from carlib.cid import Cid
from carlib.options import WriteOptions
from carlib.writer import creating
from tests.agent.stores import LocalWorkers

BLOCKS = [(Cid.of(data), data) for data in (random.Random(n).randbytes(150_000 + n) for n in range(40))]
"""6 MB: several windows, and several slices where they are made small."""
START_S = 1_800_000_000.0
REGISTERED = "2027-01-15T08:00:00Z"  # the same moment


def write_car(path: Path, *, version: int = 2) -> Path:
    with creating(path, WriteOptions(version=version), roots=(BLOCKS[0][0],)) as writer:
        for cid, data in BLOCKS:
            writer.put(cid, data)
        writer.finish((BLOCKS[0][0],))
    return path


def section_of(path: Path, cid: Cid) -> tuple[int, int]:
    """Offset and size of a block's section, as the CAR was made."""
    with ReadOnlyBlockstore.open(path) as blocks:
        found = blocks.locate(cid)
        assert found is not None
        return found.section_offset, found.data_offset + found.size - found.section_offset


def rot(path: Path, offset: int, mask: int = 1) -> None:
    """Flips bits as a bad disk does: nobody has written, so the file's time stays."""
    before = path.stat()
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ mask]))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@dataclass
class FakeShards:
    """`Shards` over rows; notes what was asked of it."""

    rows: dict[str, ShardRow] = field(default_factory=dict)
    looks: int = 0
    distrusted: list[str] = field(default_factory=list)
    condemned: list[Failure] = field(default_factory=list)
    quarantined: dict[str, str] = field(default_factory=dict)

    def row(self, key: str) -> ShardRow:
        if key not in self.rows:
            raise ShardError(ErrorClass.NOT_FOUND, f"shard not found: {key!r}", key=key)
        return self.rows[key]

    def state(self, key: str) -> ShardState:
        return self.row(key).state

    @asynccontextmanager
    async def reading(self, key: str) -> AsyncIterator[tuple[Access, Needs | None]]:
        yield FileAccess(str(FileMount.parse(self.row(key).url).path)), None

    async def look(self, key: str) -> None:
        self.looks += 1
        await trio.lowlevel.checkpoint()

    def distrust_index(self, key: str, index: str, reason: str) -> None:
        self.distrusted.append(reason)

    def condemn(self, key: str, index: str, failure: Failure) -> None:
        self.condemned.append(failure)

    def set_quarantined(self, key: str, text: str) -> None:
        self.quarantined[key] = text


class MemoryScrubStore:
    """`ScrubStore` that keeps what a real one would, as bytes."""

    def __init__(self, shards: FakeShards) -> None:
        self.shards = shards
        self.rows: dict[str, bytes] = {}
        self.writes = 0

    def scrub(self, key: str) -> ScrubState:
        data = self.rows.get(key)
        return ScrubState() if data is None else msgspec.json.decode(data, type=ScrubState)

    def scrub_page(self, after: str, limit: int) -> list[tuple[str, str, str, ScrubState]]:
        rows = sorted(self.shards.rows.items())
        return [(key, row.url, row.registered, self.scrub(key)) for key, row in rows if key > after][:limit]

    def scrubs_with_findings(self) -> Iterable[tuple[str, ScrubState]]:
        return [(key, self.scrub(key)) for key in self.rows]

    def put_scrub(self, key: str, state: ScrubState) -> None:
        self.writes += 1
        self.rows[key] = msgspec.json.encode(state)


class World:
    """One folder of CARs and a scrubber over them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.shards = FakeShards()
        self.store = MemoryScrubStore(self.shards)
        self.workers = LocalWorkers()
        self.hub = Hub(buffer=100)
        self.now_s = START_S
        self.indices = folder / "index"
        self.indices.mkdir()
        self.repairs = folder / "repairs"
        self.repairs.mkdir()

    def add(self, key: str, car: Path, *, replicas: tuple[Path, ...] = ()) -> ShardRow:
        """A shard that was indexed as it is now."""
        name = f"{key}.1.idx"
        report = indexing.build(car, self.indices / name)
        facts = IndexFacts(
            name=name, size=report.index_size, fingerprint=FileMount(car).stat(), codec=report.index_codec,
            version=report.version, data_offset=report.data_offset, data_size=report.data_size,
            blocks=report.block_count, roots=tuple(map(str, report.roots)),
        )  # fmt: skip
        urls = tuple(FileMount(one).url for one in replicas)
        row = ShardRow(
            key, FileMount(car).url, ShardState.AVAILABLE, False, REGISTERED, 1, index=facts, replicas=urls
        )
        self.shards.rows[key] = row
        self.hub.publish(key)
        return row

    @asynccontextmanager
    async def scrubber(
        self, config: ScrubConfig | None = None, *, scheduled: bool = False
    ) -> AsyncIterator[Scrubber]:
        """A scrubber for the time of the block; what is kept outlives it, as it outlives a kill."""
        async with trio.open_nursery() as nursery:
            made = Scrubber(
                nursery, shards=self.shards, store=self.store, workers=self.workers,
                hub=self.hub, repairer=Repairer(Replicas(Environment(), self.indices), self.repairs),
                index_directory=self.indices, config=config or ScrubConfig(), clock=self.clock, chance=lambda: 0.5,
            )  # fmt: skip
            if scheduled:
                nursery.start_soon(made.routine.run)
            yield made
            nursery.cancel_scope.cancel()

    def clock(self) -> float:
        return self.now_s

    async def verify(self, key: str, depth: Depth = Depth.FULL, sample: int = 0) -> list[ScrubEvent]:
        async with self.scrubber() as scrubber:
            return [event async for event in scrubber.verify([key], depth=depth, sample=sample)]
