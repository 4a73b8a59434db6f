"""One transient: fetching what its planner says, in tasks that belong to nobody who waits.

    ensure ─► planner.ask ─► (there) ─► return
                  └─► wait ◄── answers ◄── planner ◄── a request's task: reserve, stream, write, set bits

A waiter that is cancelled only withdraws; a fetch that failed is begun anew by the next who asks. What a replica of the
data has serves as well: all of it is verified by whoever reads it.
"""

from __future__ import annotations

import errno
import itertools
import logging
import os
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Final

import trio

from agent.dagstore.access import Range, TransientAccess
from agent.dagstore.failures import ErrorClass, Failure, ShardError, class_of_os_error
from agent.dagstore.mounts import DataChanged, Fingerprint, Mount
from agent.dagstore.origins import failure_of
from agent.dagstore.transients import files
from agent.dagstore.transients.files import Names, Opened
from agent.dagstore.transients.means import Means
from agent.dagstore.transients.planner import Answer, Planner, Request, Waiter

logger = logging.getLogger(__name__)

REQUESTS_AT_ONCE: Final = 16
"""Of one transient: half of the connections that mounts may have ([mounts] connections), so that another is served."""
_WINDOW_BYTES: Final = 16 << 20
"""What a long range is asked for at a time."""
_SETTLE_BYTES: Final = 64 << 20
"""After so many new bytes they are put on disk: a power cut costs no more."""

_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


@dataclass(eq=False, slots=True)
class _Pending:
    answered: trio.Event = field(default_factory=trio.Event)
    failure: Failure | None = None


