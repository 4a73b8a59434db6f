"""The inverted index: whether it agrees with the shards' own, and having it made anew."""

from __future__ import annotations

import msgspec

from agent.dagstore.failures import ShardError, class_of_os_error
from agent.dagstore.inverted.index import Statistics
from agent.rpc.peers import Permission
from agent.rpc.registry import NoParams, method
from agent.rpc.services import Services
from agent.workers import WorkerFailed


class Problem(msgspec.Struct, frozen=True, rename="pascal"):
    """Something that the inverted index has other than a shard's own; `key` is null for a whole segment."""

    key: str | None
    problem: str


@method("Carfs.CheckInvertedIndex", Permission.ADMIN)
async def check_inverted_index(services: Services, params: NoParams) -> list[Problem]:
    """What the inverted index has other than the shards' own indices, all of which are read for it."""
    try:
        found = await services.dagstore.inverted.check()
    except WorkerFailed as error:
        raise ShardError(error.error_class, str(error)) from error
    return [Problem(key, problem) for key, problem in found]


@method("Carfs.RebuildInvertedIndex", Permission.ADMIN)
async def rebuild_inverted_index(services: Services, params: NoParams) -> Statistics:
    """Makes the inverted index anew from the shards' own; answers when all are in."""
    try:
        await services.dagstore.inverted.rebuild()
    except OSError as error:
        message = f"the inverted index stays as it was: {error.strerror}"
        raise ShardError(class_of_os_error(error), message) from error
    return services.dagstore.inverted.statistics()
