"""Worker processes: heavy work outside of the event loop, one task at a time each."""

from agent.workers.pool import WorkerDied, WorkerFailed, WorkerPool, open_pool

__all__ = ["WorkerDied", "WorkerFailed", "WorkerPool", "open_pool"]
