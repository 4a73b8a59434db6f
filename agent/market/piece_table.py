"""The piece store in the catalogue: piece → deals → sector, offset, length."""

from __future__ import annotations

SCHEMA = """
    CREATE TABLE pieces (
        piece BLOB PRIMARY KEY NOT NULL  -- v1 piece CID in binary
    ) WITHOUT ROWID;
"""
