"""The imports: what callers may ask of them, and the one place where an event is applied and made durable.

Decisions are `lifecycle.py`'s. Between two awaits everything here is atomic, and the catalogue is written before memory
changes: what a caller was told, and what an event stream said, is on disk.
"""

from __future__ import annotations

import logging
import os
import time
from collections import Counter
from collections.abc import AsyncIterable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import trio

from agent.dagstore.events import Hub, ImportKey
from agent.dagstore.failures import STOPPING, ErrorClass, Failure, ShardError, class_of_os_error
from agent.dagstore.indexer import Workers
from agent.dagstore.records import now_text
from agent.imports import sources, streams
from agent.imports.lifecycle import NOTHING, IllegalEvent, step
from agent.imports.names import check_name, name_for, next_id
from agent.imports.places import Places
from agent.imports.records import (
    OURS,
    THEIRS,
    Facts,
    ImportRecord,
    ImportRow,
    Kind,
    Source,
    life_of,
    record_of,
)
from agent.imports.requests import Request, kind_for
from agent.imports.settings import ImportsConfig
from agent.imports.table import ImportStore
from agent.imports.tasks import Progress, Tasks
from agent.imports.transitions import (
    READABLE_STATES,
    Acquire,
    Answer,
    Begin,
    Cancel,
    Effect,
    Event,
    Failed,
    Forget,
    ImportState,
    Join,
    Life,
    Made,
    Persist,
    Publish,
    Release,
    Remade,
    Remove,
    StartMaking,
    StopMaking,
    Waiter,
    Withdraw,
)
from agent.imports.waiting import Outcome, Waiting
from agent.scheduler.tasks import DEAL_PRIORITY
from carlib.cid import Cid
from carlib.errors import CarError

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


