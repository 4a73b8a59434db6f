"""The imports in the catalogue: a row each, found by number, name or root."""

from __future__ import annotations

import os
import sqlite3
from contextlib import AbstractContextManager
from typing import Protocol

import msgspec

from agent.dagstore.failures import ErrorClass, ShardError
from agent.imports.records import Facts, ImportRow, Kind, Source
from agent.imports.transitions import ImportState
from carlib.cid import DAG_PB, Cid

SCHEMA = """
    CREATE TABLE imports (             -- imports.records.ImportRow
        id          INTEGER PRIMARY KEY,      -- nanoseconds of the clock when it was begun, and rising
        name        TEXT NOT NULL UNIQUE,
        kind        TEXT NOT NULL,     -- ref, dense or car
        state       TEXT NOT NULL,     -- as on the wire
        source      TEXT NOT NULL,     -- this and the next three are Lotus' labels
        filename    BLOB NOT NULL,     -- a path's bytes; empty: none
        car_path    BLOB NOT NULL,
        car_owner   TEXT NOT NULL,     -- importmgr: it is ours
        folder      BLOB NOT NULL,     -- that references are relative to
        profile     TEXT NOT NULL,
        hidden      INTEGER,           -- NULL: as the profile has it
        preserve    TEXT NOT NULL,
        created     TEXT NOT NULL,     -- RFC 3339, UTC
        share       INTEGER NOT NULL,  -- 1: it may refer to files of other imports
        generation  INTEGER NOT NULL,  -- rises each time it is made
        attended    INTEGER NOT NULL,  -- 1: it is being made for somebody who waits for it
        error       TEXT NOT NULL,     -- '' unless it is broken
        error_class TEXT,
        stale       BLOB NOT NULL,     -- JSON array of the first files that are not as they were
        stale_count INTEGER NOT NULL,
        root        BLOB,              -- CIDv1 in binary; NULL until it is made
        facts       BLOB               -- imports.records.Facts as JSON; NULL until it is made
    );
    CREATE INDEX imports_by_root ON imports (root) WHERE root IS NOT NULL;
"""

_to_json = msgspec.json.Encoder().encode
_facts_from_json = msgspec.json.Decoder(Facts).decode
_files_from_json = msgspec.json.Decoder(tuple[str, ...]).decode

_COLUMNS = (
    "id", "name", "kind", "state", "source", "filename", "car_path", "car_owner", "folder", "profile", "hidden",
    "preserve", "created", "share", "generation", "attended", "error", "error_class", "stale", "stale_count", "root",
    "facts",
)  # fmt: skip
_PUT = f"""
    INSERT INTO imports ({", ".join(_COLUMNS)}) VALUES ({", ".join("?" * len(_COLUMNS))})
    ON CONFLICT (id) DO UPDATE SET {", ".join(f"{name} = excluded.{name}" for name in _COLUMNS[1:])}
"""
_SELECT = f"SELECT {', '.join(_COLUMNS)} FROM imports"


class ImportStore(Protocol):
    """Where imports are kept; everything is durable when it returns. Raises ShardError (no-space, …)."""

    def numbers(self) -> list[int]:
        """Of all imports, rising."""

    def row(self, number: int) -> ImportRow | None:
        """One import; raises ShardError(corrupt) if its row is damaged."""

    def find_name(self, name: str) -> int | None:
        """The number of the one of that name."""

    def find_root(self, cid: Cid) -> list[tuple[int, ImportState]]:
        """Those with that root, oldest first: one look into an index, however many there are (C-7)."""

    def put(self, row: ImportRow) -> None:
        """Inserts or replaces."""

    def delete(self, number: int) -> None:
        """Nothing happens if there is none."""


class Database(Protocol):
    """What `agent.catalogue.Catalogue` gives its tables: errors as ours, and transactions."""

    def reading(self) -> AbstractContextManager[sqlite3.Connection]:
        """For queries."""

    def writing(self) -> AbstractContextManager[sqlite3.Connection]:
        """One transaction."""


class ImportTable:
    """`ImportStore` over the table of `SCHEMA`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def numbers(self) -> list[int]:
        with self._database.reading() as connection:
            return [number for (number,) in connection.execute("SELECT id FROM imports ORDER BY id")]

    def row(self, number: int) -> ImportRow | None:
        with self._database.reading() as connection:
            found = connection.execute(f"{_SELECT} WHERE id = ?", (number,)).fetchone()
            return None if found is None else _read(found)

    def find_name(self, name: str) -> int | None:
        with self._database.reading() as connection:
            found = connection.execute("SELECT id FROM imports WHERE name = ?", (name,)).fetchone()
            return None if found is None else int(found[0])

    def find_root(self, cid: Cid) -> list[tuple[int, ImportState]]:
        with self._database.reading() as connection:
            query = "SELECT id, state FROM imports WHERE root = ? ORDER BY id"
            return [
                (number, ImportState(state)) for number, state in connection.execute(query, (root_key(cid),))
            ]

    def put(self, row: ImportRow) -> None:
        with self._database.writing() as connection:
            connection.execute(_PUT, _columns(row))

    def delete(self, number: int) -> None:
        with self._database.writing() as connection:
            connection.execute("DELETE FROM imports WHERE id = ?", (number,))


def root_key(cid: Cid) -> bytes:
    """The same for both versions of a CID."""
    return cid.raw if cid.version else Cid.v1(DAG_PB, cid.multihash).raw


def _columns(row: ImportRow) -> tuple[object, ...]:
    facts = row.facts
    return (
        row.id, row.name, row.kind.value, row.state.value, row.source.value, os.fsencode(row.filename),
        os.fsencode(row.car_path), row.car_owner, os.fsencode(row.folder), row.profile, row.hidden, row.preserve,
        row.created, row.share, row.generation, row.attended, row.error, row.error_class, _to_json(row.stale),
        row.stale_count,
        None if facts is None else root_key(Cid.parse(facts.root)), None if facts is None else _to_json(facts),
    )  # fmt: skip


def _read(columns: tuple[object, ...]) -> ImportRow:
    """Raises ShardError(corrupt)."""
    found = dict(zip(_COLUMNS, columns, strict=True))
    try:
        facts, hidden, error_class = found["facts"], found["hidden"], found["error_class"]
        return ImportRow(
            id=int(str(found["id"])),
            name=str(found["name"]),
            kind=Kind(str(found["kind"])),
            state=ImportState(found["state"]),
            source=Source(str(found["source"])),
            filename=_path(found["filename"]),
            car_path=_path(found["car_path"]),
            car_owner=str(found["car_owner"]),
            folder=_path(found["folder"]),
            profile=str(found["profile"]),
            hidden=None if hidden is None else bool(hidden),
            preserve=str(found["preserve"]),
            created=str(found["created"]),
            share=bool(found["share"]),
            generation=int(str(found["generation"])),
            attended=bool(found["attended"]),
            error=str(found["error"]),
            error_class=None if error_class is None else ErrorClass(str(error_class)),
            stale=_files_from_json(_bytes(found["stale"])),
            stale_count=int(str(found["stale_count"])),
            facts=None if facts is None else _facts_from_json(_bytes(facts)),
        )
    except (ValueError, msgspec.DecodeError) as error:
        message = (
            f"the row of import {found['id']} is damaged ({error}); delete it there, or restore a backup"
        )
        raise ShardError(ErrorClass.CORRUPT, message) from error


def _path(value: object) -> str:
    return os.fsdecode(_bytes(value))


def _bytes(value: object) -> bytes:
    if not isinstance(value, bytes):
        raise ValueError(f"{type(value).__name__} where bytes should be")
    return value
