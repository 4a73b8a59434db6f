"""Where the kernel says that limits, or how near they are, may have changed: a module for each way in which it does."""

from agent.resources.watches import notices, stalls, writes
from agent.resources.watches.source import Source

SOURCES: tuple[Source, ...] = (
    Source("writes", writes.concern, writes.open_watch),
    Source("stalls", stalls.concern, stalls.open_watch),
    Source("notices", notices.concern, notices.open_watch),
)
