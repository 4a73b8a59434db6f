"""Leaves hashed ahead of their turn, in threads, and put in the order in which they were added."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from typing import Final, Protocol

from carlib.cid import Cid
from carlib.limits import KIB, MIB

_THREAD_BYTES: Final = 64 * KIB
"""A smaller block is hashed (40 µs) sooner than handed to a thread and back."""
_AHEAD_BYTES: Final = 8 * MIB


class Sink(Protocol):
    """Where new blocks go: a CAR writer, a store in memory."""

    def put(self, cid: Cid, data: bytes, /) -> object: ...


@dataclass(slots=True)
class Built:
    """A node that was built: ``size`` bytes of file, ``tsize`` bytes of blocks below and with it.

    ``raw`` is its binary CID, empty until its block was put.
    """

    size: int
    tsize: int
    raw: bytes = b""

    @property
    def cid(self) -> Cid:
        """Its CID; ValueError while it waits in a queue."""
        if not self.raw:
            raise ValueError("the CID is not known before the queue is flushed")
        return Cid(self.raw)


class LeafQueue:
    """Hashes blocks in the threads of ``executor`` while the caller reads on; at most 8 MiB wait."""

    def __init__(
        self,
        sink: Sink,
        name: Callable[[bytes, int], Cid],
        executor: Executor | None,
        release: Callable[[bytes], None],
    ) -> None:
        """``release`` is given each block when it was put."""
        self._sink = sink
        self._release = release
        self._name = name
        self._executor = executor
        self._waiting: deque[tuple[Built, bytes, Future[Cid]]] = deque()
        self._waiting_bytes = 0

    def add(self, built: Built, block: bytes, codec: int) -> None:
        """Take ``block``, which is ``built``; its ``raw`` is filled in by the time of :meth:`flush`."""
        if self._executor is None or (len(block) < _THREAD_BYTES and not self._waiting):
            self._put(built, block, self._name(block, codec))
            return
        self._waiting.append((built, block, self._executor.submit(self._name, block, codec)))
        self._waiting_bytes += len(block)
        while self._waiting and (self._waiting_bytes > _AHEAD_BYTES or self._waiting[0][2].done()):
            self._put_next()

    def flush(self) -> None:
        """Put all that waits."""
        while self._waiting:
            self._put_next()

    def _put_next(self) -> None:
        built, block, future = self._waiting.popleft()
        self._waiting_bytes -= len(block)
        self._put(built, block, future.result())

    def _put(self, built: Built, block: bytes, cid: Cid) -> None:
        self._sink.put(cid, block)
        built.raw = cid.raw
        self._release(block)
