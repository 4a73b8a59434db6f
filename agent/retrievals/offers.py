"""Who elsewhere has a DAG: all that may be asked, and what each of them says to its root."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import trio

from agent.dagstore.failures import ErrorClass, ShardError
from agent.dagstore.mounts.urls import HttpUrl
from agent.ipfs.node import IpfsNode
from agent.retrievals.settings import RetrievalConfig
from agent.transfer.arriving import check
from agent.transfer.source import BlockSource
from agent.transfer.sources import routing
from agent.transfer.sources.means import Means
from agent.transfer.sources.naming import ipfs_node, source_of
from agent.transfer.sources.piece import PieceSource
from carlib.cid import Cid

logger = logging.getLogger(__name__)

ANSWER_S = 15.0  # for one of them


@dataclass(frozen=True, slots=True)
class Offer:
    """What a source says; `error`: why it does not have it, or "" if it has."""

    source: str
    error: str = ""


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """The sources that are not here."""

    config: RetrievalConfig
    means: Means

    def node(self, name: str) -> IpfsNode:
        """An IPFS node by its name; raises ShardError(invalid)."""
        return ipfs_node(name, self.means)

    async def sources(
        self, root: Cid, named: Iterable[str], part: Callable[[int], Path]
    ) -> list[BlockSource]:
        """In the order in which they are asked: those that were named, those of the configuration, and those that
        routers name. Raises ShardError(invalid) for a name that is none."""
        found: list[BlockSource] = []
        for number, name in enumerate(dict.fromkeys([*named, *self.config.sources])):
            found.append(source_of(name, self.means, part(number)))
        for router in self.config.routers:
            url = HttpUrl.parse(router)
            self.means.trust(url)
            try:
                providers = await routing.providers(url, root, self.means)
            except ShardError as error:
                logger.info("%s cannot be asked: %s", url.shown, error)
                continue
            known = {source.name for source in found}
            found += [source for source in providers if source.name not in known]
        return found

    async def offers(self, root: Cid) -> list[Offer]:
        """Of all that may be asked, at once, in the order in which they would be."""
        sources = await self.sources(root, (), _no_part)
        return await self._asked(root, sources)

    async def offer(self, root: Cid, source: str) -> Offer:
        """Of one; raises ShardError(invalid) if it is none."""
        (offer,) = await self._asked(root, [source_of(source, self.means, _no_part(0))])
        return offer

    async def _asked(self, root: Cid, sources: list[BlockSource]) -> list[Offer]:
        found: dict[int, Offer] = {}

        async def ask(number: int, source: BlockSource) -> None:
            found[number] = Offer(source.name, await _answer(source, root))

        async with trio.open_nursery() as nursery:
            for number, source in enumerate(sources):
                nursery.start_soon(ask, number, source)
        return [found[number] for number in range(len(sources))]


async def _answer(source: BlockSource, root: Cid) -> str:
    """Why it does not have the root, or ""."""
    if isinstance(source, PieceSource):
        return "a CAR, which is looked into only when it is fetched"
    try:
        with trio.fail_after(ANSWER_S):
            check(root, await source.raw(root), source.name)
    except ShardError as error:
        return f"it has it not: {error}" if error.error_class is ErrorClass.NOT_FOUND else str(error)
    except trio.TooSlowError:
        return f"no answer within {ANSWER_S:.0f} s"
    return ""


def _no_part(_number: int) -> Path:
    """Nothing is fetched into it."""
    return Path("/dev/null")
