"""A regular file of this machine, used in place: `file:///path`, each byte outside of A-Z a-z 0-9 -._~/ as %XX."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote_from_bytes, unquote_to_bytes

from agent.dagstore.failures import ErrorClass, ShardError, class_of_os_error
from agent.dagstore.mounts.mount import Fingerprint

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
        return FileMount(self.path.parent).url

    def probe(self) -> Fingerprint:
        try:
            found = self.path.stat()
        except OSError as error:
            raise ShardError(class_of_os_error(error), f"{self}: {error.strerror}") from error
        if not stat.S_ISREG(found.st_mode):
            raise ShardError(ErrorClass.INVALID, f"{self} is not a regular file")
        return Fingerprint(found.st_size, found.st_mtime_ns, found.st_ino, found.st_dev)

    def __str__(self) -> str:
        return os.fsencode(self.path).decode(errors="backslashreplace")
