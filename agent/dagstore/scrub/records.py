"""What is known of the verification of a shard: as the catalogue keeps it, workers report it, the wire carries it."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final

import msgspec

from agent.dagstore.mounts.mount import Fingerprint

MAX_BAD: Final = 1000
"""Bad blocks of a shard that are kept by name; a run that finds more ends there, since its disk is beyond lists."""


MAX_SHOWN: Final = 20
"""Of these in a record."""


class Depth(enum.StrEnum):
    """How much a verification looks at; each is more than the one before."""

    STRUCTURE = "structure"  # the container and the walk over all sections; no data is read
    INDEX = "index"  # and the index against the sections, both ways, or a sample of it with its blocks hashed
    FULL = "full"  # and every hash, and every link

    @property
    def rank(self) -> int:
        return list(Depth).index(self)


class Phase(enum.StrEnum):
    """What a run is at."""

    SAMPLE = "sample"  # entries of the index, by chance
    SLICES = "slices"  # the data, slice by slice
    LINKS = "links"  # from the roots to the leaves; begun anew where it was cut short
    REPAIR = "repair"  # good bytes from replicas


class Outcome(enum.StrEnum):
    """How a run ended."""

    GOOD = "good"
    REPAIRED = "repaired"  # readers get good bytes everywhere, from a replica where our own are bad
    DAMAGED = "damaged"  # the blocks in quarantine cannot be read, all others can
    BROKEN = "broken"  # the container itself; nothing can be read
    CHANGED = "changed"  # the data is not what was indexed: no verdict, it is indexed anew
    REBUILT = "index-rebuilt"  # the index did not fit the data and is made anew; no verdict on the data yet
    FAILED = "failed"  # could not be looked at


class BadBlock(msgspec.Struct, frozen=True, gc=False, rename="pascal"):
    """Bytes in quarantine: a section as a rule, or all up to the next one where its length is damaged."""

    offset: int  # from the start of the data
    size: int
    cid: str = msgspec.field(name="CID")  # "" where it is damaged itself
    multihash: str  # hex; what should lie there
    problem: str
    found: str  # RFC 3339, UTC
    run: str  # id of the run that found it
    repaired: str = ""  # when
    repaired_from: str = ""  # URL of the replica

    @property
    def end(self) -> int:
        return self.offset + self.size


class Links(msgspec.Struct, frozen=True, gc=False, rename="pascal"):
    """Counts of blocks, and of links that lead to no block of the shard, which the format allows."""

    reachable: int = 0
    unreachable: int = 0
    dangling: int = 0
    unreadable: int = 0


class Run(msgspec.Struct, frozen=True, gc=False, rename="pascal"):
    """A verification under way; what is kept of it lets a restart go on where it was."""

    id: str = msgspec.field(name="ID")
    depth: Depth
    sample: int  # entries; 0: all
    by: str  # "schedule", or who asked for it
    started: str
    index: str  # name of the index file: another one means other data, and a new beginning
    phase: Phase
    position: int = 0  # where the next slice begins; 0: at the first section
    total: int = 0  # where the data ends; 0: not known yet
    blocks: int = 0
    bad: int = 0  # found by this run
    unverifiable: int = 0
    links: Links | None = None


class Verdict(msgspec.Struct, frozen=True, gc=False, rename="pascal"):
    """How a run ended."""

    run: str
    depth: Depth
    sample: int
    by: str
    started: str
    ended: str
    outcome: Outcome
    detail: str  # for people; "" where there is nothing to add
    bytes: int
    blocks: int
    bad: int  # in quarantine and not repaired
    repaired: int
    unverifiable: int = 0  # blocks of hash functions that we lack
    links: Links | None = None


class Repairs(msgspec.Struct, frozen=True, gc=False, rename="pascal"):
    """A file of ours that readers take some ranges of the data from."""

    name: str  # in the directory of repairs
    index: str  # name of the index file of the data that it goes with
    patches: tuple[tuple[int, int, int], ...] = ()  # offset in the data, size, offset in the file

    def without(self, bad: Iterable[tuple[int, int]]) -> Repairs:
        """These repairs but for those that touch a range (offset, end)."""
        ranges = list(bad)
        kept = tuple(
            (offset, size, at)
            for offset, size, at in self.patches
            if not any(offset < end and start < offset + size for start, end in ranges)
        )
        return self if kept == self.patches else Repairs(self.name, self.index, kept)


class ScrubState(msgspec.Struct, frozen=True, gc=False):
    """All that is kept of one shard."""

    run: Run | None = None
    verdict: Verdict | None = None
    verified: dict[str, str] = {}  # depth: when a run of it last came to a verdict
    quarantined: tuple[BadBlock, ...] = ()  # by offset, repaired ones too
    repairs: Repairs | None = None
    order: tuple[str, ...] = ()  # URLs of all mounts, the first one first, while another stands in for it

    rejected: Fingerprint | None = (
        None  # of a first mount that is corrupt: as long as it has it, it is not back
    )

    @property
    def home(self) -> str:
        """URL of the first mount, while a replica stands in for it; else empty."""
        return self.order[0] if self.order else ""

    @property
    def bad(self) -> tuple[BadBlock, ...]:
        """What cannot be read."""
        return tuple(one for one in self.quarantined if not one.repaired)


class ScrubSummary(msgspec.Struct, frozen=True, rename="pascal"):
    """The same in the record of a shard, where a list of a thousand would be in the way."""

    verdict: Verdict | None
    run: Run | None
    bad: int  # blocks that cannot be read
    repaired: int  # that can, thanks to a replica
    first_bad: tuple[BadBlock, ...]
    home: str = ""  # URL of the first mount, while a replica stands in for it

    @classmethod
    def of(cls, state: ScrubState) -> ScrubSummary:
        bad = state.bad
        repaired = len(state.quarantined) - len(bad)
        return cls(state.verdict, state.run, len(bad), repaired, bad[:MAX_SHOWN], state.home)


class Found(msgspec.Struct, frozen=True, gc=False):
    """Damage, as a worker reports it."""

    offset: int
    size: int
    cid: str
    multihash: str
    problem: str


class SliceResult(msgspec.Struct, frozen=True, gc=False):
    """What the task `verify` gives."""

    changed: str = ""  # the data is not what was indexed
    broken: str = ""  # the container cannot be read
    index_broken: str = ""  # the index cannot be read
    start: int = 0
    position: int = 0
    end: int = 0  # of the data
    ended: bool = False
    blocks: int = 0
    unverifiable: int = 0
    damage: tuple[Found, ...] = ()
    index_problems: tuple[str, ...] = ()
    index_problem_count: int = 0
    suspects: tuple[str, ...] = ()  # of a sample: whether index or data is wrong is not known yet
    suspect_count: int = 0
    links: Links | None = None


class ScrubEvent(msgspec.Struct, frozen=True, rename="pascal", omit_defaults=True):
    """One line of the stream that `verify` gives."""

    key: str
    event: str  # "progress", "bad", "repaired", "verdict" or "error"
    phase: str = ""
    done: int = 0  # bytes
    total: int = 0
    block: BadBlock | None = None  # of "bad" and "repaired"
    verdict: Verdict | None = None
    error: str = ""
    error_class: str = ""


def time_text(at_s: float) -> str:
    """Seconds since the epoch as RFC 3339, UTC."""
    return datetime.fromtimestamp(at_s, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def time_s(text: str) -> float:
    """The reverse; 0 for an empty text."""
    return datetime.fromisoformat(text).timestamp() if text else 0.0
