"""Looking at everything, without changing anything: the repository's files, its catalogue, and the data of its shards.

Blocks, so call it in a thread; a dead disk costs `FOLDER_TIMEOUT_S` a folder and no more. The catalogue is read
through a connection of its own that cannot write, so an agent may run meanwhile.
"""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path

import msgspec

from agent.catalogue import APPLICATION_ID, read_row
from agent.dagstore import index_files, mounts
from agent.dagstore.failures import ShardError
from agent.dagstore.records import ShardRow
from agent.dagstore.scrub import repairs
from agent.dagstore.scrub.records import ScrubState
from agent.doctor.findings import Facts, FileFacts, LeftOver, Live, ShardFacts
from agent.repository import Repository
from carlib.errors import CarError
from carlib.index import Index
from carlib.source import FileSource

FOLDER_TIMEOUT_S = 10.0

_scrub_from_json = msgspec.json.Decoder(ScrubState).decode


def examine(
    repository: Repository,
    *,
    agent: bool,
    agent_answers: bool = True,
    live: Live | None = None,
    scrub_interval_s: float = 0.0,
) -> Facts:
    """The facts about `repository`, which an agent may be using; raises OSError where it is not there at all."""
    found = repository.path.stat()
    usage = shutil.disk_usage(repository.path)
    problem, rows, scrubs, damaged = _catalogue(repository.catalogue)
    data, silent = _look_at_data(rows)
    shards = tuple(_shard(repository, row, scrubs.get(row.key), data.get(row.key)) for row in rows)
    return Facts(
        path=repository.path,
        agent=agent,
        agent_answers=agent_answers,
        user=os.geteuid(),
        owner=found.st_uid,
        mode=found.st_mode,
        unwritable=tuple(
            path for path in _our_folders(repository) if path.exists() and not os.access(path, os.W_OK)
        ),
        catalogue=problem,
        damaged_rows=damaged,
        shards=shards,
        left_over=() if problem else tuple(_left_over(repository, shards)),
        free_bytes=usage.free,
        total_bytes=usage.total,
        transient_bytes=_bytes_in(repository.transients),
        silent=silent,
        live=live or Live(),
        now_s=time.time(),
        scrub_interval_s=scrub_interval_s,
    )


def _our_folders(repository: Repository) -> tuple[Path, ...]:
    return (
        repository.path,
        repository.catalogue,
        repository.indices,
        repository.transients,
        repository.repairs,
    )


_Rows = tuple[str, list[ShardRow], dict[str, ScrubState], tuple[tuple[str, str], ...]]


def _catalogue(path: Path) -> _Rows:
    """What is wrong with the catalogue; its rows; what is known of their verification; rows that are damaged."""
    if not path.exists():
        return "", [], {}, ()  # no agent has run here yet
    rows: list[ShardRow] = []
    damaged: list[tuple[str, str]] = []
    scrubs: dict[str, ScrubState] = {}
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            (application,) = connection.execute("PRAGMA application_id").fetchone()
            if application != APPLICATION_ID:
                return "it is another database", [], {}, ()
            (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            if verdict != "ok":
                return str(verdict), [], {}, ()
            for columns in connection.execute("SELECT * FROM shards ORDER BY key"):
                try:
                    rows.append(read_row(columns))
                except ShardError as error:
                    damaged.append((str(columns[0]), str(error)))
            for key, state in connection.execute("SELECT key, state FROM scrubs"):
                try:
                    scrubs[key] = _scrub_from_json(state)
                except msgspec.DecodeError as error:
                    damaged.append((key, f"what is known of its verification: {error}"))
    except sqlite3.Error as error:
        return str(error), rows, scrubs, tuple(damaged)
    return "", rows, scrubs, tuple(damaged)


def _look_at_data(rows: Iterable[ShardRow]) -> tuple[dict[str, FileFacts], tuple[str, ...]]:
    """The local files behind shards, by key, and the folders that did not answer; folder by folder."""
    folders: dict[Path, list[tuple[str, Path]]] = defaultdict(list)
    for row in rows:
        try:
            path = mounts.parse(row.url).path
        except ShardError:
            continue
        if path is not None:
            folders[path.parent].append((row.key, path))
    found: dict[str, FileFacts] = {}
    silent = []
    for folder, files in folders.items():
        facts = _bounded(lambda files=files: {key: _file(path) for key, path in files})  # type: ignore[misc]  # the usual way
        if facts is None:
            silent.append(os.fsencode(folder).decode(errors="backslashreplace"))
            facts = {key: FileFacts(error="timeout") for key, _ in files}
        found |= facts
    return found, tuple(silent)


def _bounded(look: Callable[[], dict[str, FileFacts]]) -> dict[str, FileFacts] | None:
    """What `look` gives; None where it hangs: its thread is left behind, and ends with the process."""
    outcome: list[dict[str, FileFacts]] = []
    thread = threading.Thread(target=lambda: outcome.append(look()), daemon=True)
    thread.start()
    thread.join(FOLDER_TIMEOUT_S)
    return outcome[0] if outcome else None


def _file(path: Path) -> FileFacts:
    try:
        found = path.stat()
    except OSError as error:
        return FileFacts(error=errno.errorcode.get(error.errno or 0, str(error)))
    return FileFacts(found.st_size, found.st_mtime_ns, found.st_ino)


def _shard(
    repository: Repository, row: ShardRow, scrub: ScrubState | None, data: FileFacts | None
) -> ShardFacts:
    index, problem = None, ""
    if row.index is not None:
        path = repository.indices / row.index.name
        index = _file(path)
        if not index.error:
            try:
                with FileSource(path) as source:
                    Index.open(source)
            except (CarError, OSError) as error:
                problem = str(error)
    return ShardFacts(row, scrub or ScrubState(), data, index, problem)


def _left_over(repository: Repository, shards: Iterable[ShardFacts]) -> Iterable[LeftOver]:
    """Files of ours that no shard names."""
    wanted = {shard.row.index.name for shard in shards if shard.row.index is not None}
    wanted_repairs = {shard.scrub.repairs.name for shard in shards if shard.scrub.repairs is not None}
    if repository.indices.is_dir():
        orphans = [name for name in index_files.sizes(repository.indices) if name not in wanted]
        yield from (_left("index", repository.indices / name) for name in orphans)
        building = index_files.scratch(repository.indices, "")
        if building.is_dir():
            yield from (_left("unfinished index", path) for path in building.iterdir())
    orphans = [name for name in repairs.names(repository.repairs) if name not in wanted_repairs]
    yield from (_left("repair", repository.repairs / name) for name in orphans)


def _left(kind: str, path: Path) -> LeftOver:
    try:
        found = path.stat()
    except OSError:
        return LeftOver(kind, path, 0, 0.0)
    size = _bytes_in(path) if path.is_dir() else found.st_size
    return LeftOver(kind, path, size, max(0.0, time.time() - found.st_mtime))


def _bytes_in(folder: Path) -> int:
    """What its files take on the disk; sparse ones take less than their size."""
    total = 0
    for where, _, names in os.walk(folder):
        for name in names:
            try:
                total += (Path(where) / name).lstat().st_blocks * 512
            except OSError:
                continue  # it is gone by now
    return total
