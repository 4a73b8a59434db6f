"""The retrievals in the catalogue."""

from __future__ import annotations

SCHEMA = """
    CREATE TABLE retrievals (
        id INTEGER PRIMARY KEY         -- nanoseconds of the clock when it was begun, and rising
    );
"""
