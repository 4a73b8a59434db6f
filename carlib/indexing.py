"""Building an index: hop over the sections of a CAR, sort what they are, write it where it is complete or not there.

Memory is bounded whatever the CAR's size: entries are sorted in runs of :data:`RUN_BYTES`, runs lie in an unlinked
temporary file beside the output, and are merged range by range of the digest.  Meant for a worker process.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from carlib import durable, usual
from carlib.cid import Cid
from carlib.container import Container, read_container
from carlib.errors import CarError, Truncated
from carlib.index import INDEX_SORTED, MULTIHASH_INDEX_SORTED, OFFSET_BYTES, SortedBucket, write
from carlib.limits import MIB
from carlib.multihash import SHA2_256
from carlib.section import Sections, Window
from carlib.source import ByteSource, FileSource

RUN_BYTES: Final = 10 << 20
"""Entries sorted at once, each time they are copied: 262,144 of the usual 40 bytes."""
_BATCH_BYTES: Final = 640 << 10
"""Single entries gathered as Python objects before numpy takes them: 16,384 of the usual 40 bytes."""

Progress = Callable[[int, int], None]
"""Called with bytes done and bytes in all."""
Bytes2D = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class IndexReport:
    """What was found while hopping; offsets from the start of the file, sizes in bytes."""

    version: int
    roots: tuple[Cid, ...]
    data_offset: int
    data_size: int
    """Bytes of the CARv1 payload up to the end of its last whole section, without any padding."""
    padding_size: int
    """Zero bytes between there and the end of the payload."""
    block_count: int
    identity_count: int
    index_codec: int
    index_size: int
    damage: CarError | None = None
    """Why the hop ended early, where ``salvage`` allowed it to."""


def build(
    car: Path | ByteSource,
    out: Path,
    *,
    codec: int = MULTIHASH_INDEX_SORTED,
    identity: bool = False,
    zero_is_end: bool = True,
    salvage: bool = False,
    progress: Progress | None = None,
    durably: bool = True,
    window_bytes: int = MIB,
) -> IndexReport:
    """Index the CAR at a path, or in a source, into the detached index file ``out``, which appears complete and durable
    or not at all.

    Not ``durably``: for a file that is gone when the caller is done.

    ``identity``: whether identity CIDs are listed (go-car leaves them out).  ``salvage``: index a damaged CAR as far
    as it is whole and say so in the report, where else its CarError is raised.  ``window_bytes``: see
    :class:`carlib.section.Sections`.  Raises CarError, OSError.
    """
    with contextlib.ExitStack() as stack:
        source = stack.enter_context(FileSource(car)) if isinstance(car, Path) else car
        container = read_container(source, whole=not salvage)
        sections = Sections(
            source,
            container.first_section,
            container.data_end,
            zero_is_end=zero_is_end,
            window_bytes=window_bytes,
        )
        file = stack.enter_context(durable.replacing(out) if durably else out.open("w+b"))
        runs = stack.enter_context(SortedRuns(out.parent, codec))
        hop = _Hop(source.name, sections, container, salvage=salvage, identity=identity)
        hop.run(runs, progress)
        size = write(file, codec, runs.buckets())
    return IndexReport(
        version=container.version,
        roots=container.roots,
        data_offset=container.data_offset,
        data_size=hop.end - container.data_offset,
        padding_size=container.data_offset + container.data_size - hop.end if hop.damage is None else 0,
        block_count=hop.blocks,
        identity_count=hop.identities,
        index_codec=codec,
        index_size=size,
        damage=hop.damage,
    )


class _Hop:
    """One pass over the sections into :class:`SortedRuns`."""

    def __init__(
        self, name: str, sections: Sections, container: Container, *, salvage: bool, identity: bool
    ) -> None:
        self.blocks = self.identities = 0
        self.end = container.first_section
        self.damage: CarError | None = None
        self._sections = sections
        self._name = name
        self._missing = container.missing
        self._base = container.data_offset
        self._total = container.data_end
        self._salvage = salvage
        self._identity = identity

    def run(self, runs: SortedRuns, progress: Progress | None) -> None:
        try:
            for window in self._sections.windows():
                self._add(runs, window)
                if progress is not None:
                    progress(window.offset, self._total)
        except CarError as error:
            if not self._salvage:
                raise
            self.damage = error
        self.end = self._sections.position
        if self.damage is None and self._missing:
            self.damage = Truncated(
                f"{self._missing} bytes of the data are missing", source=self._name, offset=self.end
            )
        if progress is not None:
            progress(self._total, self._total)

    def _add(self, runs: SortedRuns, window: Window) -> None:
        """The sections of ``window``: those of the usual form many at once, the others one by one after them."""
        rows, others = self._sections.entries(window, self._base)
        entries = np.frombuffer(b"".join(rows), np.uint8).reshape(-1, usual.ENTRY_BYTES)
        runs.add(SHA2_256, entries)
        for start in others:
            cid, data, _end = self._sections.head(window.buffer, start, window.offset)
            self._add_one(runs, Cid(bytes(window.buffer[cid:data])), window.offset + start)
        self.blocks += len(window.starts)

    def _add_one(self, runs: SortedRuns, cid: Cid, offset: int) -> None:
        if cid.is_identity:
            self.identities += 1
            if not self._identity:
                return
        runs.add_one(cid.hash_code, cid.digest, offset - self._base)


class SortedRuns:
    """Entries on their way to an index: gathered, sorted run by run, then merged."""

    def __init__(self, folder: Path, codec: int) -> None:
        """Runs go to an unlinked temporary file in ``folder``."""
        self._by_code = codec != INDEX_SORTED
        self._file = tempfile.TemporaryFile(dir=folder, prefix=durable.TEMPORARY_PREFIX)  # noqa: SIM115
        # All by hash code (0 where the codec keeps none) and digest size.
        self._pending: dict[tuple[int, int], list[Bytes2D]] = {}
        self._single: dict[tuple[int, int], tuple[list[bytes], list[int]]] = {}
        self._runs: dict[
            tuple[int, int], list[tuple[int, tuple[int, ...]]]
        ] = {}  # where in the file, and shape
        self._bytes = self._singles = 0

    def __enter__(self) -> SortedRuns:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the temporary file."""
        self._runs.clear()
        self._file.close()

    def add(self, hash_code: int, entries: Bytes2D) -> None:
        """Entries of one hash function and width: a row is a digest and eight bytes of offset."""
        if not len(entries):
            return
        key = (hash_code if self._by_code else 0, entries.shape[1] - OFFSET_BYTES)
        self._pending.setdefault(key, []).append(entries)
        self._bytes += entries.nbytes
        if self._bytes >= RUN_BYTES:
            self._flush()

    def add_one(self, hash_code: int, digest: bytes, offset: int) -> None:
        """One entry; ``offset`` counts from the start of the payload."""
        digests, offsets = self._single.setdefault((hash_code, len(digest)), ([], []))
        digests.append(digest)
        offsets.append(offset)
        self._singles += len(digest) + OFFSET_BYTES
        if self._singles >= _BATCH_BYTES:
            self._gather()

    def buckets(self) -> list[SortedBucket]:
        """Everything added, in the form that :func:`carlib.index.write` takes; once."""
        self._gather()
        self._flush()
        if not self._runs:
            return []
        # One map of all: the file is ours alone and unlinked, so nobody can cut it short.  A map for each run would
        # take a descriptor each, and whoever makes a CAR chooses how many hash functions and widths there are.
        mapped = np.memmap(self._file, np.uint8, "r")
        return [
            SortedBucket(
                code,
                size,
                sum(shape[0] for _, shape in places),
                _merged(
                    [mapped[at : at + rows * width].reshape(rows, width) for at, (rows, width) in places]
                ),
            )
            for (code, size), places in self._runs.items()
        ]

    def _gather(self) -> None:
        singles, self._single, self._singles = self._single, {}, 0
        for (code, size), (digests, offsets) in singles.items():
            rows = np.frombuffer(b"".join(digests), np.uint8).reshape(len(digests), size)
            self.add(code, entry_rows(rows, np.array(offsets, np.int64)))

    def _flush(self) -> None:
        for key, parts in self._pending.items():
            self._runs.setdefault(key, []).append(self._keep(_sorted(np.concatenate(parts))))
        self._pending.clear()
        self._bytes = 0

    def _keep(self, run: Bytes2D) -> tuple[int, tuple[int, ...]]:
        """``run`` on disk: where, and its shape."""
        start = self._file.seek(0, os.SEEK_END)
        self._file.write(run.data)
        self._file.flush()
        return start, run.shape