class Imports:
    """All imports; get one from `open_imports`."""

    def __init__(
        self,
        nursery: trio.Nursery,
        store: ImportStore,
        workers: Workers,
        hub: Hub,
        places: Places,
        settings: ImportsConfig,
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self.places = places
        self.settings = settings
        self.tasks = Tasks(workers, places)
        self.store = store
        self._nursery = nursery
        self._hub = hub
        self._clock_ns = clock_ns
        self._lives: dict[int, Life] = {}
        self._making: dict[int, Making] = {}
        self._jobs: dict[int, str] = {}
        self._streams: dict[int, AsyncIterable[bytes]] = {}
        self._sizes: dict[int, int] = {}  # of sources, as far as somebody has looked
        self._waiting = Waiting()
        self._last = 0
        self._stopping = False
        self.checked = trio.Event()
        """The imports that were there at the start were looked at."""
        self.suspected: Callable[[int], None] = lambda _number: None
        """Is told of each import that somebody wants to read."""

    # What callers ask for

    async def add(self, path: Path, request: Request, *, wait: bool) -> Outcome:
        """Imports what is at an absolute path. What was put below `staging` is taken over: it is gone afterwards.

        With `wait`, returns when that is done, or raises why it was not, and then nothing of it is left; whoever is
        cancelled leaves nothing either. Else it returns as soon as it is written down, and is made whatever happens.
        An import that has the same root already is given in its place, and the new one is forgotten.
        """
        self._refuse_if_stopping()
        request.check()
        if request.name:
            self._check_free(request.name)
        found = await trio.to_thread.run_sync(sources.look, path, abandon_on_cancel=True)
        taken_over = self.places.is_staged(found.path)
        kind = kind_for(request, path, found, taken_over=taken_over)
        self._refuse_if_stopping()
        number = self.reserve()
        row = self._row(number, kind, request, found.path, taken_over=taken_over)
        self._sizes[number] = found.size
        if taken_over:
            self._take_over(found.path, number)
        return await self._begin(row, wait=wait)

    async def add_stream(self, pieces: AsyncIterable[bytes], request: Request) -> Outcome:
        """Imports a stream, as a file or (kind "car") as the CAR that it is; otherwise as `add` with `wait`."""
        self._refuse_if_stopping()
        request.check()
        if request.name:
            self._check_free(request.name)
        number = self.reserve()
        kind = Kind.CAR if request.kind == "car" else Kind.DENSE
        row = self._row(number, kind, request, None, taken_over=True)
        self._streams[number] = pieces
        try:
            return await self._begin(row, wait=True)
        finally:
            self._streams.pop(number, None)

    async def wait_made(self, number: int) -> Outcome:
        """Waits for one that is being made; raises why it is not, if so."""
        self._life(number)
        with self._waiting.one() as (waiter, pending):
            self.apply(number, Join(waiter))
            return await self._answered(number, waiter, pending)

    async def remove(self, number: int) -> None:
        """Forgets an import and removes what is ours of it; calls it off if it is being made. Raises ShardError(busy)
        while somebody reads from it (C-11) or a job is done with it."""
        life, row = self._life(number), self.row(number)
        if life.refs:
            raise ShardError(ErrorClass.BUSY, f"import {row.name!r} is in use: {life.refs} leases")
        if number in self._jobs:
            raise ShardError(ErrorClass.BUSY, f"import {row.name!r} is busy: {self._jobs[number]}")
        making = self._making.get(number)
        self.apply(number, Remove())
        with trio.CancelScope(shield=True):  # short, and nobody would come back to it before the next start
            if making is not None:
                await making.ended.wait()
            await self._discard(row)

    async def cancel(self, number: int) -> None:
        """Calls off the making of an import, of which nothing is left then. Raises ShardError(busy) for one that is
        made."""
        self._life(number)
        making = self._making.get(number)
        if making is None:
            raise ShardError(ErrorClass.BUSY, f"import {self.row(number).name!r} is not being made")
        self.apply(number, Cancel())
        with trio.CancelScope(shield=True):
            await making.ended.wait()

    def rename(self, number: int, name: str) -> None:
        """Gives it another name, which nobody else may have."""
        self._life(number)
        row = self.row(number)
        if name == row.name:
            return
        self._check_free(name)
        self.store.put(msgspec.structs.replace(row, name=name))
        self._hub.publish_import(ImportKey(number, row.name))
        self._hub.publish_import(ImportKey(number, name))

    def acquire(self, number: int) -> ImportRecord:
        """Takes a reference; the caller owes one `release`. Raises ShardError: busy while it is made, what broke it."""
        life = self._life(number)
        if life.state not in READABLE_STATES:
            name = self.row(number).name
            if life.failure is not None:
                raise ShardError(
                    life.failure.error_class, f"import {name!r} is broken: {life.failure.message}"
                )
            raise ShardError(ErrorClass.BUSY, f"import {name!r} is not made yet")
        self.apply(number, Acquire())
        self.suspected(number)
        return self.record(number)

    def release(self, number: int) -> None:
        """Gives one reference back."""
        self.apply(number, Release())

    def find(self, text: str | int) -> int:
        """The import of a number, a name, or a root in any base and version; raises ShardError(not-found).

        A name that looks like another's number or root is taken for a name.
        """
        number = text if isinstance(text, int) else self.store.find_name(text)
        if number is None and isinstance(text, str) and text.isdecimal():
            number = int(text)
        if number is None:
            try:
                number = self.find_root(Cid.parse(text)) if isinstance(text, str) else None
            except CarError:
                number = None
        if number is None or number not in self._lives:
            raise ShardError(ErrorClass.NOT_FOUND, f"there is no import {text!r}", key=str(text))
        return number

    def find_root(self, cid: Cid) -> int | None:
        """The best import of that root: one that is whole, if there is one."""
        order = (ImportState.READY, ImportState.STALE, ImportState.BROKEN)
        found = [
            (order.index(state), number) for number, state in self.store.find_root(cid) if state in order
        ]
        return min(found)[1] if found else None

    def numbers(self) -> Sequence[int]:
        """Of all imports, oldest first."""
        return sorted(self._lives)

    def row(self, number: int) -> ImportRow:
        """As the catalogue has it; raises ShardError(not-found | corrupt)."""
        row = self.store.row(number)
        if row is None:
            raise ShardError(ErrorClass.NOT_FOUND, f"there is no import {number}", key=str(number))
        return row

    def record(self, number: int) -> ImportRecord:
        """The full record; raises ShardError(not-found)."""
        life, making = self._life(number), self._making.get(number)
        done, total = (0, self._sizes.get(number, 0)) if making is None else (making.done, making.total)
        return record_of(
            self.row(number), life, self.places.directory, done=done, total=total,
            job=self._jobs.get(number, ""),
        )  # fmt: skip

    def labels(self, number: int) -> dict[str, str]:
        """Lotus' labels."""
        record = self.record(number)
        labels = {"source": record.source.value}
        labels |= {"root": record.root} if record.root is not None else {}
        labels |= {"filename": record.file_path} if record.file_path else {}
        return labels | {"car_path": record.car_path, "car_owner": record.car_owner}

    def life(self, number: int) -> Life | None:
        """Where it is in its life; None if there is none of that number."""
        return self._lives.get(number)

    def counts(self) -> dict[str, int]:
        """How many are in which state; states without imports are left out."""
        counts = Counter(life.state for life in self._lives.values())
        return dict(sorted((state.value, count) for state, count in counts.items()))

    def stop(self) -> None:
        """Refuses new requests and answers all that wait; the work ends with the block of `open_imports`."""
        self._stopping = True
        self._waiting.fail_all(STOPPING)

    # For the parts beside this one

    def apply(self, number: int, event: Event, **changes: Any) -> None:  # Any: as the field of ImportRow is
        """Applies an event, with `changes` to the row if it is written. Raises ShardError if that cannot be done, and
        then nothing has happened; IllegalEvent."""
        before = self._lives.get(number, NOTHING)
        life, effects = step(before, event)
        row: ImportRow | None = changes.pop("row", None)
        for effect in effects:
            match effect:
                case Persist(old, new, name, reason):
                    row = msgspec.structs.replace(row or self.row(number), **changes).with_life(life)
                    self.store.put(row)
                    level = (
                        logging.WARNING if new in (ImportState.STALE, ImportState.BROKEN) else logging.INFO
                    )
                    logger.log(
                        level, "import %s (%d): %s -> %s (%s) %s", row.name, number,
                        *(state.value.removeprefix("ImportState") for state in (old, new)), name, reason,
                    )  # fmt: skip
                case Forget():
                    row = self._forget(number, before)
        if life.state is ImportState.ABSENT:
            self._lives.pop(number, None)
        else:
            self._lives[number] = life
        for effect in effects:
            self._carry_out(number, effect, row)
        if any(isinstance(effect, Persist | Forget | Publish) for effect in effects):
            self.publish(number, row)

    def take_over(self, row: ImportRow) -> None:
        """An import that was there at the start."""
        self._lives[row.id] = life_of(row)
        self._last = max(self._last, row.id)

    def take_over_damaged(self, number: int) -> None:
        """One whose row cannot be read: it is counted, and can be removed."""
        failure = Failure(ErrorClass.CORRUPT, "its row in the catalogue is damaged")
        self._lives[number] = Life(ImportState.BROKEN, failure=failure)
        self._last = max(self._last, number)

    def update(self, number: int, **changes: Any) -> None:  # Any: as the field of ImportRow is
        """Changes of the row that are no matter of its life."""
        row = msgspec.structs.replace(self.row(number), **changes)
        self.store.put(row)
        self.publish(number, row)

    def publish(self, number: int, row: ImportRow | None = None) -> None:
        """Tells all who listen that it is not as it was."""
        try:
            name = (row or self.row(number)).name
        except ShardError:
            return
        self._hub.publish_import(ImportKey(number, name))

    @contextmanager
    def job(self, number: int, what: str) -> Iterator[ImportRow]:
        """Keeps others from changing the import for the time of the block; raises ShardError(busy)."""
        life, row = self._life(number), self.row(number)
        if number in self._jobs or life.state is ImportState.IMPORTING or row.facts is None:
            doing = self._jobs.get(number) or (
                "it was never made" if row.facts is None else "it is being made"
            )
            raise ShardError(ErrorClass.BUSY, f"import {row.name!r} is busy: {doing}")
        self._jobs[number] = what
        self.publish(number, row)
        try:
            yield row
        finally:
            del self._jobs[number]
            if number in self._lives:
                self.publish(number)

    def has_job(self, number: int) -> bool:
        return number in self._jobs

    def remade(self, number: int, facts: Facts, reason: str, **changes: Any) -> None:  # Any: likewise
        """The CAR is another one of the same content."""
        old = self.row(number).facts
        assert old is not None
        kept = {"size": old.size, "skipped": old.skipped, "skipped_count": old.skipped_count}
        self.apply(number, Remade(reason), facts=msgspec.structs.replace(facts, **kept), **changes)

    # Making

    def _row(
        self, number: int, kind: Kind, request: Request, path: Path | None, *, taken_over: bool
    ) -> ImportRow:
        name = request.name
        if name:
            self._check_free(name)
        else:
            name = name_for(path, lambda taken: self.store.find_name(taken) is not None)
        is_ours = kind is not Kind.CAR or taken_over
        return ImportRow(
            id=number,
            name=name,
            kind=kind,
            state=ImportState.IMPORTING,
            source=Source.LOCAL if taken_over else Source.IMPORT,
            filename="" if taken_over else str(path),
            car_path=str(self.places.car(number)) if is_ours else str(path),
            car_owner=OURS if is_ours else THEIRS,
            folder=FOLDER if kind is Kind.REF else "",
            profile="" if kind is Kind.CAR else request.profile,
            hidden=request.hidden,
            preserve=request.preserve,
            share=request.share,
            created=now_text(),
        )

    async def _begin(self, row: ImportRow, *, wait: bool) -> Outcome:
        if not wait:
            self.apply(row.id, Begin(), row=row)
            return Outcome(row.id)
        with self._waiting.one() as (waiter, pending):
            self.apply(row.id, Begin(waiter), row=row)
            return await self._answered(row.id, waiter, pending)

    async def _answered(self, number: int, waiter: Waiter, pending: Any) -> Outcome:
        making = self._making.get(number)
        try:
            await pending.answered.wait()
        except trio.Cancelled:
            self.apply(number, Withdraw(waiter))
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
                await self._discard(row)

    async def _made(self, row: ImportRow, making: Making) -> Facts:
        staged = self.places.staged(row.id)
        try:
            staged.mkdir(parents=True, exist_ok=True)
            pieces = self._streams.get(row.id)
            source = row.filename
            if not source:
                source = str(self.places.upload(row.id))
                if pieces is not None:
                    _make_fifo(self.places.upload(row.id))
        except OSError as error:
            raise ShardError(class_of_os_error(error), f"{staged}: {error.strerror}") from error
        told = self._progress(row, making)
        priority = DEAL_PRIORITY if row.attended else 0
        if pieces is None:
            return await self.tasks.make(
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
                facts = await self.tasks.make(
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
            self.publish(row.id, row)

        return told

    def _finished(self, number: int, making: Making, facts: Facts) -> None:
        life = self._lives.get(number)
        if life is None or life.generation != making.generation:
            return
        try:
            twin = self._twin(number, Cid.parse(facts.root))
            if twin is not None:
                name = self.row(twin).name
                failure = Failure(ErrorClass.EXISTS, f"import {name!r} has the same root {facts.root}")
                self.apply(number, Failed(making.generation, failure, twin))
            else:
                changes = {"kind": Kind.REF, "folder": FOLDER} if facts.files else {}
                self.apply(number, Made(making.generation), facts=facts, **changes)
        except ShardError as error:
            self._failed(number, making, error.failure)

    def _shared(self, row: ImportRow) -> list[str]:
        """The CARs of imports whose files a dense one may refer to, the newest first."""
        if not row.share or row.kind is not Kind.DENSE:
            return []
        found: list[str] = []
        for number in reversed(self.numbers()):
            other = self.row(number)
            if other.kind is Kind.REF and other.state is ImportState.READY and len(found) < SHARED_WITH:
                found.append(other.car_path)
        return found

    def _failed(self, number: int, making: Making, failure: Failure) -> None:
        try:
            self.apply(number, Failed(making.generation, failure))
        except ShardError as error:
            logger.error(
                "import %d failed (%s), which cannot be written down: %s", number, failure.message, error
            )
            self._waiting.fail(self._lives[number].watchers, failure)

    def _twin(self, number: int, root: Cid) -> int | None:
        """Another import that is whole and has the same root."""
        for other, state in self.store.find_root(root):
            if other != number and state is ImportState.READY:
                return other
        return None

    # Common to several of the above

    def _forget(self, number: int, before: Life) -> ImportRow:
        row = self.row(number)
        try:
            self.store.delete(number)
        except ShardError:
            if before.state is not ImportState.IMPORTING:
                raise
            logger.exception("import %d cannot be forgotten now; the next start does it", number)
        logger.info("import %s (%d): removed", row.name, number)
        return row

    async def _discard(self, row: ImportRow) -> None:
        try:
            await trio.to_thread.run_sync(self.places.discard, row)
        except OSError as error:
            logger.warning("%s is left behind; the next start removes it: %s", error.filename, error.strerror)

    async def _discard_staged(self, number: int) -> None:
        try:
            await trio.to_thread.run_sync(self.places.discard_staged, number)
        except OSError as error:
            logger.warning("%s is left behind; the next start removes it: %s", error.filename, error.strerror)

    def _take_over(self, path: Path, number: int) -> None:
        """Moves what somebody put into `staging` where it is ours."""
        try:
            self.places.staged(number).mkdir()
            path.rename(self.places.upload(number))
        except OSError as error:
            raise ShardError(class_of_os_error(error), f"{path}: {error.strerror}") from error

    def reserve(self) -> int:
        """A number that nobody has."""
        self._last = next_id(self._clock_ns(), self._last)
        return self._last

    def _check_free(self, name: str) -> None:
        check_name(name)
        other = self.store.find_name(name)
        if other is not None:
            raise ShardError(ErrorClass.EXISTS, f"an import with the name {name!r} exists already", key=name)

    def _life(self, number: int) -> Life:
        self._refuse_if_stopping()
        life = self._lives.get(number)
        if life is None:
            raise ShardError(ErrorClass.NOT_FOUND, f"there is no import {number}", key=str(number))
        return life

    def _refuse_if_stopping(self) -> None:
        if self._stopping:
            raise ShardError(STOPPING.error_class, STOPPING.message)


def _make_fifo(path: Path) -> None:
    path.unlink(missing_ok=True)
    os.mkfifo(path, 0o600)


__all__ = ["IllegalEvent", "Imports", "Outcome"]
