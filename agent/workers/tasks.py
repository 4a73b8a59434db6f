"""Finds the function of a task in a worker process; which kinds there are stands in `agent.scheduler.table`.

A task is a plain function in a process of its own: it may block, compute and use memory, and it may be killed at any
instant, so whatever it leaves on disk is either complete or recognisable as a leftover.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable

from agent.dagstore.access import Fetch
from agent.scheduler.table import KINDS
from agent.workers.messages import Params

Progress = Callable[[int, int], None]
"""Takes (done, total), in bytes as a rule."""

Task = Callable[[Params, Progress, Fetch], Params]
"""What the task works on, whom to tell how far it is, and who gets what of a transient is not there."""


def load(kind: str) -> Task:
    """The function for `kind`, imported now; raises KeyError, also for what is done in the agent."""
    module, _, name = KINDS[kind].function.partition(":")
    if not module:
        raise KeyError(kind)
    task: Task = getattr(importlib.import_module(module), name)
    return task
