"""Comparing segments with the shards' index files, both ways; in a worker process, with bounded memory.

Each entry of an index must stand in its segment under its shard's number. Since no pair stands there twice, equal
numbers of both then say that the segment has nothing more.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from agent.dagstore import index_files
from agent.dagstore.inverted.builder import (
    Bytes2D,
    Progress,
    Run,
    Source,
    SourceFailed,
    merged,
)
from agent.dagstore.inverted.segment import NUMBER_BYTES, Damaged, Directory, Member, mapped, read_directory

Params = Mapping[str, Any]  # Any: JSON, as agent/workers/inverting.py documents it
_NEAR = 1 << 14
"""Keys that are sought together: among 16 shards, they lie within 10 MB of the segment."""
Problem = tuple[str | None, str, str]
"""The shard's key, None for what concerns a whole segment; the segment's name; and what is wrong."""


def problems(
    directory: Path, segments: Sequence[Params], shards: Sequence[Params], progress: Progress
) -> Iterator[Problem]:
    """What is wrong with the segments, or with the index files of `shards`, each of which says which `segment` it is
    in and under which `number`; an OSError is a problem of the shard."""
    opened = {}
    for place, segment in enumerate(segments):
        path = directory / segment["name"]
        try:
            with mapped(path, segment["size"]) as data:
                found = read_directory(data, segment["generation"])
                _check_entries(found, data)
            opened[place] = _runs(path, found)
        except Damaged as error:
            yield None, path.name, f"{path}: {error}"
    for done, shard in enumerate(shards):
        progress(done, len(shards))
        if shard["segment"] in opened:
            runs, members = opened[shard["segment"]]
            name = segments[shard["segment"]]["name"]
            for why in _problems_of(shard, runs, members[shard["number"]]):
                yield shard["key"], name, why


def _check_entries(
    directory: Directory, data: Any
) -> None:  # an mmap, which is no Buffer to every type checker
    with memoryview(data) as view:
        for bucket in directory.buckets:
            with view[bucket.offset : bucket.offset + bucket.count * bucket.width] as entries:
                if zlib.crc32(entries) != bucket.crc:
                    raise Damaged("the checksum of its entries is wrong")


def _runs(path: Path, directory: Directory) -> tuple[dict[tuple[int, int], Run], list[Member]]:
    numbers = np.arange(len(directory.members), dtype=np.uint32)
    return Source.of_segment(0, path, directory, numbers).runs, directory.members


def _problems_of(shard: Params, runs: Mapping[tuple[int, int], Run], member: Member) -> Iterator[str]:
    number, path = shard["number"], Path(shard["path"])
    try:
        problem = index_files.damage(path, shard["checksum"])
        if problem:
            yield problem
            return
        source = Source.of_index(0, path, member, number)
        total = missing = 0
        for bucket, run in source.runs.items():
            for piece in merged([run]):
                total += len(piece)
                there = runs.get(bucket)
                missing += len(piece) if there is None else len(piece) - _count_present(there.rows, piece)
    except (SourceFailed, OSError) as error:
        yield str(error)
        return
    if missing:
        yield f"the inverted index lacks {missing} of its {total} multihashes"
    if total - missing != member.entries:
        extra = member.entries - (total - missing)
        yield f"the inverted index has {extra} multihashes that it does not have"


def _count_present(rows: Bytes2D, wanted: Bytes2D) -> int:
    """How many of the pairs in `wanted` stand in `rows`; both sorted by digest."""
    width = wanted.shape[1]
    size = width - NUMBER_BYTES
    least = wanted.copy()
    least[:, size:] = 0
    whole, keys = rows.view(f"S{width}").reshape(-1), least.view(f"S{width}").reshape(-1)
    at = _places(whole, keys)
    open_ = np.arange(len(wanted))
    present = 0
    while open_.size:  # as often as a digest stands in several shards
        inside = at[open_] < len(rows)
        open_ = open_[inside]
        found = rows[at[open_]]
        same = found[:, :size] == wanted[open_][:, :size]
        digest = same.all(axis=1)
        pair = digest & (found[:, size:] == wanted[open_][:, size:]).all(axis=1)
        present += int(pair.sum())
        open_ = open_[digest & ~pair]
        at[open_] += 1
    return present


def _places(whole: npt.NDArray[np.bytes_], keys: npt.NDArray[np.bytes_]) -> npt.NDArray[np.int64]:
    """Where the sorted `keys` would stand in `whole`.

    A search looks at the middle of what there is, then of a half of it, …: over all of a segment, again and again, that
    reads it many times where it does not fit into the page cache that this process may have. So the keys are sought
    some at a time, from where the last one was, in steps that grow.
    """
    places = np.empty(len(keys), np.int64)
    begin = 0
    for first in range(0, len(keys), _NEAR):
        some = keys[first : first + _NEAR]
        step = _NEAR
        while begin + step < len(whole) and whole[begin + step] < some[0]:
            begin, step = begin + step, 2 * step
        end = begin + step
        while end < len(whole) and whole[end] < some[-1]:
            step *= 2
            end += step
        places[first : first + _NEAR] = begin + np.searchsorted(whole[begin:end], some)
        begin = int(places[first])
    return places
