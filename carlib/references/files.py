"""The list of files in a reference table: read where it lies, one file or all in order, or gathered to be written.

    files: u64 size | i64 mtime_ns | u64 inode | u64 end of its path within the paths     (32 bytes each)
    paths, one after the other

All integers little-endian.  An import may refer to millions of files, and who opens it wants a few of them.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import BinaryIO, Final

from carlib.errors import LimitExceeded, Malformed
from carlib.limits import KIB, MIB
from carlib.references.target import Target
from carlib.source import ByteSource

MAX_FILES: Final = (1 << 32) - 2
MAX_PATH_BYTES: Final = 64 * KIB
_ROW: Final = struct.Struct("<QqQQ")
_END: Final = struct.Struct("<Q")
_AT_ONCE: Final = MIB // _ROW.size


class Files:
    """``count`` files listed from ``start`` on in ``source``."""

    def __init__(self, source: ByteSource, start: int, count: int) -> None:
        """Raises Malformed where there is no room for so many, Truncated."""
        self._source = source
        self._start = start
        self._count = count
        self._paths = start + count * _ROW.size
        if count > max(0, source.size - start) // _ROW.size:
            raise Malformed(f"{count} files are announced", source=source.name, offset=start)
        length = self._path_end(count - 1)
        if length > source.size - self._paths:
            raise Malformed(f"{length} bytes of paths are announced", source=source.name, offset=start)
        self.end = self._paths + length
        self._last: tuple[int, Target] = (-1, Target(b""))

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, number: int) -> Target:
        """IndexError past the last; Malformed, Truncated."""
        if not 0 <= number < self._count:
            raise IndexError(number)
        last = self._last
        if last[0] == number:
            return last[1]
        begin, at = self._path_end(number - 1), self._start + number * _ROW.size
        size, mtime_ns, inode, end = _ROW.unpack(self._source.pread(at, _ROW.size))
        self._check(number, begin, end)
        target = Target(self._source.pread(self._paths + begin, end - begin), size, mtime_ns, inode)
        self._last = (number, target)
        return target

    def __iter__(self) -> Iterator[Target]:
        begin = 0
        for first in range(0, self._count, _AT_ONCE):
            count = min(_AT_ONCE, self._count - first)
            rows = self._source.pread(self._start + first * _ROW.size, count * _ROW.size)
            base, end = begin, _END.unpack(rows[-_END.size :])[0]
            if not begin <= end <= self.end - self._paths or end - begin > count * MAX_PATH_BYTES:
                raise self._malformed(first)
            paths = self._source.pread(self._paths + begin, end - begin)
            for number, (size, mtime_ns, inode, end) in enumerate(_ROW.iter_unpack(rows), first):
                self._check(number, begin, end)
                yield Target(paths[begin - base : end - base], size, mtime_ns, inode)
                begin = end

    def _path_end(self, number: int) -> int:
        if number < 0:
            return 0
        at = self._start + (number + 1) * _ROW.size - _END.size
        (end,) = _END.unpack(self._source.pread(at, _END.size))
        return int(end)

    def _check(self, number: int, begin: int, end: int) -> None:
        if not begin < end <= self.end - self._paths or end - begin > MAX_PATH_BYTES:
            raise self._malformed(number)

    def _malformed(self, number: int) -> Malformed:
        return Malformed(
            f"file {number} of the reference table has no path",
            source=self._source.name,
            offset=self._start + number * _ROW.size,
        )


class FileWriter:
    """Gathers files for a table, in some 32 bytes and their path each."""

    def __init__(self) -> None:
        self._rows = bytearray()
        self._paths = bytearray()
        self._last = 0

    def __len__(self) -> int:
        return len(self._rows) // _ROW.size

    def append(self, target: Target) -> int:
        """The number of the file; raises LimitExceeded."""
        if len(self) >= MAX_FILES:
            raise LimitExceeded("the number of referenced files", len(self) + 1, MAX_FILES)
        if len(target.path) > MAX_PATH_BYTES:
            raise LimitExceeded("the length of a path", len(target.path), MAX_PATH_BYTES)
        self._last = len(self._paths)
        self._paths += target.path
        self._rows += _ROW.pack(target.size, target.mtime_ns, target.inode, len(self._paths))
        return len(self) - 1

    def extend(self, targets: Iterable[Target]) -> None:
        for target in targets:
            self.append(target)

    def ends_with(self, path: bytes) -> bool:
        """Whether the last file is the one of that path."""
        return bool(self._rows) and self._paths[self._last :] == path

    def pop(self) -> None:
        """Take the last one back, once."""
        del self._rows[-_ROW.size :]
        del self._paths[self._last :]

    def write(self, out: BinaryIO) -> None:
        out.write(self._rows)
        out.write(self._paths)
