"""What many referenced files look like from outside, without reading them: some 100,000 in a second or two.

Files are looked at folder by folder: a folder is resolved once, and its files are asked for by name.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path

from carlib.ahead import ahead
from carlib.references.target import Status, Target, Targets

_AT_ONCE = 1024
_THREADS = 8
"""More than processors: a look at a disk or over a network is mostly waiting."""


def statuses(folder: Path, files: Sequence[Target]) -> Iterator[Status]:
    """Of each of ``files`` below ``folder``, in their order."""
    targets = Targets(folder)
    base = os.path.realpath(os.fsencode(folder))

    def look(group: list[Target]) -> list[Status]:
        parent = os.path.dirname(group[0].path)  # noqa: PTH120  bytes
        try:
            return _look(os.path.join(base, parent), base, group, targets)  # noqa: PTH118
        except (OSError, ValueError):
            return [targets.status(target) for target in group]

    for found in ahead(look, _groups(files), threads=_THREADS):
        yield from found


def _groups(files: Sequence[Target]) -> Iterator[list[Target]]:
    """Neighbours that lie in one folder, some at once."""
    for _, group in groupby(files, key=lambda target: os.path.dirname(target.path)):  # noqa: PTH120
        alike = list(group)
        for start in range(0, len(alike), _AT_ONCE):
            yield alike[start : start + _AT_ONCE]


def _look(parent: bytes, base: bytes, group: list[Target], targets: Targets) -> list[Status]:
    real = os.path.realpath(parent)
    if real != base and not real.startswith(base.rstrip(b"/") + b"/"):
        return [Status.OTHER] * len(group)
    fd = os.open(real, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return [_status(fd, target, targets) for target in group]
    finally:
        os.close(fd)


def _status(folder: int, target: Target, targets: Targets) -> Status:
    name = os.path.basename(target.path)  # noqa: PTH119
    if name in (b"", b".", b"..") or b"\0" in name:
        return targets.status(target)
    try:
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return Status.NO_FILE
    except OSError:
        return Status.ERROR
    if not stat.S_ISREG(found.st_mode):
        return targets.status(target)
    return Status.OK if target.matches(found) else Status.CHANGED
