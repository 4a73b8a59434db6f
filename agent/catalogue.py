"""The catalogue: what must survive, in SQLite at `$CARFS_PATH/carfs.db`.

Calls are short and synchronous (a durable write takes about 0.2 ms on an SSD) and are made from the event loop, so
that between two awaits memory and disk say the same. Whatever returned is on disk: WAL with synchronous=FULL.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Protocol

import msgspec

from agent.dagstore.failures import ErrorClass, ShardError
from agent.dagstore.lifecycle import Life, ShardState
from agent.dagstore.records import HISTORY_KEPT, HISTORY_SHOWN, IndexFacts, ShardRow, Transition, life_from
from agent.dagstore.scrub.records import ScrubState
from agent.imports import table as imports_table
from agent.imports.table import ImportTable
from agent.market import table as deals_table
from agent.market.table import DealTable
from agent.retrievals import table as retrievals_table
from agent.retrievals.table import RetrievalTable
from agent.scheduler.jobs import Estimate

logger = logging.getLogger(__name__)


class Store(Protocol):
    """Where the dagstore keeps its shards; everything is durable when it returns. Raises ShardError (no-space, …)."""

    def shards(self) -> list[ShardRow]:
        """All shards, sorted by key; for few, since each takes a kilobyte."""

    def lives(self) -> Iterator[tuple[str, Life]]:
        """All shards, sorted by key, and where each is in its life."""

    def index_names(self) -> Iterator[str]:
        """The index files that shards have."""

    def row(self, key: str) -> ShardRow | None:
        """One shard."""

    def rows_after(self, key: str, limit: int) -> list[ShardRow]:
        """Up to `limit` shards whose keys come after `key`, sorted by key."""

    def put(self, row: ShardRow, transition: Transition) -> None:
        """Inserts or replaces the shard and adds a line to its history, in one transaction."""

    def put_all(self, changes: Sequence[tuple[ShardRow, Transition]]) -> None:
        """Likewise for several shards: all or none."""

    def put_new(self, changes: Sequence[tuple[ShardRow, Transition]]) -> None:
        """Likewise for shards that are not there yet; the one call that may be made in a thread, beside all others,
        which wait for it if they write."""

    def delete(self, key: str) -> None:
        """Removes the shard and its history; nothing happens if there is none."""

    def history(self, key: str) -> tuple[Transition, ...]:
        """The last transitions of a shard, at most `HISTORY_SHOWN`, oldest first."""

    def history_page(self, key: str, *, before: int | None, limit: int) -> list[tuple[int, Transition]]:
        """Up to `limit` transitions with their numbers, newest first; with `before`, only smaller numbers."""


APPLICATION_ID = int.from_bytes(b"carf")  # in the database's header, where file(1) and we look

# Step n brings a database of user_version n to n + 1; never edit a released one.
_MIGRATIONS = (
    f"""
    PRAGMA application_id = {APPLICATION_ID};
    CREATE TABLE shards (
        key         TEXT PRIMARY KEY NOT NULL,
        url         TEXT NOT NULL,     -- canonical URL of the mount
        state       TEXT NOT NULL,     -- Lotus' name; never ShardStateServing, since references end with the process
        lazy        INTEGER NOT NULL,  -- 1: first indexed when first used
        registered  TEXT NOT NULL,     -- RFC 3339, UTC
        generation  INTEGER NOT NULL,  -- number of the last index that was begun
        error       TEXT NOT NULL,     -- of an Errored shard, else ''
        error_class TEXT,              -- likewise, else NULL
        index_facts BLOB               -- records.IndexFacts as JSON; NULL until there is an index
    ) WITHOUT ROWID;
    CREATE TABLE transitions (
        key    TEXT NOT NULL REFERENCES shards (key) ON DELETE CASCADE,
        number INTEGER NOT NULL,       -- rises by one a transition; only the last few are kept
        line   BLOB NOT NULL,          -- records.Transition as JSON
        PRIMARY KEY (key, number)
    ) WITHOUT ROWID;
    """,
    """
    ALTER TABLE shards ADD COLUMN replicas BLOB;                              -- JSON array of URLs; NULL: none
    ALTER TABLE shards ADD COLUMN existing_transient BLOB NOT NULL DEFAULT x'';  -- a path's bytes; empty: none
    ALTER TABLE shards ADD COLUMN attempts INTEGER NOT NULL DEFAULT 0;        -- since it was last Available
    ALTER TABLE shards ADD COLUMN quarantined TEXT NOT NULL DEFAULT '';       -- what was found corrupt, and when
    """,
    """
    ALTER TABLE shards ADD COLUMN indexer TEXT NOT NULL DEFAULT 'car';        -- name in indexers.INDEXERS
    """,
    """
    CREATE TABLE scrubs (
        key   TEXT PRIMARY KEY NOT NULL REFERENCES shards (key) ON DELETE CASCADE,
        state BLOB NOT NULL            -- scrub.records.ScrubState as JSON
    ) WITHOUT ROWID;
    """,
    """
    CREATE TABLE estimates (           -- scheduler.jobs.Estimate
        kind       TEXT NOT NULL,
        size_class TEXT NOT NULL,      -- of scheduler.table
        peak_bytes INTEGER NOT NULL,   -- of memory that tasks of this kind and size took
        tasks      INTEGER NOT NULL,   -- that this is from
        size_bytes INTEGER NOT NULL,   -- of the data of the one that had this peak; 0: not known
        PRIMARY KEY (kind, size_class)
    ) WITHOUT ROWID;
    """,
    imports_table.SCHEMA,
    retrievals_table.SCHEMA,
    deals_table.SCHEMA,
)

_facts_from_json = msgspec.json.Decoder(IndexFacts).decode
_urls_from_json = msgspec.json.Decoder(tuple[str, ...]).decode


class _Named(msgspec.Struct):
    """The one field of IndexFacts that a sweep needs."""

    name: str


_named_from_json = msgspec.json.Decoder(_Named).decode
_transition_from_json = msgspec.json.Decoder(Transition).decode
_scrub_from_json = msgspec.json.Decoder(ScrubState).decode
_to_json = msgspec.json.Encoder().encode


class Catalogue:
    """`Store` over one SQLite file, used by one process at a time (the lock is the repository's)."""

    def __init__(
        self, connection: sqlite3.Connection, beside: sqlite3.Connection, name: str, history_kept: int
    ) -> None:
        self._connection = connection
        self._beside = beside  # for what is written in a thread
        self._writing = threading.Lock()  # as SQLite's own, but whoever waits for it is woken at once
        self._name = name  # for messages
        self._history_kept = history_kept
        self.imports = ImportTable(self)
        self.retrievals = RetrievalTable(self)
        self.deals = DealTable(self)

    @classmethod
    def open(cls, path: Path, *, history_kept: int = HISTORY_KEPT) -> Catalogue:
        """Opens or makes the database, brings its schema up to date; raises ShardError(corrupt | no-space | …).

        Of each shard `history_kept` transitions are kept.
        """
        with _errors_named(str(path)), ExitStack() as stack:
            connection = stack.enter_context(closing(_connected(path)))
            _check(connection)  # first, since what follows writes
            _prepare(connection)
            _migrate(connection)
            beside = stack.enter_context(closing(_connected(path)))
            _prepare(beside)
            stack.pop_all()
        return cls(connection, beside, str(path), history_kept)

    def close(self) -> None:
        self._beside.close()
        self._connection.close()

    def shards(self) -> list[ShardRow]:
        with _errors_named(self._name):
            return [
                read_row(columns) for columns in self._connection.execute("SELECT * FROM shards ORDER BY key")
            ]

    def lives(self) -> Iterator[tuple[str, Life]]:
        with _errors_named(self._name):
            for key, *columns in self._connection.execute(_SELECT_LIVES):
                try:
                    yield key, life_from(*columns)
                except ValueError as error:
                    raise _damaged(key, error) from error

    def index_names(self) -> Iterator[str]:
        with _errors_named(self._name):
            for (facts,) in self._connection.execute(
                "SELECT index_facts FROM shards WHERE index_facts IS NOT NULL"
            ):
                with suppress(msgspec.DecodeError):  # a damaged row has lost its index anyway
                    yield _named_from_json(facts).name

    def row(self, key: str) -> ShardRow | None:
        with _errors_named(self._name):
            found = self._connection.execute("SELECT * FROM shards WHERE key = ?", (key,)).fetchone()
            return None if found is None else read_row(found)

    def rows_after(self, key: str, limit: int) -> list[ShardRow]:
        with _errors_named(self._name):
            query = "SELECT * FROM shards WHERE key > ? ORDER BY key LIMIT ?"
            return [read_row(columns) for columns in self._connection.execute(query, (key, limit))]

    def put(self, row: ShardRow, transition: Transition) -> None:
        self.put_all([(row, transition)])

    def put_all(self, changes: Sequence[tuple[ShardRow, Transition]]) -> None:
        with self._transaction() as connection:
            for row, transition in changes:
                connection.execute(_UPSERT, _columns(row))
                connection.execute(_ADD_TRANSITION, {"key": row.key, "line": _to_json(transition)})
                connection.execute(_DROP_OLD_TRANSITIONS, {"key": row.key, "kept": self._history_kept})

    def put_new(self, changes: Sequence[tuple[ShardRow, Transition]]) -> None:
        rows = [_columns(row) for row, _ in changes]
        lines = [(row.key, _to_json(transition)) for row, transition in changes]
        with self._transaction(self._beside) as connection:
            connection.executemany(_INSERT, rows)
            connection.executemany("INSERT INTO transitions (key, number, line) VALUES (?, 1, ?)", lines)

    def delete(self, key: str) -> None:
        with self._transaction() as connection:
            connection.execute("DELETE FROM shards WHERE key = ?", (key,))

    def history(self, key: str) -> tuple[Transition, ...]:
        with _errors_named(self._name):
            lines = self._connection.execute(
                "SELECT line FROM transitions WHERE key = ? ORDER BY number DESC LIMIT ?",
                (key, HISTORY_SHOWN),
            ).fetchall()
            return tuple(_transition_from_json(line) for (line,) in reversed(lines))

    def history_page(self, key: str, *, before: int | None, limit: int) -> list[tuple[int, Transition]]:
        with _errors_named(self._name):
            lines = self._connection.execute(_SELECT_HISTORY, {"key": key, "before": before, "limit": limit})
            return [(number, _transition_from_json(line)) for number, line in lines]

    # What is known of the verification of shards: `scrub.scrubber.ScrubStore`

    def scrub_page(self, after: str, limit: int) -> list[tuple[str, str, str, ScrubState]]:
        with _errors_named(self._name):
            found = self._connection.execute(_SELECT_SCRUB_PAGE, (after, limit)).fetchall()
            return [
                (key, url, registered, ScrubState() if state is None else _read_scrub(key, state))
                for key, url, registered, state in found
            ]

    def scrub(self, key: str) -> ScrubState:
        with _errors_named(self._name):
            found = self._connection.execute("SELECT state FROM scrubs WHERE key = ?", (key,)).fetchone()
            return ScrubState() if found is None else _read_scrub(key, found[0])

    def scrubs_with_findings(self) -> Iterator[tuple[str, ScrubState]]:
        with _errors_named(self._name):
            for key, state in self._connection.execute("SELECT key, state FROM scrubs").fetchall():
                if any(mark in state for mark in _SCRUB_FINDINGS):  # few of many, without decoding all
                    yield key, _read_scrub(key, state)

    def put_scrub(self, key: str, state: ScrubState) -> None:
        with self._transaction() as connection:
            connection.execute(_PUT_SCRUB, {"key": key, "state": _to_json(state)})

    # What tasks were seen to take: `scheduler.scheduler.EstimateStore`

    def estimates(self) -> list[Estimate]:
        with _errors_named(self._name):
            query = "SELECT kind, size_class, peak_bytes, tasks, size_bytes FROM estimates ORDER BY kind, size_class"
            return [Estimate(*columns) for columns in self._connection.execute(query)]

    def put_estimate(self, estimate: Estimate) -> None:
        with self._transaction() as connection:
            connection.execute(_PUT_ESTIMATE, asdict(estimate))

    # What tables that are documented elsewhere are read and written with

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """For queries."""
        with _errors_named(self._name):
            yield self._connection

    def writing(self) -> AbstractContextManager[sqlite3.Connection]:
        """One transaction."""
        return self._transaction()

    @contextmanager
    def _transaction(self, connection: sqlite3.Connection | None = None) -> Iterator[sqlite3.Connection]:
        used = connection or self._connection
        with _errors_named(self._name), self._writing:
            used.execute("BEGIN IMMEDIATE")
            try:
                yield used
                used.execute("COMMIT")
            except BaseException:
                if used.in_transaction:
                    used.execute("ROLLBACK")
                raise


_SCRUB_FINDINGS = (b'"repairs":{', b'"order":["', b'"quarantined":[{')
_SELECT_LIVES = "SELECT key, state, generation, error, error_class, attempts FROM shards ORDER BY key"
_SELECT_HISTORY = """
    SELECT number, line FROM transitions WHERE key = :key AND (:before IS NULL OR number < :before)
    ORDER BY number DESC LIMIT :limit
"""
_INSERT = """
    INSERT INTO shards (key, url, state, lazy, registered, generation, error, error_class, index_facts, replicas,
        existing_transient, attempts, quarantined, indexer)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
_UPSERT = f"""{_INSERT}
    ON CONFLICT (key) DO UPDATE SET url = excluded.url, state = excluded.state, lazy = excluded.lazy,
        registered = excluded.registered, generation = excluded.generation, error = excluded.error,
        error_class = excluded.error_class, index_facts = excluded.index_facts, replicas = excluded.replicas,
        existing_transient = excluded.existing_transient, attempts = excluded.attempts,
        quarantined = excluded.quarantined, indexer = excluded.indexer
"""
_SELECT_SCRUB_PAGE = """
    SELECT shards.key, url, registered, scrubs.state FROM shards LEFT JOIN scrubs ON scrubs.key = shards.key
    WHERE shards.key > ? ORDER BY shards.key LIMIT ?
"""
_PUT_SCRUB = """
    INSERT INTO scrubs (key, state) SELECT key, :state FROM shards WHERE key = :key
    ON CONFLICT (key) DO UPDATE SET state = excluded.state
"""
_PUT_ESTIMATE = """
    INSERT INTO estimates (kind, size_class, peak_bytes, tasks, size_bytes)
    VALUES (:kind, :size_class, :peak_bytes, :tasks, :size_bytes)
    ON CONFLICT (kind, size_class) DO UPDATE SET peak_bytes = excluded.peak_bytes, tasks = excluded.tasks,
        size_bytes = excluded.size_bytes
"""
_ADD_TRANSITION = """
    INSERT INTO transitions (key, number, line)
    VALUES (:key, 1 + COALESCE((SELECT MAX(number) FROM transitions WHERE key = :key), 0), :line)
"""
_DROP_OLD_TRANSITIONS = """
    DELETE FROM transitions WHERE key = :key
    AND number <= (SELECT MAX(number) FROM transitions WHERE key = :key) - :kept
"""


def _read_scrub(key: str, state: bytes) -> ScrubState:
    """All of it can be found out anew, so what is damaged is begun anew."""
    try:
        return _scrub_from_json(state)
    except msgspec.DecodeError as error:
        logger.warning(
            "what is known of the verification of shard %s is damaged and is forgotten: %s", key, error
        )
        return ScrubState()


def read_row(columns: tuple[object, ...]) -> ShardRow:
    """A row of the table `shards`, all columns of it; raises ShardError(corrupt)."""
    try:
        return _row(columns)
    except (ValueError, msgspec.DecodeError) as error:
        raise _damaged(str(columns[0]), error) from error


def _damaged(key: str, error: Exception) -> ShardError:
    message = f"the row of shard {key!r} is damaged ({error}); delete it there, or restore a backup"
    return ShardError(ErrorClass.CORRUPT, message, key=key)


def _columns(row: ShardRow) -> tuple[object, ...]:
    """The row's values for `_UPSERT`."""
    facts = None if row.index is None else _to_json(row.index)
    replicas = _to_json(row.replicas) if row.replicas else None
    return (row.key, row.url, row.state.value, row.lazy, row.registered, row.generation, row.error,
            row.error_class, facts, replicas, os.fsencode(row.existing_transient), row.attempts,
            row.quarantined, row.indexer)  # fmt: skip


def _row(columns: tuple[object, ...]) -> ShardRow:
    key, url, state, lazy, registered, generation, error, error_class, facts, replicas, *rest = columns
    existing_transient, attempts, quarantined, indexer = rest
    return ShardRow(
        key=str(key),
        url=str(url),
        state=ShardState(state),
        lazy=bool(lazy),
        registered=str(registered),
        generation=int(str(generation)),
        error=str(error),
        error_class=None if error_class is None else ErrorClass(str(error_class)),
        index=_facts_from_json(facts) if isinstance(facts, bytes) else None,
        replicas=_urls_from_json(replicas) if isinstance(replicas, bytes) else (),
        existing_transient=os.fsdecode(existing_transient) if isinstance(existing_transient, bytes) else "",
        attempts=int(str(attempts)),
        quarantined=str(quarantined),
        indexer=str(indexer),
    )


def _connected(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, isolation_level=None, check_same_thread=False)


def _prepare(connection: sqlite3.Connection) -> None:
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _check(connection: sqlite3.Connection) -> None:
    """Raises ShardError(invalid) for a database that is not ours or newer than we are."""
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if application != APPLICATION_ID and (application, version, tables) != (0, 0, 0):
        hint = "move it away, or set CARFS_PATH to another directory"
        raise ShardError(ErrorClass.INVALID, f"not a catalogue of carfs but another database; {hint}")
    if version > len(_MIGRATIONS):
        newest = len(_MIGRATIONS)
        message = f"its schema is version {version}; this carfs knows up to {newest}: use a newer carfs"
        raise ShardError(ErrorClass.INVALID, message)


def _migrate(connection: sqlite3.Connection) -> None:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    for number in range(version, len(_MIGRATIONS)):
        connection.executescript(f"BEGIN; {_MIGRATIONS[number]}; PRAGMA user_version = {number + 1}; COMMIT;")


_CLASS_OF_SQLITE_CODE = {
    sqlite3.SQLITE_FULL: ErrorClass.NO_SPACE,
    sqlite3.SQLITE_READONLY: ErrorClass.DENIED,
    sqlite3.SQLITE_PERM: ErrorClass.DENIED,
    sqlite3.SQLITE_CANTOPEN: ErrorClass.DENIED,
    sqlite3.SQLITE_CORRUPT: ErrorClass.CORRUPT,
    sqlite3.SQLITE_NOTADB: ErrorClass.CORRUPT,
    sqlite3.SQLITE_BUSY: ErrorClass.BUSY,
}


_HINTS = {
    ErrorClass.CORRUPT: "; restore it from a backup, or move it away and register the CARs anew: they are untouched",
    ErrorClass.NO_SPACE: "; make room on its file system and try again (destroying a shard needs a little, too)",
}


@contextmanager
def _errors_named(what: str) -> Iterator[None]:
    """Turns SQLite's errors into ours, by their primary code."""
    try:
        yield
    except sqlite3.Error as error:
        primary = getattr(error, "sqlite_errorcode", 0) & 0xFF
        error_class = _CLASS_OF_SQLITE_CODE.get(primary, ErrorClass.BUG)
        raise ShardError(error_class, f"{what}: {error}{_HINTS.get(error_class, '')}") from error
    except ShardError as error:
        raise ShardError(error.error_class, f"{what}: {error}", key=error.key) from error
