"""The retrievals: started, joined, waited for, called off, removed; each in a CARv2 of its own.

Decisions are `transitions.py`'s; `running.py` fetches one. The catalogue is written before memory changes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import trio

from agent.dagstore.events import Hub, RetrievalKey
from agent.dagstore.failures import STOPPING, ErrorClass, Failure, ShardError
from agent.dagstore.records import now_text
from agent.imports.names import next_id
from agent.retrievals.offers import Elsewhere
from agent.retrievals.progress import Progress
from agent.retrievals.records import RetrievalRecord, RetrievalRow, Wanted, car_path
from agent.retrievals.table import RetrievalStore
from agent.retrievals.transitions import ENDED, Event, State, step
from agent.transfer.wants import Wants
from carlib.cid import Cid
from carlib.header import V2_PREFIX_BYTES

logger = logging.getLogger(__name__)


@dataclass(eq=False, slots=True)
class Retrieval:
    """One of them, in memory."""

    row: RetrievalRow
    progress: Progress = field(default_factory=Progress)
    wants: Wants = field(default_factory=Wants)
    scope: trio.CancelScope | None = None  # of the run that is under way
    ended: trio.Event = field(default_factory=trio.Event)  # replaced when it is begun again
    idle: trio.Event = field(default_factory=trio.Event)  # nobody writes to its file
    refs: int = 0


Run = Callable[["Retrieval"], None]


class Retrievals:
    """Get them from `open_retrievals`. Everything raises ShardError."""

    def __init__(self, store: RetrievalStore, hub: Hub, directory: Path, clock_ns: Callable[[], int]) -> None:
        self._store = store
        self._hub = hub
        self.directory = directory
        self._clock_ns = clock_ns
        self._all: dict[int, Retrieval] = {}
        self._last = 0
        self._stopping = False
        self.on_demand = False
        """Whether who reads what is not here has it fetched; set by `open_retrievals`."""
        self.elsewhere: Elsewhere | None = None
        """Who may be asked for a DAG before it is fetched; set by `open_retrievals`."""
        self.to = ""
        """The IPFS node that all is put into, if nothing else is said; set by `open_retrievals`."""
        self.run: Run = lambda _one: None
        """Begins one, in the background; set by `open_retrievals`."""

    # What callers ask for

    def start(self, wanted: Wanted, sources: Sequence[str] = ()) -> int:
        """Begins to fetch it, or more of a DAG that is fetched already; gives its number.

        Whatever was fetched stays. Asking for what is here, or on its way, begins nothing, but that it is put into an
        IPFS node, once more if need be.
        """
        self._refuse_if_stopping()
        wanted = wanted.checked()
        if wanted.to is None:
            wanted = msgspec.structs.replace(wanted, to="" if wanted.lazy else self.to)
        elif wanted.to and self.elsewhere is not None:
            self.elsewhere.node(wanted.to)
        cid = Cid.parse(wanted.root)
        for number in self._store.find_root(cid):
            if number in self._all:
                self._more(self._all[number], wanted, sources)
                return number
        number = self._last = next_id(self._clock_ns(), self._last)
        row = RetrievalRow(number, wanted.root, (wanted,), tuple(sources), State.QUEUED, now_text())
        self._store.put(row)
        one = self._all[number] = Retrieval(row)
        one.idle.set()
        self.publish(number)
        self.run(one)
        return number

    def _more(self, one: Retrieval, wanted: Wanted, sources: Sequence[str]) -> None:
        row = one.row
        wanted = msgspec.structs.replace(wanted, root=row.wanted[0].root)  # in whatever spelling it came
        more = tuple(source for source in sources if source not in row.sources)
        is_new = wanted not in row.wanted
        # What could not be had, or was called off, is not asked for again because of somebody else's wish.
        before = row.wanted[: row.met] if row.state in (State.FAILED, State.CANCELLED) else row.wanted
        asked = before if wanted in before else (*before, wanted)
        if wanted.lazy and not is_new and row.state not in (State.FAILED, State.CANCELLED):
            return
        if row.state is State.DONE and not is_new and not wanted.to:
            return
        self._change(one, wanted=asked, sources=(*row.sources, *more))
        if row.state in ENDED:
            self.apply(one, Event.AGAIN, error="", error_class=None, ended="")
            self.run(one)
        elif is_new and one.scope is not None:
            one.scope.cancel()  # `running` begins again with all that is wanted now

    async def wait(self, number: int) -> RetrievalRecord:
        """Returns when it is done; raises why it is not, if so."""
        one = self._one(number)
        while one.row.state not in ENDED:
            ended = one.ended
            await ended.wait()
            if self._stopping:
                raise ShardError(STOPPING.error_class, STOPPING.message)
            if one.row.state not in ENDED and one.ended is ended:
                hint = "make room, and start the agent anew"
                raise ShardError(
                    ErrorClass.NO_SPACE, f"how {one.row.name} ended cannot be written down; {hint}"
                )
        row = one.row
        if row.state is State.CANCELLED:
            raise ShardError(ErrorClass.CANCELLED, f"Retrieval was cancelled externally: {row.name}")
        if row.state is State.FAILED:
            raise ShardError(row.error_class or ErrorClass.BUG, f"Retrieval Error: {row.error}")
        return self.record(number)

    async def want(self, number: int, cids: Sequence[Cid]) -> None:
        """Returns when these blocks are in the file; they come before all else."""
        one = self._one(number)
        if one.row.state in ENDED:
            failure = self._unmet(one.row)
            raise ShardError(failure.error_class, failure.message)
        await one.wants.wait_all(cids)

    def _unmet(self, row: RetrievalRow) -> Failure:
        """What becomes of wants that are left when it has ended."""
        if row.state is State.DONE:
            message = f"that block is not in what was retrieved of {row.name}; ask for more of it"
            return Failure(ErrorClass.NOT_FOUND, message)
        return Failure(
            row.error_class or ErrorClass.CANCELLED, f"{row.name}: {row.error or 'it was cancelled'}"
        )

    async def cancel(self, number: int) -> None:
        """Calls it off; what has come stays, and another `start` goes on from there."""
        one = self._one(number)
        if one.row.state in ENDED:
            raise ShardError(ErrorClass.BUSY, f"retrieval {one.row.name} has ended already")
        self.apply(one, Event.CANCEL, ended=now_text())
        await self._quiet(one)

    async def remove(self, number: int) -> None:
        """Forgets it, with its file; calls it off first. Refused while somebody reads from it."""
        one = self._one(number)
        if one.refs:
            message = f"retrieval {one.row.name} is in use: {one.refs} leases"
            raise ShardError(ErrorClass.BUSY, message)
        if one.row.state not in ENDED:
            self.apply(one, Event.CANCEL, ended=now_text())
        with trio.CancelScope(shield=True):
            await self._quiet(one)
            self._store.delete(number)
            self._all.pop(number, None)
            await trio.to_thread.run_sync(self._discard, number)
        self.publish(number)

    def _discard(self, number: int) -> None:
        """Its CAR, and what was brought of others to make it."""
        for path in self.directory.glob(f"{number}.*"):
            path.unlink(missing_ok=True)

    async def _quiet(self, one: Retrieval) -> None:
        if one.scope is not None:
            one.scope.cancel()
        await one.idle.wait()

    def acquire(self, number: int) -> RetrievalRecord:
        """Takes a reference, whatever its state; the caller owes one `release`."""
        self._one(number).refs += 1
        return self.record(number)

    def release(self, number: int) -> None:
        one = self._all.get(number)
        if one is not None:
            one.refs -= 1

    # What there is

    def numbers(self) -> list[int]:
        return sorted(self._all)

    def find(self, text: str | int) -> int:
        """By number, or root in any base and version."""
        if isinstance(text, int) or text.isdecimal():
            number = int(text)
            if number in self._all:
                return number
        else:
            found = self.find_root(Wanted(text).order().root)
            if found is not None:
                return found
        raise ShardError(ErrorClass.NOT_FOUND, f"there is no retrieval {text}", key=str(text))

    def find_root(self, cid: Cid, *, done: bool = False) -> int | None:
        """The one of that root; only one that is done, if so wanted."""
        for number in self._store.find_root(cid):
            one = self._all.get(number)
            if one is not None and (one.row.state is State.DONE or not done):
                return number
        return None

    def done(self) -> list[int]:
        """Those whose files are complete, newest first."""
        return [
            number for number in sorted(self._all, reverse=True) if self._all[number].row.state is State.DONE
        ]

    def is_whole(self, number: int) -> bool:
        """Whether all below its root is wanted, and not only a part."""
        return self._one(number).row.is_whole

    def state(self, number: int) -> State:
        return self._one(number).row.state

    def record(self, number: int) -> RetrievalRecord:
        one = self._one(number)
        row, progress, first = one.row, one.progress, one.row.wanted[0]
        now_s = trio.current_time()
        is_running = row.state is State.FETCHING
        return RetrievalRecord(
            id=row.id,
            name=row.name,
            root=str(row.root),
            state=row.state.value,
            path=first.path,
            range=first.range,
            selector=first.selector,
            lazy=row.is_lazy,
            sources=row.sources,
            car_path=str(self.path(number)),
            bytes=row.bytes + progress.bytes,
            blocks=row.blocks + progress.blocks,
            wasted=row.wasted + progress.wasted,
            total=progress.total,
            rate=round(progress.rate(now_s), 1) if is_running else 0.0,
            eta_seconds=progress.eta_s(now_s, row.bytes) if is_running else None,
            source=progress.source,
            error=row.error,
            error_class=row.error_class.value if row.error_class else "",
            created=row.created,
            ended=row.ended or None,
            roots=(str(row.root),),
            version=2,
            data_offset=V2_PREFIX_BYTES,
            data_size=row.data_size,
            fingerprint=row.fingerprint,
            generation=row.generation,
            refs=one.refs,
        )

    def path(self, number: int) -> Path:
        return car_path(self.directory, number)

    # For the parts beside this one

    def apply(self, one: Retrieval, event: Event, **changes: Any) -> bool:  # Any: as the field of the row is
        """Moves it on, if that is anything new to it; whether it was."""
        state = step(one.row.state, event)
        if state is None:
            return False
        self._change(one, state=state, **changes)
        if state in ENDED:
            one.ended.set()
            one.wants.end(self._unmet(one.row))
        elif one.ended.is_set():
            one.ended = trio.Event()
            one.wants.begin()
        self.publish(one.row.id)
        return True

    def _change(self, one: Retrieval, **changes: Any) -> None:
        row = msgspec.structs.replace(one.row, **changes)
        self._store.put(row)
        one.row = row

    def take_over(self, row: RetrievalRow) -> Retrieval:
        """One that was there at the start."""
        one = self._all[row.id] = Retrieval(row)
        one.idle.set()
        self._last = max(self._last, row.id)
        return one

    def publish(self, number: int) -> None:
        self._hub.publish_other(RetrievalKey(number))

    def stop(self) -> None:
        """Refuses new ones and answers all that wait."""
        self._stopping = True
        for one in self._all.values():
            one.ended.set()
            one.wants.end(STOPPING)

    def _refuse_if_stopping(self) -> None:
        if self._stopping:
            raise ShardError(STOPPING.error_class, STOPPING.message)

    def _one(self, number: int) -> Retrieval:
        one = self._all.get(number)
        if one is None:
            raise ShardError(ErrorClass.NOT_FOUND, f"there is no retrieval {number}", key=str(number))
        return one
