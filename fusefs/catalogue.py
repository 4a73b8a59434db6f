"""Which shards, imports and retrievals there are and where their bytes lie: the one thing that a mount asks others for.

Two implementations: `agent_catalogue.py` (an agent's event stream and leases) and `local_catalogue.py` (CAR
files named on the command line).  Either way the bytes are then read through `Access` and carlib; what is not on this
machine yet, the agent is asked for first.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

import msgspec
import trio

from agent.dagstore.access import Access, Fetch, FileAccess, RepairedAccess, TransientAccess
from agent.dagstore.mounts.urls import shown
from carlib import names

READABLE_STATES = frozenset(
    {
        "ShardStateAvailable",
        "ShardStateServing",
        "ShardStateRecovering",
        "ImportStateReady",
        "ImportStateStale",
        "RetrievalStateDone",
    }
)
_UNDER_WAY = frozenset({"RetrievalStateQueued", "RetrievalStateFetching", "RetrievalStatePaused"})


class What(StrEnum):
    """Of which kind it is, as messages call it."""

    SHARD = "shard"
    IMPORT = "import"
    RETRIEVAL = "retrieval"


@dataclass(frozen=True, slots=True)
class ShardRecord:
    """What the mount needs to know of a shard, or of an import or a retrieval, which are shards in all but their lives;
    `document` is all that is known, as `shard.json`, `import.json` and `retrieval.json` show it."""

    key: str
    state: str
    generation: int
    url: str
    access: Access | None
    """How its data is read; None where it cannot be."""
    index_path: Path | None
    """The detached index; None: the CAR file's own."""
    size: int
    mtime_ns: int
    stamp: tuple[int, ...]
    """Size, mtime, inode and device of the file that was indexed; () if not known."""
    version: int
    data_offset: int
    data_size: int
    blocks: int
    roots: tuple[str, ...]
    error: str
    document: Mapping[str, Any]  # Any: JSON
    name: bytes
    """What its directory is called."""
    what: What = What.SHARD
    refers_below: Path | None = None
    """Where the files are that its leaves lie in; None where it has all its blocks itself."""

    @property
    def growing(self) -> bool:
        """Whether its CAR is not final: of what is in it already, blocks can be read."""
        state = self.state
        return (
            self.what is What.RETRIEVAL
            and state != "RetrievalStateDone"
            and (state in _UNDER_WAY or bool(self.document.get("Bytes")))
        )

    @property
    def errored(self) -> bool:
        return self.state in ("ShardStateErrored", "ImportStateBroken", "RetrievalStateFailed")

    @property
    def shows_content(self) -> bool:
        """Whether its blocks can be asked for; a shard that was registered lazily is indexed then."""
        return not self.errored if self.what is What.SHARD else self.readable

    @property
    def readable(self) -> bool:
        """Whether there is data and an index that fits it, or one can be had by looking."""
        return self.access is not None and (
            self.growing or (self.state in READABLE_STATES and self.data_size > 0)
        )

    @property
    def path(self) -> Path | None:
        """The local file that is the data, if there is one."""
        return Path(self.access.path) if isinstance(self.access, FileAccess) else None

    @property
    def whole(self) -> bool:
        """Whether it can be read, and will not grow."""
        return self.readable and not self.growing

    @property
    def opened_as(self) -> tuple[object, ...]:
        """Changes when open files are to be opened anew."""
        return (self.repairs, self.growing, self.generation)

    @property
    def remote(self) -> bool:
        """Whether some of the data may have to be fetched before it can be read."""
        access = self.access
        return isinstance(access.base if isinstance(access, RepairedAccess) else access, TransientAccess)

    @property
    def repairs(self) -> tuple[object, ...]:
        """What of the data is read from elsewhere since it is bad where it lies: the same bytes, from another file."""
        access = self.access
        return (access.repairs, access.patches) if isinstance(access, RepairedAccess) else ()

    @property
    def version_key(self) -> bytes:
        """Changes with the bytes: inodes of the old content and of the new must differ."""
        if self.what is not What.SHARD:
            return f"{self.key}:{self.generation}".encode()
        registered = str(self.document.get("Registered", ""))
        return f"{self.generation}:{self.mtime_ns:x}:{self.size:x}:{registered}".encode()[-56:]

    @classmethod
    def parse(cls, document: Mapping[str, Any]) -> ShardRecord:
        """From the agent's RECORD; raises KeyError, TypeError or ValueError for what is none."""
        document = _without_secrets(document)
        fingerprint = document.get("Fingerprint") or {}
        index_path = document.get("IndexPath")
        return cls(
            key=str(document["Key"]),
            name=names.shown(str(document["Key"]).encode()),
            state=str(document["State"]),
            generation=int(document.get("Generation") or 0),
            url=str(document.get("URL") or ""),
            access=_access(document),
            index_path=Path(index_path) if index_path else None,
            size=int(document.get("Size") or 0),
            mtime_ns=int(fingerprint.get("mtime_ns") or 0),
            stamp=tuple(int(fingerprint[name]) for name in ("size", "mtime_ns", "inode", "device"))
            if fingerprint
            else (),
            version=int(document.get("Version") or 0),
            data_offset=int(document.get("DataOffset") or 0),
            data_size=int(document.get("DataSize") or 0),
            blocks=int(document.get("Blocks") or 0),
            roots=tuple(str(root) for root in document.get("Roots") or ()),
            error=str(document.get("Error") or ""),
            document=document,
        )


