"""The kinds of task, in one table: what carries each out, what it needs of a machine, and who goes first.

A new kind is one module and one line here. `docs/scheduler.md` shows the table with the peaks that the formulas are
made from; a test compares the two.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from agent.scheduler.requirement import IoClass, Requirement

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30

SIZE_CLASSES: Final = {"2K": 2 * KIB, "8M": 8 * MIB, "512M": 512 * MIB, "32G": 32 * GIB, "64G": 64 * GIB}
"""Lotus' sector sizes, by which environment variables and what has been learned are kept apart."""
UNKNOWN_SIZE_CLASS: Final = "32G"

_SHARED: Final = 8 * MIB
"""Of the interpreter and libraries, which are mapped by all processes from the same pages: what each kind adds."""
_SECTION_BYTES: Final = 240
"""Of the smallest blocks that a whole CAR is made of as a rule; where they are smaller, that is learned."""
_ENTRY_BYTES: Final = 40  # of an index: a SHA-256 digest and an offset

_MOST_OF_A_SLICE: Final = 256 * MIB  # `scrub.schedule.MAX_SLICE_BYTES`


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of task."""

    name: str
    short: str  # in the names of environment variables
    function: str  # "module:function", run in a worker process; "": it runs in the agent
    order: int  # of equal priority, lower goes first; what is below 0 goes before everything, as with Lotus
    formula: Callable[[int], Requirement]  # of the size of the data in bytes, 0 where it is not known
    is_preparing: bool = False  # whether what it works on may have to be fetched first

    def requirement(self, size_bytes: int) -> Requirement:
        """What a task on so much data needs, as far as that was measured."""
        return self.formula(max(0, size_bytes))


def size_class(size_bytes: int) -> str:
    """The smallest that holds it, "64G" for what is bigger than all; an unknown size counts as a usual piece."""
    if size_bytes <= 0:
        return UNKNOWN_SIZE_CLASS
    return next((name for name, size in SIZE_CLASSES.items() if size_bytes <= size), "64G")


def coarse(size_bytes: int) -> int:
    """The next of four steps an octave, so that tasks of about the same needs can be dealt with as one."""
    if size_bytes <= 4:
        return size_bytes
    step = 1 << (size_bytes - 1).bit_length() - 3
    return -(-size_bytes // step) * step


def about(size_bytes: int) -> int:
    """A size that stands for all that make no difference to what a task needs; at least as big, of the same class."""
    if size_bytes > 64 * MIB:
        return coarse(size_bytes)
    return next((step for step in (0, 2 * KIB, 8 * MIB) if size_bytes <= step), 64 * MIB)


def _index(size_bytes: int) -> Requirement:
    entries = size_bytes // _SECTION_BYTES
    return Requirement(
        min_memory=32 * MIB,
        max_memory=coarse(40 * MIB + min(size_bytes, 48 * MIB) + 10 * entries),  # a run, then all first bytes
        base_min_memory=_SHARED,
        disk=_power(
            2 * entries * _ENTRY_BYTES
        ),  # sorted runs, and beside them the index that is made of them
    )


def _verify(size_bytes: int) -> Requirement:
    return Requirement(
        min_memory=32 * MIB,
        max_memory=coarse(40 * MIB + min(size_bytes, _MOST_OF_A_SLICE) * 3 // 4),  # entries of a slice
        base_min_memory=_SHARED,
        io_class=IoClass.IDLE,
    )


def _invert(size_bytes: int) -> Requirement:
    return Requirement(
        min_memory=48 * MIB,
        max_memory=coarse(
            48 * MIB + min(4 * size_bytes, 48 * MIB) + size_bytes // 16
        ),  # pieces, and the fan-out
        base_min_memory=_SHARED,
        max_parallelism=0,  # it waits for no CPU: a new shard is found at once although others index for hours
        max_concurrent=1,  # each changes the one directory of segments
        disk=_power(size_bytes),
    )


def _check_inverted(size_bytes: int) -> Requirement:
    return Requirement(
        min_memory=48 * MIB,
        max_memory=coarse(48 * MIB + min(8 * size_bytes, 64 * MIB)),
        base_min_memory=_SHARED,
        io_class=IoClass.IDLE,
    )


def _commp(_size_bytes: int) -> Requirement:
    return Requirement(min_memory=32 * MIB, max_memory=48 * MIB, base_min_memory=_SHARED)


def _add_piece(size_bytes: int) -> Requirement:
    # The sector's file grows by the piece, in holes where there is nothing.
    return Requirement(
        min_memory=32 * MIB, max_memory=40 * MIB, base_min_memory=_SHARED, disk=_power(size_bytes)
    )


def _import(size_bytes: int) -> Requirement:
    leaves = size_bytes // MIB
    # Chunks on their way, and what each leaf is known by. Of a folder nobody knows how many files it has.
    most = coarse(60 * MIB + 300 * leaves) if size_bytes else 128 * MIB
    return Requirement(
        min_memory=48 * MIB,
        max_memory=most,
        base_min_memory=_SHARED,
        max_parallelism=2,  # one reads, others hash; more where nobody else wants the CPUs
        disk=_power(size_bytes // 256),
    )


def _dense(size_bytes: int) -> Requirement:
    leaves = size_bytes // MIB
    return Requirement(
        min_memory=40 * MIB,
        max_memory=coarse(44 * MIB + 100 * leaves),
        base_min_memory=_SHARED,
        disk=_power(size_bytes),
    )


def _check_import(size_bytes: int) -> Requirement:
    leaves = size_bytes // MIB
    return Requirement(
        min_memory=40 * MIB, max_memory=coarse(44 * MIB + 100 * leaves), base_min_memory=_SHARED
    )


def _export(size_bytes: int) -> Requirement:
    leaves = size_bytes // MIB
    return Requirement(
        min_memory=40 * MIB, max_memory=coarse(44 * MIB + 100 * leaves), base_min_memory=_SHARED
    )


def _fetch(_size_bytes: int) -> Requirement:
    # Nothing of the disk: a transient takes its room from the quota before it is fetched.
    return Requirement(min_memory=MIB, max_memory=8 * MIB, max_parallelism=0, max_concurrent=4)


def _power(size_bytes: int) -> int:
    """The next power of two, 0 for nothing."""
    return 1 << (size_bytes - 1).bit_length() if size_bytes else 0


KINDS: Final[dict[str, Kind]] = {
    kind.name: kind
    for kind in (
        Kind("fetch", "FETCH", "", -1, _fetch),
        Kind("invert", "INVERT", "agent.workers.inverting:invert", 1, _invert),
        Kind("index", "INDEX", "agent.workers.indexing:build_index", 2, _index, is_preparing=True),
        Kind("commp", "COMMP", "agent.workers.committing:commit", 3, _commp, is_preparing=True),
        Kind("addpiece", "ADDPIECE", "agent.workers.padding:add_piece", 3, _add_piece),
        Kind("verify", "VERIFY", "agent.workers.verifying:verify", 4, _verify, is_preparing=True),
        Kind(
            "check-inverted", "CHECK_INVERTED", "agent.workers.inverting:check_inverted", 5, _check_inverted
        ),
        Kind("import", "IMPORT", "agent.workers.importing:import_source", 6, _import),
        Kind("dense", "DENSE", "agent.workers.densifying:densify", 7, _dense),
        Kind("check-import", "CHECK_IMPORT", "agent.workers.checking:check", 8, _check_import),
        Kind("export", "EXPORT", "agent.workers.exporting:export", 9, _export, is_preparing=True),
    )
}


def requirement(kind: str, size_bytes: int) -> Requirement:
    """What a task of the kind on so much data needs by its formula; raises KeyError."""
    return KINDS[kind].requirement(size_bytes)