def entry_rows(digests: Bytes2D, offsets: npt.NDArray[np.int64]) -> Bytes2D:
    """Entries as they stand in an index: ``digests`` (n, size) beside little-endian ``offsets`` (n)."""
    count, size = digests.shape
    entries = np.empty((count, size + OFFSET_BYTES), np.uint8)
    entries[:, :size] = digests
    entries[:, size:] = offsets.astype("<u8").view(np.uint8).reshape(count, OFFSET_BYTES)
    return entries


def moved_back(buckets: list[SortedBucket], by: int) -> list[SortedBucket]:
    """The same with all offsets less by so many bytes."""

    def move(bucket: SortedBucket) -> Iterator[bytes]:
        for piece in bucket.entries:
            entries = np.frombuffer(piece, np.uint8).reshape(-1, bucket.digest_bytes + OFFSET_BYTES)
            offsets = np.ascontiguousarray(entries[:, bucket.digest_bytes :]).view("<u8").reshape(-1)
            yield entry_rows(entries[:, : bucket.digest_bytes], offsets.astype(np.int64) - by).tobytes()

    return [replace(bucket, entries=move(bucket)) for bucket in buckets] if by else buckets


def _prefixes(entries: Bytes2D, skip: int = 0) -> npt.NDArray[np.uint64]:
    """Eight bytes of each digest, after the first ``skip``, as a number that sorts as the bytes do."""
    digest_bytes = entries.shape[1] - OFFSET_BYTES
    padded = np.zeros((len(entries), 8), np.uint8)
    padded[:, : max(0, min(8, digest_bytes - skip))] = entries[:, skip : min(skip + 8, digest_bytes)]
    return padded.view(">u8").reshape(-1).astype(np.uint64)


