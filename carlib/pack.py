"""A file or a directory tree of the file system as an indexed CAR, in one pass over its data.

The profile decides what of the source is packed: by ours everything below it, hidden files too, symlinks as they are,
empty directories too; names in the order of their bytes.  The source itself may be a symlink, which is followed.
Sockets, FIFOs and devices are left out and reported, and so is the CAR being written.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from carlib import writer
from carlib.cid import RAW, Cid
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
from carlib.unixfs.builder import Builder
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
) -> PackReport:
    """Write ``source`` into a CAR at ``out``, which appears when it is complete.

    Several sources are wrapped in a directory, under their last names.  ``hidden`` overrides the profile.  Raises
    Unreadable with all that could not be read (or, to ``skip_unreadable``, reports that as skipped), OSError,
    SourceChanged, ValueError for a source that is neither a file nor a directory.
    """
    if hidden is not None:
        profile = replace(profile, hidden=hidden)

    def attempt(room: Cid) -> PackReport:
        with (
            ThreadPoolExecutor(hashing_threads(), "carfs-hash") as threads,
            writer.creating(out, WriteOptions(version=version), roots=[room]) as car,
        ):
            buffers = Buffers(profile.chunk_size)
            builder = Builder(
                car, profile, threads, buffers.recycle
            )  # a writer keeps nothing of what it is given
            packer = Packer(
                builder, out, progress, preserve=preserve, buffers=buffers, skip_unreadable=skip_unreadable
            )
            root = (
                packer.pack(source, room) if isinstance(source, Path) else packer.pack_wrapped(source, room)
            )
            car.finish([root])
        return packer.report(root, car)

    return rooted(profile, attempt)


def rooted(profile: Profile, attempt: Callable[[Cid], PackReport]) -> PackReport:
    """What ``attempt`` gives: it is told a CID as long as the root will be, for which a CAR's header needs room.

    Only where the root is inlined its length depends on the data, and there is a second attempt: a tree that small is
    read twice (Lotus fails on it).
    """
    try:
        return attempt(root_like(profile))
    except RootOfOtherLength as other:
        room = other.root
    try:
        return attempt(room)
    except RootOfOtherLength:
        raise SourceChanged("changed while it was packed") from None


def root_like(profile: Profile) -> Cid:
    """A CID as long as the root will be."""
    cid = Cid.of(b"", RAW, profile.hash_code)
    return cid if profile.cid_version else Cid(cid.multihash)