class Transient:
    """An open transient; get one from `Transients.use`."""

    def __init__(
        self,
        key: str,
        mounts: Sequence[Mount],
        fingerprint: Fingerprint,
        names: Names,
        opened: Opened,
        means: Means,
    ) -> None:
        """`mounts`: the first is what `fingerprint` was taken of, the others are replicas."""
        self.key = key
        self.mounts = tuple(mounts)
        self.fingerprint = fingerprint
        self.names = names
        self.access = TransientAccess(str(names.data), str(names.map), fingerprint.size)
        self.holders = 0
        self.fetched_bytes = 0
        self.last_failure: Failure | None = None
        self._opened = opened
        self._means = means
        self._planner = Planner(opened.map.head, bytearray(opened.map.present))
        self._pending: dict[Waiter, _Pending] = {}
        self._numbers = itertools.count(1)
        self._pullers = 0
        self._quiet = trio.Event()  # set when neither a puller nor a settler runs
        self._quiet.set()
        self._scopes: set[trio.CancelScope] = set()
        self._writing = trio.Lock()
        self._settling = False
        self._unsettled_bytes = 0
        self._closed = self._vanished = False

    @property
    def idle(self) -> bool:
        """Whether nobody holds it or waits for it, and nothing of it is on its way."""
        return not self.holders and self._planner.idle

    @property
    def complete(self) -> bool:
        return self._planner.complete

    @property
    def vanished(self) -> bool:
        """Whether somebody has removed its files, which are no use to new readers then."""
        if not self._closed:
            self._vanished = self._opened.vanished
        return self._vanished

    async def ensure(self, offset: int, length: int) -> None:
        """Returns when these bytes are there; raises ShardError (what the mount raised, no-space, invalid).

        A cancel takes nothing from others who wait.
        """
        self._check(offset, length)
        for start in range(offset, offset + length, _WINDOW_BYTES):
            waiter = Waiter(next(self._numbers))
            if not self._planner.ask(waiter, start, min(_WINDOW_BYTES, offset + length - start)):
                await self._wait(waiter)
            self._wake()  # for what is read ahead

    async def renew(self, offset: int, length: int) -> None:
        """Likewise, but what is there is wrong and is fetched once more; a chunk that was renewed a moment ago stays.

        Raises ShardError."""
        self._check(offset, length)
        ranges = self._planner.renew(offset, length, trio.current_time())
        for first, stop in ranges:
            async with self._writing:  # taken in order, so before anybody writes there anew
                try:
                    await trio.to_thread.run_sync(self._opened.map.drop, first, stop)
                except OSError as error:
                    message = f"{self.names.map}: {error.strerror}"
                    raise ShardError(class_of_os_error(error), message, key=self.key) from error
            self._means.room.dropped(self, self._opened.map.head.bytes_of(first, stop))
        if ranges:
            logger.warning(
                "shard %s: bytes at %d did not match, they are fetched once more", self.key, offset
            )
        await self.ensure(offset, length)

    async def finish(self) -> None:
        """Returns when all of it is there; whatever else is asked for goes first. Raises ShardError."""
        waiter = Waiter(next(self._numbers))
        if not self._planner.finish(waiter):
            await self._wait(waiter)

    def hint(self, ranges: Sequence[Range]) -> None:
        """These bytes will be wanted soon; never waits."""
        if not self._closed:
            self._planner.hint(ranges)
            self._wake()

    def end(self, failure: Failure) -> None:
        """Ends all fetching; whoever waits is told `failure`."""
        self._closed = True
        for scope in self._scopes:
            scope.cancel()
        for waiter in list(self._pending):
            self._planner.withdraw(waiter)
            self._tell([Answer(waiter, failure)])

    async def close(self) -> None:
        """Puts what is there on disk and closes the files; for one that is idle or was ended."""
        self._closed = True
        with trio.CancelScope(shield=True):  # not long: what runs was cancelled, or writes
            await self._quiet.wait()
            await trio.to_thread.run_sync(self._close)

    # Waiting

    def _check(self, offset: int, length: int) -> None:
        if offset < 0 or length < 0 or offset + length > self.fingerprint.size:
            message = f"{self.mounts[0]} has {self.fingerprint.size} bytes; there is no range of {length} at {offset}"
            raise ShardError(ErrorClass.INVALID, message, key=self.key)
        if self._closed:
            raise ShardError(ErrorClass.BUSY, f"the transient of shard {self.key!r} was closed", key=self.key)

    async def _wait(self, waiter: Waiter) -> None:
        pending = self._pending[waiter] = _Pending()
        self._wake()
        try:
            await pending.answered.wait()
        finally:
            self._planner.withdraw(waiter)
            self._pending.pop(waiter, None)
        if pending.failure is not None:
            error = ShardError(pending.failure.error_class, pending.failure.message, key=self.key)
            error.failure = pending.failure
            raise error

    def _tell(self, answers: Sequence[Answer]) -> None:
        for answer in answers:
            pending = self._pending.pop(answer.waiter, None)
            if pending is not None:
                pending.failure = answer.failure
                pending.answered.set()

    # Fetching

    def _wake(self) -> None:
        """Starts one more puller if there is work for it; each starts the next."""
        if self._planner.has_work and self._pullers < REQUESTS_AT_ONCE and not self._closed:
            self._pullers += 1
            self._quiet = trio.Event() if self._quiet.is_set() else self._quiet
            self._means.nursery.start_soon(self._pull)

    async def _pull(self) -> None:
        scope = trio.CancelScope()
        self._scopes.add(scope)
        try:
            with scope:
                while self._planner.has_work:
                    async with self._means.slots:
                        request = self._planner.take()
                        if request is None:
                            break
                        self._wake()
                        await self._fetch(request)
        finally:
            self._scopes.discard(scope)
            self._pullers -= 1
            self._calm_down()

    def _calm_down(self) -> None:
        if not self._pullers and not self._settling:
            self._quiet.set()

    async def _fetch(self, request: Request) -> None:
        """Makes one request; whatever comes of it, the planner hears of it."""
        try:
            failure = await self._outcome(request)
        except trio.Cancelled:
            self._planner.ended(request)
            raise
        if failure is None:
            self._planner.ended(request)
            if self.complete:
                logger.debug("shard %s: its transient is complete", self.key)
        else:
            self.last_failure = failure
            may_resume = failure.error_class in (ErrorClass.GONE, ErrorClass.BUSY)
            self._tell(self._planner.failed(request, failure, may_resume=may_resume))
            log = logger.debug if request.is_ahead or may_resume else logger.info
            log("shard %s: chunks %d to %d: %s", self.key, request.first, request.stop, failure.message)
        if self._unsettled_bytes >= _SETTLE_BYTES or (self.complete and self._unsettled_bytes):
            self._settle_soon()

    async def _outcome(self, request: Request) -> Failure | None:
        head = self._opened.map.head
        due = sum(head.bytes_of(chunk, chunk + 1) for chunk in self._planner.lacking(request))
        room = self._means.room
        try:
            await room.reserve(due)
        except ShardError as error:
            return error.failure
        progress = _Progress(request.first, due, trio.current_time())
        try:
            return await self._from_any(request, progress)
        finally:
            room.unreserve(progress.reserved)

    async def _from_any(self, request: Request, progress: _Progress) -> Failure | None:
        """From the first mount that gives it, tried again while somebody waits and its failure may pass."""
        for pause_s in self._means.pauses_s:
            failure = await self._from_each(request, progress)
            if failure is None or request.is_ahead or not _may_pass(failure, pause_s):
                return failure
            await trio.sleep(pause_s)
        return await self._from_each(request, progress)

    async def _from_each(self, request: Request, progress: _Progress) -> Failure | None:
        """From the first mount that gives it, going on where the one before broke off."""
        failures: list[Failure] = []
        for number, mount in enumerate(self.mounts):
            expected = self.fingerprint if number == 0 else Fingerprint(self.fingerprint.size)
            try:
                with self._means.visits.visited(mount.url, begun_s=progress.begun_s) as visit:
                    await self._from(mount, expected, request, progress)
                    visit.came_out(None)
                    return None
            except ShardError as error:
                failures.append(failure_of(error))
                if error.error_class in (ErrorClass.NO_SPACE, ErrorClass.BUG) or isinstance(
                    error, DataChanged
                ):
                    break
            except Exception as error:
                logger.exception("shard %s: fetching from %s failed", self.key, mount)
                failures.append(Failure(ErrorClass.BUG, f"{type(error).__name__}: {error}"))
        return failures[0]

    async def _from(self, mount: Mount, expected: Fingerprint, request: Request, progress: _Progress) -> None:
        head = self._opened.map.head
        start = request.first if head.whole else progress.position
        offset = start * head.chunk_bytes
        length = head.bytes_of(start, request.stop)
        buffer = bytearray()
        received = 0
        position = start
        async with mount.stream(self._means.environment, offset, length, expected) as pieces:
            while (piece := await self._next(mount, pieces)) is not None:
                received += len(piece)
                if received > length:
                    raise ShardError(
                        ErrorClass.CORRUPT, f"{mount} sent more than the {length} bytes asked for"
                    )
                buffer += piece
                stop = request.stop if received == length else position + len(buffer) // head.chunk_bytes
                if stop > position:
                    size = head.bytes_of(position, stop)
                    data, buffer = buffer[:size], buffer[size:]
                    await self._store(request, progress, position, stop, data)
                    position = stop
        if received < length:
            raise ShardError(ErrorClass.BUSY, f"{mount} ended {length - received} bytes early")

    async def _next(self, mount: Mount, pieces: AsyncIterator[bytes]) -> bytes | None:
        """The next piece, None at the end."""
        try:
            with trio.fail_after(self._means.stall_s):
                return await anext(pieces, None)
        except trio.TooSlowError:
            message = f"{mount} sent nothing for {self._means.stall_s:g} s"
            raise ShardError(ErrorClass.GONE, message, origin_failed=True) from None

    async def _store(
        self, request: Request, progress: _Progress, position: int, stop: int, data: bytearray
    ) -> None:
        """Writes whole chunks and tells whoever waits for them."""
        head = self._opened.map.head
        lacking = [chunk for chunk in self._planner.lacking(request) if position <= chunk < stop]
        new = sum(head.bytes_of(chunk, chunk + 1) for chunk in lacking)
        if lacking:
            await self._write(position, stop, data)
            progress.reserved -= new
            self._means.room.wrote(self, new)
            self.fetched_bytes += new
            self._unsettled_bytes += new
        progress.position = max(progress.position, stop)
        self._tell(self._planner.arrived(request, stop))

    async def _write(self, position: int, stop: int, data: bytearray) -> None:
        offset = position * self._opened.map.head.chunk_bytes
        for last in (False, True):
            try:
                async with self._writing:
                    await trio.to_thread.run_sync(files.write, self._opened, offset, data, position, stop)
                return
            except OSError as error:
                if error.errno not in _NO_ROOM:
                    raise ShardError(
                        class_of_os_error(error), f"{self.names.data}: {error.strerror}"
                    ) from error
                if last or not await self._means.room.make_room(len(data)):
                    message = (
                        f"{self.names.data.parent}: no space for {len(data)} more bytes of {self.mounts[0]}"
                        f" ({error.strerror}); make room on that file system and try again"
                    )
                    raise ShardError(ErrorClass.NO_SPACE, message) from error

    # Putting on disk

    def _settle_soon(self) -> None:
        if not self._settling and not self._closed:
            self._settling = True
            self._quiet = trio.Event() if self._quiet.is_set() else self._quiet
            self._means.nursery.start_soon(self._settle)

    async def _settle(self) -> None:
        try:
            self._unsettled_bytes = 0
            snapshot = self._opened.map.snapshot()
            await trio.to_thread.run_sync(os.fdatasync, self._opened.data_fd)
            async with self._writing:
                await trio.to_thread.run_sync(self._opened.map.settle, snapshot)
        except OSError as error:
            logger.warning("%s: could not be put on disk: %s", self.names.data, error.strerror)
        finally:
            self._settling = False
            self._calm_down()

    def _close(self) -> None:
        """In a thread."""
        try:
            if self._unsettled_bytes:
                snapshot = self._opened.map.snapshot()
                os.fdatasync(self._opened.data_fd)
                self._opened.map.settle(snapshot)
        except OSError as error:
            logger.warning("%s: could not be put on disk: %s", self.names.data, error.strerror)
        finally:
            self._opened.close()


def _may_pass(failure: Failure, pause_s: float) -> bool:
    """Whether it may be over after so short a pause: a server that starts anew, a connection that was cut."""
    passing = failure.error_class is ErrorClass.BUSY or (
        failure.error_class is ErrorClass.GONE and failure.origin_failed
    )
    return passing and (failure.after_s is None or failure.after_s <= pause_s)


@dataclass(slots=True)
class _Progress:
    """How far a request is."""

    position: int  # chunks before it are there
    reserved: int  # bytes that are still to come
    begun_s: float  # by trio's clock
