"""What mounts need to do I/O. They are values and hold none of it; whoever asks them hands it in."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from agent.dagstore.mounts.config import MountsConfig
from agent.dagstore.mounts.threads import Threads


@dataclass(frozen=True, slots=True)
class Environment:
    """The means; one without arguments knows this machine's disks and no network."""

    threads: Threads = field(default_factory=Threads)


@asynccontextmanager
async def open_environment(config: MountsConfig) -> AsyncIterator[Environment]:
    """The environment that the configuration describes, for the time of the block."""
    yield Environment()
