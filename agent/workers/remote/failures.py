"""What happens to a task besides its failing: the whole worker is lost, or it cannot do this one."""

from __future__ import annotations


class WorkerLost(Exception):
    """The worker is gone, or was too long silent; the task may be done by another one."""


class WorkerBarred(Exception):
    """The worker cannot do this task, and says why; others may."""
