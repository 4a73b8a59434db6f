"""How a task ends without a result, by whose fault it is."""

from __future__ import annotations

import signal

from agent.dagstore.failures import ErrorClass


class WorkerFailed(Exception):
    """The task said that it failed, or was called off; `error_class` is its class."""

    def __init__(self, error_class: ErrorClass, message: str) -> None:
        super().__init__(message)
        self.error_class = error_class


class WorkerDied(WorkerFailed):
    """The process ended, or wrote nonsense, before it gave a result; `returncode` is negative for a signal.

    `out_of_memory`: it outgrew what was reserved for it, so that it needs more the next time.
    """

    def __init__(self, what: str, returncode: int | None, *, out_of_memory: bool = False) -> None:
        self.was_killed = returncode == -signal.SIGKILL
        super().__init__(ErrorClass.BUSY if self.was_killed else ErrorClass.BUG, what)
        self.returncode = returncode
        self.out_of_memory = out_of_memory


class WorkerLost(WorkerFailed):
    """The whole worker is gone, and nobody knows what became of the task: another one does it."""

    def __init__(self, what: str) -> None:
        super().__init__(ErrorClass.BUSY, what)


class WorkerBarred(WorkerFailed):
    """The worker cannot do this task (it does not see the file, say): others may."""

    def __init__(self, what: str) -> None:
        super().__init__(ErrorClass.BUSY, what)
