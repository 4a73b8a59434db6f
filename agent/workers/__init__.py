"""Worker processes: heavy work outside of the event loop, one task at a time each."""

from agent.workers.executor import Done, Executor, Needs
from agent.workers.failures import WorkerBarred, WorkerDied, WorkerFailed, WorkerLost
from agent.workers.local import LocalExecutor, open_local

__all__ = [
    "Done",
    "Executor",
    "LocalExecutor",
    "Needs",
    "WorkerBarred",
    "WorkerDied",
    "WorkerFailed",
    "WorkerLost",
    "open_local",
]
