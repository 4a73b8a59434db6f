"""Limits in words, for `carfs resources --explain`: every fact with its file, and which of them bind."""

from __future__ import annotations

from collections.abc import Iterator

from agent.cli.output import size_text
from agent.resources.droppable import RULE
from agent.resources.facts import Bound, Fact, Mode, Resource, Snapshot
from agent.resources.rule import left

_MODES = {
    Mode.V1: "the memory controller is on cgroup v1",
    Mode.V2: "the memory controller is on cgroup v2",
    Mode.HYBRID: "the memory controller is on cgroup v1; the mounted cgroup v2 has none",
    Mode.NONE: "no cgroup that can be seen limits the memory of this process",
}
_HEADINGS = ("limit", "used", "left", "level", "name", "file")
_BINDS, _TIGHTEST = "smallest limit", "least left"


def by(fact: Fact | None) -> str:
    """What binds, in two words: "system.slice/carfs.service memory.max"; "" for nothing."""
    return "" if fact is None else f"{fact.level} {fact.name}"


def lines(snapshot: Snapshot) -> list[str]:
    """The whole chain, from the machine down to the process, a table for each resource."""
    return list(_lines(snapshot))


def _lines(snapshot: Snapshot) -> Iterator[str]:
    yield f"cgroups: {_MODES[snapshot.mode]}"
    if snapshot.pressure is not None:
        one = snapshot.pressure
        yield (
            f"pressure: in the last 10 s some tasks waited for memory {one.some_10s:g} % of the time, "
            f"all of them {one.full_10s:g} % ({one.level}, {one.file})"
        )
    else:
        yield "pressure: not told here (no PSI)"
    for resource, found in (
        (Resource.MEMORY, snapshot.memory),
        (Resource.SWAP, snapshot.swap),
        (Resource.CPUS, snapshot.cpus),
        (Resource.PIDS, snapshot.pids),
    ):
        yield ""
        yield summary(resource, found)
        facts = [fact for fact in snapshot.facts if fact.resource is resource]
        yield from _table(
            [_HEADINGS, *(_row(fact) for fact in facts)], [_remark(fact, found) for fact in facts]
        )
    yield ""
    yield f"used: of a cgroup, {RULE}"
    yield "left: never less than 0; nothing new begins unless every level has room for it"
    for problem in snapshot.problems:
        yield f"problem: {problem.source}: {problem.file or 'no file'}: {problem.message}"


def summary(resource: Resource, found: Bound) -> str:
    """One resource on a line: the limit, what is left, and what they come from."""
    if found.limit is None and resource is Resource.SWAP:  # the machine always has a limit of it
        return "swap: nothing is known of it, so none is used"
    if found.limit is None:
        return f"{resource}: nothing limits it"
    text = f"{resource}: {amount(resource, found.limit)} by {by(found.limit_by)}"
    if found.headroom is not None:
        text += f", of which {amount(resource, found.headroom)} are left under {by(found.headroom_by)}"
    return text


def amount(resource: Resource, value: int) -> str:
    """A limit in the unit that people use."""
    if resource in (Resource.MEMORY, Resource.SWAP):
        return size_text(value)
    return f"{value / 1000:g}" if resource is Resource.CPUS else str(value)


def _row(fact: Fact) -> tuple[str, ...]:
    over = left(fact) if fact.used is not None else None
    return (
        "none" if fact.limit is None else amount(fact.resource, fact.limit),
        "" if fact.used is None else amount(fact.resource, fact.used),
        "" if over is None else amount(fact.resource, over),
        fact.level,
        fact.name,
        fact.file,
    )


def _remark(fact: Fact, found: Bound) -> str:
    """What follows from a fact, and what there is to know of it."""
    binds = []
    if fact is found.limit_by:
        binds.append(_BINDS)
    if fact is found.headroom_by:
        binds.append(_TIGHTEST)
    parts = [f"<- {', '.join(binds)}"] if binds else []
    if fact.is_soft and fact.limit is not None:
        parts.append("soft: over it tasks are slowed down, not killed")
    if fact.note:
        parts.append(fact.note)
    return "; ".join(parts)


def _table(rows: list[tuple[str, ...]], remarks: list[str]) -> Iterator[str]:
    """Columns, numbers to the right, and at the end of each row its file and what there is to say of it."""
    if len(rows) == 1:
        return
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADINGS))]
    for row, remark in zip(rows, ["", *remarks], strict=True):
        numbers = [cell.rjust(width) for cell, width in zip(row[:3], widths[:3], strict=True)]
        words = [cell.ljust(width) for cell, width in zip(row[3:5], widths[3:5], strict=True)]
        yield "  ".join(["", *numbers, *words, row[5], remark]).rstrip()
