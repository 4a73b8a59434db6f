"""The machine: what it has, and what all of its programs use of it."""

from __future__ import annotations

import re
from collections.abc import Iterator

from agent.resources.context import Context
from agent.resources.cpu_lists import count
from agent.resources.facts import Fact, Resource

SOURCE = "host"
MEMINFO = "/proc/meminfo"
_OVERCOMMIT = "/proc/sys/vm/overcommit_memory"
_NEVER_OVERCOMMIT = 2
_ONLINE = "/sys/devices/system/cpu/online"
_LOAD = "/proc/loadavg"
_NODES = "/sys/devices/system/node"
_NODE_SIZE = re.compile(r"^Node [0-9]+ ([^\s:]+): +([0-9]{1,20}) kB$", re.MULTILINE)
_MOST_IDS, _MOST_THREADS = "/proc/sys/kernel/pid_max", "/proc/sys/kernel/threads-max"


def limits(context: Context) -> Iterator[Fact]:
    meminfo = context.numbers(SOURCE, MEMINFO) or {}
    yield from _memory(context, meminfo)
    yield from _committed(context, meminfo)
    yield from _swap(context, meminfo)
    online = context.text(SOURCE, _ONLINE)
    if online is not None:
        cpus = count(online)
        if cpus is None:
            context.problem(SOURCE, _ONLINE, f"{online.strip()[:40]!r} is no list of CPUs")
        else:
            yield Fact(Resource.CPUS, SOURCE, "host", "online CPUs", _ONLINE, cpus * 1000)
    yield from _threads(context)


def _memory(context: Context, meminfo: dict[str, int]) -> Iterator[Fact]:
    """MemTotal without what is set aside as huge pages, of which ordinary memory cannot be had."""
    total = meminfo.get("MemTotal")
    if not total:
        if context.text(SOURCE, MEMINFO) is not None:
            context.problem(SOURCE, MEMINFO, "there is no MemTotal")
        yield from _nodes(context)
        return
    huge = meminfo.get("Hugetlb")  # all sizes; before Linux 4.16 only those of the default size are told
    if huge is None:
        huge = meminfo.get("HugePages_Total", 0) * meminfo.get("Hugepagesize", 0)
    limit = max(0, total - huge)
    notes = [f"{huge >> 20} MiB are set aside as huge pages"] if huge else []
    if zswap := meminfo.get("Zswap", 0):
        notes.append(f"{zswap >> 20} MiB hold compressed pages of swap (zswap), as used")
    available = meminfo.get("MemAvailable")
    if available is None:  # before Linux 3.14
        notes.append("there is no MemAvailable: free memory and half of the page cache")
        cache = meminfo.get("Cached", 0) + meminfo.get("Buffers", 0) - meminfo.get("Shmem", 0)
        available = meminfo.get("MemFree", 0) + max(0, cache) // 2
    used = max(0, limit - available)
    yield Fact(Resource.MEMORY, SOURCE, "host", "MemTotal", MEMINFO, limit, used, note="; ".join(notes))


def _nodes(context: Context) -> Iterator[Fact]:
    """The machine's memory where /proc/meminfo is hidden (`ProcSubset=pid` in a unit): without it, all would fit."""
    try:
        names = [name for name in context.files.folders(_NODES) if name.startswith("node")]
    except OSError:
        return  # a kernel without NUMA
    total = available = 0
    for name in names:
        text = context.text(SOURCE, f"{_NODES}/{name}/meminfo", optional=True) or ""
        sizes = {field: int(number) << 10 for field, number in _NODE_SIZE.findall(text)}
        total += sizes.get("MemTotal", 0)
        # What MemAvailable is made of, without what the kernel keeps free.
        available += sizes.get("MemFree", 0) + sizes.get("Inactive(file)", 0)
        available += (sizes.get("Active(file)", 0) + sizes.get("SReclaimable", 0)) // 2
    if total:
        note = f"{MEMINFO} cannot be read"
        used = max(0, total - available)
        yield Fact(
            Resource.MEMORY,
            SOURCE,
            "host",
            "MemTotal",
            f"{_NODES}/{names[0]}/meminfo",
            total,
            used,
            note=note,
        )


def _committed(context: Context, meminfo: dict[str, int]) -> Iterator[Fact]:
    """Where the kernel promises no more than it has, what is promised counts, touched or not."""
    mode = context.number(SOURCE, _OVERCOMMIT, optional=True)
    limit, used = meminfo.get("CommitLimit"), meminfo.get("Committed_AS")
    if mode == _NEVER_OVERCOMMIT and limit is not None:
        note = "vm.overcommit_memory is 2: all that was asked for counts"
        yield Fact(Resource.MEMORY, SOURCE, "host", "CommitLimit", MEMINFO, limit, used, note=note)


def _swap(context: Context, meminfo: dict[str, int]) -> Iterator[Fact]:
    total, free = meminfo.get("SwapTotal"), meminfo.get("SwapFree")
    if total is None:
        if meminfo:
            context.problem(SOURCE, MEMINFO, "there is no SwapTotal")
        return
    used = max(0, total - free) if free is not None else None
    yield Fact(Resource.SWAP, SOURCE, "host", "SwapTotal", MEMINFO, total, used)


def _threads(context: Context) -> Iterator[Fact]:
    used: int | None = None
    load = context.text(SOURCE, _LOAD, optional=True)
    if load is not None:
        _, _, running = load.partition("/")  # "0.00 0.01 0.05 1/137 4242": 137 threads
        words = running.split()
        used = context.parsed(SOURCE, _LOAD, words[0] if words else "")
    for path, name in ((_MOST_IDS, "kernel.pid_max"), (_MOST_THREADS, "kernel.threads-max")):
        limit = context.number(SOURCE, path, optional=True)
        if limit is not None:
            yield Fact(Resource.PIDS, SOURCE, "host", name, path, limit, used)
