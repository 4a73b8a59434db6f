"""What mounts need to do I/O. They are values and hold none of it; whoever asks them hands it in."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field

import trio

from agent.dagstore.failures import ErrorClass, ShardError
from agent.dagstore.mounts.config import MountsConfig
from agent.dagstore.mounts.fetcher import PooledFetcher
from agent.dagstore.mounts.remote import Web
from agent.dagstore.mounts.threads import Threads


@dataclass(frozen=True, slots=True)
class Environment:
    """The means; one without arguments knows this machine's disks and no network."""

    threads: Threads = field(default_factory=Threads)
    remote: Web | None = None

    def web(self) -> Web:
        """How to read from servers; raises ShardError(invalid) where there is no network."""
        if self.remote is None:
            raise ShardError(ErrorClass.INVALID, "this process reads local files only")
        return self.remote


@asynccontextmanager
async def open_environment(config: MountsConfig) -> AsyncIterator[Environment]:
    """The environment that the configuration describes, for the time of the block; raises ShardError(invalid)."""
    threads = Threads()
    tls = await trio.to_thread.run_sync(_tls, config.ca_file)  # reads a few hundred certificates
    async with aclosing(PooledFetcher(config, tls=tls)) as fetcher:
        yield Environment(threads=threads, remote=Web(fetcher, config.max_redirects))


def _tls(ca_file: str) -> ssl.SSLContext:
    """What the system trusts, and the operator."""
    context = ssl.create_default_context()
    if ca_file:
        try:
            context.load_verify_locations(ca_file)
        except (OSError, ssl.SSLError) as error:
            message = f"mounts.ca_file: {ca_file}: {error.strerror or error}"
            raise ShardError(ErrorClass.INVALID, message) from error
    return context
