"""A shard as a value: what the catalogue keeps of it, and the same as it goes over the wire."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path

import msgspec

from agent.dagstore import mounts
from agent.dagstore.access import Access, FileAccess, TransientAccess
from agent.dagstore.failures import ErrorClass, Failure, ShardError
from agent.dagstore.indexers import DEFAULT
from agent.dagstore.lifecycle import Life, ShardState
from agent.dagstore.mounts import FileMount, Fingerprint
from agent.dagstore.scrub.records import ScrubSummary

MAX_KEY_BYTES = 1024
HISTORY_KEPT = 64  # transitions of a shard that are kept, unless the configuration says otherwise
HISTORY_SHOWN = 16  # of these in a record
MAX_ROOTS_KEPT = 1024  # roots of a CAR that are listed; a header may hold hundreds of thousands


class Transition(msgspec.Struct, frozen=True, gc=False, rename="pascal"):
    """One line of a shard's history."""

    at: str  # RFC 3339, UTC
    before: str  # name of the state
    after: str
    event: str  # name of the event in lifecycle.py
    reason: str
    by: str = (
        ""  # who: "rpc: process 123 uid 0", "agent: restart", "agent: retry 2 of 5"; "" before it was noted
    )


class IndexFacts(msgspec.Struct, frozen=True, gc=False):
    """What indexing found out about the data, and where the index is."""

    name: str  # file name in the index directory
    size: int  # of the index file, bytes
    fingerprint: Fingerprint  # of the data that was indexed
    codec: int
    version: int  # of the CAR
    data_offset: int
    data_size: int
    blocks: int
    roots: tuple[str, ...]
    checksum: str = ""  # of the index file, as `index_files.checksum` gives it
    format: int = 0  # `index_files.FORMAT` when it was made; another one is made anew


class ShardRow(msgspec.Struct, frozen=True, gc=False):
    """What the catalogue keeps of a shard."""

    key: str
    url: str
    state: ShardState
    lazy: bool
    registered: str  # RFC 3339, UTC
    generation: int = 0
    error: str = ""
    error_class: ErrorClass | None = None
    index: IndexFacts | None = None
    replicas: tuple[str, ...] = ()  # further URLs of the same bytes, in the order in which to try them
    existing_transient: str = ""  # path of the user's own copy of the data: used in place, never removed
    attempts: int = 0  # tries since it was last Available, for the back-off
    quarantined: str = ""  # what was found corrupt in the data, and when; only of an Errored shard
    indexer: str = DEFAULT  # name in `indexers.INDEXERS`