def _without_secrets(document: Mapping[str, Any]) -> dict[str, Any]:  # Any: JSON
    """The agent tells the URLs whole to those who may register; whoever may look at the mount may be anybody."""
    found = dict(document)
    if found.get("URL"):
        found["URL"] = shown(str(found["URL"]))
    if found.get("Replicas"):
        found["Replicas"] = [shown(str(url)) for url in found["Replicas"]]
    if isinstance(scrub := found.get("Scrub"), Mapping) and scrub.get("Home"):
        found["Scrub"] = {**scrub, "Home": shown(str(scrub["Home"]))}
    return found


def _access(document: Mapping[str, Any]) -> Access | None:
    """An agent says how; a file that was named on the command line is its path."""
    if document.get("Access") is not None:
        access: Access = msgspec.convert(document["Access"], Access)  # ValidationError is a ValueError
        return access
    return FileAccess(document["Path"]) if document.get("Path") else None


@dataclass(frozen=True, slots=True)
class Change:
    """One of them is new, different, or gone (then `after` is None)."""

    key: str
    before: ShardRecord | None
    after: ShardRecord | None

    @property
    def record(self) -> ShardRecord:
        """What is known of it, or was."""
        found = self.after or self.before
        assert found is not None
        return found


class Leasing(Protocol):
    """Those of one kind, and what keeps them from being taken away; `records` never waits, whatever the agent does."""

    def records(self) -> Mapping[str, ShardRecord]:
        """The last state that is known, by key."""

    def acquire(self, key: str) -> ShardRecord:
        """A lease on the shard, once it can be read; blocks (called in threads).  Raises ShardBroken,
        StaleNode or AgentAway.

        While no lease can be had for want of an agent, a shard that is known to be readable is answered all
        the same: its files are there, and the lease follows when the agent does.
        """

    def release(self, key: str) -> None:
        """Gives one lease back; blocks, never raises."""

    def fetcher(self, key: str) -> Fetch:
        """Gets what a transient lacks of the shard; blocks, raises ShardBroken or AgentAway."""


class Catalogue(Leasing, Protocol):
    """The shards, and what else there is, now and as it changes."""

    def document(self, name: str) -> bytes:
        """The text of a file in `.carfs/`, one of `control.NAMES`; blocks for a moment (called in threads)."""

    def find(self, cid: str, but: Collection[str] = ()) -> list[str]:
        """The keys of the shards `but` these that hold the block; blocks (called in threads).  Raises AgentAway, or
        Overdue where nobody can tell yet."""

    async def run(
        self,
        changed: Callable[[Change], None],
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Keeps `records` current and tells each change, until cancelled; started once there is something to show."""
