"""What a mount is to the dagstore: a URL, perhaps a local path, and a fingerprint of the data behind it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What changes when somebody changes a file; compared before an index made from it is used."""

    size: int  # bytes
    mtime_ns: int
    inode: int
    device: int

    def differs_from(self, other: Fingerprint) -> str:
        """How `other` differs, for people; empty if it does not. The device is left out: its number is not kept by
        every file system from one boot to the next."""
        before = (self.size, self.mtime_ns, self.inode)
        after = (other.size, other.mtime_ns, other.inode)
        changed = [
            f"{name} {old} -> {new}"
            for name, old, new in zip(("size", "mtime_ns", "inode"), before, after, strict=True)
            if old != new
        ]
        return ", ".join(changed)


class Mount(Protocol):
    """The data of one shard."""

    @property
    def url(self) -> str:
        """The canonical URL, which `parse` turns into an equal mount."""

    @property
    def path(self) -> Path | None:
        """The local file that holds the data, if the mount has one."""

    @property
    def origin(self) -> str:
        """What fails and recovers together with this: the folder of a file, the host of a URL."""

    def probe(self) -> Fingerprint:
        """Looks at the data without reading it. May block on a slow disk, so call it in a thread.

        Raises ShardError: gone, denied, invalid (not a regular file)."""
