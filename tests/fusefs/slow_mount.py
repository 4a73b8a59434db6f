"""A mount whose shard `slow` has storage that never answers: `python -m tests.fusefs.slow_mount DEADLINE CAR…
MOUNTPOINT`.
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import trio

from agent import logs
from agent.dagstore.access import Fetch
from carlib.cid import RAW, Cid
from fusefs import mounting
from fusefs.catalogue import ShardRecord
from fusefs.local_catalogue import LocalCatalogue, default_cache
from fusefs.service import Mount
from fusefs.stores import OpenShard

_NEVER = threading.Event()


class DeadStorage(OpenShard):
    """Knows where its blocks are, but the data of raw ones does not come."""

    def __init__(self, record: ShardRecord, fetch: Fetch) -> None:
        super().__init__(record, fetch)
        get, read = self.blocks.get, self.blocks.read

        def slow_get(cid: Cid) -> bytes:
            if cid.codec == RAW:
                _NEVER.wait()
            return get(cid)

        def slow_read(cid: Cid, start: int, stop: int) -> bytes:
            _NEVER.wait()
            return read(cid, start, stop)

        if record.key == "slow":
            self.resident = None  # nor is any of it in memory
            self.blocks.get, self.blocks.read = slow_get, slow_read  # type: ignore[method-assign]


def main(deadline: str, *paths: str) -> None:
    logs.set_up("info")
    *cars, mountpoint = map(Path, paths)
    catalogue = LocalCatalogue.open(cars, default_cache(), lambda _: lambda _done, _all: None)
    options = mounting.fuse_options([], "test")
    mount = Mount(catalogue, mountpoint, options, deadline_s=float(deadline), opener=DeadStorage)

    async def run() -> None:
        await mount.run(lambda: None, of_agent=False)

    trio.run(run)


if __name__ == "__main__":
    main(*sys.argv[1:])