def _sorted(entries: Bytes2D) -> Bytes2D:
    """``entries`` by digest; equal digests keep their order."""
    prefixes = _prefixes(entries)
    order = np.argsort(prefixes, kind="stable")
    entries, prefixes = entries[order], prefixes[order]
    ties = np.flatnonzero(prefixes[1:] == prefixes[:-1])
    if ties.size and entries.shape[1] > 16 and (entries[ties, 8:-8] != entries[ties + 1, 8:-8]).any():
        digests = np.ascontiguousarray(entries[:, :-OFFSET_BYTES])
        whole = digests.view(f"S{digests.shape[1]}").reshape(-1)
        entries = entries[np.argsort(whole, kind="stable")]
    return entries


def _merged(runs: list[Bytes2D]) -> Iterator[bytes]:
    """The entries of all ``runs`` in order, in pieces of about :data:`RUN_BYTES`.

    Whoever makes a CAR chooses its digests: also many that begin alike, or are the same (one block, a million times),
    come in pieces, since they would not fit in memory at once either.
    """
    if len(runs) == 1:
        yield runs[0].data.tobytes()
        return
    width = runs[0].shape[1]
    if sum(map(len, runs)) * width <= 2 * RUN_BYTES:
        yield _sorted(np.concatenate(runs)).data.tobytes()
        return
    lowest = min(run[0, :-OFFSET_BYTES].tobytes() for run in runs)
    highest = max(run[-1, :-OFFSET_BYTES].tobytes() for run in runs)
    if lowest == highest:
        yield from (run.data.tobytes() for run in runs)
        return
    same = next(place for place, (low, high) in enumerate(zip(lowest, highest, strict=True)) if low != high)
    prefixes = [_prefixes(run, same) for run in runs]
    sample = np.sort(np.concatenate([each[::256] for each in prefixes]))
    steps = sample[:: max(1, RUN_BYTES // width // 256)][1:]
    fences = np.unique(
        np.concatenate([steps, steps + np.uint64(1)])
    )  # what is frequent has a piece of its own
    cuts = [[0, *np.searchsorted(each, fences).tolist(), len(each)] for each in prefixes]
    del prefixes
    for number in range(len(fences) + 1):
        parts = [run[cut[number] : cut[number + 1]] for run, cut in zip(runs, cuts, strict=True)]
        parts = [part for part in parts if len(part)]
        if parts:
            yield from _merged(parts)
