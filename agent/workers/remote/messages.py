"""What the agent and a remote worker say to each other, as the RPC carries it.

The worker calls `Carfs.WorkerJoin` with a `Hello`; what that streams is `ToWorker`: first a `Welcome`, last an `End`.
What the worker has to say goes by `Carfs.WorkerReport`, a `Report` at least each heartbeat. A *ticket* stands for one
join: what comes with another one is refused, so that nothing is taken from a worker that was given up. An *assignment*
is one attempt of one task at one worker.

What a task takes and gives travels as text, in the standard library's JSON: see `agent.workers.messages`.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from agent.resources.facts import Snapshot
from agent.scheduler.tasks import Task

PROTOCOL = 1
"""Rises when one side would no longer understand the other."""

MISSED = 3  # heartbeats, after which either side gives the other up

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=255)]
Bytes = Annotated[int, msgspec.Meta(ge=0)]


class _Message(msgspec.Struct, frozen=True, tag_field="Message", rename="pascal"):
    """Names in Go's spelling; fields of a newer minor version are passed over."""


class Status(msgspec.Struct, frozen=True, rename="pascal"):
    """How a worker is."""

    snapshot: Snapshot
    disk_left: Bytes = 0
    used: dict[str, int] = {}  # memory of each assignment's process, in bytes
    problem: str = ""  # why it can do nothing at all here


class Welcome(_Message, frozen=True, tag="welcome"):
    """The worker has joined."""

    ticket: str
    heartbeat_s: float
    directory: str  # $CARFS_PATH of the agent, which the worker must see at the same path
    results: str  # the folder below which results go
    proof: str  # what stands in the file `sights.PROOF` there
    version: str = ""


class Assign(_Message, frozen=True, tag="assign"):
    """Do this."""

    assignment: str
    task: Task
    memory_limit: Bytes
    text: str  # JSON: {"params": …, "sights": …}, see `sights`


class Cancel(_Message, frozen=True, tag="cancel"):
    """Kill what runs for it; answered by `Cancelled`, or by what it came to before that."""

    assignment: str


class Answer(_Message, frozen=True, tag="answer"):
    """To a `Need`: the bytes are there, or why not."""

    assignment: str
    number: int
    error_class: str = ""  # empty: they are there
    error: str = ""


class Enabled(_Message, frozen=True, tag="enabled"):
    """Whether the worker is given new tasks."""

    enabled: bool


class End(_Message, frozen=True, tag="end"):
    """The worker is given nothing any more, and what it still runs is not waited for."""

    reason: str


ToWorker = Welcome | Assign | Cancel | Answer | Enabled | End


class Progress(_Message, frozen=True, tag="progress"):
    """How far a task is."""

    assignment: str
    done: int
    total: int


class Need(_Message, frozen=True, tag="need"):
    """These bytes of the task's transient are missing, or (`again`) wrong; answered under `number`."""

    assignment: str
    number: int
    offset: Bytes
    length: Bytes
    again: bool = False


class Want(_Message, frozen=True, tag="want"):
    """These will be needed soon."""

    assignment: str
    ranges: list[tuple[int, int]]


class Finished(_Message, frozen=True, tag="finished"):
    """It is done."""

    assignment: str
    text: str  # JSON of the result
    peak_bytes: Bytes = 0


class Failed(_Message, frozen=True, tag="failed"):
    """The task says that it failed."""

    assignment: str
    error_class: str
    error: str


class Died(_Message, frozen=True, tag="died"):
    """Its process has ended without a result."""

    assignment: str
    error: str
    returncode: int | None = None
    out_of_memory: bool = False


class Barred(_Message, frozen=True, tag="barred"):
    """The worker cannot do it; others may."""

    assignment: str
    reason: str


class Cancelled(_Message, frozen=True, tag="cancelled"):
    """Its process was killed, as the agent has asked."""

    assignment: str


class Leaving(_Message, frozen=True, tag="leaving"):
    """The worker takes nothing new; once it is `done`, it is gone."""

    done: bool = False


FromWorker = Progress | Need | Want | Finished | Failed | Died | Barred | Cancelled | Leaving
Outcome = Finished | Failed | Died | Barred | Cancelled
"""The last of an assignment."""


class Hello(msgspec.Struct, frozen=True, rename="pascal"):
    """Who joins. Unknown fields are passed over, so that the number of the protocol can be compared."""

    protocol: int
    session: Name  # of the program: another one when it has been started anew
    name: Name
    kinds: list[str]
    status: Status
    version: str = ""
    enabled: bool = True  # as it was last told


class Report(msgspec.Struct, frozen=True, rename="pascal"):
    """What a worker has to say. One that was sent again, since no answer came, has the same `sequence`."""

    session: Name
    ticket: Name
    sequence: int
    messages: list[FromWorker] = []
    status: Status | None = None


def shown(text: str) -> str:
    """Text that may hold bytes of a path that are no UTF-8, as it can be sent."""
    return text.encode(errors="backslashreplace").decode()
