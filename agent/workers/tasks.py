"""The kinds of task that a worker process can do; a new kind is one module and one line in `KINDS`.

A task is a plain function in a process of its own: it may block, compute and use memory, and it may be killed at any
instant, so whatever it leaves on disk is either complete or recognisable as a leftover.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable

from agent.workers.messages import Params

Progress = Callable[[int, int], None]
"""Takes (done, total), in bytes as a rule."""

Task = Callable[[Params, Progress], Params]

KINDS: dict[str, str] = {
    "index": "agent.workers.indexing:build_index",
    "invert": "agent.workers.inverting:invert",
    "check-inverted": "agent.workers.inverting:check_inverted",
}


def load(kind: str) -> Task:
    """The function for `kind`, imported now; raises KeyError."""
    module, _, name = KINDS[kind].partition(":")
    task: Task = getattr(importlib.import_module(module), name)
    return task
