"""A `Tree` of plain values that keeps the kernel's rules as far as groups meet them."""

from __future__ import annotations

import errno
import os
import posixpath

MOUNT = "/sys/fs/cgroup"
V2_MOUNTINFO = f"30 23 0:26 / {MOUNT} rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"


def refused(number: int) -> OSError:
    return OSError(number, os.strerror(number))


class FakeKernel:
    """One process (`PID`) in the group at `own` of a cgroup v2; `others` are in the same one."""

    PID = "100"

    def __init__(self, own: str, *, others: tuple[str, ...] = (), controllers: str = "memory pids") -> None:
        self.files: dict[str, str] = {
            "/proc/self/stat": f"{self.PID} (py (3) x) S " + " ".join("0" for _ in range(18)) + " 777 0",
            "/proc/self/mountinfo": V2_MOUNTINFO,
        }
        self.controllers = controllers
        self.marks: dict[tuple[str, str], str] = {}
        self.delegated: set[str] = set()  # units that the user's manager says it of
        self.refusals: dict[str, int] = {}  # path → errno of writing to it, or of making something below it
        self.killed: list[int] = []
        self.written: list[tuple[str, str]] = []
        self.groups: dict[str, list[str]] = {}
        folder = MOUNT
        self._add(folder)
        for part in own.strip("/").split("/"):
            if part:
                folder += f"/{part}"
                self._add(folder)
        self.groups[folder] = [self.PID, *others]
        self.own = folder

    def _add(self, folder: str) -> None:
        self.groups[folder] = []
        is_root = folder == MOUNT
        self.files[f"{folder}/cgroup.controllers"] = self.controllers
        self.files[f"{folder}/cgroup.subtree_control"] = ""
        self.files[f"{folder}/memory.stat"] = "anon 0\n"
        if not is_root:
            self.files |= {f"{folder}/cgroup.type": "domain\n", f"{folder}/cgroup.events": "populated 1\n"}
            for name in ("max", "high", "swap.max", "oom.group", "current", "peak"):
                self.files[f"{folder}/memory.{name}"] = "0"
            self.files[f"{folder}/memory.events"] = "oom_kill 0\n"

    def where(self, pid: str) -> str:
        return next(folder for folder, pids in self.groups.items() if pid in pids)

    def read(self, path: str) -> str:
        folder, name = posixpath.split(path)
        if path == "/proc/self/cgroup":
            return f"0::{self.where(self.PID).removeprefix(MOUNT) or '/'}\n"
        if name == "cgroup.procs" and folder in self.groups:
            return "".join(f"{pid}\n" for pid in self.groups[folder])
        if path not in self.files:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", path)
        return self.files[path]

    def write(self, path: str, text: str) -> None:
        self.written.append((path, text))
        if path in self.refusals:
            raise refused(self.refusals[path])
        folder, name = posixpath.split(path)
        if name == "cgroup.procs":
            if not any(text in pids for pids in self.groups.values()):
                raise ProcessLookupError(errno.ESRCH, "No such process")
            self.groups[self.where(text)].remove(text)
            self.groups[folder].append(text)
        elif name == "cgroup.subtree_control":
            if self.groups[folder]:
                raise refused(errno.EBUSY)
            self.files[path] = text.strip("+")
        elif path in self.files:
            self.files[path] = text
        else:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", path)

    def make(self, path: str) -> None:
        above = posixpath.dirname(path)
        if above in self.refusals:
            raise refused(self.refusals[above])
        if path in self.groups:
            raise FileExistsError(errno.EEXIST, "File exists", path)
        self._add(path)

    def remove(self, path: str) -> None:
        if self.groups[path] or self.children(path):
            raise refused(errno.EBUSY)
        del self.groups[path]

    def children(self, path: str) -> list[str]:
        return [posixpath.basename(folder) for folder in self.groups if posixpath.dirname(folder) == path]

    def mark(self, path: str, name: str) -> str:
        return self.marks.get((path, name), "")

    def is_delegated(self, unit: str) -> bool:
        return unit in self.delegated

    def kill(self, pid: int) -> None:
        self.killed.append(pid)
