"""Retrievals in a test's own trio loop; open them again at the same place for what a restart would find."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

from agent.catalogue import Catalogue
from agent.dagstore.events import Hub
from agent.ipfs.settings import IpfsConfig
from agent.network.link import AlwaysUp
from agent.retrievals.opening import open_retrievals
from agent.retrievals.retrievals import Retrievals
from agent.retrievals.settings import RetrievalConfig
from agent.transfer.sources.means import open_means


@asynccontextmanager
async def retrievals_at(
    path: Path,
    *,
    hub: Hub | None = None,
    config: RetrievalConfig | None = None,
    ipfs: IpfsConfig | None = None,
) -> AsyncIterator[Retrievals]:
    """With their state below `path`."""
    config = config or RetrievalConfig(attempts=2)
    with closing(Catalogue.open(path / "retrievals.db")) as catalogue:
        async with (
            open_means(config, ipfs=ipfs) as means,
            open_retrievals(
                store=catalogue.retrievals,
                hub=hub or Hub(buffer=1000),
                directory=path / "retrievals",
                means=means,
                link=AlwaysUp(),
                config=config,
            ) as retrievals,
        ):
            yield retrievals
