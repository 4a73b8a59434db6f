"""One retrieval under way: its file opened or resumed, the sources asked, the file made final."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from agent.dagstore.failures import ErrorClass, ShardError, class_of_os_error
from agent.dagstore.mounts.mount import Fingerprint
from agent.dagstore.records import now_text
from agent.local.blocks import LocalBlocks
from agent.network.link import Link
from agent.retrievals.handing import hand_over
from agent.retrievals.offers import Elsewhere
from agent.retrievals.retrievals import Retrieval, Retrievals
from agent.retrievals.settings import RetrievalConfig
from agent.retrievals.transitions import Event, State
from agent.transfer import fetching, units
from agent.transfer.events import Arrived, Paused, Resumed, SourceLeft
from agent.transfer.events import Event as TransferEvent
from agent.transfer.fetching import Rules
from agent.transfer.source import BlockSource
from agent.transfer.sources.local import LocalSource
from agent.transfer.sources.means import Means
from agent.transfer.sources.naming import ipfs_node
from agent.transfer.sources.piece import PieceSource
from carlib.cid import Cid
from carlib.container import read_container
from carlib.errors import CarError
from carlib.source import FileSource

if TYPE_CHECKING:
    from carlib.readwrite import ReadWriteBlockstore

logger = logging.getLogger(__name__)

TOLD_S = 0.25  # between two words about one that makes progress


@dataclass(frozen=True, slots=True)
class Running:
    """What it takes to run them."""

    retrievals: Retrievals
    config: RetrievalConfig
    means: Means
    link: Link
    local: LocalBlocks | None
    limiter: trio.CapacityLimiter

    async def run(self, one: Retrieval) -> None:
        """From Queued to an end; never raises."""
        if one.scope is not None:
            return
        one.idle = trio.Event()
        try:
            while one.row.state is State.QUEUED:
                with trio.CancelScope() as one.scope:
                    await self._once(one)
                if one.scope.cancelled_caught:  # more was asked for, or it is called off
                    self.retrievals.apply(one, Event.RESTART)
        finally:
            one.scope = None
            one.idle.set()

    async def _once(self, one: Retrieval) -> None:
        try:
            slot = (
                nullcontext() if one.row.is_lazy else self.limiter
            )  # which waits for readers, and may for ever
            async with slot:
                if self.retrievals.apply(one, Event.BEGIN):
                    await self._fetch(one)
        except ShardError as error:
            self._fail(one, error)
        except Exception as error:
            logger.exception("bug in retrieval %s", one.row.name)
            self._fail(one, ShardError(ErrorClass.BUG, repr(error)))

    def _fail(self, one: Retrieval, error: ShardError) -> None:
        logger.warning("retrieval of %s failed: %s", one.row.name, error)
        changes = self._spent(one)
        try:
            self.retrievals.apply(
                one, Event.FAIL, error=str(error), error_class=error.error_class, ended=now_text(), **changes
            )
        except ShardError as failure:  # the catalogue is full, too: it is tried again after a restart
            logger.error("retrieval of %s: %s", one.row.name, failure)
            one.wants.end(error.failure)
            one.ended.set()

    async def _fetch(self, one: Retrieval) -> None:
        row = one.row
        path = self.retrievals.path(row.id)
        nodes = [ipfs_node(name, self.means) for name in row.nodes]
        sources = await self._sources(one)
        pieces = [source for source in sources if isinstance(source, PieceSource)]
        here = next((source for source in sources if isinstance(source, LocalSource)), None)
        store = await _threaded(partial(_open, path, row.root), path)
        with ExitStack() as stack:
            stack.callback(store.close)
            if store.dropped_bytes:
                logger.info("%s: %d bytes of a torn end were cut off", path, store.dropped_bytes)
            rules = Rules(
                self.config.per_source, self.config.attempts, self.config.max_block_bytes, self.config.hedge_s
            )
            telling = _Telling(self.retrievals, one, store)
            lazily = [wanted for wanted in row.wanted if wanted.lazy]
            fetch = partial(
                fetching.fetch,
                sources=sources,
                sink=store,
                link=self.link,
                told=telling.told,
                wants=one.wants,
                rules=rules,
                first=here,
            )
            for wanted in row.wanted:
                if not wanted.lazy:
                    await fetch(wanted.order())
            if lazily:
                await fetch(lazily[0].order(), lazy=True)
            single = [] if not nodes or row.is_whole else list(store.cids())
            await _threaded(store.finalise, path)
        fingerprint, size = await _threaded(partial(_look, path), path)
        for node in nodes:
            await hand_over(path, size, row.root, node, single=single)
        spent = self._spent(one)
        generation = one.row.generation + 1
        self.retrievals.apply(
            one,
            Event.FINISH,
            ended=now_text(),
            fingerprint=fingerprint,
            data_size=size,
            generation=generation,
            met=len(row.wanted),
            **spent,
        )
        for source in pieces:
            source.discard()
        logger.info("retrieved %s: %d blocks, %d bytes", row.name, one.row.blocks, one.row.bytes)

    def _spent(self, one: Retrieval) -> dict[str, int]:
        """What the run has come to, added to what was before; it is counted once."""
        row, progress = one.row, one.progress
        found = {
            "bytes": row.bytes + progress.bytes,
            "blocks": row.blocks + progress.blocks,
            "wasted": row.wasted + progress.wasted,
        }
        progress.bytes = progress.blocks = progress.wasted = 0
        return found

    async def _sources(self, one: Retrieval) -> list[BlockSource]:
        """In the order in which they are asked: here, and elsewhere."""
        row = one.row
        found: list[BlockSource] = []
        takes_local = self.config.allow_local if row.local is None else row.local
        if self.local is not None and takes_local:
            source = LocalSource(self.local)
            async with self.local.session() as session:
                if await trio.to_thread.run_sync(session.has, row.root, limiter=self.local.limiter):
                    found.append(source)
        path = self.retrievals.path(row.id)
        elsewhere = Elsewhere(self.config, self.means)
        found += await elsewhere.sources(
            row.root, row.sources, lambda number: path.with_suffix(f".{number}.part")
        )
        return found


class _Telling:
    """Counts what comes, and tells of it now and then."""

    def __init__(self, retrievals: Retrievals, one: Retrieval, store: ReadWriteBlockstore) -> None:
        self._retrievals = retrievals
        self._one = one
        self._store = store
        self._is_whole = one.row.is_whole
        self._told_s = 0.0
        self._paused: set[str] = set()

    def told(self, event: TransferEvent) -> None:
        now_s = trio.current_time()
        match event:
            case Arrived(source, blocks, size, wasted):
                progress = self._one.progress
                progress.add(now_s, source, blocks, size, wasted)
                if self._is_whole and progress.total is None:
                    progress.total = units.size_below(self._store, self._one.row.root)
                if self._paused and source not in self._paused:
                    self._resume()
                if now_s - self._told_s >= TOLD_S:
                    self._told_s = now_s
                    self._retrievals.publish(self._one.row.id)
            case Paused(source):
                self._paused.add(source)
                if self._one.row.state is State.FETCHING:
                    self._retrievals.apply(self._one, Event.PAUSE)
            case Resumed(source):
                self._paused.discard(source)
                self._resume()
            case SourceLeft(source, reason, lied):
                logger.info(
                    "%s: %s is left%s: %s", self._one.row.name, source, " (it lied)" if lied else "", reason
                )

    def _resume(self) -> None:
        if self._one.row.state is State.PAUSED:
            self._retrievals.apply(self._one, Event.RESUME)


def _open(path: Path, root: Cid) -> ReadWriteBlockstore:
    """The file, resumed where it was; one that is damaged before its end is kept as far as it is whole."""
    from carlib.readwrite import ReadWriteBlockstore  # numpy, for who fetches

    try:
        return ReadWriteBlockstore.open(path, [root])
    except CarError as error:
        logger.warning("%s is damaged, and is kept as far as it is whole: %s", path, error)
    try:
        return ReadWriteBlockstore.open(path, [root], salvage=True)
    except CarError as error:
        logger.warning("%s is begun anew: %s", path, error)
        path.unlink()
        return ReadWriteBlockstore.open(path, [root])


def _look(path: Path) -> tuple[Fingerprint, int]:
    found = path.stat()
    with FileSource(path) as source:
        container = read_container(source)
    fingerprint = Fingerprint(found.st_size, found.st_mtime_ns, found.st_ino, found.st_dev)
    return fingerprint, container.data_size


async def _threaded(call: Callable[[], fetching.T], path: Path) -> fetching.T:
    try:
        return await trio.to_thread.run_sync(call)
    except CarError as error:
        raise ShardError(ErrorClass.CORRUPT, f"{path}: {error}") from error
    except OSError as error:
        raise ShardError(class_of_os_error(error), f"{path}: {error.strerror}") from error
