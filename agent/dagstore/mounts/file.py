"""A regular file of this machine, used in place: `file:///path`, each byte outside of A-Z a-z 0-9 -._~/ as %XX."""

from __future__ import annotations

import os
import stat
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote_from_bytes, unquote_to_bytes

from agent.dagstore.access import Access, FileAccess
from agent.dagstore.failures import ErrorClass, ShardError, class_of_os_error
from agent.dagstore.mounts import probing
from agent.dagstore.mounts.mount import MAX_CHUNK_BYTES, DataChanged, Fingerprint, Probe, check_range

if TYPE_CHECKING:
    from agent.dagstore.mounts.environment import Environment

MAX_PATH_BYTES = 4095  # PATH_MAX without its NUL


@dataclass(frozen=True, slots=True)
class FileMount:
    """The file at an absolute path; names are bytes to the system, so any name survives."""

    path: Path

    @classmethod
    def at(cls, path: bytes) -> FileMount:
        """The mount of an absolute path; raises ShardError(invalid)."""
        if b"\0" in path or not path.startswith(b"/"):
            raise ShardError(ErrorClass.INVALID, f"{os.fsdecode(path)!r} is not an absolute path")
        if len(path) > MAX_PATH_BYTES:
            message = f"a path of {len(path)} bytes; the system allows {MAX_PATH_BYTES}"
            raise ShardError(ErrorClass.INVALID, message)
        return cls(Path(os.fsdecode(path)))

    @classmethod
    def parse(cls, url: str) -> FileMount:
        """From `file:///path`, `file://localhost/path` or `file:/path`; raises ShardError(invalid)."""
        rest = url.split(":", 1)[1]
        if rest.startswith("//"):
            host, slash, rest = rest[2:].partition("/")
            if host not in ("", "localhost"):
                hint = "a file URL has three slashes: file:///path"
                raise ShardError(ErrorClass.INVALID, f"{url!r} names the host {host!r}; {hint}")
            rest = slash + rest
        return cls.at(unquote_to_bytes(rest))

    @property
    def url(self) -> str:
        return "file://" + quote_from_bytes(os.fsencode(self.path), safe="/")

    @property
    def origin(self) -> str:
        """The folder, since a disk or a share hangs as a whole."""
        return self.url.rpartition("/")[0]

    def access(self, environment: Environment | None = None) -> Access | None:
        return FileAccess(os.fsdecode(self.path))

    def stat(self) -> Fingerprint:
        """What `look` gives, for a process that may block."""
        with self._errors():
            return self._fingerprint(self.path.stat())

    async def look(self, environment: Environment) -> Fingerprint:
        return await environment.threads.run(self.origin, self.stat)

    async def probe(self, environment: Environment) -> Probe:
        return await probing.probe(self, environment)

    @asynccontextmanager
    async def stream(
        self, environment: Environment, offset: int, length: int, expected: Fingerprint
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        check_range(self, offset, length, expected.size)
        async with aclosing(self._pieces(environment, offset, length, expected)) as pieces:
            yield pieces

    async def _pieces(
        self, environment: Environment, offset: int, length: int, expected: Fingerprint
    ) -> AsyncGenerator[bytes, None]:
        for start in range(offset, offset + length, MAX_CHUNK_BYTES):
            size = min(MAX_CHUNK_BYTES, offset + length - start)
            yield await environment.threads.run(self.origin, partial(self._read, start, size, expected))

    def _read(self, offset: int, length: int, expected: Fingerprint) -> bytes:
        """Opens, reads, closes: a thread that nobody waits for any more leaves nothing open, and 10 µs a megabyte is
        a price that nobody sees. Whoever replaces the file by another is found out too."""
        with self._errors():
            # Opening a FIFO without O_NONBLOCK would wait for a writer.
            descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            try:
                self._fingerprint(os.fstat(descriptor))
                data = os.pread(descriptor, length, offset)
                while len(data) < length and (
                    more := os.pread(descriptor, length - len(data), offset + len(data))
                ):
                    data += more
                # After reading, which tells of all that came before.
                difference = expected.differs_from(self._fingerprint(os.fstat(descriptor)))
            finally:
                os.close(descriptor)
        if difference:
            raise DataChanged(self, difference)
        if len(data) < length:
            raise ShardError(ErrorClass.CORRUPT, f"{self} ends at {offset + len(data)}, before its size")
        return data

    def _fingerprint(self, found: os.stat_result) -> Fingerprint:
        if not stat.S_ISREG(found.st_mode):
            raise ShardError(ErrorClass.INVALID, f"{self} is not a regular file")
        return Fingerprint(found.st_size, found.st_mtime_ns, found.st_ino, found.st_dev)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise ShardError(class_of_os_error(error), f"{self}: {error.strerror}") from error

    def __str__(self) -> str:
        return os.fsencode(self.path).decode(errors="backslashreplace")
