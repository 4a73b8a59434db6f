"""All transients of an agent: which there are, which are open, and who goes when there is no room.

What is on disk is known from the start, so the quota holds over a restart, and a fetch that was cut short by a kill
goes on where it was. A transient that a shard in use, a worker or a fetch needs is never removed, and neither is a file
that is not named as ours are: a copy that its user brought along is no transient at all, and is used in place.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

import msgspec
import trio

from agent.dagstore.access import TransientAccess
from agent.dagstore.chunk_map import boot_id
from agent.dagstore.failures import ErrorClass, Failure, ShardError, class_of_os_error
from agent.dagstore.mounts import Fingerprint, Mount, probing
from agent.dagstore.mounts.environment import Environment
from agent.dagstore.origins import is_of_origin
from agent.dagstore.transients import files
from agent.dagstore.transients.files import Found, Names, Opened
from agent.dagstore.transients.means import Free, Means, Visits
from agent.dagstore.transients.quota import Account, Idle, Limits, decide
from agent.dagstore.transients.transient import Transient
from agent.dagstore.transients.turns import Turns

logger = logging.getLogger(__name__)

_MOST_OPEN: Final = 256
"""Idle transients that keep their files open."""
_UNLIMITED: Final = 1 << 20
_ROOM_FOR_FILES: Final = 1 << 20
"""What is made on a full disk for the files of a transient without any data in it."""

_REMOVED = Failure(ErrorClass.CANCELLED, "the transient was removed while it was being fetched")


@dataclass(frozen=True, slots=True)
class Settings:
    """What an operator can set."""

    limits: Limits = field(default_factory=Limits)
    fetches: int = 0  # requests at once, of all transients together; 0: as many as there are
    stall_s: float = 20.0  # without a byte, and a request is given up: less than a mount waits
    pauses_s: tuple[float, ...] = ()  # before each further attempt at a request whose failure may pass


class GcResult(msgspec.Struct, frozen=True, rename="pascal"):
    """What became of one shard's transient; `error` if it could not be removed."""

    key: str
    success: bool
    error: str
    freed_bytes: int


class Statistics(msgspec.Struct, frozen=True, rename="pascal"):
    """A snapshot for status displays; bytes."""

    transients: int  # how many
    open: int  # of these
    used_bytes: int
    reserved_bytes: int
    limit_bytes: int
    fetching: int  # requests under way
    fetched_bytes: int  # since the start, here and below
    evicted_bytes: int


@dataclass(eq=False, slots=True)
class _Entry:
    """One transient on disk."""

    key: str
    names: Names
    size_bytes: int
    used: int  # rises with each use
    unseen: bool = False  # nobody has said yet whether ranges are given
    opened: Transient | None = None


