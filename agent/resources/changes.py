"""When another reading is news. Pure: headroom moves with every allocation, and who hears of all that hears nothing.

A snapshot is compared with the last one that subscribers got, not with the last one read: what creeps adds up.
"""

from __future__ import annotations

from agent.resources.facts import Bound, Fact, Snapshot

STEP_SHARE = 64  # of a limit; 8 MiB of 512 MiB, and hardly anything is admitted for less
MIN_STEP = 4  # in the unit of the resource: for pids, so that not each thread is news


def differs(old: Snapshot, new: Snapshot, pressure_percent: float) -> bool:
    """Whether subscribers should hear of `new`: a limit or whose it is, whether there is pressure, or the headroom by
    more than a step. `pressure_percent`: of `full_10s`, from which on there is pressure; 0: there never is."""
    if old.mode is not new.mode or pressed(old, pressure_percent) != pressed(new, pressure_percent):
        return True
    pairs = (
        (old.memory, new.memory),
        (old.swap, new.swap),
        (old.cpus, new.cpus),
        (old.pids, new.pids),
    )
    return any(_bound_differs(before, after) for before, after in pairs)


def pressed(snapshot: Snapshot, pressure_percent: float) -> bool:
    """Whether tasks have been waiting for memory so long that nothing new should begin."""
    return snapshot.pressure is not None and 0 < pressure_percent <= snapshot.pressure.full_10s


def _bound_differs(old: Bound, new: Bound) -> bool:
    if old.limit != new.limit or _place(old.limit_by) != _place(new.limit_by):
        return True
    if old.headroom is None or new.headroom is None:
        return old.headroom is not new.headroom
    if (old.headroom == 0) != (new.headroom == 0):
        return True
    return abs(old.headroom - new.headroom) > max(MIN_STEP, (new.limit or 0) // STEP_SHARE)


def _place(fact: Fact | None) -> tuple[str, str, str] | None:
    """Whose limit it is, without how much is used there."""
    return None if fact is None else (fact.level, fact.name, fact.file)
