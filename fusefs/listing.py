"""One open directory handle: where a listing is, with as little of it in memory as can be.

A position is the number of entries before it.  Readers go forward, so one batch is kept; one that jumps back
makes the listing begin anew and skip (entries come in the same order each time).
"""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator
from itertools import islice
from typing import Final

from fusefs.inodes import Held
from fusefs.tree import Entry, Folder, Node

BATCH: Final = 512
Numbered = tuple[bytes, Node | None, int]
"""A name, its node if that can be read, and the number of its inode."""


class Listing:
    """A directory being listed; `fetch` may block, the rest does not."""

    def __init__(self, folder: Folder, held: Held) -> None:
        self.folder = folder
        self._held = held
        self._children: Generator[Entry, None, None] | None = None
        self._fetching = threading.Lock()
        self._closed = False
        self._batch: list[Numbered] = []
        self._first = 0
        self._error: Exception | None = None
        self._complete = False

    def ready(self, position: int) -> Iterator[Numbered] | None:
        """Entries from `position` on that are in memory; None if they must be fetched."""
        inside = position - self._first
        return islice(self._batch, inside, None) if 0 <= inside < len(self._batch) else None

    def ends_at(self, position: int) -> bool:
        """Whether `position` is known to be the end."""
        return self._complete and self._error is None and position == self._first + len(self._batch)

    def fetch(self, position: int) -> None:
        """Reads the batch that begins at `position`; what the directory raises comes after all that could be listed."""
        with self._fetching:  # a wait that was given up may still be at it
            try:
                self._fetch(position)
            finally:
                if self._closed:
                    self._rewind()

    def _fetch(self, position: int) -> None:
        end = self._first + len(self._batch)
        if self._error is not None and position == end:
            raise self._error
        if self._children is None or position < end:
            self._rewind()
            self._children, end = _walk(self.folder, self._held), 0
        for _ in islice(self._children, position - end):
            pass
        batch: list[Numbered] = []
        try:
            for name, node in islice(self._children, BATCH):
                batch.append((name, node, 0 if node is None else self._held.number(name, node)))
        except Exception as error:
            if not batch:
                raise
            self._error = error
        self._first, self._batch, self._complete = position, batch, len(batch) < BATCH

    def close(self) -> None:
        """Lets go of the shard that the listing held open."""
        self._closed = True
        if self._fetching.acquire(blocking=False):
            try:
                self._rewind()
            finally:
                self._fetching.release()

    def _rewind(self) -> None:
        children, self._children = self._children, None
        if children is not None:
            children.close()
        self._batch, self._first, self._error, self._complete = [], 0, None, False


def _walk(folder: Folder, held: Held) -> Generator[Entry, None, None]:
    yield from folder.children(held)
