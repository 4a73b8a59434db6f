"""What makes imports: each is begun, called off and awaited here, and a task makes it.

Requests come from `imports.py`, effects of events from `lives.py`, and what a worker made from `tasks.py`; what became
of it goes back as an event. Between two awaits everything here is atomic.
"""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterable
from dataclasses import dataclass, field
from pathlib import Path

import trio

from agent.dagstore.failures import STOPPING, ErrorClass, Failure, ShardError, class_of_os_error
from agent.dagstore.records import now_text
from agent.imports import sources, streams
from agent.imports.lives import Lives
from agent.imports.names import name_for
from agent.imports.places import Places
from agent.imports.records import OURS, THEIRS, Facts, ImportRow, Kind, Source
from agent.imports.requests import Request
from agent.imports.tasks import Progress, Tasks
from agent.imports.transitions import (
    Answer,
    Begin,
    Cancel,
    Effect,
    Failed,
    ImportState,
    Join,
    Made,
    StartMaking,
    StopMaking,
    Waiter,
    Withdraw,
)
from agent.imports.waiting import Outcome, Pending, Waiting
from agent.scheduler.tasks import DEAL_PRIORITY
from carlib.cid import Cid

logger = logging.getLogger(__name__)

FOLDER = "/"  # that references are relative to: a source may be moved anywhere, and links lead anywhere

SHARED_WITH = 64  # imports, each of which is asked for each leaf


@dataclass(eq=False, slots=True)
class Making:
    """The making of one import; cancel `scope` to stop it."""

    generation: int
    done: int = 0
    total: int = 0
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    ended: trio.Event = field(default_factory=trio.Event)


