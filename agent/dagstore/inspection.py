"""Looking at a shard's data and index before they are used: are they still what was indexed?"""

from __future__ import annotations

from pathlib import Path

from agent.dagstore import mounts
from agent.dagstore.mounts.environment import Environment
from agent.dagstore.records import IndexFacts


class Inspector:
    """Looks at data through its mount, which bounds how long that may take, and at indices in one directory."""

    def __init__(self, index_directory: Path, environment: Environment | None = None) -> None:
        self._index_directory = index_directory
        self._environment = environment or Environment()

    async def difference(self, url: str, facts: IndexFacts) -> str:
        """What is not as it was when `facts` were noted; empty if all is.

        Raises ShardError if the data cannot be looked at: gone, denied, busy (not the data's fault).
        """
        changed = facts.fingerprint.differs_from(await mounts.parse(url).look(self._environment))
        if changed:
            return f"the data changed since it was indexed: {changed}"
        try:
            # In the event loop, as the catalogue beside it is: without that disk the agent can do nothing anyway.
            found = (self._index_directory / facts.name).stat()
        except OSError:
            return "its index file is missing"
        return "" if found.st_size == facts.size else "its index file has another size"
