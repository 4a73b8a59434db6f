"""The mounts of cgroup hierarchies, from /proc/self/mountinfo (proc_pid_mountinfo(5)).

    35 31 0:32 / /sys/fs/cgroup/memory rw,relatime shared:9 master:2 - cgroup cgroup rw,memory
    id parent dev root mount-point options [optional fields …] - type source super-options

There are any number of optional fields, none in a container as a rule: what follows is found by the lone dash.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass

_ESCAPE = re.compile(r"\\([0-3][0-7]{2})")


@dataclass(frozen=True, slots=True)
class Mount:
    """One mounted hierarchy that can be reached at its mount point."""

    root: str  # the cgroup that is seen at the mount point; with `..` in it, one outside of the reader's namespace
    point: str
    is_v2: bool
    controllers: frozenset[str]  # of v1; the name of a named hierarchy is "name=…"


@dataclass(frozen=True, slots=True)
class _Row:
    id: str
    parent: str
    root: str
    point: str
    kind: str
    options: str


@functools.lru_cache(maxsize=8)
def cgroup_mounts(text: str) -> tuple[Mount, ...]:
    """The mounts of type cgroup and cgroup2, in order, without those that a later mount covers.

    A line that is none of the format is passed over. Remembered by the text: mounts hardly ever change.
    """
    rows = [row for line in text.split("\n") if (row := _row(line)) is not None]
    parents = {row.id: row.parent for row in rows}
    return tuple(
        Mount(row.root, row.point, row.kind == "cgroup2", frozenset(row.options.split(",")))
        for number, row in enumerate(rows)
        if row.kind in ("cgroup", "cgroup2") and not _is_covered(row, rows[number + 1 :], parents)
    )


def _row(line: str) -> _Row | None:
    before, separator, after = line.partition(" - ")
    fields, super_fields = before.split(" "), after.split(" ")
    if not separator or len(fields) < 6 or len(super_fields) < 3:
        return None
    return _Row(fields[0], fields[1], _text(fields[3]), _text(fields[4]), super_fields[0], super_fields[2])


def _text(field: str) -> str:
    """A path as it is: blanks, tabs, line ends and backslashes are written as octal numbers."""
    if "\\" not in field:
        return field
    return _ESCAPE.sub(lambda found: chr(int(found[1], 8)), field)


def _is_covered(row: _Row, later: list[_Row], parents: dict[str, str]) -> bool:
    """Whether one of the later mounts lies on the same mount point, or on a folder above it."""
    beneath: set[str] = set()  # the mounts that lead to this one, which cover nothing of it
    at = row.parent
    while at in parents and at not in beneath:
        beneath.add(at)
        at = parents[at]
    return any(
        one.point == row.point
        or (one.id not in beneath and row.point.startswith(one.point.rstrip("/") + "/"))
        for one in later
    )
