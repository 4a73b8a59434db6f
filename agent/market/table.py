"""The deals in the catalogue, and the sectors that their pieces are in."""

from __future__ import annotations

from typing import Protocol

import msgspec

from agent.dagstore.failures import ErrorClass, ShardError
from agent.imports.table import Database
from agent.market.packing import Sector
from agent.market.records import DealRow

SCHEMA = """
    CREATE TABLE deals (
        id    INTEGER PRIMARY KEY,     -- nanoseconds of the clock when it was proposed, and rising
        line  BLOB NOT NULL            -- market.records.DealRow as JSON
    );
    CREATE TABLE sectors (             -- unsealed ones that we fill: market.packing.Sector
        number INTEGER PRIMARY KEY,
        size   INTEGER NOT NULL,       -- padded bytes
        used   INTEGER NOT NULL        -- up to the end of the last piece
    );
"""

_to_json = msgspec.json.Encoder().encode
_from_json = msgspec.json.Decoder(DealRow).decode


class DealStore(Protocol):
    """Where deals are kept; everything is durable when it returns. Raises ShardError (no-space, …)."""

    def rows(self) -> list[DealRow]: ...

    def put(self, row: DealRow, sector: Sector | None = None) -> None: ...

    def sectors(self) -> list[Sector]: ...

    def drop_sector(self, number: int) -> None: ...


class DealTable:
    """`DealStore` over the tables of `SCHEMA`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def rows(self) -> list[DealRow]:
        """All of them, oldest first; raises ShardError(corrupt)."""
        with self._database.reading() as connection:
            found = connection.execute("SELECT id, line FROM deals ORDER BY id").fetchall()
        rows = []
        for number, line in found:
            try:
                rows.append(_from_json(line))
            except msgspec.DecodeError as error:
                message = f"the row of deal {number} is damaged ({error}); delete it, or restore a backup"
                raise ShardError(ErrorClass.CORRUPT, message) from error
        return rows

    def put(self, row: DealRow, sector: Sector | None = None) -> None:
        """A deal, and the sector that its piece has just gone into, in one transaction."""
        with self._database.writing() as connection:
            connection.execute(
                "INSERT INTO deals (id, line) VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET line = excluded.line",
                (row.id, _to_json(row)),
            )
            if sector is not None:
                connection.execute(
                    "INSERT INTO sectors (number, size, used) VALUES (?, ?, ?)"
                    " ON CONFLICT (number) DO UPDATE SET used = excluded.used",
                    (sector.number, sector.size, sector.used),
                )

    def sectors(self) -> list[Sector]:
        with self._database.reading() as connection:
            found = connection.execute("SELECT number, size, used FROM sectors ORDER BY number").fetchall()
        return [Sector(*columns) for columns in found]

    def drop_sector(self, number: int) -> None:
        with self._database.writing() as connection:
            connection.execute("DELETE FROM sectors WHERE number = ?", (number,))
