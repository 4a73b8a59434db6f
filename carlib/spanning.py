"""Blocks out of several stores as out of one: whichever has a block, and has it whole, gives it.

So a DAG whose blocks lie in several CARs reads as one.  Who has a block is asked for each (:class:`Stores`), but the
stores that gave the last ones are tried before that: the blocks of a DAG mostly lie together.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Final, Protocol, TypeVar

from carlib.blockstore import Blocks, Location
from carlib.cid import Cid
from carlib.errors import BlockNotFound, CarError

_RECENT: Final = 4
"""Stores that are tried before anybody is asked."""

T = TypeVar("T")


class RangeBlocks(Blocks, Protocol):
    """:class:`Blocks` that lie in a file."""

    def read(self, cid: Cid, start: int, stop: int) -> bytes:
        """See :meth:`carlib.blockstore.ReadOnlyBlockstore.read`."""

    def locate(self, cid: Cid) -> Location | None:
        """See :meth:`carlib.blockstore.ReadOnlyBlockstore.locate`."""


class Stores(Protocol):
    """Several stores, by key; used from several threads at once."""

    def find(self, cid: Cid, but: Collection[str] = ()) -> Sequence[str]:
        """The keys of the stores ``but`` these that hold the block, those to be tried first in front; may block."""

    def use(self, key: str) -> AbstractContextManager[RangeBlocks]:
        """The store, open as long as the block runs; may block."""


class Recent:
    """The stores that gave the last blocks, the last one in front; may be of several :class:`SpanningBlocks`."""

    def __init__(self) -> None:
        self.keys: tuple[str, ...] = ()  # replaced whole, so that threads need no lock

    def remember(self, key: str) -> None:
        keys = self.keys
        if not keys or keys[0] != key:
            self.keys = (key, *(other for other in keys if other != key))[:_RECENT]


class SpanningBlocks:
    """:class:`Blocks` over :class:`Stores`.

    A store that fails (``failures``, CarError or OSError: it is gone, its block is corrupt) is left for the next that
    has the block.  If all fail, it is asked once more who else has it; if nobody, the first error is raised.
    """

    def __init__(
        self,
        stores: Stores,
        *,
        gone: tuple[type[Exception], ...] = (),
        failures: tuple[type[Exception], ...] = (),
        failed: Callable[[str, Cid, Exception], None] = lambda _key, _cid, _error: None,
        recent: Recent | None = None,
    ) -> None:
        """``gone``: what ``stores.use`` raises for a store that is no more, and so has no block.  ``failed`` is told of
        each store that should have had a block and did not give it."""
        self._stores = stores
        self._absent: tuple[type[Exception], ...] = (BlockNotFound, *gone)
        self._failures: tuple[type[Exception], ...] = (CarError, OSError, *failures)
        self._failed = failed
        self.recent = recent or Recent()

    def get(self, cid: Cid) -> bytes:
        return cid.digest if cid.is_identity else self._first(cid, lambda blocks: blocks.get(cid))

    def read(self, cid: Cid, start: int, stop: int) -> bytes:
        """Bytes ``start`` to ``stop`` of the block, cut at its end."""
        if cid.is_identity:
            return cid.digest[start:stop]
        return self._first(cid, lambda blocks: blocks.read(cid, start, stop))

    def size(self, cid: Cid) -> int:
        return len(cid.digest) if cid.is_identity else self._first(cid, lambda blocks: blocks.size(cid))

    def has(self, cid: Cid) -> bool:
        return self.locate(cid) is not None

    def locate(self, cid: Cid) -> Location | None:
        """Where the block lies in one of the stores, or None where none has it that can be opened."""
        if cid.is_identity:
            return Location(-1, 0, 0, len(cid.digest))
        try:
            return self._first(cid, lambda blocks: _located(blocks, cid))
        except BlockNotFound:
            return None

    def _first(self, cid: Cid, ask: Callable[[RangeBlocks], T]) -> T:
        """What the first store gives that can."""
        error = None
        for key in self._candidates(cid):
            try:
                with self._stores.use(key) as blocks:
                    found = ask(blocks)
            except self._absent:
                continue
            except self._failures as failure:
                self._failed(key, cid, failure)
                error = error or failure
                continue
            self.recent.remember(key)
            return found
        raise error or BlockNotFound(cid)

    def _candidates(self, cid: Cid) -> Iterator[str]:
        """The stores to try, each once: those that gave the last blocks, and then those that are found, of which the
        first answer may be only those that are found at once."""
        tried = list(self.recent.keys)
        yield from tried
        while found := [key for key in self._stores.find(cid, tried) if key not in tried]:
            tried += found
            yield from found


def _located(blocks: RangeBlocks, cid: Cid) -> Location:
    location = blocks.locate(cid)
    if location is None:
        raise BlockNotFound(cid)
    return location
