"""A file of a web server, read by ranges: `http://host/path` and `https://host/path`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from agent.dagstore.mounts import probing
from agent.dagstore.mounts.mount import Fingerprint, Probe, check_range, nothing
from agent.dagstore.mounts.urls import HttpUrl

if TYPE_CHECKING:
    from agent.dagstore.access import Access
    from agent.dagstore.mounts.environment import Environment


@dataclass(frozen=True, slots=True)
class HttpMount:
    """What the server gives at this URL."""

    location: HttpUrl

    @classmethod
    def parse(cls, url: str) -> HttpMount:
        """From any spelling; raises ShardError(invalid)."""
        return cls(HttpUrl.parse(url))

    @property
    def url(self) -> str:
        return self.location.text

    @property
    def path(self) -> Path | None:
        return None

    @property
    def origin(self) -> str:
        return self.location.origin

    def access(self, environment: Environment | None = None) -> Access | None:
        return None

    async def look(self, environment: Environment) -> Fingerprint:
        return await environment.web().look(self.location, str(self))

    async def probe(self, environment: Environment) -> Probe:
        return await probing.probe(self, environment)

    @asynccontextmanager
    async def stream(
        self, environment: Environment, offset: int, length: int, expected: Fingerprint
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        check_range(self, offset, length, expected.size)
        if not length:  # HTTP has no way to ask for it
            yield nothing()
            return
        web = environment.web()
        async with web.stream(self.location, str(self), offset, length, expected) as pieces:
            yield pieces

    def __str__(self) -> str:
        return self.location.shown
