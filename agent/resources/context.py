"""What a source of limits is given: the files, where the process's groups are, and a place to tell what went wrong."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from agent.resources.facts import Problem
from agent.resources.files import Files
from agent.resources.locating import located
from agent.resources.membership import Level, Membership, Place

if TYPE_CHECKING:
    from agent.resources.settings import ResourcesConfig

_MOUNTS = "/proc/self/mountinfo"
_MOST_DIGITS = 20  # of 2**64
_NUMBER = re.compile(r"^([^\s:]+):?[ \t]+([0-9]{1,20})( kB)?$", re.MULTILINE)


class Context:
    """One reading. Each file is read once in it, so that facts of the same file are of the same instant."""

    def __init__(self, files: Files, settings: ResourcesConfig, pid: int | None) -> None:
        self.files = files
        self.settings = settings
        self.process = f"/proc/{'self' if pid is None else pid}"
        self.problems: list[Problem] = []
        self._texts: dict[str, str | OSError] = {}
        self._numbers: dict[str, dict[str, int]] = {}
        self._own_bytes: int | None = None
        cgroup = self.text("cgroup", f"{self.process}/cgroup") or ""
        mounts = self.text("cgroup", _MOUNTS) or ""
        self.groups: Membership = located(files, cgroup, mounts, self.process)

    def problem(self, source: str, file: str, message: str) -> None:
        problem = Problem(source, file, message)
        if problem not in self.problems:
            self.problems.append(problem)

    def text(self, source: str, path: str, *, optional: bool = False) -> str | None:
        """A file's text; None if it cannot be read, which is a problem unless it is `optional` and missing."""
        found = self._texts.get(path)
        if found is None:
            try:
                found = self.files.read(path)
            except OSError as error:
                found = error
            self._texts[path] = found
        if isinstance(found, str):
            return found
        if not (optional and isinstance(found, (FileNotFoundError, NotADirectoryError))):
            self.problem(source, path, found.strerror or str(found))
        return None

    def number(self, source: str, path: str, *, optional: bool = False) -> int | None:
        """The number that is all of a file; None if there is none."""
        text = self.text(source, path, optional=optional)
        return None if text is None else self.parsed(source, path, text.strip())

    def parsed(self, source: str, path: str, text: str) -> int | None:
        """A number of the kernel's: digits. Anything else is a problem with the file, and None."""
        if text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS:
            return int(text)
        self.problem(source, path, f"{text[:40]!r} is not a number")
        return None

    def numbers(self, source: str, path: str, *, optional: bool = False) -> dict[str, int] | None:
        """A file of lines `name number` or `Name: number kB` (in bytes then); what is no number is left out."""
        found = self._numbers.get(path)
        if found is not None:
            return found
        text = self.text(source, path, optional=optional)
        if text is None:
            return None
        numbers = dict(_pairs(text))
        self._numbers[path] = numbers
        return numbers

    def levels(self, source: str, place: Place | None) -> Iterator[Level]:
        """The groups of a place that are there, from the top down; says why one is not."""
        if place is None:
            return
        if place.trouble:
            self.problem(source, _MOUNTS, place.trouble)
        for level in place.levels:
            if self.files.exists(level.folder):
                yield level
            else:
                self.problem(source, level.folder, f"the group {level.name} is not where it is said to be")

    def own_bytes(self) -> int:
        """Memory of the process and of all that it has started, as far as the kernel could not drop it.

        What two of them share since a fork is counted twice.
        """
        if self._own_bytes is None:
            self._own_bytes = sum(self._anonymous(process) for process in self._tree())
        return self._own_bytes

    def _tree(self) -> Iterator[str]:
        """/proc/PID of the process and of its descendants."""
        seen, waiting = set[str](), [self.process]
        while waiting:
            process = waiting.pop()
            if process in seen:
                continue
            seen.add(process)
            yield process
            try:
                threads = self.files.folders(f"{process}/task")
            except OSError:
                continue  # it has ended
            for thread in threads:  # a child is listed with the thread that started it
                children = self._quietly(f"{process}/task/{thread}/children")
                waiting += [f"/proc/{child}" for child in children.split() if child.isdecimal()]

    def _anonymous(self, process: str) -> int:
        status = dict(_pairs(self._quietly(f"{process}/status")))
        return status.get("RssAnon", 0) + status.get("RssShmem", 0)

    def _quietly(self, path: str) -> str:
        """A file of a process, which may end at any moment: then nothing."""
        found = self._texts.get(path)
        if found is None:
            try:
                found = self._texts[path] = self.files.read(path)
            except OSError as error:
                found = self._texts[path] = error
        return found if isinstance(found, str) else ""


def _pairs(text: str) -> Iterator[tuple[str, int]]:
    for name, number, unit in _NUMBER.findall(text):
        yield name, int(number) << 10 if unit else int(number)
