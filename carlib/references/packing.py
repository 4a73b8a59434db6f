"""A file or a directory tree as a ref-CARv2: inner nodes in the CAR, leaves left where they are."""

from __future__ import annotations

import os
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from carlib import writer
from carlib.cid import RAW, Cid
from carlib.pack import MAX_HASHING_THREADS, Packer, PackReport, Progress, root_like
from carlib.references.table import TableWriter
from carlib.references.target import Target
from carlib.unixfs.builder import Builder
from carlib.unixfs.profile import CARFS, Profile


def pack_references(
    source: Path,
    out: Path,
    *,
    folder: Path = Path("/"),
    profile: Profile = CARFS,
    progress: Progress | None = None,
    hidden: bool = True,
    preserve: bool = False,
) -> PackReport:
    """Write the ref-CARv2 of ``source`` at ``out``; references are relative to ``folder``, which must contain it.

    The root is that of :func:`carlib.pack.pack`.  Needs a profile with raw leaves.  Raises ValueError, and as that
    does.
    """
    if not profile.raw_leaves:
        raise ValueError(f"profile {profile.name} wraps leaves in dag-pb: their bytes are in no file")
    base = os.path.realpath(os.fsencode(folder)).rstrip(b"/") + b"/"
    if not (os.path.realpath(os.fsencode(source)) + b"/").startswith(base):
        raise ValueError(f"{source} is not below {folder}")
    threads = ThreadPoolExecutor(min(MAX_HASHING_THREADS, os.cpu_count() or 1), "carfs-hash")
    with threads, writer.creating(out, roots=[root_like(profile)]) as car:
        sink = _ReferencingSink(car, TableWriter(out.parent), base)
        builder = Builder(sink, profile, threads)
        packer = Packer(builder, out, progress, hidden=hidden, preserve=preserve, watcher=sink)
        try:
            root = packer.pack(Path(os.path.realpath(source)))
            car.finish([root], between=lambda file: sink.table.write(file, sink.targets))
        finally:
            sink.table.close()
    return packer.report(root, car)


class _ReferencingSink:
    """Takes a builder's blocks: leaves into the table, all else into the CAR.

    Leaves come in the order in which their chunks were read, so a queue of places tells where each lies.
    """

    def __init__(self, car: writer.CarWriter, table: TableWriter, base: bytes) -> None:
        self.targets: list[Target] = []
        self.table = table
        self._car = car
        self._base = base
        self._position = 0
        self._places: deque[tuple[int, int]] = deque()

    def file(self, path: bytes, found: os.stat_result) -> None:
        target = Target.of(os.path.realpath(path)[len(self._base) :], found)
        if self.targets and self.targets[-1].path == target.path:
            self.targets[-1] = target
        else:
            self.targets.append(target)
        self._position = 0

    def chunk(self, path: bytes, size: int) -> None:
        self._places.append((len(self.targets) - 1, self._position))
        self._position += size

    def put(self, cid: Cid, data: bytes) -> None:
        if cid.codec != RAW or not data:
            self._car.put(cid, data)
            return
        file, offset = self._places.popleft()
        if not cid.is_identity:
            self.table.add(cid, file, offset, len(data))
