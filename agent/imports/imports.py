"""The imports: what callers may ask of them.

Callers are the RPC methods, leases and exports, and the parts beside this one (`opening.py`, `looking.py`, `jobs.py`,
`sanity.py`). Events are applied in `lives.py`, and what is begun, called off or awaited is `making.py`'s. Between two
awaits everything here is atomic.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterable, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import trio

from agent.dagstore.events import Hub, ImportKey
from agent.dagstore.failures import ErrorClass, ShardError
from agent.dagstore.indexer import Workers
from agent.imports import sources
from agent.imports.lifecycle import IllegalEvent
from agent.imports.lives import Lives
from agent.imports.making import Makings
from agent.imports.places import Places
from agent.imports.records import Facts, ImportRecord, ImportRow, Kind, record_of
from agent.imports.requests import Request, kind_for
from agent.imports.settings import ImportsConfig
from agent.imports.table import ImportStore
from agent.imports.tasks import Tasks
from agent.imports.transitions import (
    READABLE_STATES,
    Acquire,
    Event,
    ImportState,
    Life,
    Release,
    Remade,
    Remove,
)
from agent.imports.waiting import Outcome
from carlib.cid import Cid
from carlib.errors import CarError


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
        self._lives = Lives(store, hub, clock_ns)
        self._makings = Makings(nursery, self._lives, self.tasks, places)
        self._hub = hub
        self._jobs: dict[int, str] = {}
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
        self._lives.refuse_if_stopping()
        request.check()
        if request.name:
            self._lives.check_free(request.name)
        found = await trio.to_thread.run_sync(sources.look, path, abandon_on_cancel=True)
        taken_over = self.places.is_staged(found.path)
        kind = kind_for(request, path, found, taken_over=taken_over)
        self._lives.refuse_if_stopping()
        number = self.reserve()
        row = self._makings.row(number, kind, request, found.path, taken_over=taken_over)
        self._makings.prepare(number, found, taken_over=taken_over)
        return await self._makings.begin(row, wait=wait)

    async def add_stream(self, pieces: AsyncIterable[bytes], request: Request) -> Outcome:
        """Imports a stream, as a file or (kind "car") as the CAR that it is; otherwise as `add` with `wait`."""
        self._lives.refuse_if_stopping()
        request.check()
        if request.name:
            self._lives.check_free(request.name)
        number = self.reserve()
        kind = Kind.CAR if request.kind == "car" else Kind.DENSE
        row = self._makings.row(number, kind, request, None, taken_over=True)
        return await self._makings.begin_stream(row, pieces)

    async def wait_made(self, number: int) -> Outcome:
        """Waits for one that is being made; raises why it is not, if so."""
        self._lives.of(number)
        return await self._makings.join(number)

    async def remove(self, number: int) -> None:
        """Forgets an import and removes what is ours of it; calls it off if it is being made. Raises ShardError(busy)
        while somebody reads from it (C-11) or a job is done with it."""
        life, row = self._lives.of(number), self.row(number)
        if life.refs:
            raise ShardError(ErrorClass.BUSY, f"import {row.name!r} is in use: {life.refs} leases")
        if number in self._jobs:
            raise ShardError(ErrorClass.BUSY, f"import {row.name!r} is busy: {self._jobs[number]}")
        making = self._makings.get(number)
        self.apply(number, Remove())
        with trio.CancelScope(shield=True):  # short, and nobody would come back to it before the next start
            if making is not None:
                await making.ended.wait()
            await self._makings.discard(row)

    async def cancel(self, number: int) -> None:
        """Calls off the making of an import, of which nothing is left then. Raises ShardError(busy) for one that is
        made."""
        self._lives.of(number)
        await self._makings.cancel(number)

    def rename(self, number: int, name: str) -> None:
        """Gives it another name, which nobody else may have."""
        self._lives.of(number)
        row = self.row(number)
        if name == row.name:
            return
        self._lives.check_free(name)
        self.store.put(msgspec.structs.replace(row, name=name))
        self._hub.publish_other(ImportKey(number, row.name))
        self._hub.publish_other(ImportKey(number, name))

    def acquire(self, number: int) -> ImportRecord:
        """Takes a reference; the caller owes one `release`. Raises ShardError: busy while it is made, what broke it."""
        life = self._lives.of(number)
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
        return self._lives.numbers()

    def row(self, number: int) -> ImportRow:
        """As the catalogue has it; raises ShardError(not-found | corrupt)."""
        return self._lives.row(number)

    def record(self, number: int) -> ImportRecord:
        """The full record; raises ShardError(not-found)."""
        life = self._lives.of(number)
        done, total = self._makings.how_far(number)
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
        return self._lives.counts()

    def stop(self) -> None:
        """Refuses new requests and answers all that wait; the work ends with the block of `open_imports`."""
        self._lives.stop()
        self._makings.stop()

    # For the parts beside this one

    def apply(self, number: int, event: Event, **changes: Any) -> None:  # Any: as the field of ImportRow is
        """Applies an event, with `changes` to the row if it is written. Raises ShardError if that cannot be done, and
        then nothing has happened; IllegalEvent."""
        self._lives.apply(number, event, **changes)

    def take_over(self, row: ImportRow) -> None:
        """An import that was there at the start."""
        self._lives.take_over(row)

    def take_over_damaged(self, number: int) -> None:
        """One whose row cannot be read: it is counted, and can be removed."""
        self._lives.take_over_damaged(number)

    def update(self, number: int, **changes: Any) -> None:  # Any: as the field of ImportRow is
        """Changes of the row that are no matter of its life."""
        self._lives.update(number, **changes)

    def publish(self, number: int, row: ImportRow | None = None) -> None:
        """Tells all who listen that it is not as it was."""
        self._lives.publish(number, row)

    def reserve(self) -> int:
        """A number that nobody has."""
        return self._lives.reserve()

    @contextmanager
    def job(self, number: int, what: str) -> Iterator[ImportRow]:
        """Keeps others from changing the import for the time of the block; raises ShardError(busy)."""
        life, row = self._lives.of(number), self.row(number)
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


__all__ = ["IllegalEvent", "Imports", "Outcome"]
