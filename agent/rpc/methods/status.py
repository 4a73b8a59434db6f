"""The agent itself: its version, what it does now, its end."""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path

from agent.dagstore.lifecycle import ShardState
from agent.rpc.jsonrpc import Json
from agent.rpc.peers import Permission
from agent.rpc.registry import NoParams, method
from agent.rpc.services import Services

logger = logging.getLogger(__name__)

MINER_API_VERSION = 1 << 16 | 5 << 8  # of Lotus' storage miner API, whose method names these are


@method("Filecoin.Version", Permission.READ)
async def version(services: Services, params: NoParams) -> Json:
    return {"Version": f"carfs-{services.version}", "APIVersion": MINER_API_VERSION, "BlockDelay": 0}


@method("Carfs.Status", Permission.READ)
async def status(services: Services, params: NoParams) -> Json:
    """What the agent does now; sizes in bytes, times in seconds."""
    pool = services.pool.statistics()
    counts = services.dagstore.counts()
    return {
        "Version": services.version,
        "Pid": os.getpid(),
        "Path": str(services.directory),
        "UptimeSeconds": round(time.monotonic() - services.started, 3),
        "MemoryBytes": _resident_bytes(),
        "Shards": {state.value: counts[state.value] for state in ShardState if state.value in counts},
        "Indexing": services.dagstore.indexing(),
        "Workers": {"Busy": pool.busy, "Idle": pool.idle, "Waiting": pool.waiting, "Limit": pool.limit},
        "Clients": [{"Client": client, "Leases": leases} for client, leases in services.leases.held()],
    }


@method("Carfs.Shutdown", Permission.ADMIN)
async def shutdown(services: Services, params: NoParams) -> None:
    logger.info("asked to stop over RPC")
    services.stop.set()


def _resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGESIZE")
