"""An import's RECORD, as the agent gives it, as what the mount needs to know of it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from agent.dagstore.access import FileAccess
from agent.dagstore.mounts.file import FileMount
from fusefs.catalogue import READABLE_STATES, ShardRecord, What

_SECOND_NS: Final = 1_000_000_000


def parse(document: Mapping[str, Any]) -> ShardRecord:  # Any: JSON
    """Raises KeyError, TypeError or ValueError for what is none."""
    state, car = str(document["State"]), str(document.get("CARPath") or "")
    fingerprint = document.get("Fingerprint") or {}
    index_path, folder = document.get("IndexPath"), document.get("Folder")
    readable = state in READABLE_STATES and bool(car) and bool(fingerprint)
    return ShardRecord(
        key=str(int(document["ID"])),
        name=str(document["Name"]).encode(),
        state=state,
        generation=int(document.get("Generation") or 0),
        url=_url(str(document.get("FilePath") or "") or car),
        access=FileAccess(str(_path(car))) if readable else None,
        index_path=_path(str(index_path)) if index_path else None,
        size=int(fingerprint.get("size") or 0),
        mtime_ns=nanoseconds(str(document.get("Created") or "")),
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
        what=What.IMPORT,
        refers_below=_path(str(folder)) if document.get("Kind") == "ref" and folder else None,
    )


def _path(text: str) -> Path:
    """A path that is not UTF-8 comes as a URL."""
    return FileMount.parse(text).path if text.startswith("file:") else Path(text)


def _url(path: str) -> str:
    return path if not path or path.startswith("file:") else FileMount.at(path.encode()).url


def nanoseconds(text: str) -> int:
    """Of RFC 3339; 0 for what is none."""
    try:
        return int(datetime.fromisoformat(text).timestamp()) * _SECOND_NS
    except ValueError:
        return 0
