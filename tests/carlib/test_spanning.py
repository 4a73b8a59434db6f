"""Blocks out of several stores: the first that has a block whole gives it, whatever the others are."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Sequence

import pytest

from carlib.blockstore import Location, MemoryBlocks
from carlib.cid import Cid
from carlib.errors import BlockNotFound, HashMismatch
from carlib.spanning import RangeBlocks, Recent, SpanningBlocks

ONE, TWO = b"one", b"two"
CID_ONE, CID_TWO, CID_NONE = Cid.of(ONE), Cid.of(TWO), Cid.of(b"none")


class Memory(MemoryBlocks):
    """Blocks in memory that can be read in parts."""

    def read(self, cid: Cid, start: int, stop: int) -> bytes:
        return self.get(cid)[start:stop]

    def locate(self, cid: Cid) -> Location | None:
        return Location(0, 0, 0, self.size(cid)) if self.has(cid) else None


class Gone(Exception):
    """The store is no more."""


class Unreachable(Exception):
    """The store is there and cannot be opened."""


class Shelf:
    """Stores by key; notes who was asked."""

    def __init__(self, **stores: dict[Cid, bytes] | Exception) -> None:
        self.stores: dict[str, Memory | Exception] = {}
        for key, held in stores.items():
            self.stores[key] = held if isinstance(held, Exception) else Memory()
            for cid, data in {} if isinstance(held, Exception) else held.items():
                self.memory(key).put(cid, data)
        self.searches = 0
        self.failures: list[tuple[str, Exception]] = []

    def memory(self, key: str) -> Memory:
        found = self.stores[key]
        assert isinstance(found, Memory)
        return found

    def find(self, cid: Cid, but: Collection[str] = ()) -> Sequence[str]:
        self.searches += 1
        keys = [key for key, store in self.stores.items() if isinstance(store, Exception) or store.has(cid)]
        return [key for key in keys if key not in but]

    @contextlib.contextmanager
    def use(self, key: str) -> Iterator[RangeBlocks]:
        store = self.stores[key]
        if isinstance(store, Exception):
            raise store
        yield store

    def blocks(self) -> SpanningBlocks:
        return SpanningBlocks(
            self,
            gone=(Gone,),
            failures=(Unreachable,),
            failed=lambda key, _cid, error: self.failures.append((key, error)),
        )


def test_where_all_that_were_found_fail_it_is_asked_who_else_has_it() -> None:
    shelf = Shelf(a=Unreachable("a"), late={CID_ONE: ONE})
    at_once = shelf.find
    shelf.find = lambda cid, but=(): at_once(cid, but) if "a" in but else ["a"]  # type: ignore[method-assign]
    assert shelf.blocks().get(CID_ONE) == ONE


def test_each_block_comes_from_a_store_that_has_it() -> None:
    blocks = Shelf(a={CID_ONE: ONE}, b={CID_TWO: TWO}).blocks()
    assert [blocks.get(CID_ONE), blocks.get(CID_TWO), blocks.read(CID_TWO, 1, 9)] == [ONE, TWO, b"wo"]
    assert [blocks.size(CID_ONE), blocks.has(CID_TWO), blocks.has(CID_NONE)] == [3, True, False]
    for ask in (blocks.get, blocks.size):
        with pytest.raises(BlockNotFound):
            ask(CID_NONE)


def test_identities_are_answered_from_themselves() -> None:
    shelf = Shelf()
    blocks, cid = shelf.blocks(), Cid.identity(b"itself")
    assert [blocks.get(cid), blocks.read(cid, 2, 4), blocks.size(cid), blocks.has(cid)] == [
        b"itself",
        b"se",
        6,
        True,
    ]
    assert shelf.searches == 0


def test_a_corrupt_block_is_taken_from_the_next_that_has_it_and_said() -> None:
    shelf = Shelf(a={CID_ONE: b"eno"}, b={CID_ONE: ONE})
    assert shelf.blocks().get(CID_ONE) == ONE
    ((key, error),) = shelf.failures
    assert (key, type(error)) == ("a", HashMismatch)


def test_a_store_that_cannot_be_opened_is_passed_over_and_one_that_is_gone_has_nothing() -> None:
    shelf = Shelf(a=Unreachable(), b=Gone(), c={CID_ONE: ONE})
    assert shelf.blocks().get(CID_ONE) == ONE
    assert [key for key, _ in shelf.failures] == ["a"]
    with pytest.raises(BlockNotFound):
        Shelf(b=Gone()).blocks().get(CID_ONE)


def test_if_all_fail_the_first_says_why() -> None:
    shelf = Shelf(a={CID_ONE: b"eno"}, b=Unreachable())
    with pytest.raises(HashMismatch):
        shelf.blocks().get(CID_ONE)
    assert [key for key, _ in shelf.failures] == ["a", "b"]


def test_blocks_that_lie_together_are_found_without_asking() -> None:
    shelf = Shelf(a={CID_ONE: ONE, CID_TWO: TWO})
    blocks = shelf.blocks()
    for _ in range(3):
        blocks.get(CID_ONE)
        blocks.get(CID_TWO)
    assert shelf.searches == 1


def test_a_store_that_gave_the_last_block_and_is_gone_since_is_no_error() -> None:
    shelf = Shelf(a={CID_ONE: ONE}, b={CID_ONE: ONE})
    blocks = shelf.blocks()
    blocks.get(CID_ONE)
    shelf.stores["a"] = Gone()
    assert blocks.get(CID_ONE) == ONE
    assert shelf.failures == []


def test_what_gave_the_last_blocks_may_be_shared() -> None:
    """Two views of the same stores: what one has found out the other need not ask for."""
    recent = Recent()
    whole, beside = Shelf(a={CID_ONE: ONE, CID_TWO: TWO}), Shelf(a={CID_TWO: TWO})
    assert SpanningBlocks(whole, recent=recent).get(CID_ONE) == ONE
    assert recent.keys == ("a",)
    assert SpanningBlocks(beside, recent=recent).get(CID_TWO) == TWO
    assert (whole.searches, beside.searches) == (1, 0)