class Transients:
    """Get one from `open_transients`."""

    def __init__(
        self,
        nursery: trio.Nursery,
        directory: Path,
        environment: Environment,
        settings: Settings,
        *,
        visits: Visits,
        in_use: Callable[[str], bool],
        boot: bytes,
    ) -> None:
        self._directory = directory
        self._in_use = in_use
        self._boot = boot
        self._account = Account(settings.limits)
        self._slots = trio.CapacityLimiter(settings.fetches or _UNLIMITED)
        self._means = Means(
            nursery, environment, self._slots, self, visits, settings.stall_s, settings.pauses_s
        )
        self._entries: dict[str, _Entry] = {}  # by stem
        self._turns = Turns()  # by stem: one at a time opens, closes or removes the files of a shard
        self._uses = itertools.count()
        self._fetched_bytes = self._evicted_bytes = 0

    # At the start and at the end

    async def start(self, keys: Collection[str]) -> None:
        """Takes over what is there for these shards, which are all there are, whatever their mounts, and removes what
        is ours and is for none of them. Raises OSError."""
        by_stem: dict[str, str] = {}

        def scan() -> tuple[list[Found], int]:
            if any(self._directory.iterdir()):  # else it would be for nothing, with a hundred thousand keys
                by_stem.update((files.stem_of(key), key) for key in keys)
            return files.scan(self._directory, by_stem.__contains__)

        found, removed = await trio.to_thread.run_sync(scan)
        for one in sorted(found, key=lambda one: one.used_ns):
            older = self._entries.get(one.names.stem)
            if older is not None:  # the data have changed between two kills
                await trio.to_thread.run_sync(files.remove, older.names)
                self._account.used -= older.size_bytes
                removed += 1
            entry = _Entry(by_stem[one.names.stem], one.names, one.present_bytes, next(self._uses))
            self._entries[one.names.stem] = entry
            self._account.used += one.present_bytes
        if removed:
            logger.info("removed %d transients that no shard needs", removed)

    async def close(self) -> None:
        """Closes all; fetches were cancelled before."""
        for entry in self._entries.values():
            if entry.opened is not None:
                entry.opened.end(Failure(ErrorClass.BUSY, "the agent is stopping"))
                await entry.opened.close()
                entry.opened = None

    # What others ask for

    def access_for(self, key: str, fingerprint: Fingerprint) -> TransientAccess:
        """Where the transient of this shard and data is, or would be; it is there once it was opened."""
        names = Names.of(self._directory, key, fingerprint)
        return TransientAccess(str(names.data), str(names.map), fingerprint.size)

    @asynccontextmanager
    async def use(
        self, key: str, mounts: Sequence[Mount], fingerprint: Fingerprint, *, unseen: bool = False
    ) -> AsyncIterator[Transient]:
        """The transient of a shard, which stays for the time of the block; made if need be, and one of older data is
        removed. `mounts`: see `Transient`.

        A new one costs a few small requests, to see whether ranges are given; with `unseen`, it is made without that if
        nobody answers, and that is seen to before the first fetch of it. Raises ShardError.
        """
        transient = await self._open(key, mounts, fingerprint, unseen=unseen)
        try:
            await self._close_surplus()
            yield transient
        finally:
            transient.holders -= 1

    async def discard(self, key: str) -> int:
        """Ends the fetching for a shard and removes its transient; gives the bytes that this freed.

        What cannot be removed now is removed at the next start. Whoever has it open reads on."""
        stem = files.stem_of(key)
        async with self._turns.of(stem):
            entry = self._entries.get(stem)
            return 0 if entry is None else await self._remove(entry)

    async def gc(self) -> list[GcResult]:
        """Removes every transient that nobody uses and that takes room; only of those is anything said."""
        return [
            await self._reclaim(entry)
            for entry in self._idle()
            if entry.size_bytes and self._entries.get(entry.names.stem) is entry and self._is_idle(entry)
        ]

    async def tidy(self) -> int:
        """From above the high watermark, removes the longest unused down to the low one, as far as nobody uses them;
        gives the bytes that this freed."""
        limits, freed = self._account.limits, 0
        if limits.max_bytes and self._account.total > limits.high * limits.max_bytes:
            for entry in self._idle():
                if self._account.total > limits.low * limits.max_bytes and self._is_idle(entry):
                    freed += (await self._reclaim(entry)).freed_bytes
        return freed

    def is_whole(self, key: str, fingerprint: Fingerprint) -> bool:
        """Whether all of these data are here, so that nobody need be asked for any of it."""
        entry = self._entries.get(files.stem_of(key))
        if entry is None or entry.names.tag != Names.of(self._directory, key, fingerprint).tag:
            return False
        return entry.size_bytes == fingerprint.size

    def size_of(self, key: str) -> int:
        """Bytes that the transient of a shard takes."""
        entry = self._entries.get(files.stem_of(key))
        return 0 if entry is None else entry.size_bytes

    def statistics(self) -> Statistics:
        return Statistics(
            transients=len(self._entries),
            open=sum(entry.opened is not None for entry in self._entries.values()),
            used_bytes=self._account.used,
            reserved_bytes=self._account.reserved,
            limit_bytes=self._account.limits.max_bytes,
            fetching=self._slots.borrowed_tokens,
            fetched_bytes=self._fetched_bytes,
            evicted_bytes=self._evicted_bytes,
        )

    # The room on disk, for `Transient`

    async def reserve(self, size_bytes: int) -> None:
        idle = [Idle(entry.names.stem, entry.size_bytes) for entry in self._idle()]
        decision = decide(self._account.limits, self._account.total, size_bytes, idle)
        if decision.refused:
            raise self._account.refusal(size_bytes)
        self._account.reserved += size_bytes
        try:
            for stem in decision.evict:
                entry = self._entries.get(stem)
                if entry is not None and self._is_idle(entry):
                    await self._reclaim(entry)
            limits = self._account.limits
            if limits.max_bytes and self._account.total > limits.max_bytes:
                raise self._account.refusal(
                    0
                )  # one of them was taken into use meanwhile, or could not be removed
        except BaseException:
            self._account.reserved -= size_bytes
            raise

    def unreserve(self, size_bytes: int) -> None:
        self._account.reserved -= size_bytes

    def wrote(self, transient: Transient, size_bytes: int) -> None:
        self._account.reserved -= size_bytes
        self._fetched_bytes += size_bytes
        self._count(transient, size_bytes)

    def dropped(self, transient: Transient, size_bytes: int) -> None:
        self._count(transient, -size_bytes)

    async def make_room(self, size_bytes: int) -> bool:
        freed = 0
        for entry in self._idle():
            if freed >= size_bytes:
                break
            if entry.size_bytes and self._is_idle(entry):
                freed += (await self._reclaim(entry)).freed_bytes
        return freed > 0

    # Inside

    async def _open(
        self, key: str, mounts: Sequence[Mount], fingerprint: Fingerprint, *, unseen: bool
    ) -> Transient:
        """The transient, with one holder more."""
        names = Names.of(self._directory, key, fingerprint)
        async with self._turns.of(names.stem):
            entry = self._entries.get(names.stem)
            if entry is not None and entry.names.tag != names.tag:
                await self._remove(entry)
                entry = None
            if entry is not None and entry.opened is not None and entry.opened.vanished:
                logger.warning("%s was removed by somebody: what is read is fetched anew", names.data)
                await self._remove(entry)
                entry = None
            if entry is None:
                entry = _Entry(key, names, 0, 0)
            if entry.unseen and not entry.size_bytes and entry.opened is not None and entry.opened.idle:
                transient, entry.opened = entry.opened, None
                await transient.close()
            if entry.opened is None:
                opened = await self._files(entry, mounts[0], fingerprint, unseen=unseen)
                self._account.used += opened.present_bytes - entry.size_bytes
                entry.size_bytes = opened.present_bytes
                entry.opened = Transient(key, mounts, fingerprint, names, opened, self._means)
                self._entries[names.stem] = entry
            entry.used = next(self._uses)
            entry.opened.mounts = tuple(mounts)
            entry.opened.holders += 1
            return entry.opened

    def _count(self, transient: Transient, size_bytes: int) -> None:
        entry = self._entries.get(transient.names.stem)
        if entry is not None and entry.opened is transient:
            entry.size_bytes += size_bytes
            self._account.used += size_bytes

    def _idle(self) -> list[_Entry]:
        """Those that may go, the longest unused first."""
        return sorted(filter(self._is_idle, self._entries.values()), key=lambda entry: entry.used)

    def _is_idle(self, entry: _Entry) -> bool:
        busy = entry.opened is not None and not entry.opened.idle
        return not busy and entry.names.stem not in self._turns and not self._in_use(entry.key)

    async def _reclaim(self, entry: _Entry) -> GcResult:
        async with self._turns.of(entry.names.stem):
            try:
                freed = await self._remove(entry)
            except ShardError as error:
                return GcResult(entry.key, False, str(error), 0)
        self._evicted_bytes += freed
        logger.debug("shard %s: removed its transient of %d bytes", entry.key, freed)
        return GcResult(entry.key, True, "", freed)

    async def _remove(self, entry: _Entry) -> int:
        """Removes files and entry, in the turn of its stem; gives the bytes that were freed. Raises ShardError."""
        if entry.opened is not None:
            entry.opened.end(_REMOVED)
            await entry.opened.close()
            entry.opened = None
        try:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(files.remove, entry.names)
        except OSError as error:
            message = f"{entry.names.data} cannot be removed: {error.strerror}"
            raise ShardError(class_of_os_error(error), message, key=entry.key) from error
        if self._entries.get(entry.names.stem) is entry:
            del self._entries[entry.names.stem]
            self._account.used -= entry.size_bytes
        return entry.size_bytes

    async def _files(self, entry: _Entry, mount: Mount, fingerprint: Fingerprint, *, unseen: bool) -> Opened:
        """The files of a transient, open; raises ShardError."""
        for last in (False, True):
            try:
                return await self._opened_files(entry, mount, fingerprint, unseen=unseen)
            except OSError as error:
                no_room = class_of_os_error(error) is ErrorClass.NO_SPACE
                if no_room and not last and await self.make_room(_ROOM_FOR_FILES):
                    continue
                message = f"{entry.names.data}: cannot be made or opened: {error.strerror}"
                raise ShardError(class_of_os_error(error), message) from error
        raise AssertionError("unreachable")

    async def _opened_files(
        self, entry: _Entry, mount: Mount, fingerprint: Fingerprint, *, unseen: bool
    ) -> Opened:
        """Raises OSError, and ShardError for what the mount raises."""
        names = entry.names
        opened = await trio.to_thread.run_sync(files.open_kept, names, fingerprint, self._boot)
        if opened is not None and (opened.present_bytes or not fingerprint.size):
            entry.unseen = False
            await trio.to_thread.run_sync(files.touch, names)
            return opened
        if opened is not None:  # one without any data may have been made unseen
            opened.close()
        whole = await self._comes_whole(entry, mount, fingerprint, unseen=unseen)
        return await trio.to_thread.run_sync(
            partial(files.create, names, fingerprint, self._boot, whole=whole)
        )

    async def _comes_whole(
        self, entry: _Entry, mount: Mount, fingerprint: Fingerprint, *, unseen: bool
    ) -> bool:
        """Whether no ranges are given; raises ShardError, but with `unseen` not because nobody answers."""
        try:
            with self._means.visits.visited(mount.url) as visit:
                ranges = await probing.gives_ranges(mount, self._means.environment, fingerprint)
                visit.came_out(None)
        except ShardError as error:
            if not unseen or not (is_of_origin(error) or error.error_class is ErrorClass.BUSY):
                raise
            entry.unseen = True
            return False
        entry.unseen = False
        return not ranges

    async def _close_surplus(self) -> None:
        """Closes the files of the longest unused where too many are open."""
        opened = [entry for entry in self._entries.values() if entry.opened is not None]
        if len(opened) > _MOST_OPEN:
            for entry in sorted(filter(self._is_idle, opened), key=lambda entry: entry.used)[
                : _MOST_OPEN // 4
            ]:
                async with self._turns.of(entry.names.stem):
                    if entry.opened is not None and entry.opened.idle:
                        transient, entry.opened = entry.opened, None
                        await transient.close()


@asynccontextmanager
async def open_transients(
    directory: Path,
    environment: Environment,
    settings: Settings = Settings(),
    *,
    visits: Visits | None = None,
    in_use: Callable[[str], bool] = lambda _key: False,
    boot: bytes | None = None,
) -> AsyncIterator[Transients]:
    """The transients in `directory`, for the time of the block; call `start` first.

    `in_use`: whether somebody holds the shard of a key, so that its transient must stay."""
    async with trio.open_nursery() as nursery:
        transients = Transients(
            nursery, directory, environment, settings,
            visits=visits or Free(), in_use=in_use, boot=boot if boot is not None else boot_id(),
        )  # fmt: skip
        try:
            yield transients
        finally:
            nursery.cancel_scope.cancel()
            with trio.CancelScope(shield=True):
                await transients.close()
