"""The inverted index as the agent has it: what is in, what is on its way in, look-ups, and the work in between.

    add ──► pending ──► worker task `invert`: pending shards and small segments ──► new segment ──► manifest ──► mapped
                                                                                    look-ups see it from here on ──┘
    remove ──► its entries do not count from now on; the next merge leaves them out

Nothing of what `add` and `remove` are told is written down: at the start the catalogue says which shards are to be in
(`shards`), of which generation and checksum, the segments say which are, and the difference is made up. So a kill at
any instant costs at most the work that was under way. Used from the event loop; `lookup` may be called by any thread.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Collection, Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final

import msgspec
import trio

from agent.dagstore.failures import ErrorClass, ShardError
from agent.dagstore.indexer import Workers
from agent.dagstore.inverted import manifest, tiers
from agent.dagstore.inverted.manifest import Manifest, Part
from agent.dagstore.inverted.segment import Damaged, Member, Segment, Table, search
from agent.scheduler.tasks import DEAL_PRIORITY
from agent.workers import WorkerFailed
from carlib import varint
from carlib.errors import CarError

logger = logging.getLogger(__name__)

SHA2_256: Final = (0x12, 32)
UNKNOWN_CODE: Final = -1
MAX_BATCH: Final = 4096
"""Shards that one task takes in."""
MAX_BATCH_ENTRIES: Final = 1 << 28
ENTRY_BYTES: Final = 40
"""Of an index, as a rule: a SHA-256 digest and an offset."""
FIRST_RETRY_S: Final = 1.0
LAST_RETRY_S: Final = 300.0
WAIT_S: Final = 5.0
"""How long a look-up that finds nothing waits for shards that are being taken in."""
HIT_WAIT_S: Final = 0.5
"""How long one that finds something waits for others that may have it too."""


@dataclass(frozen=True, slots=True)
class ShardIndex:
    """The index of a shard, to be taken in."""

    key: str
    generation: int
    checksum: str  # of the index file, as `index_files.checksum` gives it
    path: Path
    entries: int  # about


class Statistics(msgspec.Struct, frozen=True, rename="pascal"):
    """A snapshot for status displays."""

    generation: int  # of the manifest
    shards: int
    pending: int  # shards that are not in yet
    segments: int
    entries: int
    dead_entries: int  # of shards that are gone; the next merge leaves them out
    size_bytes: int
    problem: str  # why taking in does not get on; empty if it does


@dataclass(frozen=True, slots=True)
class _Task:
    """What one run of `invert` takes."""

    name: str
    generation: int
    batch: tuple[ShardIndex, ...]
    segments: tuple[Segment, ...]
    taken: tuple[tuple[str | None, ...], ...]
    """The keys of each segment when the task was made."""


class InvertedIndex:
    """Multihash → keys of shards; whoever owns it has `run` at work for as long as it lives."""

    def __init__(
        self,
        directory: Path,
        workers: Workers,
        shards: Callable[[], AsyncIterator[ShardIndex]],
        damaged: Callable[[str, str], None],
    ) -> None:
        """`shards` says what is to be in; `damaged` is told the key of a shard whose index file is not what it was."""
        self._directory = directory
        self._workers = workers
        self._shards = shards
        self._damaged = damaged
        self._manifest = Manifest()
        self._segments: dict[str, Segment] = {}
        self._places: dict[str, tuple[Segment, int]] = {}
        self._pending: dict[str, ShardIndex] = {}
        self._tables: dict[tuple[int, int], tuple[Table, ...]] = {}
        self._sha2_256: tuple[Table, ...] = ()
        self._problem = ""
        self._most = MAX_BATCH
        self._begun = False  # what is on disk was looked at
        # What a start found on disk, until it is listed.
        self._found: dict[str, list[tuple[Segment, int, Member]]] = {}
        # Whether `shards` is to be asked what is to be in: until then nobody knows what is missing.
        self._unlisted = True
        self._said: set[str] = set()  # keys that `add` and `remove` spoke of meanwhile
        self._writing = trio.Lock()
        self._work = trio.Event()
        self._moved = trio.Event()

    # What callers ask for

    def lookup(self, multihash: bytes) -> list[str]:
        """The keys of the shards that hold this binary multihash; of those that are in (see `pending`). Never waits."""
        if len(multihash) == 34 and multihash[:2] == b"\x12\x20":
            return search(self._sha2_256, multihash[2:]) if self._sha2_256 else []
        try:
            code, at = varint.decode(multihash, 0, len(multihash))
            size, at = varint.decode(multihash, at, len(multihash))
        except CarError:
            return []
        if len(multihash) - at != size:
            return []
        tables = self._tables.get((code, size)) or self._tables.get((UNKNOWN_CODE, size), ())
        return search(tables, multihash[at:])

    def lookup_many(self, multihashes: Iterable[bytes]) -> list[list[str]]:
        """What `lookup` gives for each, in order."""
        return [self.lookup(multihash) for multihash in multihashes]

    async def find(
        self, multihash: bytes, *, but: Collection[str] = (), timeout_s: float = WAIT_S
    ) -> list[str]:
        """The same, with those shards that were on their way in when it was called; if some of them take long, what is
        found without them. The shards `but` these are asked for: one of them is nothing found.

        Raises ShardError(busy) if nothing is found without them within `timeout_s`: then nobody knows yet.
        """

        def found() -> list[str]:
            return [key for key in self.lookup(multihash) if key not in but]

        if self.complete:
            return found()
        with trio.move_on_after(timeout_s):
            while self._unlisted:
                await self._moved.wait()
        awaited = list(self._pending.values())
        with trio.move_on_after(HIT_WAIT_S if found() else timeout_s):
            while self._awaits_one_of(awaited):
                await self._moved.wait()
        keys = found()
        if not keys and (self._unlisted or self._awaits_one_of(awaited)):
            why = f": {self._problem}" if self._problem else "; try again later"
            missing = f"{len(self._pending)} shards are" if self._pending else "some shards may be"
            message = f"not found yet, and {missing} not in the inverted index yet{why}"
            raise ShardError(ErrorClass.BUSY, message)
        return keys

    def _awaits_one_of(self, shards: list[ShardIndex]) -> bool:
        return any(self._pending.get(one.key) is one for one in shards)

    @property
    def complete(self) -> bool:
        """Whether all shards that are to be in are."""
        return not self._unlisted and not self._pending

    def add(self, shard: ShardIndex) -> None:
        """Takes a shard in, in place of what was in under its key; look-ups see it a moment later. Never waits."""
        self._drop(shard.key)
        self._pending[shard.key] = shard
        if self._unlisted:
            self._said.add(shard.key)
        self._wake()

    def remove(self, key: str) -> None:
        """From now on no look-up gives this key; harmless if it was not in."""
        self._drop(key)
        if self._unlisted:
            self._said.add(key)
        self._move()
        self._wake()

    def __contains__(self, key: str) -> bool:
        return key in self._places

    def statistics(self) -> Statistics:
        segments = self._segments.values()
        return Statistics(
            generation=self._manifest.generation,
            shards=len(self._places),
            pending=len(self._pending),
            segments=len(self._segments),
            entries=sum(segment.entries for segment in segments),
            dead_entries=sum(segment.dead for segment in segments),
            size_bytes=sum(segment.size for segment in segments),
            problem=self._problem,
        )

    async def rebuild(self) -> None:
        """Lets go of everything and makes it anew from the shards' index files; returns when all are in.

        Raises OSError if the old index cannot be given up; it stays then.
        """
        while not self._begun:
            await self._moved.wait()
        async with self._writing:
            await self._write(Manifest(generation=self._manifest.generation + 1))
            self._segments, self._places, self._pending, self._found = {}, {}, {}, {}
            self._unlisted = True
            self._retable()
        self._wake()
        await self.wait_complete()

    async def wait_complete(self) -> None:
        """Returns once all shards that are to be in are; the caller says how long that may take."""
        while not self.complete:
            await self._moved.wait()

    async def check(self, progress: Callable[[int, int], None] | None = None) -> list[tuple[str | None, str]]:
        """Compares with the index files of all shards that are in: the key (None: a whole segment) and what is wrong.

        Reads everything, in a worker. Raises WorkerFailed.
        """
        every = [shard async for shard in self._shards()]
        segments = list(self._segments.values())
        places = {segment: place for place, segment in enumerate(segments)}
        known = {shard.key: place for shard in every if (place := self._places.get(shard.key)) is not None}
        params = {
            "directory": str(self._directory),
            "segments": [_segment_params(segment) for segment in segments],
            "shards": [
                _params(shard) | {"segment": places[segment], "number": number}
                for shard in every
                for segment, number in [known.get(shard.key, (None, 0))]
                if segment is not None
            ],
        }
        found = await self._workers.run(
            "check-inverted", params, progress, size_bytes=sum(segment.size for segment in segments)
        )
        return [
            (key, why)
            for key, segment, why in found["problems"]
            # What was merged or removed meanwhile is not there any more, and is not missed.
            if (segment in self._segments if key is None else self._places.get(key) == known[key])
        ]

    # Start

    async def _start(self) -> None:
        """Takes over what is on disk as far as it is whole; which of it is still so is for `_list` to find out."""
        for segment, members in await trio.to_thread.run_sync(self._opened):
            self._segments[segment.name] = segment
            for number, member in enumerate(members):
                self._found.setdefault(member.key, []).append((segment, number, member))
        self._retable()
        self._begun = True
        self._move()

    async def _list(self) -> None:
        """Asks what is to be in, apart from the keys that `add` and `remove` speak of meanwhile; what is missing is
        pending then. Raises ShardError (the catalogue's)."""
        async for shard in self._shards():
            key = shard.key
            if key in self._said or key in self._places or key in self._pending:
                continue
            for segment, number, member in self._found.get(key, ()):
                if _is_of(member, shard):
                    self._place(segment, number, key)
                    break
            else:
                self._pending[key] = shard
        self._unlisted = False
        self._said.clear()
        self._found.clear()
        self._move()
        found = self.statistics()
        logger.info(
            "inverted index: %d entries of %d shards, %d shards to take in",
            found.entries - found.dead_entries,
            found.shards,
            found.pending,
        )

    def _opened(self) -> list[tuple[Segment, list[Member]]]:
        """In a thread: the segments that are whole; what else lies there is removed."""
        self._directory.mkdir(parents=True, exist_ok=True)
        try:
            self._manifest = manifest.read(self._directory)
        except manifest.Unreadable as error:
            logger.warning("%s: %s; the inverted index is made anew", self._directory / manifest.NAME, error)
        found = []
        for part in self._manifest.parts:
            try:
                found.append(Segment.open(self._directory / part.name, part.size, part.generation))
            except Damaged as error:
                logger.warning("%s: %s; it is made anew", self._directory / part.name, error)
        manifest.sweep(self._directory, {part.name for part in self._manifest.parts})
        return found

    # The work

    async def run(self) -> None:
        """Opens what is on disk, then takes in what is pending and merges, until cancelled; whatever fails is said once
        and tried again."""
        retry_s = FIRST_RETRY_S
        while True:
            problem, task = None, None
            async with self._writing:
                try:
                    if not self._begun:
                        await self._start()
                    if self._unlisted:
                        await self._list()
                    task = self._next()
                except (OSError, ShardError) as error:
                    problem = str(error)
                if task is not None:
                    problem = await self._outcome(task)
            if problem is not None:
                self._complain(problem)
                self._postpone(task)
                await trio.sleep(retry_s)
                retry_s = min(retry_s * 2, LAST_RETRY_S)
            elif task is None:
                await self._work.wait()
                self._work = trio.Event()
            else:
                self._problem, self._most, retry_s = "", MAX_BATCH, FIRST_RETRY_S

    async def _outcome(self, task: _Task) -> str | None:
        """Carries the task out; what stood in the way, if anything."""
        try:
            await self._carry_out(task)
        except (ShardError, WorkerFailed, Damaged, OSError) as error:
            return str(error)
        return None

    def _postpone(self, task: _Task | None) -> None:
        """Next time fewer shards, others first: it may be one of them that a worker cannot live with."""
        if task is None:
            return
        self._most = max(1, len(task.batch) // 2)
        for shard in task.batch:
            if self._pending.get(shard.key) is shard:
                self._pending[shard.key] = self._pending.pop(shard.key)

    def _next(self) -> _Task | None:
        """What is to be done now, if anything."""
        batch: list[ShardIndex] = []
        entries = 0
        for shard in islice(self._pending.values(), self._most):
            if batch and entries + shard.entries > MAX_BATCH_ENTRIES:
                break
            batch.append(shard)
            entries += shard.entries
        segments = list(self._segments.values())
        live = [segment.entries - segment.dead for segment in segments]
        chosen = set(tiers.to_merge(live, max(entries, len(batch))))
        chosen |= {
            place
            for place, segment in enumerate(segments)
            if tiers.is_wasteful(segment.entries, segment.dead) or not live[place]
        }
        if not batch and not chosen:
            return None
        # Above all that were ever named, also by a manifest that was lost.
        generation = 1 + max([self._manifest.generation, *(one.generation for one in segments)])
        taken = tuple(segments[place] for place in sorted(chosen))
        keys = tuple(tuple(segment.keys) for segment in taken)
        return _Task(manifest.segment_name(generation), generation, tuple(batch), taken, keys)

    async def _carry_out(self, task: _Task) -> None:
        params = {
            "directory": str(self._directory),
            "name": task.name,
            "generation": task.generation,
            "segments": [
                _segment_params(segment) | {"dead": [n for n, key in enumerate(keys) if key is None]}
                for segment, keys in zip(task.segments, task.taken, strict=True)
            ],
            "shards": [_params(shard) for shard in task.batch],
        }
        size = sum(shard.entries for shard in task.batch) * ENTRY_BYTES
        size += sum(segment.size for segment in task.segments)
        subject = task.batch[0].key if len(task.batch) == 1 else f"{len(task.batch)} shards"
        result = await self._workers.run(
            "invert", params, subject=subject, size_bytes=size, priority=DEAL_PRIORITY
        )
        damaged = {task.segments[place]: why for place, why in result["damaged"]}
        failed = {task.batch[place].key: (ErrorClass(of), why) for place, of, why in result["failed"]}
        made = None
        if result["size"]:
            made = await trio.to_thread.run_sync(
                Segment.open, self._directory / task.name, result["size"], task.generation
            )
        parts = [
            part for part in self._manifest.parts if part.name not in {one.name for one in task.segments}
        ]
        parts = [part for part in parts if part.name in self._segments]
        if made is not None:
            parts.append(Part(task.name, result["size"], task.generation))
        await self._write(Manifest(generation=task.generation, parts=tuple(parts)))
        self._swap(task, made, damaged, failed)
        self._report({shard.key: shard for shard in task.batch}, failed)

    def _swap(
        self,
        task: _Task,
        made: tuple[Segment, list[Member]] | None,
        damaged: dict[Segment, str],
        failed: dict[str, tuple[ErrorClass, str]],
    ) -> None:
        """Puts the new segment in the place of those that it was made of; what was removed meanwhile stays removed."""
        origins: list[tuple[Segment, int] | ShardIndex] = []
        for segment, keys in zip(task.segments, task.taken, strict=True):
            if segment not in damaged:
                origins += [(segment, number) for number, key in enumerate(keys) if key is not None]
        origins += [shard for shard in task.batch if shard.key not in failed]
        if made is not None:
            segment, members = made
            self._segments[segment.name] = segment
            for number, (member, origin) in enumerate(zip(members, origins, strict=True)):
                if self._is_current(member.key, origin):
                    self._pending.pop(member.key, None)
                    self._place(segment, number, member.key)
        for segment in task.segments:
            self._segments.pop(segment.name, None)
        lost = {key for segment in damaged for key in segment.keys if key is not None}
        for key in lost:
            del self._places[key]
            self._unlisted = True  # and asked for again
        self._retable()
        for segment, why in damaged.items():
            logger.warning("%s: %s; it is made anew", self._directory / segment.name, why)
        self._move()

    def _is_current(self, key: str, origin: tuple[Segment, int] | ShardIndex) -> bool:
        if isinstance(origin, ShardIndex):
            return self._pending.get(key) is origin
        return self._places.get(key) == origin

    def _report(self, batch: dict[str, ShardIndex], failed: dict[str, tuple[ErrorClass, str]]) -> None:
        """Tells whose index is damaged, which makes the dagstore make it anew; others are tried again."""
        others = []
        for key, (error_class, why) in failed.items():
            if self._pending.get(key) is not batch[key]:
                continue
            if error_class is not ErrorClass.BUSY:
                del self._pending[key]
                self._damaged(key, why)
            else:
                others.append(f"shard {key}: {why}")
        if others:
            raise ShardError(ErrorClass.BUSY, others[0])

    async def _write(self, new: Manifest) -> None:
        """Makes `new` the manifest, then removes what it no longer names; raises OSError if it cannot be written."""
        await trio.to_thread.run_sync(manifest.write, self._directory, new)
        self._manifest = new
        await trio.to_thread.run_sync(manifest.sweep, self._directory, {part.name for part in new.parts})

    # Tables

    def _place(self, segment: Segment, number: int, key: str) -> None:
        segment.revive(number, key)
        self._places[key] = (segment, number)

    def _drop(self, key: str) -> None:
        self._pending.pop(key, None)
        segment, number = self._places.pop(key, (None, 0))
        if segment is not None:
            segment.kill(number)

    def _retable(self) -> None:
        """Makes the tables that look-ups use; the largest segment first, where most is found."""
        tables: dict[tuple[int, int], tuple[Table, ...]] = {}
        for segment in sorted(self._segments.values(), key=lambda one: -one.entries):
            for bucket, table in segment.tables.items():
                tables[bucket] = (*tables.get(bucket, ()), table)
        # An index that does not tell the hash function may mean any.
        for size in {size for code, size in tables if code == UNKNOWN_CODE}:
            unknown = tables[UNKNOWN_CODE, size]
            known = [key for key in tables if key[1] == size and key[0] != UNKNOWN_CODE]
            tables |= {key: tables[key] + unknown for key in known}
        self._tables = tables
        self._sha2_256 = tables.get(SHA2_256) or tables.get((UNKNOWN_CODE, SHA2_256[1]), ())

    def _wake(self) -> None:
        self._work.set()

    def _move(self) -> None:
        """Wakes whoever waits for shards to be in."""
        self._moved.set()
        self._moved = trio.Event()

    def _complain(self, why: str) -> None:
        if why != self._problem:
            logger.warning("the inverted index does not get on: %s; trying again", why)
        self._problem = why


def _is_of(member: Member, shard: ShardIndex) -> bool:
    """Whether what a segment has of a shard is what its index file says: keys and generations come again when a shard
    is destroyed and registered anew, a checksum does not."""
    return bool(shard.checksum) and (member.generation, member.checksum) == (shard.generation, shard.checksum)


def _params(shard: ShardIndex) -> dict[str, Any]:
    return {
        "key": shard.key,
        "generation": shard.generation,
        "checksum": shard.checksum,
        "path": str(shard.path),
    }


def _segment_params(segment: Segment) -> dict[str, Any]:
    return {"name": segment.name, "size": segment.size, "generation": segment.generation}
