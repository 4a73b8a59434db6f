"""The deals in the catalogue, as client and as provider."""

from __future__ import annotations

SCHEMA = """
    CREATE TABLE deals (
        id TEXT PRIMARY KEY NOT NULL   -- the proposal's CID
    ) WITHOUT ROWID;
"""
