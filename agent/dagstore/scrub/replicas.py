"""Replicas: other mounts of the same bytes; believed block by block, by hash and by our index, never as a whole."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import trio

from agent.dagstore import mounts
from agent.dagstore.failures import ErrorClass, ShardError
from agent.dagstore.mounts import Fingerprint
from agent.dagstore.mounts.environment import Environment
from agent.dagstore.records import IndexFacts
from carlib import multihash
from carlib.cid import Cid
from carlib.errors import CarError
from carlib.index import Entry, Index
from carlib.limits import MIB
from carlib.section import HEAD_BYTES, read_head
from carlib.source import FileSource

MAX_STRETCH_BYTES: Final = 64 * MIB
"""The largest damage that is fetched from a replica: it is held in memory until it is verified."""
SAMPLES: Final = 32
"""Blocks of a replica that must fit the index before it stands in for the first mount."""


class Mismatch(Exception):
    """A replica does not have the bytes that it should; `str()` says how it differs."""


@dataclass(frozen=True, slots=True)
class Replica:
    """One replica as it was found; its size is that of the data."""

    url: str
    fingerprint: Fingerprint


class Replicas:
    """Reads replicas of shards whose indices lie in one directory."""

    def __init__(self, environment: Environment, index_directory: Path) -> None:
        self._environment = environment
        self._index_directory = index_directory

    async def find(self, url: str, facts: IndexFacts) -> Replica:
        """The replica at `url`; raises Mismatch where its size is another, ShardError where it cannot be reached."""
        fingerprint = await self.look(url)
        if fingerprint.size != facts.fingerprint.size:
            raise Mismatch(f"it has {fingerprint.size} bytes, the data {facts.fingerprint.size}")
        return Replica(url, fingerprint)

    async def look(self, url: str) -> Fingerprint:
        """What is at `url` now; raises ShardError."""
        return await mounts.parse(url).look(self._environment)

    async def sections(self, replica: Replica, facts: IndexFacts, offset: int, size: int) -> bytes:
        """The bytes of whole sections, each of which hashes to its CID and lies where the index says.

        Raises Mismatch, ShardError.
        """
        if size > MAX_STRETCH_BYTES:
            raise Mismatch(f"{size} bytes at once are more than the {MAX_STRETCH_BYTES} that are fetched")
        data = await self._read(replica, offset, size)
        await trio.to_thread.run_sync(check_sections, data, offset, facts, self._index_directory / facts.name)
        return data

    async def check_sample(self, replica: Replica, facts: IndexFacts) -> None:
        """Compares some blocks, chosen by chance, with the index; raises Mismatch, ShardError."""
        for entry in await trio.to_thread.run_sync(_sample, self._index_directory / facts.name):
            offset = facts.data_offset + entry.offset
            head = await self._read(replica, offset, min(HEAD_BYTES, replica.fingerprint.size - offset))
            size = _section_size(head, offset)
            await self.sections(replica, facts, offset, size)

    async def _read(self, replica: Replica, offset: int, size: int) -> bytes:
        mount = mounts.parse(replica.url)
        async with mount.stream(self._environment, offset, size, replica.fingerprint) as pieces:
            return b"".join([piece async for piece in pieces])


def check_sections(data: bytes, offset: int, facts: IndexFacts, index_path: Path) -> None:
    """Raises Mismatch unless `data`, which lies at `offset`, is whole sections that hash and that the index has there.

    May block.
    """
    try:
        with FileSource(index_path) as source:
            index = Index.open(source)
            position = 0
            while position < len(data):
                head = read_head(data, position, len(data))
                if head is None or head.end > len(data):
                    raise Mismatch(f"no whole section at {offset + position}")
                cid = Cid(data[head.cid : head.data])
                multihash.check(cid, memoryview(data)[head.data : head.end])
                if not cid.is_identity:
                    _check_place(index, cid, offset + position - facts.data_offset)
                position = head.end
    except CarError as error:
        raise Mismatch(str(error)) from error
    except OSError as error:
        raise ShardError(ErrorClass.BUSY, f"{index_path}: {error.strerror}") from error


def _check_place(index: Index, cid: Cid, offset: int) -> None:
    if all(found != offset for _, found in index.find(cid.hash_code, cid.digest)):
        raise Mismatch(f"{cid} at {offset} of the data, where the index has something else")


def _section_size(head: bytes, offset: int) -> int:
    try:
        found = read_head(head, 0, len(head))
    except CarError as error:
        raise Mismatch(str(error.located(shift=offset))) from error
    if found is None:
        raise Mismatch(f"no section at {offset}")
    return found.end


def _sample(index_path: Path) -> list[Entry]:
    try:
        with FileSource(index_path) as source:
            index = Index.open(source)
            chance = random.SystemRandom()
            return [index.at(place) for place in chance.sample(range(len(index)), min(SAMPLES, len(index)))]
    except (CarError, OSError) as error:
        raise ShardError(ErrorClass.BUSY, f"{index_path}: {error}") from error
