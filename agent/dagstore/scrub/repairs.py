"""Repairs: good sections from replicas, kept in a CAR of ours that readers look into instead of the bad ranges.

A user's file is never written to, and neither is what came from somebody's server: a repair is a file in
`$CARFS_PATH/dagstore/repairs/`, a plain CARv1 of the sections that are bad in the data, and the list of which ranges
it stands in for (`records.Repairs`). A file is written once and never changed; a new repair makes a new one, which
holds the old ones too. The file before the last is removed, since a reader may be about to open the last.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Final

from agent.dagstore import index_files
from agent.dagstore.failures import ErrorClass, ShardError, class_of_os_error
from agent.dagstore.scrub.records import Repairs
from carlib import durable
from carlib.header import V1Header

MAX_REPAIR_BYTES: Final = 1 << 30
"""Of one shard; a disk that has lost more is to be replaced by a replica."""
_NAME = re.compile(r"([a-z2-7]{52})\.([0-9]{1,20})\.car")


def write(
    directory: Path, key: str, index: str, old: Repairs | None, sections: Mapping[int, bytes]
) -> Repairs:
    """Adds sections, by their offset in the data, to what `old` has; on disk when it returns. May block.

    Raises ShardError: no-space and other troubles of the system, or too much of them.
    """
    ranges = _ranges(directory, old) | dict(sections)
    total = sum(map(len, ranges.values()))
    if total > MAX_REPAIR_BYTES:
        message = f"{total} bytes of repairs, more than {MAX_REPAIR_BYTES}: replace the data by its replica"
        raise ShardError(ErrorClass.NO_SPACE, message, key=key)
    number = 1 if old is None else _number(old.name) + 1
    name = f"{index_files.file_name(key, 0).partition('.')[0]}.{number}.car"
    patches, header = [], V1Header(()).encode()
    try:
        with durable.replacing(directory / name, mode=0o644) as file:
            file.write(header)
            at = len(header)
            for offset, data in sorted(ranges.items()):
                file.write(data)
                patches.append((offset, len(data), at))
                at += len(data)
    except OSError as error:
        raise ShardError(
            class_of_os_error(error), f"{directory / name}: {error.strerror}", key=key
        ) from error
    discard(directory, name, number - 2)
    return Repairs(name, index, tuple(patches))


def _ranges(directory: Path, old: Repairs | None) -> dict[int, bytes]:
    """What an earlier repair holds; nothing where its file cannot be read, as then it is bad again."""
    if old is None:
        return {}
    try:
        data = (directory / old.name).read_bytes()
    except OSError:
        return {}
    return {offset: data[at : at + size] for offset, size, at in old.patches if at + size <= len(data)}


def discard(directory: Path, name: str, number: int | None = None) -> None:
    """Removes a file of repairs, or the one of another `number`; what cannot be removed is left to `sweep`."""
    if number is not None:
        name = f"{name.partition('.')[0]}.{number}.car"
    try:
        (directory / name).unlink(missing_ok=True)
    except OSError:
        pass


def names(directory: Path) -> list[str]:
    """The files of repairs that are there."""
    try:
        return sorted(path.name for path in directory.iterdir() if _NAME.fullmatch(path.name))
    except FileNotFoundError:
        return []


def sweep(directory: Path, wanted: Collection[str]) -> int:
    """Removes our files that nobody wants, and unfinished ones; gives how many. For the start."""
    directory.mkdir(parents=True, exist_ok=True)
    unfinished = [path.name for path in directory.glob(f"{durable.TEMPORARY_PREFIX}*")]
    orphans = [name for name in names(directory) if name not in wanted] + unfinished
    for name in orphans:
        discard(directory, name)
    return len(orphans)


def _number(name: str) -> int:
    match = _NAME.fullmatch(name)
    return int(match[2]) if match is not None else 0
