"""Sources that do as a test says, over a DAG in memory, and a sink that counts."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import trio

from agent.dagstore.failures import ErrorClass, ShardError
from agent.dagstore.mounts.mount import TryLater
from carlib import dagcbor, varint
from carlib.cid import DAG_CBOR, Cid
from carlib.errors import BlockNotFound
from carlib.header import V1Header
from carlib.multihash import check
from carlib.traversal import Request, Traversal


@dataclass(eq=False)
class Store:
    """Blocks in memory: what there is at a source, and what has come to a sink."""

    blocks: dict[bytes, bytes] = field(default_factory=dict)
    puts: int = 0

    def put(self, cid: Cid, data: bytes | memoryview, *, verified: bool = False) -> bool:
        check(cid, data)  # whatever was said
        self.puts += 1
        if cid.raw in self.blocks:
            return False
        self.blocks[cid.raw] = bytes(data)
        return True

    def get(self, cid: Cid) -> bytes:
        if cid.is_identity:
            return cid.digest
        try:
            return self.blocks[cid.raw]
        except KeyError:
            raise BlockNotFound(cid) from None

    def has(self, cid: Cid) -> bool:
        return cid.is_identity or cid.raw in self.blocks

    def size(self, cid: Cid) -> int:
        return len(self.get(cid))

    def sync(self) -> None:
        pass


def dag(store: Store, depth: int, width: int, *, leaf: Callable[[int], bytes], number: int = 0) -> Cid:
    """A tree of dag-cbor nodes, `width` children each, with raw leaves that are all different."""
    if depth == 0:
        data = leaf(number)
        cid = Cid.of(data)
        store.put(cid, data)
        return cid
    children = [dag(store, depth - 1, width, leaf=leaf, number=number * width + one) for one in range(width)]
    data = dagcbor.encode([number, *children])
    cid = Cid.of(data, DAG_CBOR)
    store.put(cid, data)
    return cid


def car_of(store: Store, request: Request) -> bytes:
    """As much of it as there is."""
    pieces = [V1Header((request.root,)).encode()]
    try:
        for visit in Traversal(store, (request,)).walk(data=True):
            assert visit.data is not None
            raw = visit.cid.raw
            pieces += (varint.encode(len(raw) + len(visit.data)) + raw, visit.data)
    except BlockNotFound as error:
        if len(pieces) == 1:
            raise ShardError(ErrorClass.NOT_FOUND, f"{error.cid} is not here") from None
        pieces.append(b"")
    return b"".join(pieces)


Step = bytes | Exception | Callable[[], Awaitable[None]]
"""Of an answer: a piece, what it ends with, or what is waited for."""


@dataclass(eq=False)
class Scripted:
    """A source; `script` may do to each answer what it likes."""

    store: Store
    name: str = "a"
    host: str = "a"
    gives_parts: bool = True
    piece_bytes: int = 1000
    script: Callable[[int, bytes], Sequence[Step]] | None = None  # the number of the request, the CAR
    raw_script: Callable[[int, bytes], bytes] | None = None
    asked: list[object] = field(default_factory=list)
    sent: int = 0

    @asynccontextmanager
    async def car(self, request: Request) -> AsyncIterator[AsyncIterator[bytes]]:
        number = len(self.asked)
        self.asked.append(request)
        await trio.lowlevel.checkpoint()
        data = car_of(self.store, request)
        yield _Steps(self, self.plain(data) if self.script is None else self.script(number, data))

    async def raw(self, cid: Cid, begin: bytes = b"") -> bytes:
        number = len(self.asked)
        self.asked.append(cid)
        await trio.lowlevel.checkpoint()
        if not self.store.has(cid):
            raise ShardError(ErrorClass.NOT_FOUND, f"{cid} is not here")
        data = self.store.get(cid)
        if self.raw_script is not None:
            data = self.raw_script(number, data)
        self.sent += len(data)
        return data

    def plain(self, data: bytes) -> list[Step]:
        return [data[start : start + self.piece_bytes] for start in range(0, len(data), self.piece_bytes)]


class _Steps:
    """The pieces of an answer."""

    def __init__(self, source: Scripted, steps: Sequence[Step]) -> None:
        self._source = source
        self._steps = list(steps)

    def __aiter__(self) -> _Steps:
        return self

    async def __anext__(self) -> bytes:
        while self._steps:
            await trio.lowlevel.checkpoint()
            step = self._steps.pop(0)
            if isinstance(step, Exception):
                raise step
            if isinstance(step, bytes):
                self._source.sent += len(step)
                return step
            await step()
        raise StopAsyncIteration


def cut_after(source: Scripted, count: int) -> None:
    """Each answer breaks off after so many bytes."""

    def script(_number: int, data: bytes) -> list[Step]:
        steps = source.plain(data[:count])
        return [*steps, TryLater(f"{source.name} broke off")] if len(data) > count else steps

    source.script = script
