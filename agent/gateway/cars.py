"""A CAR as it goes out: made piece by piece in threads, verified on the way, two pieces of it in memory at most."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from typing import Final

import trio

from agent.dagstore.failures import ErrorClass, ShardError
from agent.gateway.asked import CarAsked, Refused
from carlib import varint
from carlib.blockstore import Blocks
from carlib.cid import Cid
from carlib.errors import BlockNotFound, CarError, NotUnixFs
from carlib.header import V1Header
from carlib.traversal import Limits, Request, Rules, Scope, Traversal
from carlib.unixfs import NoSuchEntry

PIECE_BYTES: Final = 512 * 1024
MOST_BLOCKS: Final = 100_000_000
MOST_DEPTH: Final = 100_000
_MOST_REPEATED: Final = 10_000_000
"""Blocks of a CAR with duplicates: a small DAG can have more paths than there are atoms."""


def resolved(blocks: Blocks, request: Request) -> list[Cid]:
    """The CID at each step of the path, that of the root first. May block.

    Raises Refused: 404 where the root or something on the way is not here, or the path leads nowhere.
    """
    found = [request.root]
    try:
        for count in range(len(request.path) + 1):
            way = Request(request.root, request.path[:count], Scope.BLOCK)
            last = request.root
            for visit in Traversal(blocks, (way,), Rules(identity=True)).walk(data=False):
                last = visit.cid
            if count:
                found.append(last)
    except BlockNotFound as error:
        raise Refused(404, f"{error.cid} is not here") from None
    except (NoSuchEntry, NotUnixFs) as error:
        raise Refused(404, error.message) from None
    return found


def pieces(blocks: Blocks, asked: CarAsked) -> Iterator[bytes]:
    """The CAR, in pieces; raises CarError in the middle where a block is not here, or not what it should be."""
    most = _MOST_REPEATED if asked.duplicates else MOST_BLOCKS
    rules = Rules(duplicates=asked.duplicates, limits=Limits(blocks=most, depth=MOST_DEPTH))
    held = [V1Header((asked.request.root,)).encode()]
    size = 0
    walk = Traversal(blocks, (asked.request,), rules).walk(data=True)
    while True:
        try:
            visit = next(walk, None)
        except CarError:
            if held:
                yield _joined(held)  # what is here is good for whoever gets the rest elsewhere
            raise
        if visit is None:
            break
        data = visit.data
        if data is None:
            raise AssertionError("a walk for data has data")
        raw = visit.cid.raw
        held += (varint.encode(len(raw) + len(data)) + raw, data)
        size += len(raw) + len(data)
        del visit, data
        if size >= PIECE_BYTES:
            yield _joined(held)
            size = 0
    if held:
        yield _joined(held)


def _joined(held: list[bytes]) -> bytes:
    """The parts in one, and the list empty: who waits for his client keeps nothing twice."""
    joined = b"".join(held)
    held.clear()
    return joined


async def in_threads(source: Iterator[bytes], limiter: trio.CapacityLimiter) -> AsyncGenerator[bytes, None]:
    """What an iterator that blocks gives, a thread at a time: who does not take a piece holds no thread.

    Raises ShardError for what the iterator raises of a CAR.
    """

    held: list[bytes] = []  # a piece on its way through; whoever takes it is the only one that has it

    def advance() -> bool:
        piece = next(source, None)
        if piece is None:
            return False
        held.append(piece)
        return True

    while True:
        try:
            is_one = await trio.to_thread.run_sync(advance, limiter=limiter)
        except BlockNotFound as error:
            raise ShardError(ErrorClass.NOT_FOUND, str(error)) from error
        except (CarError, OSError) as error:
            raise ShardError(ErrorClass.CORRUPT, str(error)) from error
        if not is_one:
            return
        yield held.pop()
