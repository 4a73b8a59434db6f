"""A CAR at a URL, such as `/piece/CID`: it is brought here whole, by ranges where it broke off, and read here then.

A CAR in any order may have its leaves before its root, and no server can be asked for parts of one.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import trio

from agent.dagstore.failures import ErrorClass, ShardError, class_of_os_error
from agent.dagstore.mounts.mount import TryLater
from agent.dagstore.mounts.urls import HttpUrl
from agent.gateway import cars
from agent.gateway.asked import CarAsked
from agent.transfer.sources.means import Means
from carlib.blockstore import ReadOnlyBlockstore
from carlib.cid import Cid
from carlib.errors import BlockNotFound, CarError
from carlib.traversal import Request

_VALIDATOR = "user.carfs.validator"  # an attribute of the part: a strong ETag, or a date


@dataclass(eq=False, slots=True)
class PieceSource:
    """The one at a URL; `part` is where its bytes go, and stays for a later attempt until `discard`."""

    url: HttpUrl
    means: Means
    part: Path
    gives_parts: bool = True
    _lock: trio.Lock = field(default_factory=trio.Lock)
    _store: ReadOnlyBlockstore | None = None
    _threads: trio.CapacityLimiter = field(default_factory=lambda: trio.CapacityLimiter(4))

    @property
    def name(self) -> str:
        return self.url.shown

    @property
    def host(self) -> str:
        return self.url.host

    @asynccontextmanager
    async def car(self, request: Request) -> AsyncIterator[AsyncIterator[bytes]]:
        store = await self._opened()
        if not await trio.to_thread.run_sync(store.has, request.root, limiter=self._threads):
            raise ShardError(ErrorClass.NOT_FOUND, f"{self.name} has not {request.root}")
        asked = CarAsked(request, "", "", duplicates=False)
        async with aclosing(cars.in_threads(cars.pieces(store, asked), self._threads)) as pieces:
            yield pieces

    async def raw(self, cid: Cid, begin: bytes = b"") -> bytes:
        store = await self._opened()
        try:
            return await trio.to_thread.run_sync(store.get, cid, limiter=self._threads)
        except BlockNotFound:
            raise ShardError(ErrorClass.NOT_FOUND, f"{self.name} has not {cid}") from None
        except (CarError, OSError) as error:
            raise ShardError(ErrorClass.CORRUPT, f"{self.name}: {error}") from error

    def discard(self) -> None:
        """Removes what was brought; nobody may use it any more."""
        if self._store is not None:
            self._store.close()
            self._store = None
        self.part.unlink(missing_ok=True)

    async def _opened(self) -> ReadOnlyBlockstore:
        async with self._lock:
            if self._store is None:
                await self._bring()
                try:
                    self._store = await trio.to_thread.run_sync(ReadOnlyBlockstore.open, self.part)
                except (CarError, OSError) as error:
                    self.part.unlink(missing_ok=True)
                    raise ShardError(ErrorClass.INVALID, f"{self.name} is no CAR: {error}") from error
            return self._store

    async def _bring(self) -> None:
        """All bytes, from where the part ends; a part of other data is begun anew."""
        try:
            descriptor = os.open(self.part, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ShardError(class_of_os_error(error), f"{self.part}: {error.strerror}") from error
        try:
            await self._bring_into(descriptor)
        except OSError as error:
            raise ShardError(class_of_os_error(error), f"{self.part}: {error.strerror}") from error
        finally:
            os.close(descriptor)

    async def _bring_into(self, descriptor: int) -> None:
        held, validator = os.fstat(descriptor).st_size, _validator(descriptor)
        headers = {"range": f"bytes={held}-", "if-range": validator} if held and validator else {}
        try:
            async with self.means.get(self.url, headers, partial=bool(headers)) as answer:
                if answer.status == 206 and not answer.headers.get("content-range", "").startswith(
                    f"bytes {held}-"
                ):
                    raise TryLater(f"{self.name} gave another range than the one from {held} on")
                position = held if answer.status == 206 else 0
                os.ftruncate(descriptor, position)
                tag = answer.headers.get("etag", "")
                _note(
                    descriptor,
                    tag if tag and not tag.startswith("W/") else answer.headers.get("last-modified", ""),
                )
                async for piece in answer.body:
                    await trio.to_thread.run_sync(os.pwrite, descriptor, piece, position)
                    position += len(piece)
        except ShardError as error:
            if error.error_class is ErrorClass.INVALID and headers and "416" in str(error):
                return  # there is no more than we have
            raise
        await trio.to_thread.run_sync(os.fsync, descriptor)


def _validator(descriptor: int) -> str:
    try:
        return os.getxattr(descriptor, _VALIDATOR).decode("latin-1")
    except OSError:
        return ""


def _note(descriptor: int, validator: str) -> None:
    try:
        os.setxattr(descriptor, _VALIDATOR, validator.encode("latin-1"))
    except OSError:
        pass  # a file system without attributes: an interrupted one is begun anew
