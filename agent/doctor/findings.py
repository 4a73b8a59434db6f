"""What the doctor says: findings, and the facts that they come from."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from agent.dagstore.records import ShardRow
from agent.dagstore.scrub.records import ScrubState


class Severity(enum.StrEnum):
    """How bad it is."""

    ERROR = "error"  # something cannot be read, written or trusted now
    WARNING = "warning"  # it will not stay well by itself
    NOTE = "note"  # worth knowing


class Finding(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """One thing that is not as it should be."""

    check: str  # stable name, for scripts: "data-gone", "index-damaged", …
    severity: Severity
    what: str  # in a sentence, with the value
    advice: str  # what to do
    key: str = ""  # of the shard, if it is about one
    path: str = ""  # of the file, if it is about one
    corrupt: bool = False  # data or state is damaged: the command ends with 5
    fixable: bool = False  # `--fix` can, without a risk
    fixed: str = ""  # what `--fix` did


@dataclass(frozen=True, slots=True)
class FileFacts:
    """A file, or why it could not be looked at."""

    size: int = 0
    mtime_ns: int = 0
    inode: int = 0
    error: str = ""  # errno's name, such as ENOENT; "timeout"; "" where all went well


@dataclass(frozen=True, slots=True)
class ShardFacts:
    """A shard as the catalogue has it, and what lies on the disk."""

    row: ShardRow
    scrub: ScrubState
    data: FileFacts | None  # None: no local file
    index: FileFacts | None  # None: it has none
    index_problem: str = ""  # why it cannot be read


@dataclass(frozen=True, slots=True)
class LeftOver:
    """A file of ours that nothing names."""

    kind: str  # "index", "unfinished index", "transient", "repair"
    path: Path
    size: int
    age_s: float


@dataclass(frozen=True, slots=True)
class Live:
    """What only a running agent knows."""

    overdue: int = 0  # verifications
    scheduled: int = 0
    transient_bytes: int = 0
    transient_quota: int = 0  # 0: none
    inverted_missing: int = 0  # shards whose index is not in the inverted index
    inverted_problem: str = ""  # why that does not get on
    open_breakers: tuple[str, ...] = ()  # origins that are given a rest


@dataclass(frozen=True, slots=True)
class Facts:
    """All that was looked at."""

    path: Path
    agent: bool  # one runs
    agent_answers: bool = True
    user: int = 0  # uid under which this was looked at
    owner: int = 0
    mode: int = 0o700
    unwritable: tuple[Path, ...] = ()
    catalogue: str = ""  # what is wrong with it
    damaged_rows: tuple[tuple[str, str], ...] = ()  # key, what is wrong
    shards: tuple[ShardFacts, ...] = ()
    left_over: tuple[LeftOver, ...] = ()
    free_bytes: int = 1 << 62
    total_bytes: int = 1 << 62
    transient_bytes: int = 0
    silent: tuple[str, ...] = ()  # folders that did not answer
    live: Live = field(default_factory=Live)
    now_s: float = 0.0
    scrub_interval_s: float = 0.0  # 0: never
