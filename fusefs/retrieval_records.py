"""A retrieval's RECORD, as the agent gives it, as what the mount needs to know of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agent.dagstore.access import FileAccess
from fusefs.catalogue import ShardRecord, What
from fusefs.import_records import nanoseconds


def parse(document: Mapping[str, Any]) -> ShardRecord:  # Any: JSON
    """Raises KeyError, TypeError or ValueError for what is none."""
    state, car = str(document["State"]), str(document["CARPath"])
    fingerprint = document.get("Fingerprint") or {}
    sources = document.get("Sources") or ()
    return ShardRecord(
        key=str(int(document["ID"])),
        name=str(document["Name"]).encode(),
        state=state,
        generation=max(
            1, int(document.get("Generation") or 0)
        ),  # of the CAR: it is the same while it grows at first
        url=str(document.get("Source") or next(iter(sources), "")),
        access=FileAccess(car),
        index_path=None,
        size=int(fingerprint.get("size") or 0),
        mtime_ns=nanoseconds(str(document.get("Ended") or document.get("Created") or "")),
        stamp=tuple(int(fingerprint[name]) for name in ("size", "mtime_ns", "inode", "device"))
        if fingerprint
        else (),
        version=int(document.get("Version") or 0),
        data_offset=int(document.get("DataOffset") or 0),
        data_size=int(document.get("DataSize") or 0),
        blocks=int(document.get("Blocks") or 0),
        roots=tuple(str(root) for root in document.get("Roots") or ()),
        error=str(document.get("Error") or ""),
        document=document,
        what=What.RETRIEVAL,
    )
