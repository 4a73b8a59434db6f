"""Fetching a DAG from several sources into a sink: who is asked for what, and what follows from how that goes.

    plan ──► queue of units ──► a source's worker ──► done                    ──► plan anew, until nothing is missing
                   ▲                 │ broke off: the rest of the unit, by anybody
                   └─────────────────┤ has it not: the others are asked
                                     │ the link is down: paused, and no attempt is used up
                                     └ lied: it is left for good, and named

Whatever was kept stays kept: a break, a kill or another source begin where the sink ends.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

import trio

from agent.dagstore.failures import ErrorClass, ShardError, class_of_os_error
from agent.network.link import Link
from agent.transfer import units
from agent.transfer.arriving import Arriving, Hopeless, Lied, Tally, check
from agent.transfer.events import Arrived, Event, Paused, Resumed, SourceLeft
from agent.transfer.rounds import Round, Source
from agent.transfer.sink import Sink
from agent.transfer.source import BlockSource
from agent.transfer.units import Block, Order, Part, Slice, Subtree, Unit
from agent.transfer.wants import Wants
from carlib.cid import Cid
from carlib.errors import CarError, NotUnixFs
from carlib.traversal import ByteRange, Request, Scope
from carlib.unixfs import NoSuchEntry

logger = logging.getLogger(__name__)

T = TypeVar("T")

BATCH_BYTES = 512 * 1024  # that are verified at once, in a thread
IDLE_ROUNDS = 2  # after which sources that answer, and give nothing that is wanted, are not asked again
SYNC_BYTES = 256 << 20  # after which what has come is made to survive a power cut


@dataclass(frozen=True, slots=True)
class Rules:
    """How to go about it; `[retrieval]` of the configuration."""

    per_source: int = 4  # requests to one source at once
    attempts: int = 8  # failures of a source on end, after which it is left
    max_block_bytes: int = 2 << 20
    hedge_s: float = 3.0  # after which somebody idle asks for the same; 0: never
    longest_wait_s: float = 30.0  # between two attempts


@dataclass(slots=True)
class Fetched:
    """What it came to."""

    blocks: int = 0
    bytes: int = 0
    wasted_bytes: int = 0
    by_source: dict[str, int] = field(default_factory=dict)


async def fetch(
    order: Order,
    sources: Sequence[BlockSource],
    sink: Sink,
    *,
    link: Link,
    told: Callable[[Event], None],
    wants: Wants | None = None,
    lazy: bool = False,
    rules: Rules | None = None,
    first: BlockSource | None = None,
) -> Fetched:
    """Returns when all that is ordered is in the sink; what is there already is not asked for.

    `first` is that of the sources which costs nothing: the others are asked for what it has not.
    With `lazy` only what somebody wants is fetched, until cancelled. Raises ShardError: not-found if no source has a
    block, busy if none can be reached, corrupt for a DAG that is none; what the sink raises, as no-space and the like.
    """
    one = _Fetch(order, sources, sink, link, told, rules or Rules(), first)
    try:
        async with trio.open_nursery() as nursery:
            if wants is not None:
                wants.begin()
                nursery.start_soon(one.serve_wants, wants)
            if lazy:
                await trio.sleep_forever()
            await one.run(wants)
            nursery.cancel_scope.cancel()
    except* ShardError as group:
        raise _first(group) from None
    return one.fetched


class _Fetch:
    def __init__(
        self, order: Order, sources: Sequence[BlockSource], sink: Sink, link: Link,
        told: Callable[[Event], None], rules: Rules, first: BlockSource | None,
    ) -> None:  # fmt: skip
        self._order = order
        self._sources = [Source(source) for source in sources]
        self._first = next((source for source in self._sources if source.blocks is first), None)
        self._sink = sink
        self._link = link
        self._told = told
        self._rules = rules
        self._threads = trio.CapacityLimiter(4)
        self._unsynced = 0
        self._wants: Wants | None = None
        self.fetched = Fetched()

    @property
    def _live(self) -> list[Source]:
        return [source for source in self._sources if not source.left]

    async def run(self, wants: Wants | None) -> None:
        self._wants = wants
        idle_rounds = 0
        while True:
            planned = await self._planned(self._order)
            if not planned:
                break
            before = self.fetched.blocks
            this = Round(planned, self._rules.hedge_s, self._first)
            await self._do_round(this)
            idle_rounds = 0 if self.fetched.blocks > before else idle_rounds + 1
            if not self._live or (this.dead and idle_rounds) or idle_rounds > IDLE_ROUNDS:
                raise self._reason(this)
        await self._threaded(self._sink.sync)

    async def _do_round(self, this: Round) -> None:
        """Until all of it is done, or nobody has the rest; who waits for a way to a source does not hold it up."""
        async with trio.open_nursery() as nursery:

            async def end() -> None:
                await this.over()
                nursery.cancel_scope.cancel()

            nursery.start_soon(end)
            async with trio.open_nursery() as workers:
                for source in self._live:
                    for _ in range(self._rules.per_source):
                        workers.start_soon(self._work, source, this)
            nursery.cancel_scope.cancel()

    async def _planned(self, order: Order) -> list[Unit]:
        plan = partial(units.plan, self._sink, order, shared=len(self._live) > 1)
        return await self._threaded(plan)

    async def _threaded(self, call: Callable[[], T]) -> T:
        """In a thread, with errors as ours."""
        try:
            return await trio.to_thread.run_sync(call, limiter=self._threads)
        except (NoSuchEntry, NotUnixFs) as error:  # the path leads nowhere, whoever has it
            raise Hopeless(ErrorClass.NOT_FOUND, str(error)) from error
        except CarError as error:
            raise Hopeless(ErrorClass.CORRUPT, str(error)) from error
        except OSError as error:
            where = f"{os.fsdecode(error.filename)}: " if error.filename else ""
            raise Hopeless(class_of_os_error(error), f"{where}{error.strerror}") from error

    def _reason(self, this: Round) -> ShardError:
        """Why it cannot go on."""
        errors = list(this.dead.values()) or [source.error for source in self._sources if source.error]
        if not errors:
            lacks = "no source gives" if self._sources else "there is no source to ask for"
            return ShardError(ErrorClass.NOT_FOUND, f"{lacks} all that is wanted of {self._order.root}")
        first = errors[0]
        lied = next((source for source in self._sources if source.lied), None)
        if lied is not None and lied.error is not None:
            first = lied.error
        names = ", ".join(source.name for source in self._sources)
        return ShardError(first.error_class, f"{first} (asked: {names})")

    # One source

    async def _work(self, source: Source, this: Round) -> None:
        while await self._turn(source):
            unit = await this.take(source)
            if unit is None:
                return
            with trio.CancelScope() as scope:
                this.begin(unit, source, scope)
                try:
                    await self._watched(source, unit)
                except ShardError as error:
                    await self._failed(this, unit, source, error)
                    continue
            if scope.cancelled_caught:  # somebody else was faster
                continue
            source.failures = 0
            await self._ended(this, unit, source)

    async def _turn(self, source: Source) -> bool:
        """Waits until the source may be asked; False if it is left meanwhile."""
        if not self._link.is_up(source.host):
            source.paused += 1
            if source.paused == 1:
                self._told(Paused(source.name))
            try:
                await self._link.wait_up(source.host)
            finally:
                source.paused -= 1
            if not source.paused:
                self._told(Resumed(source.name))
            source.not_before_s = 0.0
        await trio.sleep_until(source.not_before_s)
        return not source.left

    async def _watched(self, source: Source, unit: Unit) -> None:
        """Does a unit; raises ShardError, LinkDown and Left among them, as soon as the way to the source is gone, or
        another request has caught it lying."""
        error: ShardError | None = None
        async with trio.open_nursery() as nursery:

            async def end_after(happened: Callable[[], Awaitable[object]], reason: ShardError) -> None:
                nonlocal error
                await happened()
                error = reason
                nursery.cancel_scope.cancel()

            nursery.start_soon(end_after, partial(self._link.wait_down, source.host), LinkDown(source.name))
            nursery.start_soon(end_after, source.caught.wait, Left(source.name))
            try:
                await self._do(source, unit)
            except ShardError as caught:  # out of the nursery, which would put it into a group
                error = caught
            nursery.cancel_scope.cancel()
        if error is not None:
            raise error

    async def _failed(self, this: Round, unit: Unit, source: Source, error: ShardError) -> None:
        if isinstance(error, Hopeless):
            raise error
        if isinstance(error, LinkDown | Left) or not self._link.is_up(source.host):
            this.put_back(await self._rest(unit), unit, source)
            return
        source.error = error
        if isinstance(error, Lied):
            self._leave(source, error, lied=True)
        elif error.error_class in (ErrorClass.NOT_FOUND, ErrorClass.GONE):
            if not error.failure.origin_failed:
                this.has_not(await self._rest(unit), unit, source, error, self._live)
                return
            self._count(source, error)
        elif error.error_class in (ErrorClass.DENIED, ErrorClass.INVALID):
            self._leave(source, error, lied=False)
        else:
            self._count(source, error)
        this.put_back(await self._rest(unit), unit, source)

    def _count(self, source: Source, error: ShardError) -> None:
        source.fail(error, trio.current_time())
        if source.failures >= self._rules.attempts:
            self._leave(source, error, lied=False)
            return
        wait_s = min(self._rules.longest_wait_s, 0.25 * 2**source.failures)
        source.not_before_s = trio.current_time() + max(wait_s, error.failure.after_s or 0.0)

    def _leave(self, source: Source, error: ShardError, *, lied: bool) -> None:
        if source.left:
            return
        source.left = True
        if lied:
            source.caught.set()
        logger.log(logging.WARNING if lied else logging.INFO, "%s is left: %s", source.name, error)
        self._told(SourceLeft(source.name, str(error), lied))

    async def _ended(self, this: Round, unit: Unit, source: Source) -> None:
        """A clean end; what did not come with it, the source has not."""
        if isinstance(unit, Block | Part):
            this.done(unit)
            return
        rest = await self._rest(unit)
        if not rest:
            this.done(unit)
        elif rest == [unit] or (isinstance(unit, Subtree) and rest[0] != unit):
            error = ShardError(ErrorClass.NOT_FOUND, f"{source.name} has not all below {unit.cid}")
            this.has_not(rest, unit, source, error, self._live)
        else:
            this.put_back(rest, unit, source)

    async def _rest(self, unit: Unit) -> list[Unit]:
        """What of a unit is still missing."""
        if isinstance(unit, Block):
            is_here = self._sink.has(unit.cid)
            return [] if is_here else [unit]
        if isinstance(unit, Part):
            return []  # planned anew
        rest = await self._planned(Order(unit.cid))
        if isinstance(unit, Slice):
            inside = [one for one in rest if isinstance(one, Slice) and one.cid == unit.cid]
            return [
                Slice(one.cid, max(one.first, unit.first), min(one.last, unit.last))
                for one in inside
                if one.first <= unit.last and unit.first <= one.last
            ]
        return rest

    # One unit

    async def _do(self, source: Source, unit: Unit) -> None:
        match unit:
            case Block(cid):
                await self._raw(source, cid)
            case Subtree(cid) | Slice(cid) if torn := await self._torn(source, unit):
                for block in torn:
                    await self._raw(source, block)
                for rest in await self._rest(unit):
                    await self._do(source, rest)
            case Subtree(cid):
                await self._car(source, Request(cid))
            case Part(request):
                if source.gives_parts:
                    await self._car(source, request)
                else:
                    await self._raw(source, request.root)
            case Slice(cid, first, last) if source.gives_parts:
                await self._car(source, Request(cid, (), Scope.ENTITY, ByteRange(first, last)))
            case Slice(cid, first, last):
                for child in await self._threaded(partial(units.in_slice, self._sink, unit)):
                    await self._below(source, child)

    async def _below(self, source: Source, cid: Cid) -> None:
        if units.is_leaf(cid):
            await self._raw(source, cid)
        else:
            await self._car(source, Request(cid))

    async def _raw(self, source: Source, cid: Cid) -> None:
        data = await source.blocks.raw(cid, source.torn.pop(cid, b""))
        if len(data) > self._rules.max_block_bytes:
            raise ShardError(ErrorClass.INVALID, f"{source.name} gave {len(data)} bytes for block {cid}")

        def keep() -> Tally:
            check(cid, data, source.name)
            is_new = self._sink.put(cid, data, verified=True)
            return Tally(1, len(data)) if is_new else Tally(repeated_bytes=len(data))

        await self._account(source, await self._threaded(keep))

    async def _car(self, source: Source, request: Request) -> None:
        arriving = Arriving(self._sink, {request.root.raw}, self._rules.max_block_bytes, source.name)
        held, taken_s = 0, trio.current_time()
        async with source.blocks.car(request) as pieces:
            try:
                async for piece in pieces:
                    arriving.feed(piece)
                    held += len(piece)
                    now_s = trio.current_time()
                    if held >= BATCH_BYTES or now_s - taken_s > 0.1:
                        await self._take(source, arriving)
                        held, taken_s = 0, now_s
                arriving.end()
            finally:
                with trio.CancelScope(shield=True):  # what came whole is not asked for again
                    await self._take(source, arriving)
                    source.tear(arriving.torn())

    async def _torn(self, source: Source, unit: Subtree | Slice) -> list[Cid]:
        """The blocks of a unit that the source gave a part of, and then broke off."""
        if not source.torn:
            return []
        found = [unit.cid]
        if isinstance(unit, Slice):
            found = await self._threaded(partial(units.in_slice, self._sink, unit))
        return [cid for cid in found if cid in source.torn]

    async def _take(self, source: Source, arriving: Arriving) -> None:
        await self._account(source, await self._threaded(arriving.take))

    async def _account(self, source: Source, tally: Tally) -> None:
        if not (tally.blocks or tally.wasted_bytes):
            return
        fetched = self.fetched
        fetched.blocks += tally.blocks
        fetched.bytes += tally.bytes
        fetched.wasted_bytes += tally.wasted_bytes
        fetched.by_source[source.name] = fetched.by_source.get(source.name, 0) + tally.bytes
        source.kept += tally.blocks
        self._told(Arrived(source.name, tally.blocks, tally.bytes, tally.wasted_bytes))
        if self._wants is not None:
            self._wants.look(self._sink.has)
        self._unsynced += tally.bytes
        if self._unsynced >= SYNC_BYTES:
            self._unsynced = 0
            await self._threaded(self._sink.sync)

    # What somebody waits for

    async def serve_wants(self, wants: Wants) -> None:
        self._wants = wants
        limiter = trio.CapacityLimiter(2 * self._rules.per_source)
        async with trio.open_nursery() as nursery:
            while True:
                cid = await wants.next()
                nursery.start_soon(self._wanted, cid, wants, limiter)

    async def _wanted(self, cid: Cid, wants: Wants, limiter: trio.CapacityLimiter) -> None:
        async with limiter:
            error: ShardError | None = None
            for source in sorted(self._live, key=lambda one: one.failures):
                if self._sink.has(cid):
                    break
                try:
                    if await self._turn(source):
                        await self._raw(source, cid)
                except Hopeless as failure:
                    error = failure
                    break
                except ShardError as failure:
                    error = failure
                    if isinstance(failure, Lied):
                        self._leave(source, failure, lied=True)
            if self._sink.has(cid):
                wants.came([cid])
                return
            reason = error or ShardError(ErrorClass.NOT_FOUND, f"no source has block {cid}")
            wants.failed(cid, reason.failure)


class LinkDown(ShardError):
    """There is no way to a source any more."""

    def __init__(self, name: str) -> None:
        super().__init__(ErrorClass.BUSY, f"the way to {name} is down")


class Left(ShardError):
    """The source has lied to somebody else, and nothing more is taken from it."""

    def __init__(self, name: str) -> None:
        super().__init__(ErrorClass.CORRUPT, f"{name} gives wrong data")


def _first(group: BaseExceptionGroup[ShardError]) -> ShardError:
    found: BaseException = group
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    assert isinstance(found, ShardError)
    return found
