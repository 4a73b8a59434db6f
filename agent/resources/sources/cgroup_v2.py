"""cgroup v2: every group from the mount point, which is the top of a private namespace, down to the process's own.

Limits of groups above the namespace cannot be seen: there is no file that sums them up, as v1 has.
"""

from __future__ import annotations

from collections.abc import Iterator

from agent.resources.context import Context
from agent.resources.cpu_lists import count
from agent.resources.droppable import droppable
from agent.resources.facts import Fact, Resource
from agent.resources.membership import Level, Place

SOURCE = "cgroup-v2"
_CONTROLLERS = {"cpu", "cpuset", "memory", "pids"}
_UNLIMITED = -1  # "max" in a file


def limits(context: Context) -> Iterator[Fact]:
    place = context.groups.v2
    if place is None and context.groups.has_v2 and "memory" not in context.groups.v1_controllers:
        context.problem(SOURCE, "/proc/self/mountinfo", "the memory controller is on v2, and not mounted")
    if place is None or _has_none(context, place):
        return
    for level in context.levels(SOURCE, place):
        yield from _memory(context, level)
        yield from _swap(context, level)
        yield from _quota(context, level)
        yield from _cpuset(context, level)
        yield from _pids(context, level)


def _has_none(context: Context, place: Place) -> bool:
    """Whether all controllers are elsewhere: the machine has them on v1, and v2 beside it (hybrid)."""
    if not place.levels:
        return False
    controllers = context.text(SOURCE, f"{place.levels[0].folder}/cgroup.controllers", optional=True)
    return controllers is not None and not _CONTROLLERS & set(controllers.split())


def _memory(context: Context, level: Level) -> Iterator[Fact]:
    hard = _limit(context, level, "memory.max")
    if hard is None and (why := _why_no_memory(context, level)):
        file = f"{level.folder}/cgroup.controllers"
        yield Fact(Resource.MEMORY, SOURCE, level.name, "memory.max", file, None, note=why)
    soft = _limit(context, level, "memory.high")
    used, note = None, ""
    if level.is_own or not {hard, soft} <= {None, _UNLIMITED}:
        used, note = _memory_used(context, level)
    yield from _fact(level, Resource.MEMORY, "memory.max", hard, used, note=note)
    yield from _fact(level, Resource.MEMORY, "memory.high", soft, used, is_soft=True)


def _memory_used(context: Context, level: Level) -> tuple[int | None, str]:
    """What cannot be dropped of memory.current, and what there is to say of it."""
    if not context.files.exists(f"{level.folder}/memory.current"):
        return None, ""  # the machine's top group, or one without the controller
    current = context.number(SOURCE, f"{level.folder}/memory.current")
    if current is None:
        return context.own_bytes(), "memory.current cannot be read: used is of the agent and its workers"
    stat = context.numbers(SOURCE, f"{level.folder}/memory.stat") or {}
    dropped = min(current, droppable(stat, is_v2=True))
    notes = [f"{dropped >> 20} of {current >> 20} MiB can be dropped"] if dropped >> 20 else []
    if zswap := stat.get("zswap", 0):
        notes.append(f"{zswap >> 20} MiB hold compressed pages of swap (zswap), as used")
    return current - dropped, "; ".join(notes)


def _swap(context: Context, level: Level) -> Iterator[Fact]:
    hard, soft = _limit(context, level, "memory.swap.max"), _limit(context, level, "memory.swap.high")
    if hard is None and soft is None:
        return  # the top of all, or a kernel that does not count swap
    used = context.number(SOURCE, f"{level.folder}/memory.swap.current", optional=True)
    note = "no swap is allowed" if hard == 0 else ""
    yield from _fact(level, Resource.SWAP, "memory.swap.max", hard, used, note=note)
    yield from _fact(level, Resource.SWAP, "memory.swap.high", soft, used, is_soft=True)


def _quota(context: Context, level: Level) -> Iterator[Fact]:
    """cpu.max: `$QUOTA $PERIOD`, both in µs, or `max $PERIOD`."""
    file = f"{level.folder}/cpu.max"
    text = context.text(SOURCE, file, optional=True)
    if text is None:
        return
    words = text.split()
    limit: int | None = _UNLIMITED
    if words[:1] != ["max"]:
        limit = None
        if len(words) == 2:
            quota, period = (context.parsed(SOURCE, file, word) for word in words)
            limit = max(1, quota * 1000 // period) if quota is not None and period else None
        if limit is None:
            context.problem(SOURCE, file, f"{text.strip()[:40]!r} is no quota")
    yield from _fact(level, Resource.CPUS, "cpu.max", limit)


def _cpuset(context: Context, level: Level) -> Iterator[Fact]:
    """The effective CPUs of the own group, which lie within those of the groups above it."""
    file = f"{level.folder}/cpuset.cpus.effective"
    text = context.text(SOURCE, file, optional=True) if level.is_own else None
    if text is None or not text.strip():
        return
    cpus = count(text)
    if cpus is None:
        context.problem(SOURCE, file, f"{text.strip()[:40]!r} is no list of CPUs")
        return
    yield from _fact(level, Resource.CPUS, "cpuset.cpus.effective", cpus * 1000)


def _pids(context: Context, level: Level) -> Iterator[Fact]:
    limit = _limit(context, level, "pids.max")
    if limit is not None:
        used = context.number(SOURCE, f"{level.folder}/pids.current", optional=True)
        yield from _fact(level, Resource.PIDS, "pids.max", limit, used)


def _limit(context: Context, level: Level, name: str) -> int | None:
    """What a file says: bytes, _UNLIMITED, or None if it is not there or says nothing that can be understood.

    0 is a limit: of memory.swap.max the usual one.
    """
    path = f"{level.folder}/{name}"
    text = context.text(SOURCE, path, optional=True)
    if text is None:
        return None
    text = text.strip()
    return _UNLIMITED if text == "max" else context.parsed(SOURCE, path, text)


def _fact(
    level: Level,
    resource: Resource,
    name: str,
    limit: int | None,
    used: int | None = None,
    *,
    note: str = "",
    is_soft: bool = False,
) -> Iterator[Fact]:
    """The fact, if the file was there."""
    if limit is not None:
        file = f"{level.folder}/{name}"
        known = None if limit == _UNLIMITED else limit
        yield Fact(resource, SOURCE, level.name, name, file, known, used, is_soft, note)


def _why_no_memory(context: Context, level: Level) -> str:
    """Why a group has no memory.max; "" for the machine's top group, which never has one.

    A group that lacks it although the controller is enabled there is a problem.
    """
    path = f"{level.folder}/memory.max"
    if context.files.exists(path) or not context.files.exists(f"{level.folder}/cgroup.type"):
        return ""
    controllers = context.text(SOURCE, f"{level.folder}/cgroup.controllers")
    if controllers is not None and "memory" in controllers.split():
        context.problem(SOURCE, path, "is missing, although the memory controller is enabled")
        return ""
    return "the memory controller is not enabled for this group: those above it count"
