"""The retrievals in the catalogue: a row each, found by number, name or root."""

from __future__ import annotations

import sqlite3
from contextlib import AbstractContextManager
from typing import Protocol

import msgspec

from agent.dagstore.failures import ErrorClass, ShardError
from agent.imports.table import Database, root_key
from agent.retrievals.records import RetrievalRow
from carlib.cid import Cid

SCHEMA = """
    CREATE TABLE retrievals (
        id   INTEGER PRIMARY KEY,      -- nanoseconds of the clock when it was begun, and rising
        name TEXT NOT NULL UNIQUE,     -- the root as it was given
        root BLOB NOT NULL,            -- CIDv1 in binary
        line BLOB NOT NULL             -- retrievals.records.RetrievalRow as JSON
    );
    CREATE INDEX retrievals_by_root ON retrievals (root);
"""

_to_json = msgspec.json.Encoder().encode
_from_json = msgspec.json.Decoder(RetrievalRow).decode
_PUT = """
    INSERT INTO retrievals (id, name, root, line) VALUES (?, ?, ?, ?)
    ON CONFLICT (id) DO UPDATE SET name = excluded.name, root = excluded.root, line = excluded.line
"""


class RetrievalStore(Protocol):
    """Where retrievals are kept; everything is durable when it returns. Raises ShardError (no-space, …)."""

    def rows(self) -> list[RetrievalRow]: ...

    def put(self, row: RetrievalRow) -> None: ...

    def delete(self, number: int) -> None: ...

    def find_root(self, cid: Cid) -> list[int]: ...


class RetrievalTable:
    """`RetrievalStore` over the table of `SCHEMA`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def rows(self) -> list[RetrievalRow]:
        """All of them, oldest first; raises ShardError(corrupt)."""
        with self._database.reading() as connection:
            found = connection.execute("SELECT id, line FROM retrievals ORDER BY id").fetchall()
        rows = []
        for number, line in found:
            try:
                rows.append(_from_json(line))
            except msgspec.DecodeError as error:
                message = (
                    f"the row of retrieval {number} is damaged ({error}); delete it, or restore a backup"
                )
                raise ShardError(ErrorClass.CORRUPT, message) from error
        return rows

    def find_root(self, cid: Cid) -> list[int]:
        with self._database.reading() as connection:
            query = "SELECT id FROM retrievals WHERE root = ? ORDER BY id"
            return [number for (number,) in connection.execute(query, (root_key(cid),))]

    def put(self, row: RetrievalRow) -> None:
        with self._writing() as connection:
            connection.execute(_PUT, (row.id, row.name, root_key(row.root), _to_json(row)))

    def delete(self, number: int) -> None:
        with self._writing() as connection:
            connection.execute("DELETE FROM retrievals WHERE id = ?", (number,))

    def _writing(self) -> AbstractContextManager[sqlite3.Connection]:
        return self._database.writing()
