"""How a verification goes on: from what is kept of it and what a worker reports to what is kept next.

Pure: no clock, no await, no log. `scrubber.py` carries it out. Whatever a slice has shown is in the state that is
written before the next slice begins.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from msgspec.structs import replace

from agent.dagstore.scrub.records import (
    MAX_BAD,
    BadBlock,
    Depth,
    Outcome,
    Phase,
    Repairs,
    Run,
    ScrubState,
    SliceResult,
    Verdict,
)

MAX_PROBLEM_CHARACTERS: Final = 300


class Next(enum.Enum):
    """What is to be done after a slice."""

    GO_ON = "go on"
    REPAIR = "repair"  # all was looked at; see what replicas have, then `finish`
    LOOK_AGAIN = "look again"  # the data changed: the dagstore must find out what to do
    REBUILD = "rebuild"  # the index misleads
    BREAK = "break"  # the data cannot be read


@dataclass(frozen=True, slots=True)
class Advance:
    """The state to keep, and what comes next; `reason` is for people."""

    state: ScrubState
    next: Next
    reason: str = ""


def begin(
    state: ScrubState, *, run_id: str, depth: Depth, sample: int, by: str, index: str, now: str
) -> ScrubState:
    """A run to go on with: the one that was cut short, if it is of this index and at least as deep; else a new one.

    `sample` only matters to `Depth.INDEX`. What is in quarantine of other data than this index's is forgotten.
    """
    if state.repairs is not None and state.repairs.index != index:
        state = replace(state, quarantined=(), repairs=None)
    sample = sample if depth is Depth.INDEX else 0
    run = state.run
    if run is not None and run.index == index and (run.depth.rank > depth.rank or
                                                   (run.depth is depth and run.sample == sample)):  # fmt: skip
        return state
    phase = Phase.SAMPLE if sample else Phase.SLICES
    return replace(state, run=Run(run_id, depth, sample, by, now, index, phase))


def task(run: Run, slice_bytes: int) -> Mapping[str, object]:
    """The parameters of the worker's task that say what to look at next; the phase is not REPAIR."""
    what = run.depth.value if run.phase is Phase.SLICES else run.phase.value
    return {"what": what, "start": run.position, "length": slice_bytes, "sample": run.sample}


def advance(state: ScrubState, result: SliceResult, now: str) -> Advance:
    """What a worker's result makes of the state, which has a run."""
    run = state.run
    assert run is not None
    if result.changed:
        return _ended(state, Outcome.CHANGED, result.changed, now, Next.LOOK_AGAIN)
    if result.broken:
        return _ended(state, Outcome.BROKEN, result.broken, now, Next.BREAK)
    wrong = result.index_broken or _index_problems(result)
    if wrong:
        return _ended(state, Outcome.REBUILT, wrong, now, Next.REBUILD)
    total = result.end or run.total
    match run.phase:
        case Phase.SAMPLE if result.suspect_count:
            # Whether the index or a block is wrong shows when all of it is compared.
            deeper = replace(run, phase=Phase.SLICES, sample=0, total=total)
            return Advance(replace(state, run=deeper), Next.GO_ON, "; ".join(result.suspects[:1]))
        case Phase.SAMPLE:
            done = replace(run, phase=Phase.REPAIR, total=total, position=total, blocks=result.blocks)
            return Advance(replace(state, run=done), Next.REPAIR)
        case Phase.LINKS:
            done = replace(run, phase=Phase.REPAIR, links=result.links)
            return Advance(replace(state, run=done), Next.REPAIR)
    return _after_slice(state, run, result, now)


def _after_slice(state: ScrubState, run: Run, result: SliceResult, now: str) -> Advance:
    found = tuple(
        BadBlock(
            one.offset, one.size, one.cid, one.multihash, one.problem[:MAX_PROBLEM_CHARACTERS], now, run.id
        )
        for one in result.damage
    )
    moved = replace(
        run,
        position=result.position,
        total=result.end,
        blocks=run.blocks + result.blocks,
        bad=run.bad + len(found),
        unverifiable=run.unverifiable + result.unverifiable,
    )
    quarantined = _quarantined(state, run, found, result)
    is_over = result.ended or len(quarantined) > MAX_BAD
    if is_over:
        has_links = run.depth is Depth.FULL and len(quarantined) <= MAX_BAD
        moved = replace(moved, phase=Phase.LINKS if has_links else Phase.REPAIR)
    repairs = state.repairs
    if repairs is not None:  # a repair that is bad itself is none
        repairs = repairs.without((one.offset, one.end) for one in found)
    after = replace(state, run=moved, quarantined=quarantined[:MAX_BAD], repairs=repairs)
    return Advance(after, Next.REPAIR if moved.phase is Phase.REPAIR else Next.GO_ON)


