"""A file or a directory tree as a ref-CARv2: inner nodes in the CAR, leaves left where they are."""

from __future__ import annotations

import contextlib
import os
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Final

from carlib import writer
from carlib.cid import DAG_PB, RAW, Cid
from carlib.multihash import hashing_threads
from carlib.pack import Packer, PackReport, Preserve, Progress, longest_root
from carlib.references.table import TableWriter
from carlib.references.target import Target
from carlib.unixfs import node
from carlib.unixfs.builder import Builder
from carlib.unixfs.profile import CARFS, Profile

_DATA_ALONE: Final = b"\x0a"
"""What a dag-pb node without links begins with."""


def pack_references(
    source: Path,
    out: Path,
    *,
    folder: Path = Path("/"),
    profile: Profile = CARFS,
    progress: Progress | None = None,
    hidden: bool | None = None,
    preserve: Preserve = Preserve.NOTHING,
    skip_unreadable: bool = False,
) -> PackReport:
    """Write the ref-CARv2 of ``source`` at ``out``; references are relative to ``folder``, which must contain it.

    The root is that of :func:`carlib.pack.pack`.  Needs a profile with raw leaves.  Raises ValueError, and as that
    does.
    """
    if not profile.raw_leaves or (preserve and not profile.raw_with_attributes):
        raise ValueError(f"profile {profile.name} wraps leaves in dag-pb: their bytes are in no file")
    base = os.path.realpath(os.fsencode(folder)).rstrip(b"/") + b"/"
    if not (os.path.realpath(os.fsencode(source)) + b"/").startswith(base):
        raise ValueError(f"{source} is not below {folder}")
    if hidden is not None:
        profile = replace(profile, hidden=hidden)

    with (
        ThreadPoolExecutor(hashing_threads(), "carfs-hash") as threads,
        writer.creating(out, roots=[longest_root(profile)], spare=True) as car,
        contextlib.closing(TableWriter(out.parent)) as table,
    ):
        sink = _ReferencingSink(car, table, base)
        packer = Packer(
            Builder(sink, profile, threads),
            out,
            progress,
            preserve=preserve,
            watcher=sink,
            skip_unreadable=skip_unreadable,
        )
        root = packer.pack(Path(os.path.realpath(source)))
        car.finish([root], between=table.write)
    return packer.report(root, car)


class _ReferencingSink:
    """Takes a builder's blocks: leaves into the table, all else into the CAR.

    Leaves come in the order in which their chunks were read, so a queue of places tells where each lies.  Those of a
    file that changed while it was read may still be on their way when it is read again: they are of a reading that is
    over, and say nothing.
    """

    def __init__(self, car: writer.CarWriter, table: TableWriter, base: bytes) -> None:
        self.table = table
        self._car = car
        self._base = base
        self._position = self._reading = self._first_record = 0
        self._putting = -1
        self._void: set[int] = set()
        self._places: deque[tuple[int, int, int]] = deque()
        self._folder, self._below = b"", b""

    def file(self, path: bytes, found: os.stat_result) -> None:
        target = Target.of(self._relative(path), found)
        if self.table.files.ends_with(target.path):
            self._take_back()
            self.table.files.pop()
        self.table.files.append(target)
        self._reading += 1
        self._position = 0

    def chunk(self, path: bytes, size: int) -> None:
        self._places.append((len(self.table.files) - 1, self._position, self._reading))
        self._position += size

    def abandon(self, path: bytes) -> None:
        self._places.clear()  # what is left was read and never became a leaf
        if self.table.files.ends_with(self._relative(path)):
            self._take_back()
            self.table.files.pop()
            self._putting = -1

    def _take_back(self) -> None:
        """What was read of the last file was for nothing: what was put of it, and what will be."""
        self._void.add(self._reading)
        if self._putting == len(self.table.files) - 1:
            self.table.void(self._first_record)

    def put(self, cid: Cid, data: bytes) -> None:
        if cid.codec != RAW or not data:
            if _wraps_a_chunk(cid, data):
                self._places.pop()  # put as soon as it was read, before leaves that are still being hashed
            self._car.put(cid, data)
            return
        file, offset, reading = self._places.popleft()
        if file != self._putting:
            self._putting, self._first_record = file, len(self.table)
        if not cid.is_identity and reading not in self._void:
            self.table.add(cid, file, offset, len(data))

    def _relative(self, path: bytes) -> bytes:
        """``path``, which is a file and no symlink, from our folder on; ValueError outside of it.

        Files come folder by folder, and each is resolved once (50 µs).
        """
        folder, _, name = path.rpartition(b"/")
        if folder != self._folder or not self._below:
            self._folder = folder
            self._below = os.path.join(os.path.realpath(folder or b"/"), b"")  # noqa: PTH118  bytes
        real = self._below + name
        if not real.startswith(self._base):
            raise ValueError(f"{os.fsdecode(path)} is not below {os.fsdecode(self._base)}")
        return real[len(self._base) :]


def _wraps_a_chunk(cid: Cid, block: bytes) -> bool:
    """Whether ``block`` is a small file in dag-pb because of its attributes: its bytes are in the CAR itself."""
    if cid.codec != DAG_PB or block[:1] != _DATA_ALONE:
        return False
    found = node.data_of(block)
    return found is not None and found.is_file and bool(found.data)