class Makings:
    """All that are being made, and who waits for them."""

    def __init__(self, nursery: trio.Nursery, lives: Lives, tasks: Tasks, places: Places) -> None:
        self._nursery = nursery
        self._lives = lives
        self._tasks = tasks
        self._places = places
        self._making: dict[int, Making] = {}
        self._streams: dict[int, AsyncIterable[bytes]] = {}
        self._sizes: dict[int, int] = {}  # of sources, as far as somebody has looked
        self._waiting = Waiting()
        lives.carry_out = self._carry_out

    def get(self, number: int) -> Making | None:
        """None if it is not being made."""
        return self._making.get(number)

    def how_far(self, number: int) -> tuple[int, int]:
        """Bytes that are done, and bytes in all as far as they are known."""
        making = self._making.get(number)
        return (0, self._sizes.get(number, 0)) if making is None else (making.done, making.total)

    def row(
        self, number: int, kind: Kind, request: Request, path: Path | None, *, taken_over: bool
    ) -> ImportRow:
        """Of a new import; raises ShardError(invalid | exists) for a name that it cannot have."""
        name = request.name
        if name:
            self._lives.check_free(name)
        else:
            name = name_for(path, lambda taken: self._lives.store.find_name(taken) is not None)
        is_ours = kind is not Kind.CAR or taken_over
        return ImportRow(
            id=number,
            name=name,
            kind=kind,
            state=ImportState.IMPORTING,
            source=Source.LOCAL if taken_over else Source.IMPORT,
            filename="" if taken_over else str(path),
            car_path=str(self._places.car(number)) if is_ours else str(path),
            car_owner=OURS if is_ours else THEIRS,
            folder=FOLDER if kind is Kind.REF else "",
            profile="" if kind is Kind.CAR else request.profile,
            hidden=request.hidden,
            preserve=request.preserve,
            share=request.share,
            created=now_text(),
        )

    def prepare(self, number: int, found: sources.Found, *, taken_over: bool) -> None:
        """Notes the size of a source, and moves it where it is ours if it is taken over."""
        self._sizes[number] = found.size
        if taken_over:
            self._take_over(found.path, number)

    async def begin(self, row: ImportRow, *, wait: bool) -> Outcome:
        """Begins a new one; with `wait`, returns when it is made or raises why it is not."""
        if not wait:
            self._lives.apply(row.id, Begin(), row=row)
            return Outcome(row.id)
        with self._waiting.one() as (waiter, pending):
            self._lives.apply(row.id, Begin(waiter), row=row)
            return await self._answered(row.id, waiter, pending)

    async def begin_stream(self, row: ImportRow, pieces: AsyncIterable[bytes]) -> Outcome:
        """Begins one of a stream, and waits for it."""
        self._streams[row.id] = pieces
        try:
            return await self.begin(row, wait=True)
        finally:
            self._streams.pop(row.id, None)

    async def join(self, number: int) -> Outcome:
        """Waits for one that is being made; raises why it is not, if so."""
        with self._waiting.one() as (waiter, pending):
            self._lives.apply(number, Join(waiter))
            return await self._answered(number, waiter, pending)

    async def cancel(self, number: int) -> None:
        """Calls one off, of which nothing is left then. Raises ShardError(busy) for one that is made."""
        making = self._making.get(number)
        if making is None:
            raise ShardError(ErrorClass.BUSY, f"import {self._lives.row(number).name!r} is not being made")
        self._lives.apply(number, Cancel())
        with trio.CancelScope(shield=True):
            await making.ended.wait()

    def stop(self) -> None:
        """Answers all that wait."""
        self._waiting.fail_all(STOPPING)

    async def discard(self, row: ImportRow) -> None:
        """Removes what is ours of it."""
        try:
            await trio.to_thread.run_sync(self._places.discard, row)
        except OSError as error:
            logger.warning("%s is left behind; the next start removes it: %s", error.filename, error.strerror)

    async def _answered(self, number: int, waiter: Waiter, pending: Pending) -> Outcome:
        making = self._making.get(number)
        try:
            await pending.answered.wait()
        except trio.Cancelled:
            self._lives.apply(number, Withdraw(waiter))
            if making is not None and number not in self._lives:
                with trio.CancelScope(shield=True):  # whoever leaves leaves nothing
                    await making.ended.wait()
            raise
        if making is not None:
            await making.ended.wait()  # what was on its way is gone
        if pending.existing:
            return Outcome(pending.existing, existing=True)
        if pending.failure is not None:
            raise ShardError(pending.failure.error_class, pending.failure.message, key=str(number))
        return Outcome(number)

    def _carry_out(self, number: int, effect: Effect, row: ImportRow | None) -> None:
        match effect:
            case StartMaking(generation):
                making = self._making[number] = Making(generation, total=self._sizes.get(number, 0))
                assert row is not None
                self._nursery.start_soon(self._make, row, making)
            case StopMaking():
                stopped = self._making.get(number)
                if stopped is not None:
                    stopped.scope.cancel()
            case Answer(waiter, failure, existing):
                self._waiting.answer(waiter, failure, existing)

    async def _make(self, row: ImportRow, making: Making) -> None:
        """Makes it, and says what became of that; what was cancelled or failed leaves nothing."""
        number, facts = row.id, None
        try:
            with making.scope:
                try:
                    facts = await self._made(row, making)
                except ShardError as error:
                    self._failed(number, making, error.failure)
                except Exception as error:  # the boundary of a task: others go on
                    logger.exception("making import %d failed", number)
                    message = f"{type(error).__name__}: {error}"
                    self._failed(number, making, Failure(ErrorClass.BUG, message))
            if facts is not None:
                self._finished(number, making, facts)
            await self._tidy(number, row)
        finally:  # if the agent stops, the next start finds what is here
            if self._making.get(number) is making:
                del self._making[number]
            self._sizes.pop(number, None)
            making.ended.set()

    async def _tidy(self, number: int, row: ImportRow) -> None:
        with trio.CancelScope(shield=True):
            if number in self._lives:
                await self._discard_staged(number)
            else:
                await self.discard(row)

    async def _made(self, row: ImportRow, making: Making) -> Facts:
        staged = self._places.staged(row.id)
        try:
            staged.mkdir(parents=True, exist_ok=True)
            pieces = self._streams.get(row.id)
            source = row.filename
            if not source:
                source = str(self._places.upload(row.id))
                if pieces is not None:
                    _make_fifo(self._places.upload(row.id))
        except OSError as error:
            raise ShardError(class_of_os_error(error), f"{staged}: {error.strerror}") from error
        told = self._progress(row, making)
        priority = DEAL_PRIORITY if row.attended else 0
        if pieces is None:
            return await self._tasks.make(
                row, source, making.total, told, priority=priority, is_stream=False, share=self._shared(row)
            )
        return await self._made_of_stream(row, Path(source), pieces, told, priority)

    async def _made_of_stream(
        self, row: ImportRow, fifo: Path, pieces: AsyncIterable[bytes], told: Progress, priority: int
    ) -> Facts:
        done, failure, facts = trio.Event(), None, None

        async def feed() -> None:
            nonlocal failure
            try:
                await streams.feed(fifo, pieces, done)
            except ShardError as error:
                failure = error
                nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(feed)
            try:
                facts = await self._tasks.make(
                    row, str(fifo), 0, told, priority=priority, is_stream=True, share=self._shared(row)
                )
            except ShardError as error:
                failure = error
            done.set()
            nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure
        assert facts is not None
        return facts

    def _progress(self, row: ImportRow, making: Making) -> Progress:
        def told(done: int, total: int) -> None:
            making.done, making.total = done, total
            self._lives.publish(row.id, row)

        return told

    def _finished(self, number: int, making: Making, facts: Facts) -> None:
        life = self._lives.get(number)
        if life is None or life.generation != making.generation:
            return
        try:
            twin = self._twin(number, Cid.parse(facts.root))
            if twin is not None:
                name = self._lives.row(twin).name
                failure = Failure(ErrorClass.EXISTS, f"import {name!r} has the same root {facts.root}")
                self._lives.apply(number, Failed(making.generation, failure, twin))
            else:
                changes = {"kind": Kind.REF, "folder": FOLDER} if facts.files else {}
                self._lives.apply(number, Made(making.generation), facts=facts, **changes)
        except ShardError as error:
            self._failed(number, making, error.failure)

    def _shared(self, row: ImportRow) -> list[str]:
        """The CARs of imports whose files a dense one may refer to, the newest first."""
        if not row.share or row.kind is not Kind.DENSE:
            return []
        found: list[str] = []
        for number in reversed(self._lives.numbers()):
            other = self._lives.row(number)
            if other.kind is Kind.REF and other.state is ImportState.READY and len(found) < SHARED_WITH:
                found.append(other.car_path)
        return found

    def _failed(self, number: int, making: Making, failure: Failure) -> None:
        try:
            self._lives.apply(number, Failed(making.generation, failure))
        except ShardError as error:
            logger.error(
                "import %d failed (%s), which cannot be written down: %s", number, failure.message, error
            )
            life = self._lives.get(number)
            assert life is not None
            self._waiting.fail(life.watchers, failure)

    def _twin(self, number: int, root: Cid) -> int | None:
        """Another import that is whole and has the same root."""
        for other, state in self._lives.store.find_root(root):
            if other != number and state is ImportState.READY:
                return other
        return None

    async def _discard_staged(self, number: int) -> None:
        try:
            await trio.to_thread.run_sync(self._places.discard_staged, number)
        except OSError as error:
            logger.warning("%s is left behind; the next start removes it: %s", error.filename, error.strerror)

    def _take_over(self, path: Path, number: int) -> None:
        """Moves what somebody put into `staging` where it is ours."""
        try:
            self._places.staged(number).mkdir()
            path.rename(self._places.upload(number))
        except OSError as error:
            raise ShardError(class_of_os_error(error), f"{path}: {error.strerror}") from error


def _make_fifo(path: Path) -> None:
    path.unlink(missing_ok=True)
    os.mkfifo(path, 0o600)
