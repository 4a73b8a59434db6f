"""One directory handle's listing: forward, back, and past errors."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from carlib.errors import Truncated
from fusefs.attributes import Attributes, of_folder
from fusefs.inodes import InodeTable
from fusefs.listing import BATCH, Listing
from fusefs.tree import Entry, Known, Node


class Numbers:
    """A directory of numbered names that may break off."""

    lasting = settled = True
    lane = None
    version = b""

    def __init__(self, count: int, breaks: bool = False) -> None:
        self.count, self.breaks = count, breaks
        self.walks = self.open = 0

    def attributes(self) -> Attributes:
        return of_folder(0, 0)

    def facts(self) -> dict[str, str]:
        return {}

    def child(self, name: bytes) -> Node | None:
        return None

    def child_nowait(self, name: bytes) -> Node | None:
        return None

    def children(self, known: Known) -> Iterator[Entry]:
        self.walks += 1
        self.open += 1
        try:
            for number in range(self.count):
                yield b"%d" % number, known(b"%d" % number)
            if self.breaks:
                raise Truncated("shard is cut short")
        finally:
            self.open -= 1


def names(listing: Listing, start: int = 0) -> Iterator[int]:
    position = start
    while not listing.ends_at(position):
        ready = listing.ready(position)
        if ready is None:
            listing.fetch(position)
            continue
        for name, _, _ in ready:
            yield int(name)
            position += 1


def listing_of(folder: Numbers) -> Listing:
    table = InodeTable(folder)
    return Listing(folder, table.held(table.root))


@pytest.mark.parametrize("count", [0, 1, BATCH - 1, BATCH, BATCH + 1, 3 * BATCH + 7])
def test_each_name_comes_once_in_one_walk(count: int) -> None:
    folder = Numbers(count)
    assert list(names(listing_of(folder))) == list(range(count))
    assert folder.walks == 1


def test_a_jump_back_walks_again_and_a_jump_forward_goes_on() -> None:
    folder = Numbers(5 * BATCH)
    listing = listing_of(folder)
    assert next(names(listing)) == 0
    assert next(names(listing, 3 * BATCH + 5)) == 3 * BATCH + 5
    assert folder.walks == 1
    assert next(names(listing, 7)) == 7
    assert folder.walks == 2


def test_an_error_comes_after_all_that_could_be_listed() -> None:
    found = []
    with pytest.raises(Truncated):
        for name in names(listing_of(Numbers(BATCH + 3, breaks=True))):
            found.append(name)  # noqa: PERF402  # what came before the error counts
    assert found == list(range(BATCH + 3))


def test_closing_ends_the_walk() -> None:
    folder = Numbers(5 * BATCH)
    listing = listing_of(folder)
    next(names(listing))
    assert folder.open == 1
    listing.close()
    assert folder.open == 0
