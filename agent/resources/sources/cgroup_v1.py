"""cgroup v1: the own group of each controller and those above it, as far as they can be seen, and their sums.

What lies above a namespace cannot be seen, but memory.stat tells the smallest limit of all groups above, seen or not:
`hierarchical_memory_limit` and `hierarchical_memsw_limit`. "memsw" is memory and swap together.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from agent.resources.context import Context
from agent.resources.cpu_lists import count
from agent.resources.droppable import droppable
from agent.resources.facts import Fact, Resource
from agent.resources.membership import Level

SOURCE = "cgroup-v1"
_NO_LIMIT_FROM = 1 << 62  # unset limits are 2**63 - 1, rounded down to a page, whose size differs
_UNLIMITED = -1


def limits(context: Context) -> Iterator[Fact]:
    yield from _memory(context)
    yield from _cpu(context)
    yield from _cpuset(context)
    for level in context.levels(SOURCE, context.groups.v1.get("pids")):
        file = f"{level.folder}/pids.max"
        text = context.text(SOURCE, file, optional=True)  # the top group has none
        if text is None:
            continue
        limit = None if text.strip() == "max" else context.parsed(SOURCE, file, text.strip())
        if limit is not None or text.strip() == "max":
            used = context.number(SOURCE, f"{level.folder}/pids.current", optional=True)
            yield Fact(Resource.PIDS, SOURCE, level.name, "pids.max", file, limit, used)


@dataclass(frozen=True, slots=True)
class _Group:
    """What the files of one group say, in bytes; None: nothing."""

    level: Level
    memory: int | None
    memory_usage: int | None
    both: int | None  # memsw
    both_usage: int | None
    dropped: int | None  # of the usage; None: nobody asks what is left here
    note: str

    def memory_used(self) -> int | None:
        return self._kept(self.memory_usage)

    def both_used(self) -> int | None:
        return self._kept(self.both_usage)

    def _kept(self, usage: int | None) -> int | None:
        """At least 0, since the files are read at different instants."""
        return None if usage is None or self.dropped is None else max(0, usage - self.dropped)

    def swap_used(self) -> int | None:
        if self.memory_usage is None or self.both_usage is None:
            return None
        return max(0, self.both_usage - self.memory_usage)


def _memory(context: Context) -> Iterator[Fact]:
    place = context.groups.v1.get("memory")
    if place is None:
        if "memory" in context.groups.v1_controllers:
            context.problem(SOURCE, "/proc/self/mountinfo", "the memory controller is on v1, and not mounted")
        return
    groups = [
        _group(context, level)
        for level in context.levels(SOURCE, place)
        if level.is_own or _binds_below(context, level)
    ]
    if groups:
        yield from _out_of_sight(context, groups)
    for group in groups:
        yield from _facts(group)


def _binds_below(context: Context, level: Level) -> bool:
    """Whether the limits of a group hold for the groups in it: not always, before Linux 5.11."""
    text = context.text(SOURCE, f"{level.folder}/memory.use_hierarchy", optional=True)
    return text is None or text.strip() != "0"


def _group(context: Context, level: Level) -> _Group:
    folder = level.folder
    usage = context.number(SOURCE, f"{folder}/memory.usage_in_bytes")
    limit = _limit(context, f"{folder}/memory.limit_in_bytes")
    # Without swap accounting (swapaccount=0) there are no memsw files, and the others count all the same.
    both = _limit(context, f"{folder}/memory.memsw.limit_in_bytes", optional=True)
    both_usage = context.number(SOURCE, f"{folder}/memory.memsw.usage_in_bytes", optional=True)
    dropped, note = None, ""
    if usage is None:
        usage, dropped = context.own_bytes(), 0
        note = "memory.usage_in_bytes cannot be read: used is of the agent and its workers"
    elif level.is_own or not {limit, both} <= {None, _UNLIMITED}:
        dropped = _dropped(context, level)
    if shown := min(usage, dropped or 0) >> 20:
        note = f"{shown} of {usage >> 20} MiB can be dropped"
    return _Group(level, limit, usage, both, both_usage, dropped, note)


def _dropped(context: Context, level: Level) -> int:
    return droppable(context.numbers(SOURCE, f"{level.folder}/memory.stat") or {}, is_v2=False)


def _limit(context: Context, path: str, *, optional: bool = False) -> int | None:
    """Bytes, _UNLIMITED, or None if the file says nothing."""
    limit = context.number(SOURCE, path, optional=optional)
    return _UNLIMITED if limit is not None and limit >= _NO_LIMIT_FROM else limit


def _facts(group: _Group) -> Iterator[Fact]:
    level, folder = group.level, group.level.folder
    memory, both = group.memory, group.both
    if memory is not None:
        name = "memory.limit_in_bytes"
        yield Fact(
            Resource.MEMORY, SOURCE, level.name, name, f"{folder}/{name}", _known(memory),
            group.memory_used(), note=group.note,
        )  # fmt: skip
    if both is None:
        return
    name = "memory.memsw.limit_in_bytes"
    file = f"{folder}/{name}"
    if both == _UNLIMITED:
        yield Fact(Resource.SWAP, SOURCE, level.name, name, file, None, group.swap_used())
        return
    # Memory is bound by it, too: what has been swapped out leaves that much less of it for memory.
    note = "memory and swap together"
    yield Fact(Resource.MEMORY, SOURCE, level.name, name, file, both, group.both_used(), note=note)
    limit, note = both, "memory and swap together"
    if memory is not None and memory != _UNLIMITED:
        limit, note = max(0, both - memory), "less memory.limit_in_bytes"
    yield Fact(Resource.SWAP, SOURCE, level.name, name, file, limit, group.swap_used(), note=note)


def _out_of_sight(context: Context, groups: list[_Group]) -> Iterator[Fact]:
    """The limits of groups that cannot be seen: those that memory.stat knows to be smaller than all that can."""
    file = f"{groups[-1].level.folder}/memory.stat"
    stat = context.numbers(SOURCE, file) or {}
    memory = stat.get("hierarchical_memory_limit", _NO_LIMIT_FROM)
    both = stat.get("hierarchical_memsw_limit", _NO_LIMIT_FROM)
    is_memory = memory < _smallest(group.memory for group in groups)
    is_both = both < _smallest(group.both for group in groups)
    if not (is_memory or is_both):
        return
    top = dataclasses.replace(groups[0], dropped=_dropped(context, groups[0].level))
    level, note = f"above {top.level.name}", f"used: of {top.level.name} alone; there may be more"
    if is_memory:
        name = "hierarchical_memory_limit"
        yield Fact(Resource.MEMORY, SOURCE, level, name, file, memory, top.memory_used(), note=note)
    if is_both:
        name = "hierarchical_memsw_limit"
        together = f"memory and swap together; {note}"
        yield Fact(Resource.MEMORY, SOURCE, level, name, file, both, top.both_used(), note=together)
        swap = both if memory >= _NO_LIMIT_FROM else max(0, both - memory)
        yield Fact(Resource.SWAP, SOURCE, level, name, file, swap, top.swap_used(), note=note)


def _smallest(limits: Iterable[int | None]) -> int:
    return min((one for one in limits if one is not None and one != _UNLIMITED), default=_NO_LIMIT_FROM)


def _known(limit: int) -> int | None:
    return None if limit == _UNLIMITED else limit


def _cpu(context: Context) -> Iterator[Fact]:
    """cpu.cfs_quota_us of cpu.cfs_period_us; -1 is no quota. The top group has none of them."""
    name = "cpu.cfs_quota_us"
    for level in context.levels(SOURCE, context.groups.v1.get("cpu")):
        file = f"{level.folder}/{name}"
        text = context.text(SOURCE, file, optional=True)
        if text is None:
            continue
        if text.strip() == "-1":
            yield Fact(Resource.CPUS, SOURCE, level.name, name, file, None)
            continue
        quota = context.parsed(SOURCE, file, text.strip())
        period = context.number(SOURCE, f"{level.folder}/cpu.cfs_period_us")
        if quota is not None and period:
            yield Fact(Resource.CPUS, SOURCE, level.name, name, file, max(1, quota * 1000 // period))


def _cpuset(context: Context) -> Iterator[Fact]:
    """The own group's alone: it lies within those of the groups above it."""
    place = context.groups.v1.get("cpuset")
    own = place.own if place is not None else None
    if own is None:
        return
    for name in ("cpuset.effective_cpus", "cpuset.cpus"):
        file = f"{own.folder}/{name}"
        text = context.text(SOURCE, file, optional=True)
        if text is None or not text.strip():
            continue
        cpus = count(text)
        if cpus is not None:
            yield Fact(Resource.CPUS, SOURCE, own.name, name, file, cpus * 1000)
            return
        context.problem(SOURCE, file, f"{text.strip()[:40]!r} is no list of CPUs")
