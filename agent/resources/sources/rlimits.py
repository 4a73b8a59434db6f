"""Resource limits of the process, which its workers inherit (getrlimit(2)): the soft ones, which are those that bind.

RLIMIT_AS and RLIMIT_DATA hold for each process by itself, so no worker can be larger, and nothing is "used" of them
before it starts. RLIMIT_RSS does nothing on Linux, and RLIMIT_MEMLOCK is about locking alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from agent.resources.context import Context
from agent.resources.facts import Fact, Resource

SOURCE = "rlimit"
_ROWS = (
    ("Max address space", "RLIMIT_AS", Resource.MEMORY, "of each process; what it maps counts, too"),
    ("Max data size", "RLIMIT_DATA", Resource.MEMORY, "of each process; files that it maps do not count"),
    ("Max processes", "RLIMIT_NPROC", Resource.PIDS, "of all that the user runs"),
)
_ROW = re.compile(r"^(Max [a-z ]+?) {2,}(\S+)", re.MULTILINE)
_SYS_ADMIN, _SYS_RESOURCE = 21, 24


def limits(context: Context) -> Iterator[Fact]:
    file = f"{context.process}/limits"
    text = context.text(SOURCE, file)
    if text is None:
        return
    rows = dict(_ROW.findall(text))
    for title, name, resource, note in _ROWS:
        value = rows.get(title)
        if value is None:
            context.problem(SOURCE, file, f"there is no {title!r}")
            continue
        limit = None if value == "unlimited" else context.parsed(SOURCE, file, value)
        if limit is None and value != "unlimited":
            continue
        if limit is not None and resource is Resource.PIDS and _is_exempt(context):
            limit, note = None, f"{value} in the file; not for root"
        elif limit is None:
            note = ""
        yield Fact(resource, SOURCE, "process", name, file, limit, note=note)


def _is_exempt(context: Context) -> bool:
    """Whether RLIMIT_NPROC does not bind the process: for root, CAP_SYS_ADMIN and CAP_SYS_RESOURCE it does not."""
    status = context.text(SOURCE, f"{context.process}/status") or ""
    user, capabilities = "", 0
    for line in status.split("\n"):
        name, _, value = line.partition(":")
        if name == "Uid":
            user = value.split()[0] if value.split() else ""
        elif name == "CapEff":
            try:
                capabilities = int(value, 16)
            except ValueError:
                capabilities = 0
    return user == "0" or bool(capabilities & (1 << _SYS_ADMIN | 1 << _SYS_RESOURCE))
