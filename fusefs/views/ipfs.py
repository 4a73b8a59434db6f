"""`ipfs/<cid>[/…]`: any block that any shard holds, roots of imports and retrievals, and what the agent fetches on
demand, shown as `roots/<cid>` shows a root; not listed.

A name that is not here may be tomorrow, so the kernel is never told to keep that. Names that are here it keeps, and is
told to forget when a shard goes or becomes another one, since nobody knows then which of them still are.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from fusefs.attributes import Attributes, of_folder
from fusefs.dag import node_at
from fusefs.elsewhere import Elsewhere
from fusefs.errors import AgentAway
from fusefs.everything import Everything
from fusefs.resident import NotResident
from fusefs.tree import Entry, Known, Node
from fusefs.views.blocks import cid_of
from fusefs.waits import Lane

NAME: Final = b"ipfs"
_MOST: Final = 4096
"""Names that the kernel may keep at once."""


class IpfsFolder:
    """Everything by CID."""

    lasting = True
    settled = False
    version = b""

    def __init__(self, everything: Everything, elsewhere: Elsewhere) -> None:
        self._everything = everything
        self._elsewhere = elsewhere
        self._lock = threading.Lock()
        self._given: OrderedDict[bytes, None] = OrderedDict()
        self.forget: Callable[[bytes], None] = lambda _name: None
        """Tells the kernel to forget a name; whoever mounts sets it."""

    @property
    def lane(self) -> Lane:
        return self._everything.names_lane

    def attributes(self) -> Attributes:
        return of_folder(self._everything.mtime_ns, 0)

    def facts(self) -> Mapping[str, str]:
        return {}

    def child(self, name: bytes) -> Node | None:
        cid = cid_of(name)
        if cid is None:
            return None
        away: AgentAway | None = None
        node: Node | None = None
        try:
            with self._everything.use() as opened:
                if opened.blocks.locate(cid) is not None:
                    node = node_at(self._everything, opened.blocks, cid, name, name)
        except AgentAway as error:  # what is known without it is shown all the same
            away = error
        node = node or self._elsewhere.find(cid, name)
        if node is None and away is not None:
            raise away
        node = node or self._elsewhere.fetch(cid, name)
        if node is not None:
            self._give(name)
        return node

    def child_nowait(self, name: bytes) -> Node | None:
        raise NotResident

    def children(self, known: Known) -> Iterator[Entry]:
        return iter(())

    def forget_all(self) -> None:
        """Makes the kernel ask anew for each name."""
        with self._lock:
            given, self._given = self._given, OrderedDict()
        for name in given:
            self.forget(name)

    def _give(self, name: bytes) -> None:
        with self._lock:
            self._given[name] = None
            self._given.move_to_end(name)
            oldest = self._given.popitem(last=False)[0] if len(self._given) > _MOST else None
        if oldest is not None:
            self.forget(oldest)
