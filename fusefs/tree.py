"""The tree as data: what kinds of node there are, what each holds, and the ways a mount's top is put together.

    MOUNTPOINT, with an agent                   MOUNTPOINT, CAR files given
    ├── shards/<key>/    ShardFolder            one CAR, one root   the root's own entries (a file: that one);
    │   ├── root         one module each                            .carfs/ answers but is not listed
    │   ├── roots/<cid>  in fusefs/views/       one CAR, else       what a shard directory holds
    │   ├── blocks/<cid>                        several CARs        <name>/ each: a shard directory
    │   ├── data.car
    │   ├── data.v2.car
    │   └── shard.json
    ├── imports/<name>/  likewise; import.json
    ├── retrievals/<cid>/ likewise; retrieval.json
    ├── ipfs/<cid>       any block of any shard
    └── .carfs/          control.py: status.json, resources.json, tasks.json, metrics

A node is immutable (`lasting`: what it is never changes under its name, the kernel may keep it for ever) or
shows something that changes (`shards/`, `imports/`, `retrievals/`, `shard.json`, `.carfs/`).  `attributes()` never
waits: all it says is known when the node is made. `child`, `children` and what `open()` gives may read from storage and
are called in threads, unless `instant`.

Nothing here does I/O or knows pyfuse3; `operations.py` walks these nodes, `views/` and `dag.py` implement them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from fusefs.attributes import Attributes, of_file, of_folder
from fusefs.waits import Lane

SHARDS: Final = b"shards"
IMPORTS: Final = b"imports"
RETRIEVALS: Final = b"retrievals"

Buffer = bytes | bytearray | memoryview
Entry = tuple[bytes, "Node | None"]
"""A name and its node; None: the name is there but its node cannot be read (looking it up says why)."""


Known = Callable[[bytes], "Node | None"]


class Content(Protocol):
    """One opened file, for one file handle."""

    cacheable: bool
    """Whether the kernel may keep what was read (content that changes is read past its cache)."""

    def read_nowait(self, offset: int, size: int) -> Buffer | None:
        """The bytes, fewer only at the end of the file; None if that would wait for storage or a long hash."""

    async def read(self, offset: int, size: int) -> Buffer:
        """The bytes, verified where the node says so; waits no longer than the mount's deadline."""

    def close(self) -> None:
        """Gives back what the handle held."""


class Node(Protocol):
    """A file, directory or symlink of the mount."""

    @property
    def lasting(self) -> bool:
        """Whether it never changes while its name exists."""

    @property
    def version(self) -> bytes:
        """Differs between two things that bear one name one after the other (a shard destroyed and made again)."""

    def attributes(self) -> Attributes:
        """What `stat` says."""

    def facts(self) -> Mapping[str, str]:
        """Extended attributes, without `user.carfs.`."""


class Folder(Node, Protocol):
    """A directory."""

    @property
    def settled(self) -> bool:
        """Whether a name that is not here will never be."""

    @property
    def lane(self) -> Lane | None:
        """Whose threads its calls take (`waits.py`); None: they never wait."""

    def child(self, name: bytes) -> Node | None:
        """The node with this shown name; None if there is none."""

    def child_nowait(self, name: bytes) -> Node | None:
        """The same from memory; raises NotResident where that cannot be."""

    def children(self, known: Known) -> Iterator[Entry]:
        """What a listing shows, in an order that is the same each time as long as nothing changes.

        `known` gives the node that the kernel holds for a name, which need not be made again.
        """


@dataclass(frozen=True, slots=True)
class Who:
    """Whose request it is; `process` may be a thread of one."""

    uid: int
    gid: int
    process: int


