"""Where bytes come from: positional reads over one file, and whether the file is still the one that was opened.

Reads are ``pread``, never a mapping: a CAR belongs to its user, who may truncate it under us, and a mapped page that is
gone ends the process by SIGBUS (``docs/decisions/0002-pread-not-mmap.md`` has the price, measured).
"""

from __future__ import annotations

import errno
import os
from collections.abc import Hashable
from pathlib import Path
from types import TracebackType
from typing import Final, Protocol, Self

from carlib.errors import Truncated

_MAX_FILE_BYTES: Final = (1 << 63) - 1
"""No file has a byte behind it; a header may say one has, and nothing is there then."""


class ByteSource(Protocol):
    """Random access to bytes that do not change while ``stamp()`` does not; used from several threads at once."""

    name: str

    @property
    def size(self) -> int:
        """Bytes there are now."""

    def pread(self, offset: int, length: int) -> bytes:
        """Exactly ``length`` bytes at ``offset``; raises Truncated where there are fewer, OSError where reading
        fails."""

    def peek(self, offset: int, length: int) -> bytes:
        """At most ``length`` bytes at ``offset``, fewer at the end."""

    def stamp(self) -> Hashable:
        """Differs from an earlier stamp if the bytes may have been changed meanwhile."""

    def close(self) -> None: ...


def exactly(data: bytes, length: int, source: str, offset: int) -> bytes:
    """``data``, which was read at ``offset``; raises Truncated unless it is ``length`` bytes."""
    if len(data) != length:
        raise Truncated(f"{length} bytes are due, {len(data)} are there", source=source, offset=offset)
    return data


class FileSource:
    """A :class:`ByteSource` over a local file."""

    def __init__(self, path: Path) -> None:
        """Open ``path``; raises OSError.  Never waits, as opening a FIFO would: reading that gives nothing."""
        self.name = os.fsdecode(path)
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)

    @property
    def size(self) -> int:
        return os.fstat(self._fd).st_size

    def pread(self, offset: int, length: int) -> bytes:
        data = self._read(offset, length)
        if len(data) == length:
            return data
        data += self.peek(offset + len(data), length - len(data)) if data else b""
        return exactly(data, length, self.name, offset)

    def peek(self, offset: int, length: int) -> bytes:
        parts = []
        while length > 0 and (part := self._read(offset, length)):
            parts.append(part)
            offset += len(part)
            length -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _read(self, offset: int, length: int) -> bytes:
        try:
            return os.pread(self._fd, length, offset)
        except OSError as error:
            if error.errno == errno.EINVAL and offset + length > _MAX_FILE_BYTES:
                return b""
            error.filename = self.name
            raise
        except OverflowError:
            return b""

    def peek_into(self, offset: int, buffer: memoryview) -> int:
        """Like :meth:`peek`, into ``buffer``, which spares the memory of a new one; how many bytes there were."""
        done = 0
        while done < len(buffer) and (count := self._read_into(offset + done, buffer[done:])):
            done += count
        return done

    def _read_into(self, offset: int, buffer: memoryview) -> int:
        try:
            return os.preadv(self._fd, [buffer], offset)
        except (OSError, OverflowError):
            data = self._read(
                offset, len(buffer)
            )  # which knows what is an error and what is no place in a file
            buffer[: len(data)] = data
            return len(data)

    def stamp(self) -> Hashable:
        found = os.fstat(self._fd)
        return found.st_size, found.st_mtime_ns, found.st_ctime_ns

    def close(self) -> None:
        """Idempotent; reads fail with OSError (EBADF) afterwards."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Buffers:
    """Memory for pieces of a source, used again and again: new memory costs more than reading into it (a page fault and
    256 zeroed pages a MiB: 0.6 of 1.0 s of processor time a GiB, measured).  For one thread."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._idle: list[memoryview] = []

    def take(self) -> memoryview:
        """``size`` bytes that hold anything."""
        return self._idle.pop() if self._idle else memoryview(bytearray(self.size))

    def give_back(self, buffer: memoryview) -> None:
        """Nobody looks at ``buffer`` any more."""
        self._idle.append(buffer)

    def recycle(self, part: object) -> None:
        """Like :meth:`give_back`, for any part of a buffer that begins with it; other objects are not ours."""
        if isinstance(part, memoryview) and isinstance(part.obj, bytearray) and len(part.obj) == self.size:
            self.give_back(memoryview(part.obj))


class MemorySource:
    """A :class:`ByteSource` over bytes in memory."""

    def __init__(self, data: bytes, name: str = "<memory>") -> None:
        self.name = name
        self._data = data

    @property
    def size(self) -> int:
        return len(self._data)

    def pread(self, offset: int, length: int) -> bytes:
        data = self._data[offset : offset + length]
        return exactly(data, length, self.name, offset)

    def peek(self, offset: int, length: int) -> bytes:
        return self._data[offset : offset + length]

    def stamp(self) -> Hashable:
        return 0

    def close(self) -> None:
        pass
