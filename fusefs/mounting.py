"""Mountpoints: which may be mounted on, with which options, how the kernel is told to read ahead, and how a
mount is ended.

Nothing here touches a path inside of our own mount: that would wait for ourselves.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

READ_AHEAD_KIB: Final = 4096
"""What the kernel asks ahead of a sequential reader; with its 128 each request is 128 KiB, a third slower
(measured).
"""
REQUESTS_AHEAD: Final = 256
"""Requests for pages that the kernel has under way at once; with its 12 a dozen slow reads hold up all others."""
_CONNECTIONS: Final = Path("/sys/fs/fuse/connections")
_OURS: Final = "fuse.carfs"
_OCTAL: Final = re.compile(r"\\([0-7]{3})")


class Refused(Exception):
    """A mountpoint that cannot be used; the text says what to do."""


@dataclass(frozen=True, slots=True)
class Mounted:
    """One line of /proc/self/mountinfo."""

    device: str
    target: str
    kind: str
    source: str


def mounts(table: str | None = None) -> list[Mounted]:
    """All mounts of this process, in the order in which they were made."""
    text = Path("/proc/self/mountinfo").read_text(errors="surrogateescape") if table is None else table
    found = []
    for line in text.splitlines():
        before, _, after = line.partition(" - ")
        fields, kind = before.split(" "), after.split(" ")
        found.append(Mounted(fields[2], _plain(fields[4]), kind[0], _plain(kind[1])))
    return found


def _plain(field: str) -> str:
    """Without the octal escapes of blanks and backslashes."""
    return _OCTAL.sub(lambda match: chr(int(match[1], 8)), field)


def mounted_at(mountpoint: Path) -> Mounted | None:
    """What is mounted exactly there, the uppermost."""
    return next((mount for mount in reversed(mounts()) if mount.target == str(mountpoint)), None)


def prepare(mountpoint: Path, *, nonempty: bool = False) -> Path:
    """The absolute mountpoint, fit to be mounted on; clears away a carfs mount whose process has died.
    Raises Refused, OSError.
    """
    place = (
        mountpoint.parent.resolve(strict=True) / mountpoint.name if mountpoint.name else mountpoint.resolve()
    )
    there = mounted_at(place)
    if there is not None and there.kind.startswith("fuse") and is_dead(place):
        unmount(place, lazy=True)
        there = mounted_at(place)
    if there is not None:
        what = "carfs" if there.kind == _OURS else there.kind
        raise Refused(
            f"{place} is a mountpoint already ({what}, {there.source}); end it with: carfs umount {place}"
        )
    if not place.is_dir():
        missing = not place.exists()
        raise (
            FileNotFoundError(errno.ENOENT, "no such directory; make it first", str(place))
            if missing
            else Refused(f"{place} is not a directory")
        )
    place = place.resolve()
    if not nonempty and any(place.iterdir()):
        raise Refused(f"{place} is not empty; mount elsewhere, or with -o nonempty to cover what is there")
    return place


def is_dead(mountpoint: Path) -> bool:
    """Whether the process behind a FUSE mount is gone."""
    try:
        os.statvfs(mountpoint)
    except OSError as error:
        return error.errno in (errno.ENOTCONN, errno.ECONNABORTED)
    return False


KNOWN_OPTIONS: Final = frozenset(
    {
        "allow_other",
        "allow_root",
        "default_permissions",
        "ro",
        "nosuid",
        "nodev",
        "noexec",
        "noatime",
        "nonempty",
        "nolazytime",
    }
)
_IGNORED: Final = frozenset(
    {
        "defaults",
        "auto",
        "noauto",
        "user",
        "users",
        "nofail",
        "_netdev",
        "rw",
        "dev",
        "suid",
        "exec",
        "nonempty",
    }
)


def fuse_options(given: list[str], source: str, *, writable: bool = False) -> set[str]:
    """What libfuse is told, from `-o`; raises Refused for an option that is not known."""
    options = {"default_permissions", "nosuid", "nodev", "noatime", "subtype=carfs"}
    if not writable:
        options.add("ro")
    options.add("fsname=" + re.sub(r"[^\x21-\x2b\x2d-\x5b\x5d-\x7e]", "_", source)[:200])
    if os.geteuid() == 0:
        options.add("allow_other")
    for option in given:
        name = option.partition("=")[0]
        if name.startswith(("x-", "comment")) or name in _IGNORED:
            continue
        if name not in KNOWN_OPTIONS:
            raise Refused(f"mount option {name!r} is not known; known are {', '.join(sorted(KNOWN_OPTIONS))}")
        options.add(option)
    return options


def tune(mountpoint: Path) -> dict[str, bool]:
    """Lets the kernel ask for large pieces, and for many at once; gives which of its settings took it.

    Only root may raise the read-ahead.  The requests at once belong to whoever mounted, but stand in a file system
    that somebody must have mounted: systemd does, and as root we look into one of our own where nobody has.
    """
    mount = mounted_at(mountpoint)
    if mount is None:
        return {}
    took = {"read_ahead_kb": _set(Path(f"/sys/class/bdi/{mount.device}/read_ahead_kb"), READ_AHEAD_KIB)}
    with _connections() as connections:
        connection = connections / mount.device.partition(":")[2]
        took["max_background"] = _set(connection / "max_background", REQUESTS_AHEAD)
        took["congestion_threshold"] = _set(connection / "congestion_threshold", REQUESTS_AHEAD * 3 // 4)
    return took


@contextmanager
def _connections() -> Iterator[Path]:
    """The kernel's folder of FUSE connections, which may be empty; leaves nothing mounted that was not."""
    if os.geteuid() != 0 or any(
        one.kind == "fusectl" and one.target == str(_CONNECTIONS) for one in mounts()
    ):
        yield _CONNECTIONS
        return
    with tempfile.TemporaryDirectory(prefix="carfs-") as folder:
        mounting = ["mount", "-t", "fusectl", "fusectl", folder]
        done = subprocess.run(mounting, capture_output=True, check=False)
        try:
            yield Path(folder)
        finally:
            if done.returncode == 0:
                subprocess.run(["umount", folder], capture_output=True, check=False)


def _set(path: Path, value: int) -> bool:
    try:
        path.write_text(str(value))
    except OSError:
        return False
    return True


def unmount(mountpoint: Path, *, lazy: bool = False) -> None:
    """Ends a FUSE mount; raises Refused with what fusermount3 or umount says (busy, not mounted, not ours)."""
    fusermount = shutil.which("fusermount3")
    if fusermount is not None:
        command = [fusermount, "-u", *(["-z"] if lazy else []), str(mountpoint)]
    else:
        command = ["umount", *(["-l"] if lazy else []), str(mountpoint)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip().removeprefix("fusermount3: ").removeprefix("umount: ")
        raise Refused(said or f"{command[0]} ended with {done.returncode}")
