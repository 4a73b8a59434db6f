"""`.carfs/`: what the mount and its agent are doing, asked for each time that somebody looks.

    look-up of a name ──► a thread asks the agent ──► the text, whose size `stat` then tells and `open` hands out

So one path, looked up, is one question; what is open stays as it was, and the kernel keeps nothing of it. Names in a
listing have the size of the last text: whoever wants to know more looks them up.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial

from fusefs.attributes import Attributes, of_file, of_folder
from fusefs.resident import NotResident
from fusefs.tree import Content, Entry, Known, Node, TextContent
from fusefs.waits import Lane, Pool

NAMES = (b"status.json", b"resources.json", b"tasks.json", b"metrics")

THREADS, WAITING = 2, 64
"""Of its own: what tells of trouble must not wait for storage that does not answer."""

Ask = Callable[[str], bytes]
"""The text of a file by its name, from `Catalogue.document`; blocks for a moment."""


class Answer:
    """A file with the text of the last look-up."""

    lasting = False
    version = b""

    def __init__(self, ask: Callable[[], bytes]) -> None:
        self._ask = ask
        self._text = b""
        self._mtime_ns = time.time_ns()

    def refresh(self) -> None:
        """In a thread: asks anew."""
        self._text, self._mtime_ns = self._ask(), time.time_ns()

    def attributes(self) -> Attributes:
        return of_file(len(self._text), self._mtime_ns)

    def facts(self) -> Mapping[str, str]:
        return {}

    def open(self) -> Content:
        return TextContent(self._text)


class ControlFolder:
    """`.carfs/` of a mount with an agent."""

    lasting = settled = False
    version = b""

    def __init__(self, ask: Ask, mtime_ns: Callable[[], int]) -> None:
        self.lane: Lane | None = Pool(threads=THREADS, per_lane=THREADS, waiting=WAITING).lane()
        self._files = {name: Answer(partial(ask, name.decode())) for name in NAMES}
        self._mtime_ns = mtime_ns

    def attributes(self) -> Attributes:
        return of_folder(self._mtime_ns(), 0)

    def facts(self) -> Mapping[str, str]:
        return {}

    def child(self, name: bytes) -> Node | None:
        found = self._files.get(name)
        if found is not None:
            found.refresh()
        return found

    def child_nowait(self, name: bytes) -> Node | None:
        if name in self._files:
            raise NotResident
        return None

    def children(self, known: Known) -> Iterator[Entry]:
        yield from self._files.items()
