"""Worker processes: heavy work outside of the event loop, one task at a time each."""

from agent.workers.pool import Needs, WorkerDied, WorkerFailed, WorkerPool, open_pool

__all__ = ["Needs", "WorkerDied", "WorkerFailed", "WorkerPool", "open_pool"]
