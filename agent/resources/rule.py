"""The rule: what holds is the smallest limit of all levels, and what is left is the least that any level has left.

The two need not be of one level: siblings may have filled a parent whose own limit is looser.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from agent.resources.facts import Bound, Fact, Mode, Pressure, Problem, Resource, Snapshot


def conclude(
    facts: Iterable[Fact], problems: Iterable[Problem], mode: Mode, pressure: Pressure | None
) -> Snapshot:
    """What follows from all facts of one moment."""
    facts = tuple(facts)
    return Snapshot(
        mode, facts, tuple(problems),
        memory=bound(facts, Resource.MEMORY), swap=bound(facts, Resource.SWAP),
        cpus=bound(facts, Resource.CPUS), pids=bound(facts, Resource.PIDS), pressure=pressure,
    )  # fmt: skip


def bound(facts: Sequence[Fact], resource: Resource) -> Bound:
    """The smallest limit and the least left; of equal ones the first, which is the outermost."""
    limits = [(fact.limit, fact) for fact in facts if fact.resource is resource and fact.limit is not None]
    if not limits:
        return Bound()
    limit, limit_by = min(limits, key=_first)
    if all(fact.used is None for _, fact in limits):
        return Bound(limit, limit_by)
    # No level can have more left than its limit, also where nobody says how much of it is used.
    headroom, headroom_by = min(((left(fact) or 0, fact) for _, fact in limits), key=_first)
    return Bound(limit, limit_by, headroom, headroom_by)


def left(fact: Fact) -> int | None:
    """What a level has left, which is never below nothing; None: it limits nothing."""
    if fact.limit is None:
        return None
    return max(0, fact.limit - (fact.used or 0))


def _first(pair: tuple[int, Fact]) -> int:
    return pair[0]
