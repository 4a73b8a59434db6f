"""Exports: into a file or a directory, which appears complete or not at all, or piece by piece to who takes them.

A worker reads and verifies; what it lacks of a DAG that lies in several places is looked for, and it begins anew.
Whatever is cancelled or fails leaves nothing behind.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path

import msgspec
import trio

from agent.dagstore.failures import ErrorClass, ShardError, class_of_os_error
from agent.dagstore.indexer import Workers
from agent.export.holders import Holders, Opened, nobody_has
from agent.export.orders import Order, exists
from agent.imports.places import Places
from agent.scheduler.tasks import DEAL_PRIORITY
from agent.workers import WorkerFailed
from agent.workers.messages import Params
from carlib.cid import Cid
from carlib.durable import TEMPORARY_PREFIX

ROUNDS = 64  # at most, to find in other places what one lacks
PIECE_BYTES = 1 << 20

Send = Callable[[bytes], Awaitable[None]]


class Exported(msgspec.Struct, frozen=True, rename="pascal"):
    """What was written. `Roots` are those of a CAR; `Sources` are the imports and shards that it came from."""

    path: str
    kind: str  # "file", "directory", "symlink" or "car"
    bytes: int
    blocks: int | None  # of a CAR
    files: int | None  # of anything else
    roots: tuple[str, ...]
    sources: tuple[str, ...]


class Exporter:
    """Everything raises ShardError."""

    def __init__(
        self, holders: Holders, workers: Workers, places: Places, reserve: Callable[[], int]
    ) -> None:
        """`reserve` gives numbers for folders in `places.staging`, which are swept at a start."""
        self._holders = holders
        self._workers = workers
        self._places = places
        self._reserve = reserve

    async def to_file(self, order: Order, out: Path, *, replacing: bool) -> Exported:
        """Writes to `out`, which must not be there unless it is `replacing`."""
        order = order.checked()
        number = self._reserve()
        scratch = out.parent / f"{TEMPORARY_PREFIX}export-{number}"
        await _checked_out(out, replacing=replacing)
        more = {"out": str(out), "scratch": str(scratch), "replace": replacing}
        try:
            found, opened = await self._run("car" if order.is_car else "file", order, more, subject=str(out))
        finally:
            with trio.CancelScope(shield=True):  # a worker that was killed cleared nothing up
                await trio.to_thread.run_sync(_remove, scratch)
        return Exported(
            str(out),
            found["kind"],
            found["bytes"],
            found.get("blocks"),
            found.get("files"),
            tuple(found.get("roots", ())),
            tuple(opened.names),
        )

    async def stream(self, order: Order, send: Send) -> None:
        """Gives the bytes of a file, or of a CAR, as they are read. What fails after the first ones is raised, too:
        whoever has them must know that they are not all."""
        order = order.checked()
        await self._piped("car" if order.is_car else "file", order, {}, send)

    async def listing(self, order: Order, *, depth: int, ipld: bool, send: Send) -> None:
        """What is in a directory: lines of JSON, in pieces that may begin and end anywhere."""
        order = replace(order, is_car=True).checked()
        await self._piped("list", order, {"depth": depth, "ipld": ipld}, send)

    async def _run(self, what: str, order: Order, more: Params, *, subject: str) -> tuple[Params, Opened]:
        async with AsyncExitStack() as stack:
            opened = Opened()
            missing: Cid | None = None if order.root.is_identity else order.root
            if order.local_car:
                opened.stores.append({"key": order.local_car, "kind": "car", "car": order.local_car})
                missing = None
            for _ in range(ROUNDS):
                if missing is not None and not await self._holders.open(missing, opened, stack):
                    raise opened.error or nobody_has(missing, order.root)
                found = await self._task({"what": what, **order.described(), **more}, opened, subject)
                if "missing" not in found:
                    return found, opened
                missing = Cid.parse(found["missing"])
            message = f"{order.root} lies in more than {ROUNDS} places; register a shard that has more of it"
            raise ShardError(ErrorClass.INVALID, message)

    async def _task(self, params: Params, opened: Opened, subject: str) -> Params:
        try:
            return await self._workers.run(
                "export", {**params, "stores": opened.stores}, None, opened.needs, subject=subject,
                size_bytes=opened.size, priority=DEAL_PRIORITY,
            )  # fmt: skip
        except WorkerFailed as error:
            raise ShardError(error.error_class, str(error)) from error

    async def _piped(self, what: str, order: Order, more: Params, send: Send) -> None:
        async with self._fifo() as (path, fd):
            ended, failure = trio.Event(), None
            reading = trio.CancelScope()

            async def run() -> None:
                nonlocal failure
                try:
                    await self._run(what, order, {**more, "fifo": str(path)}, subject=f"{what} {order.root}")
                except ShardError as error:
                    failure = error
                ended.set()
                reading.cancel()

            async with trio.open_nursery() as nursery:
                nursery.start_soon(run)
                while not ended.is_set():
                    reading = trio.CancelScope()
                    with reading:
                        await trio.lowlevel.wait_readable(fd)
                    await _drain(fd, send)
                await _drain(fd, send)
            if failure is not None:
                raise failure

    @asynccontextmanager
    async def _fifo(self) -> AsyncIterator[tuple[Path, int]]:
        number = self._reserve()
        folder = self._places.staged(number)
        path = folder / "export"
        try:
            folder.mkdir(parents=True)
            os.mkfifo(path, 0o600)
            # Open for both: it neither waits for the worker nor ends between two of its attempts.
            fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise ShardError(class_of_os_error(error), f"{error.filename}: {error.strerror}") from error
        try:
            with suppress(OSError):  # more than the limit of the user
                fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, PIECE_BYTES)
            yield path, fd
        finally:
            os.close(fd)
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(self._places.discard_staged, number)


async def _drain(fd: int, send: Send) -> None:
    while True:
        try:
            data = os.read(fd, PIECE_BYTES)
        except BlockingIOError:
            return
        await send(data)


async def _checked_out(out: Path, *, replacing: bool) -> None:
    """Refuses early what would be refused at the end."""

    def check() -> None:
        if not out.parent.is_dir():
            code = errno.ENOTDIR if out.parent.exists() else errno.ENOENT
            raise OSError(code, os.strerror(code), str(out.parent))
        if os.path.lexists(out) and not replacing:
            raise exists(out)

    try:
        await trio.to_thread.run_sync(check, abandon_on_cancel=True)
    except OSError as error:
        raise ShardError(class_of_os_error(error), f"{error.filename}: {error.strerror}") from error


def _remove(scratch: Path) -> None:
    shutil.rmtree(scratch, ignore_errors=True)
