"""A file or a directory tree of the file system as an indexed CAR, in one pass over its data.

The profile decides what of the source is packed: by ours everything below it, hidden files too, symlinks as they are,
empty directories too; names in the order of their bytes.  The source itself may be a symlink, which is followed.
Sockets, FIFOs and devices are left out and reported, and so is the CAR being written.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, Protocol

from carlib import writer
from carlib.cid import DAG_PB, RAW, Cid
from carlib.limits import MIB
from carlib.multihash import hashing_threads
from carlib.options import WriteOptions
from carlib.packer import (
    Packer,
    PackReport,
    Preserve,
    Progress,
    RootOfOtherLength,
    SourceChanged,
)
from carlib.source import Buffers
from carlib.unixfs import chunking
from carlib.unixfs.builder import Builder
from carlib.unixfs.hashing import Sink
from carlib.unixfs.profile import CARFS, Profile
from carlib.unreadable import Skipped, Unreadable

__all__ = [
    "PackReport",
    "Packer",
    "Preserve",
    "Progress",
    "Skipped",
    "SourceChanged",
    "Unreadable",
    "pack",
    "pack_stream",
    "rooted",
]


def pack(
    source: Path | Sequence[Path],
    out: Path,
    *,
    profile: Profile = CARFS,
    progress: Progress | None = None,
    hidden: bool | None = None,
    preserve: Preserve = Preserve.NOTHING,
    version: int = 2,
    skip_unreadable: bool = False,
    sharing: Sharing | None = None,
) -> PackReport:
    """Write ``source`` into a CAR at ``out``, which appears when it is complete.

    Several sources are wrapped in a directory, under their last names.  ``hidden`` overrides the profile.  Raises
    Unreadable with all that could not be read (or, to ``skip_unreadable``, reports that as skipped), OSError,
    SourceChanged, ValueError for a source that is neither a file nor a directory.  ``sharing`` may leave blocks out of
    a CARv2 that are elsewhere.
    """
    if hidden is not None:
        profile = replace(profile, hidden=hidden)

    def attempt(room: Cid, exact: bool) -> PackReport:
        with (
            ThreadPoolExecutor(hashing_threads(), "carfs-hash") as threads,
            writer.creating(out, WriteOptions(version=version), roots=[room], spare=not exact) as car,
            contextlib.closing(_sink(car, out.parent, sharing)) as sink,
        ):
            buffers = Buffers(profile.chunk_size)
            builder = Builder(
                sink, profile, threads, buffers.recycle
            )  # a writer keeps nothing of what it is given
            packer = Packer(
                builder,
                out,
                progress,
                preserve=preserve,
                buffers=buffers,
                skip_unreadable=skip_unreadable,
            )
            wanted = room if exact else None
            if isinstance(source, Path):
                root = packer.pack(source, wanted)
            else:
                root = packer.pack_wrapped(source, wanted)
            car.finish([root], between=sink.between)
        return packer.report(root, car)

    return rooted(profile, attempt) if version == 1 else attempt(longest_root(profile), False)


def pack_stream(
    stream: BinaryIO,
    out: Path,
    *,
    profile: Profile = CARFS,
    progress: Progress | None = None,
    sharing: Sharing | None = None,
) -> PackReport:
    """Write what ``stream`` has until its end, which may be a pipe, as one file into a CARv2 at ``out``.

    One pass, in memory that does not grow with it; the root is that of a file of these bytes.  ``progress`` is told
    no total.  Raises CarError, OSError; then there is no ``out``.
    """
    done = told = 0

    def chunks() -> Iterator[bytes]:
        nonlocal done, told
        size, chunker = profile.chunk_size, profile.chunker
        cut = (
            chunking.fixed(stream.read, size)
            if chunker is None
            else chunking.by_content(stream.read, chunker)
        )
        for chunk in cut:
            yield chunk
            done += len(chunk)
            if progress is not None and done - told >= MIB:
                told = done
                progress(done, 0)

    with (
        ThreadPoolExecutor(hashing_threads(), "carfs-hash") as threads,
        writer.creating(out, roots=[longest_root(profile)], spare=True) as car,
        contextlib.closing(_sink(car, out.parent, sharing)) as sink,
    ):
        builder = Builder(sink, profile, threads)
        built = builder.file(chunks())
        builder.flush()
        car.finish([built.cid], between=sink.between)
    return PackReport(built.cid, 1, 0, 0, done, car.blocks, car.data_bytes, car.duplicates, ())


class SharingSink(Sink, Protocol):
    """Takes blocks for one CAR."""

    @property
    def between(self) -> Callable[[BinaryIO], object] | None:
        """Writes between payload and index what goes there; see :meth:`CarWriter.finish`."""

    def close(self) -> None: ...


class Sharing(Protocol):
    """Leaves blocks out of a CAR that are elsewhere; :class:`carlib.references.sharing.SharedLeaves`."""

    def sink(self, car: writer.CarWriter, folder: Path) -> SharingSink:
        """Where blocks for ``car`` go; temporary files go to ``folder``."""


class _Whole:
    """Shares nothing."""

    between = None

    def __init__(self, car: writer.CarWriter) -> None:
        self.put = car.put

    def close(self) -> None:
        pass


def _sink(car: writer.CarWriter, folder: Path, sharing: Sharing | None) -> SharingSink:
    return _Whole(car) if sharing is None else sharing.sink(car, folder)


def rooted(profile: Profile, attempt: Callable[[Cid, bool], PackReport]) -> PackReport:
    """What ``attempt`` gives: it is told a CID as long as the root will be, for which a CARv1's header needs room.

    Only where the root is inlined its length depends on the data, and there is a second attempt, for which all is read
    again (Lotus fails on it).  A CARv2 needs none of this: what is left of the room there is padding.
    """
    try:
        return attempt(root_like(profile), True)
    except RootOfOtherLength as other:
        room = other.root
    try:
        return attempt(room, True)
    except RootOfOtherLength:
        raise SourceChanged("changed while it was packed") from None


def longest_root(profile: Profile) -> Cid:
    """A CID as long as the root may be."""
    return max(
        root_like(profile), Cid.identity(bytes(profile.inline_limit), DAG_PB), key=lambda cid: len(cid.raw)
    )


def root_like(profile: Profile) -> Cid:
    """A CID as long as the root will be."""
    cid = Cid.of(b"", RAW, profile.hash_code)
    return cid if profile.cid_version else Cid(cid.multihash)