class ShardRecord(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """RECORD on the wire; what is not known (yet) is null."""

    key: str
    state: str
    url: str = msgspec.field(name="URL")
    path: (
        str | None
    )  # local file; null if there is none or if its name is not UTF-8 (the URL is always exact)
    access: Access | None = None  # how other processes read the data; null where they cannot (yet)
    size: int | None = None
    fingerprint: Fingerprint | None = None
    index_path: str | None = None
    index_codec: int | None = None
    version: int | None = None
    data_offset: int | None = None
    data_size: int | None = None
    blocks: int | None = None
    roots: tuple[str, ...] = ()
    error: str
    error_class: str
    refs: int
    lazy: bool
    registered: str
    generation: int
    replicas: tuple[str, ...] = ()
    existing_transient: str | None = None  # null if there is none or if its name is not UTF-8
    attempts: int = 0
    quarantined: str = ""
    scrub: ScrubSummary | None = None
    history: tuple[Transition, ...]


def check_key(key: str) -> None:
    """Raises ShardError(invalid) for what cannot be a key: empty, too long, or not Unicode text."""
    try:
        size = len(key.encode())
    except UnicodeEncodeError:
        raise ShardError(ErrorClass.INVALID, "a shard key must be Unicode text") from None
    if not 0 < size <= MAX_KEY_BYTES:
        raise ShardError(
            ErrorClass.INVALID, f"a shard key has 1 to {MAX_KEY_BYTES} bytes, not {size}", key=key
        )


def now_text() -> str:
    """The time as RFC 3339, UTC, to the microsecond."""
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def life_of(row: ShardRow) -> Life:
    """The life of a shard as it was persisted."""
    return life_from(row.state.value, row.generation, row.error, row.error_class, row.attempts)


def life_from(state: str, generation: int, error: str, error_class: str | None, attempts: int) -> Life:
    """Likewise from the values in the catalogue; raises ValueError. Healthy shards share their lives, since there
    are many and a life never changes."""
    if error_class is None:
        return _healthy(ShardState(state), generation, attempts)
    failure = Failure(ErrorClass(error_class), error)
    return Life(ShardState(state), generation, failure=failure, attempts=attempts)


def shared(life: Life) -> Life:
    """An equal life that other shards have, too, if this is one of a shard that is healthy and not used."""
    alike = _healthy(life.state, life.generation, life.attempts)
    return alike if alike == life else life


@lru_cache(maxsize=1024)
def _healthy(state: ShardState, generation: int, attempts: int) -> Life:
    return Life(state, generation, attempts=attempts)


def source_url(row: ShardRow) -> str:
    """The URL from which the data is read now: of the user's own copy, if there is one."""
    return FileMount.at(os.fsencode(row.existing_transient)).url if row.existing_transient else row.url


def record_of(
    row: ShardRow,
    life: Life,
    history: tuple[Transition, ...],
    index_directory: Path,
    transient: Callable[[str, Fingerprint], TransientAccess],
) -> ShardRecord:
    """The wire form of a shard; `transient` says where the data of a key are, or will be, if they are not local."""
    record = ShardRecord(
        key=row.key,
        state=life.state.value,
        url=row.url,
        path=_text_path(source_url(row)),
        error=life.failure.message if life.failure is not None else "",
        error_class=life.failure.error_class.value if life.failure is not None else "",
        refs=life.refs,
        lazy=row.lazy,
        registered=row.registered,
        generation=life.generation,
        replicas=row.replicas,
        existing_transient=_as_text(row.existing_transient),
        attempts=row.attempts,
        quarantined=row.quarantined,
        history=history,
    )
    if record.path is not None:
        record = msgspec.structs.replace(record, access=FileAccess(record.path))
    elif row.index is not None and not _is_local(source_url(row)):
        record = msgspec.structs.replace(record, access=transient(row.key, row.index.fingerprint))
    return record if row.index is None else _with_facts(record, row.index, index_directory)


def without_secrets(record: ShardRecord) -> ShardRecord:
    """The record for those who may not read what its URLs hold: passwords, signatures."""
    scrub = record.scrub
    if scrub is not None and scrub.home:
        scrub = msgspec.structs.replace(scrub, home=mounts.shown(scrub.home))
    replicas = tuple(map(mounts.shown, record.replicas))
    return msgspec.structs.replace(record, url=mounts.shown(record.url), replicas=replicas, scrub=scrub)


def _with_facts(record: ShardRecord, facts: IndexFacts, index_directory: Path) -> ShardRecord:
    return msgspec.structs.replace(
        record,
        size=facts.fingerprint.size,
        fingerprint=facts.fingerprint,
        index_path=str(index_directory / facts.name),
        index_codec=facts.codec,
        version=facts.version,
        data_offset=facts.data_offset,
        data_size=facts.data_size,
        blocks=facts.blocks,
        roots=facts.roots,
    )


def _text_path(url: str) -> str | None:
    """The local path behind a URL, where there is one and JSON can carry it."""
    try:
        path = mounts.parse(url).path
    except ShardError:
        return None
    return None if path is None else _as_text(str(path))


def _is_local(url: str) -> bool:
    """Whether the data are a file, if only one whose name is not UTF-8."""
    try:
        return mounts.parse(url).path is not None
    except ShardError:
        return False


def _as_text(path: str) -> str | None:
    """The path, if it is one and JSON can carry it."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return None
    return path or None
