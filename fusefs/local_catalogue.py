"""Shards that are CAR files named on the command line; no agent.

A CARv2's own index is used as it is (a hint: carlib checks what it says).  For other CARs an index is built
in a worker process and kept in `$XDG_CACHE_HOME/carfs/index/`, `<path>-<size, mtime, inode>` hashed, with a
`.json` of what was found beside the `.idx`; older ones of the same path are removed.  A damaged CAR is shown
as far as it is whole, and says so.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import trio

from agent.dagstore.access import Fetch
from carlib.blockstore import own_index
from carlib.container import read_container
from carlib.source import FileSource
from fusefs import index_worker
from fusefs.catalogue import Change, ShardRecord

Step = Callable[[int, int], None]
_PADDING_LOOK = 64
"""A payload that ends with so many zeros is taken for a padded one, whose true end only a scan finds."""


class LocalCatalogue:
    """A `Catalogue` that never changes."""

    def __init__(self, records: Mapping[str, ShardRecord]) -> None:
        self._records = dict(sorted(records.items()))

    @classmethod
    def open(cls, cars: Iterable[Path], cache: Path, progress: Callable[[Path], Step]) -> LocalCatalogue:
        """Looks at the files and indexes them where need be, `progress(path)` being told; raises CarError, OSError."""
        records: dict[str, ShardRecord] = {}
        for car in cars:
            key = _free_key(car.name, records)
            records[key] = _record(key, car.absolute(), cache, progress(car))
        return cls(records)

    def records(self) -> Mapping[str, ShardRecord]:
        return self._records

    def document(self, name: str) -> bytes:
        shards = [dict(record.document) for record in self._records.values()]
        return json.dumps({"Agent": None, "Shards": shards}, indent=2, ensure_ascii=False).encode() + b"\n"

    def acquire(self, key: str) -> ShardRecord:
        return self._records[key]

    def find(self, cid: str, but: Collection[str] = ()) -> list[str]:
        return []  # what is mounted without an agent shows no `ipfs/`

    def release(self, key: str) -> None:
        pass

    def fetcher(self, key: str) -> Fetch:
        return _NOTHING_TO_FETCH

    async def run(
        self,
        changed: Callable[[Change], None],
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        task_status.started()
        await trio.sleep_forever()


class _NoFetch:
    """A `Fetch` that nobody asks: a file has all of its bytes."""

    def ensure(self, offset: int, length: int) -> None:
        raise AssertionError

    def renew(self, offset: int, length: int) -> None:
        raise AssertionError

    def hint(self, ranges: Sequence[tuple[int, int]]) -> None:
        raise AssertionError


_NOTHING_TO_FETCH = _NoFetch()


def default_cache() -> Path:
    """`$XDG_CACHE_HOME/carfs/index`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "carfs" / "index"


def _record(key: str, car: Path, cache: Path, progress: Step) -> ShardRecord:
    found = car.stat()
    facts = _own_index_facts(car)
    index_path = None
    if facts is None:
        stamp = f"{found.st_size} {found.st_mtime_ns} {found.st_ino}"
        index_path, facts = _cached_index(car, stamp, cache, progress)
    names = ("size", "mtime_ns", "inode", "device")
    values = (found.st_size, found.st_mtime_ns, found.st_ino, found.st_dev)
    return ShardRecord.parse(
        {
            "Key": key,
            "State": "ShardStateAvailable",
            "URL": car.as_uri(),
            "Path": os.fsdecode(car),
            "Size": found.st_size,
            "Fingerprint": dict(zip(names, values, strict=True)),
            "IndexPath": None if index_path is None else os.fsdecode(index_path),
            **facts,
        }
    )


def _own_index_facts(car: Path) -> dict[str, Any] | None:
    """What a CARv2 with a readable index says of itself; None where it must be scanned."""
    with FileSource(car) as source:
        container = read_container(source, whole=False)
        index = own_index(source, container)
        last = source.peek(max(container.first_section, container.data_end - _PADDING_LOOK), _PADDING_LOOK)
        if index is None or not any(last) or source.size < container.data_end:
            return None
        return {
            "Version": container.version,
            "DataOffset": container.data_offset,
            "DataSize": container.data_size,
            "IndexCodec": index.codec,
            "Blocks": len(index),
            "Roots": [str(root) for root in container.roots],
            "Error": "",
        }


def _cached_index(car: Path, stamp: str, cache: Path, progress: Step) -> tuple[Path, dict[str, Any]]:
    stem = hashlib.sha256(os.fsencode(car)).hexdigest()[:32]
    index = cache / f"{stem}-{hashlib.sha256(stamp.encode()).hexdigest()[:32]}.idx"
    facts = _read_facts(index)
    if facts is None:
        cache.mkdir(parents=True, exist_ok=True, mode=0o700)
        for old in cache.glob(f"{stem}-*"):
            old.unlink(missing_ok=True)
        facts = index_worker.build(car, index, progress)
        beside = index.with_suffix(".tmp")
        beside.write_text(json.dumps(facts))
        beside.replace(index.with_suffix(".json"))  # no fsync: a cache that is lost is made again
    return index, facts


def _read_facts(index: Path) -> dict[str, Any] | None:
    try:
        beside = json.loads(index.with_suffix(".json").read_text())
        return dict(beside) if index.stat().st_size == beside["IndexSize"] else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _free_key(name: str, taken: Mapping[str, object]) -> str:
    """The file's name without `.car`, or with a number after it where two files are called the same."""
    stem = name.removesuffix(".car") or name
    number, key = 1, stem
    while key in taken:
        number += 1
        key = f"{stem}-{number}"
    return key
