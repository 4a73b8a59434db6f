"""Data that is its own URL, for tests and experiments: `bytes:` and base64url (RFC 4648, 5) without padding."""

from __future__ import annotations

import base64
import re
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from agent.dagstore.failures import ErrorClass, ShardError
from agent.dagstore.mounts import probing
from agent.dagstore.mounts.mount import MAX_CHUNK_BYTES, DataChanged, Fingerprint, Probe, check_range

if TYPE_CHECKING:
    from agent.dagstore.access import Access
    from agent.dagstore.mounts.environment import Environment

_BASE64URL = re.compile(r"([A-Za-z0-9_-]*)={0,2}", re.ASCII)


@dataclass(frozen=True, slots=True)
class BytesMount:
    """These bytes; they cannot change, go or fail."""

    data: bytes

    @classmethod
    def parse(cls, url: str) -> BytesMount:
        """From `bytes:<base64url>`, padded or not; raises ShardError(invalid)."""
        match = _BASE64URL.fullmatch(url.split(":", 1)[1])
        if match is None or len(match[1]) % 4 == 1:
            raise ShardError(ErrorClass.INVALID, "what follows bytes: is not base64url")
        return cls(base64.urlsafe_b64decode(match[1] + "=" * (-len(match[1]) % 4)))

    @property
    def url(self) -> str:
        return "bytes:" + base64.urlsafe_b64encode(self.data).decode().rstrip("=")

    @property
    def path(self) -> Path | None:
        return None

    @property
    def origin(self) -> str:
        return "bytes:"

    def access(self, environment: Environment | None = None) -> Access | None:
        return None

    async def look(self, environment: Environment) -> Fingerprint:
        return Fingerprint(len(self.data))

    async def probe(self, environment: Environment) -> Probe:
        return await probing.probe(self, environment)

    @asynccontextmanager
    async def stream(
        self, environment: Environment, offset: int, length: int, expected: Fingerprint
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        check_range(self, offset, length, expected.size)
        difference = expected.differs_from(Fingerprint(len(self.data)))
        if difference:
            raise DataChanged(self, difference)
        async with aclosing(_pieces(self.data[offset : offset + length])) as pieces:
            yield pieces

    def __str__(self) -> str:
        return f"bytes: of {len(self.data)} bytes"


async def _pieces(data: bytes) -> AsyncGenerator[bytes, None]:
    for start in range(0, len(data), MAX_CHUNK_BYTES):
        yield data[start : start + MAX_CHUNK_BYTES]