class Changeable(Folder, Protocol):
    """A directory in which names can be made and taken away; its calls block and raise MountError.

    What it cannot have at all, it refuses with ReadOnlyTree.
    """

    @property
    def writing(self) -> Lane:
        """Whose threads they take."""

    def make_file(self, name: bytes, mode: int, who: Who) -> tuple[Node, Writing]: ...

    def make_folder(self, name: bytes, mode: int, who: Who) -> Node: ...

    def make_link(self, name: bytes, target: bytes, who: Who) -> Node: ...

    def make_name(self, name: bytes, node: Node) -> Node:
        """A second name for a file."""

    def remove_file(self, name: bytes) -> None: ...

    def remove_folder(self, name: bytes) -> None: ...

    def move(self, name: bytes, into: Node, new: bytes, *, replace: bool) -> None: ...


class Writing(Content, Protocol):
    """A handle that writes."""

    async def write(self, offset: int, data: bytes) -> int: ...

    async def flush(self, inode: int) -> None:
        """At each close of the handle or a duplicate; what it raises is the result of `close`."""

    async def finish(self) -> None:
        """After the last close, before `close`; what it raises is only logged."""


class File(Node, Protocol):
    """A regular file."""

    def open(self) -> Content:
        """A handle's content; does not wait."""


class Link(Node, Protocol):
    """A symlink."""

    @property
    def target(self) -> bytes: ...


class StaticFolder:
    """A directory of ours whose entries come from memory, asked anew each time (`entries` gives name → node).

    `only_folders`: all entries are, so that nobody need count them one by one.
    """

    lane = None
    version = b""

    def __init__(
        self,
        entries: Callable[[], Mapping[bytes, Node]],
        *,
        lasting: bool,
        mtime_ns: Callable[[], int],
        only_folders: bool = False,
    ) -> None:
        self._entries = entries
        self._only_folders = only_folders
        self._mtime_ns = mtime_ns
        self.lasting = self.settled = lasting

    def attributes(self) -> Attributes:
        entries = self._entries()
        if self._only_folders:
            return of_folder(self._mtime_ns(), len(entries))
        # By what they are, not by `stat`: what is rendered would be, for each path that leads through the mount.
        inside = sum(hasattr(node, "children") for node in entries.values())
        return of_folder(self._mtime_ns(), inside)

    def facts(self) -> Mapping[str, str]:
        return {}

    def child(self, name: bytes) -> Node | None:
        return self._entries().get(name)

    child_nowait = child

    def children(self, known: Known) -> Iterator[Entry]:
        yield from self._entries().items()


class HiddenBeside:
    """`shown`, and beside it names that answer but are not listed; a name that the data itself uses is the data's."""

    version = b""
    lasting = True

    def __init__(self, shown: Folder, hidden: Mapping[bytes, Node]) -> None:
        self._shown = shown
        self._hidden = hidden
        self.settled = shown.settled
        self.lane = shown.lane

    def attributes(self) -> Attributes:
        return self._shown.attributes()

    def facts(self) -> Mapping[str, str]:
        return self._shown.facts()

    def child(self, name: bytes) -> Node | None:
        return self._shown.child(name) or self._hidden.get(name)

    def child_nowait(self, name: bytes) -> Node | None:
        return self._shown.child_nowait(name) or self._hidden.get(name)

    def children(self, known: Known) -> Iterator[Entry]:
        return self._shown.children(known)


class RenderedFile:
    """A file whose text is made when it is looked at, from memory: `shard.json`."""

    lasting = False
    version = b""

    def __init__(self, render: Callable[[], bytes], mtime_ns: Callable[[], int]) -> None:
        self._render = render
        self._mtime_ns = mtime_ns

    def attributes(self) -> Attributes:
        return of_file(len(self._render()), self._mtime_ns())

    def facts(self) -> Mapping[str, str]:
        return {}

    def open(self) -> Content:
        return TextContent(self._render())


class TextContent:
    """Bytes in hand; one handle sees one text, whatever changes meanwhile."""

    cacheable = False

    def __init__(self, text: bytes) -> None:
        self._text = text

    def read_nowait(self, offset: int, size: int) -> Buffer:
        return self._text[offset : offset + size]

    async def read(self, offset: int, size: int) -> Buffer:
        return self.read_nowait(offset, size)

    def close(self) -> None:
        pass
