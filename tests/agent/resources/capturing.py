"""Captures all files that a reading of limits looks at: `python -m tests.agent.resources.capturing "what this is"`.

Needs nothing but Python, so that it runs in a guest that has just been booted. What has nothing to do with limits is
left out of the big files, and names of groups that are mere numbers are replaced.
"""

from __future__ import annotations

import errno
import re
import sys
from pathlib import Path
from typing import Any

from agent.resources.files import MachineFiles
from agent.resources.reading import read

_KEPT = {
    "status": re.compile(r"(Name|Pid|NSpid|Uid|CapEff|Cpus_allowed_list|RssAnon|RssShmem):"),
    "meminfo": re.compile(
        r"(Mem|Swap|HugePages_Total|Hugepagesize|Hugetlb|Zswap|Commit|Cached|Buffers|Shmem:)"
    ),
    "limits": re.compile(r"(Limit|Max address space|Max data size|Max processes)"),
    "memory.stat": re.compile(
        r"(total_)?(in)?active_file |(total_|file_)?(dirty|writeback) |slab_reclaimable |hierarchical_"
        r"|file |anon |shmem |unevictable |zswap"
    ),
    "mountinfo": re.compile(r".* - cgroup|(\S+ ){4}/(sys(/fs/cgroup)?)? "),
}
_NUMBER = re.compile(r"(?<=/)[0-9a-f]{16,}")


class _Settings:
    """A configuration that limits nothing."""

    swap = True
    cpus = 0.0

    def memory_bytes(self) -> None:
        return None


class RecordingFiles:
    """The machine's files, and what was found in each."""

    def __init__(self) -> None:
        self._files = MachineFiles()
        self.found: dict[str, str | int] = {}

    def read(self, path: str) -> str:
        try:
            text = self._files.read(path)
        except OSError as error:
            self.found[path] = error.errno or errno.EIO
            raise
        self.found[path] = text
        return text

    def exists(self, path: str) -> bool:
        found = self._files.exists(path)
        if not found:
            self.found[path] = errno.ENOENT
        elif Path(path).is_dir():
            self.found[f"{path}/"] = ""
        return found

    def folders(self, path: str) -> list[str]:
        names = self._files.folders(path)
        self.found |= {f"{path}/{name}/": "" for name in names}
        return names


def capture(what: str) -> str:
    """The text of a capture: a heading for each file, `!N` behind the name of one that fails with errno N."""
    files = RecordingFiles()
    settings: Any = _Settings()  # the configuration itself needs msgspec
    read(files, settings)
    parts = [f"# {what}\n"]
    for path, found in files.found.items():
        if isinstance(found, int):
            parts.append(f"### {path} !{found}\n")
        else:
            parts.append(f"### {path}\n{_kept(path, found)}")
    return _NUMBER.sub("0123456789abcdef", "".join(parts))


def _kept(path: str, text: str) -> str:
    wanted = _KEPT.get(path.rpartition("/")[2])
    if wanted is not None:
        text = "".join(line for line in text.splitlines(keepends=True) if wanted.match(line))
    return text if text.endswith("\n") or not text else text + "\n"


if __name__ == "__main__":
    sys.stdout.write(capture(" ".join(sys.argv[1:])))
