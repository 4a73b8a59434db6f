"""The values that the scheduler decides on: tasks, what runs, workers as they are seen, and what was decided.

A *worker* is here what Lotus calls one: a group of processes under one set of limits, the agent's own or a remote one
(`carfs worker --connect`). Nothing here has a clock: times are seconds of whoever decides.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

from agent.scheduler.requirement import Requirement

DEAL_PRIORITY = 1024  # Lotus' DealSectorPriority; here: somebody waits for it
BACKGROUND_PRIORITY = -1024  # nobody does: scrub, rebuilding


class Phase(enum.StrEnum):
    """Where a task that was assigned is."""

    PREPARING = "preparing"  # its inputs are being fetched, or its process is being started
    ACTIVE = "active"


@dataclass(frozen=True, slots=True)
class Task:
    """One piece of heavy work."""

    id: str  # a UUID; Lotus' SchedId, and its CallID once it runs
    kind: str
    subject: str  # the shard or the file that it is about, for people
    size_bytes: int  # of the data that it works on; 0: not known
    priority: int  # higher goes first
    requirement: Requirement
    sequence: int  # rises with each task: of equals, the first that came goes first
    queued_s: float
    barred: frozenset[str] = frozenset()  # workers that have said that they cannot do it
    attempt: int = 1


@dataclass(frozen=True, slots=True)
class Running:
    """A task on a worker."""

    task: Task
    phase: Phase
    used_bytes: int  # memory that its process has now, without what it shares with others
    started_s: float


@dataclass(frozen=True, slots=True)
class WorkerView:
    """A worker as the scheduler sees it at one moment; sizes in bytes, from a `resources.facts.Snapshot`."""

    id: str  # of the session
    name: str  # of the host, or as it was given
    kinds: frozenset[str]  # what it can do, and may
    enabled: bool
    memory: int  # the limit
    memory_left: int  # headroom now, with what runs counted as it is now
    memory_by: str  # what binds it: "system.slice/carfs.service memory.max"
    swap: int
    swap_left: int
    cpus: int
    pids_left: int
    disk_left: int
    pressed: str = (
        ""  # why nothing new is to be begun although there seems to be room: PSI, memory.high; "": it is not
    )
    running: tuple[Running, ...] = ()
    note: str = ""  # of a remote one: why it can do nothing, or could not do something
    kept_free: int = 0  # of memory that is left besides, and that no task gets


@dataclass(frozen=True, slots=True)
class Wait:
    """Why a task waits: the first of its obstacles on the worker that comes nearest."""

    reason: str  # "needs 512 MiB, headroom 310 MiB under system.slice/carfs.service memory.max"
    worker: str = ""  # its id; "": no worker could ever do it
    is_hopeless: bool = False  # it would not fit if nothing else ran: limits have to change
    is_stuck: bool = False  # nothing of ours runs that would give back what it lacks: others have to


@dataclass(frozen=True, slots=True)
class Decision:
    """What is to be begun where, in this order, and why the others wait, by the tasks' ids."""

    assigned: tuple[tuple[str, str], ...] = ()
    waiting: Mapping[str, Wait] = field(default_factory=dict)
