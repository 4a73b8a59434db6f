"""What sources ask with: one pool of connections, and whom it may connect to."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field

from agent.dagstore.failures import ErrorClass, ShardError
from agent.dagstore.mounts.config import MountsConfig
from agent.dagstore.mounts.fetcher import Answer, Fetcher, PooledFetcher, Poster
from agent.dagstore.mounts.mount import TryLater
from agent.dagstore.mounts.urls import HttpUrl
from agent.ipfs.settings import IpfsConfig
from agent.retrievals.settings import RetrievalConfig

_REDIRECTS = (301, 302, 303, 307, 308)


@dataclass(frozen=True, slots=True)
class Means:
    """How to ask servers."""

    fetcher: Fetcher
    poster: Poster
    ipfs: IpfsConfig
    max_redirects: int = 3
    trusted: set[tuple[str, int]] = field(
        default_factory=set
    )  # who may be private: named by the operator or by an admin

    def trust(self, url: HttpUrl) -> None:
        self.trusted.add((url.host, url.port))

    @asynccontextmanager
    async def get(
        self, url: HttpUrl, headers: Mapping[str, str], *, partial: bool = False
    ) -> AsyncIterator[Answer]:
        """The answer to a GET, redirects followed; 200 alone, or 206 to who asked for a range.

        Raises ShardError by the status: not-found (404, 410, 412, 451), denied, busy (429, 5xx), invalid.
        """
        for _ in range(self.max_redirects + 1):
            async with self.fetcher.get(url, headers) as answer:
                if answer.status in _REDIRECTS and "location" in answer.headers:
                    url = url.join(answer.headers["location"])
                    continue
                if answer.status == 200 or (partial and answer.status == 206):
                    yield answer
                    return
                raise await _refusal(url, answer)
        raise ShardError(ErrorClass.INVALID, f"{url.shown}: more than {self.max_redirects} redirects")


async def _refusal(url: HttpUrl, answer: Answer) -> ShardError:
    said = await _beginning(answer)
    message = f"{url.shown} answered {answer.status}" + (f": {said}" if said else "")
    status = answer.status
    if status in (404, 410, 412, 451):
        return ShardError(ErrorClass.NOT_FOUND, message)
    if status in (401, 403):
        return ShardError(ErrorClass.DENIED, message)
    if status == 429 or status >= 500:
        after = answer.headers.get("retry-after", "")
        return TryLater(message, after_s=float(after) if after.isdigit() else None)
    return ShardError(ErrorClass.INVALID, message)


async def _beginning(answer: Answer) -> str:
    """The first line of what was said, for people."""
    if not answer.headers.get("content-type", "").startswith("text/plain"):
        return ""
    data = b""
    async for piece in answer.body:
        data += piece
        if len(data) > 200:
            break
    line = data[:200].decode("utf-8", "replace").strip().partition("\n")[0]
    return "".join(char for char in line if char.isprintable())


@asynccontextmanager
async def open_means(
    config: RetrievalConfig, tls: ssl.SSLContext | None = None, *, ipfs: IpfsConfig | None = None
) -> AsyncIterator[Means]:
    """For the time of the block."""
    trusted: set[tuple[str, int]] = set()
    pool = MountsConfig(
        allow_private=config.allow_private,
        connections=0,
        connect_timeout_s=config.connect_timeout_s,
        response_timeout_s=config.response_timeout_s,
        stall_timeout_s=config.stall_timeout_s,
        max_redirects=config.max_redirects,
    )
    async with aclosing(PooledFetcher(pool, tls=tls, trusted=trusted)) as fetcher:
        yield Means(fetcher, fetcher, ipfs or IpfsConfig(), config.max_redirects, trusted)
