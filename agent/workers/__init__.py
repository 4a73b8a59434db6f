"""Worker processes: heavy work outside of the event loop, one task at a time each.

These processes import this package too, so nothing here imports the event loop: it would cost each of them 8 MiB and
most of its start. `local` has what starts them.
"""

from agent.workers.executor import Done, Executor, Needs
from agent.workers.failures import WorkerBarred, WorkerDied, WorkerFailed, WorkerLost

__all__ = [
    "Done",
    "Executor",
    "Needs",
    "WorkerBarred",
    "WorkerDied",
    "WorkerFailed",
    "WorkerLost",
]
