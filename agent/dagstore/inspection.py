"""Looking at a shard's data and index before they are used: are they still what was indexed?"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from agent.dagstore import index_files, mounts
from agent.dagstore.failures import ShardError
from agent.dagstore.mounts import FileMount, Fingerprint
from agent.dagstore.mounts.environment import Environment
from agent.dagstore.records import IndexFacts, ShardRow, source_url


class Inspector:
    """Looks at data through its mount, which bounds how long that may take, and at indices in one directory."""

    def __init__(self, index_directory: Path, environment: Environment | None = None) -> None:
        self._index_directory = index_directory
        self._environment = environment or Environment()

    async def difference(self, url: str, facts: IndexFacts) -> str:
        """What is not as it was when `facts` were noted; empty if all is.

        Raises ShardError if the data cannot be looked at: gone, denied, busy (not the data's fault).
        """
        changed = facts.fingerprint.differs_from(await self.look(url))
        if changed:
            return f"the data changed since it was indexed: {changed}"
        return self.index_difference(facts)

    async def look(self, url: str) -> Fingerprint:
        """What is there now; raises ShardError."""
        return await mounts.parse(url).look(self._environment)

    def index_difference(self, facts: IndexFacts) -> str:
        """Likewise of the index file alone."""
        try:
            # In the event loop, as the catalogue beside it is: without that disk the agent can do nothing anyway.
            found = (self._index_directory / facts.name).stat()
        except OSError:
            return "its index file is missing"
        if found.st_size != facts.size:
            return "its index file has another size"
        return "" if facts.format == index_files.FORMAT else "its index is of an older version"

    async def odd(self, rows: Sequence[ShardRow]) -> list[str]:
        """The keys of those that deserve a closer look: the data or the index is not as it was, or was not there.

        In passing: only what lies on this machine, one thread an origin; of what does not answer nothing is said.
        """
        odd: list[str] = []
        by_origin: dict[str, list[tuple[ShardRow, FileMount]]] = {}
        for row in rows:
            mount = mounts.parse(source_url(row))
            if row.error_class is not None:
                odd.append(row.key)
            elif row.index is not None and isinstance(mount, FileMount):
                by_origin.setdefault(mount.origin, []).append((row, mount))
        for origin, some in by_origin.items():
            with suppress(ShardError):
                odd += await self._environment.threads.run(origin, partial(self._odd, some))
        return odd

    def _odd(self, some: Sequence[tuple[ShardRow, FileMount]]) -> list[str]:
        return [row.key for row, mount in some if self._is_odd(row, mount)]

    def _is_odd(self, row: ShardRow, mount: FileMount) -> bool:
        assert row.index is not None
        try:
            if row.index.format != index_files.FORMAT:
                return True
            size = (self._index_directory / row.index.name).stat().st_size
            return size != row.index.size or bool(row.index.fingerprint.differs_from(mount.stat()))
        except (OSError, ShardError):
            return True