def _quarantined(
    state: ScrubState, run: Run, found: tuple[BadBlock, ...], result: SliceResult
) -> tuple[BadBlock, ...]:
    """What is bad now: what was so elsewhere, what is found here, and what is good here only thanks to a repair.

    A run that hashes nothing cannot say that a block is good again.
    """
    kept = []
    for old in state.quarantined:
        looked_at = result.start <= old.offset < result.position
        is_found = any(one.offset < old.end and old.offset < one.end for one in found)
        if not is_found and (not looked_at or old.repaired or run.depth is not Depth.FULL):
            kept.append(old)
    return tuple(sorted([*kept, *found], key=lambda one: one.offset))


def finish(state: ScrubState, now: str) -> ScrubState:
    """The verdict on a run that has looked at all it was to look at, after the repairs."""
    bad, repaired = len(state.bad), len(state.quarantined) - len(state.bad)
    outcome = Outcome.DAMAGED if bad else Outcome.REPAIRED if repaired else Outcome.GOOD
    run = state.run
    assert run is not None
    detail = ""
    if len(state.quarantined) >= MAX_BAD:
        detail = f"stopped at offset {run.position} of {run.total}, after {MAX_BAD} bad blocks"
    return _ended(state, outcome, detail, now, Next.GO_ON).state


def lost_repairs(state: ScrubState) -> ScrubState:
    """The state where the file of the repairs is gone: what they stood in for is bad again."""
    bad = tuple(replace(one, repaired="", repaired_from="") for one in state.quarantined)
    return replace(state, quarantined=bad, repairs=None)


def repaired(state: ScrubState, repairs: Repairs, sources: Mapping[int, str], now: str) -> ScrubState:
    """The state with `repairs`, which come from the replicas at the URLs in `sources`, by offset of the block."""
    blocks = tuple(
        replace(one, repaired=now, repaired_from=sources[one.offset]) if one.offset in sources else one
        for one in state.quarantined
    )
    return replace(state, quarantined=blocks, repairs=repairs)


def fail(state: ScrubState, reason: str, now: str) -> ScrubState:
    """The verdict where it could not be looked at; the run is kept and goes on another time."""
    ended = _ended(state, Outcome.FAILED, reason, now, Next.GO_ON).state
    return replace(ended, run=state.run)


def _ended(state: ScrubState, outcome: Outcome, detail: str, now: str, following: Next) -> Advance:
    run = state.run
    assert run is not None
    verdict = Verdict(
        run=run.id,
        depth=run.depth,
        sample=run.sample,
        by=run.by,
        started=run.started,
        ended=now,
        outcome=outcome,
        detail=detail[:MAX_PROBLEM_CHARACTERS],
        bytes=run.position,
        blocks=run.blocks,
        bad=len(state.bad),
        repaired=len(state.quarantined) - len(state.bad),
        unverifiable=run.unverifiable,
        links=run.links,
    )
    verified = state.verified
    if outcome in (Outcome.GOOD, Outcome.REPAIRED, Outcome.DAMAGED):
        verified = verified | {depth.value: now for depth in Depth if depth.rank <= run.depth.rank}
    return Advance(replace(state, run=None, verdict=verdict, verified=verified), following, detail)


def _index_problems(result: SliceResult) -> str:
    if not result.index_problem_count:
        return ""
    more = result.index_problem_count - 1
    return result.index_problems[0] + (f", and {more} more" if more else "")


def summary(state: ScrubState) -> str:
    """The quarantine in one line, for listings; empty where all can be read."""
    if not state.bad:
        return ""
    first, count = state.bad[0], len(state.bad)
    what = first.cid or f"multihash {first.multihash}" if first.cid or first.multihash else "bytes"
    problem = first.problem.removesuffix(f" {first.cid}")
    many = f"{count} bad blocks, the first" if count > 1 else "1 bad block"
    return f"{many} {what} at offset {first.offset}: {problem}; found {first.found} by run {first.run}"
