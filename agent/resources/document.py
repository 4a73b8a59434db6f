"""A snapshot of limits as programs get it: `Carfs.Resources`, `Carfs.Status`, `.carfs/resources.json`.

Memory and swap are bytes, CPUs thousandths of one, pids processes and threads; null: nothing limits it, or no level
knows how much is left.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from agent.resources.explaining import by
from agent.resources.facts import Bound, Fact, Pressure, Problem, Snapshot


class BoundShown(msgspec.Struct, frozen=True, rename="pascal"):
    """What holds for one resource, and what binds it, in a few words."""

    limit: int | None
    used: int  # limit - headroom: what others under the same limit use counts
    headroom: int | None
    limit_by: str  # "system.slice/carfs.service memory.max"; "": nothing does
    headroom_by: str

    @classmethod
    def of(cls, bound: Bound) -> BoundShown:
        return cls(bound.limit, bound.used, bound.headroom, by(bound.limit_by), by(bound.headroom_by))


class PressureShown(msgspec.Struct, frozen=True, rename="pascal"):
    """In percent of the last ten seconds: some tasks, or all, waited for memory."""

    some_10s: float = msgspec.field(name="Some10s")
    full_10s: float = msgspec.field(name="Full10s")
    level: str
    file: str

    @classmethod
    def of(cls, pressure: Pressure) -> PressureShown:
        return cls(pressure.some_10s, pressure.full_10s, pressure.level, pressure.file)


class Limits(msgspec.Struct, frozen=True, rename="pascal"):
    """All that binds at one moment."""

    mode: str  # of the cgroups: v1, v2, hybrid, none
    memory: BoundShown
    swap: BoundShown
    milli_cpus: BoundShown
    pids: BoundShown
    pressure: PressureShown | None  # null: the kernel does not measure it

    @classmethod
    def of(cls, snapshot: Snapshot) -> Limits:
        return cls(*_bounds(snapshot))


class FactShown(msgspec.Struct, frozen=True, rename="pascal"):
    """One limit at one level, as one file says it; null: no limit, or not known."""

    resource: str
    source: str
    level: str
    name: str
    file: str
    limit: int | None
    used: int | None
    is_soft: bool
    note: str

    @classmethod
    def of(cls, fact: Fact) -> FactShown:
        return cls(
            fact.resource.value, fact.source, fact.level, fact.name, fact.file, fact.limit, fact.used,
            fact.is_soft, fact.note,
        )  # fmt: skip


class ProblemShown(msgspec.Struct, frozen=True, rename="pascal"):
    """A file that should have said something and did not."""

    source: str
    file: str
    message: str

    @classmethod
    def of(cls, problem: Problem) -> ProblemShown:
        return cls(problem.source, problem.file, problem.message)


class ResourcesShown(Limits, frozen=True, rename="pascal"):
    """The same with every fact that it follows from."""

    facts: list[FactShown]
    problems: list[ProblemShown]
    explanation: list[str]  # lines for people
    groups: str  # whether each process has a limit of its own, and why not

    @classmethod
    def explained(cls, snapshot: Snapshot, explanation: Sequence[str], groups: str) -> ResourcesShown:
        facts = [FactShown.of(fact) for fact in snapshot.facts]
        problems = [ProblemShown.of(problem) for problem in snapshot.problems]
        return cls(*_bounds(snapshot), facts, problems, list(explanation), groups)


def _bounds(
    snapshot: Snapshot,
) -> tuple[str, BoundShown, BoundShown, BoundShown, BoundShown, PressureShown | None]:
    """The fields of `Limits`, in their order."""
    of = BoundShown.of
    pressure = None if snapshot.pressure is None else PressureShown.of(snapshot.pressure)
    return (
        snapshot.mode.value, of(snapshot.memory), of(snapshot.swap), of(snapshot.cpus), of(snapshot.pids), pressure
    )  # fmt: skip
