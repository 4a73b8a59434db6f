"""Who may make names in `imports/` and `shards/`: those whom the agent itself lets do so, said in permission bits."""

from __future__ import annotations

import os

from agent.client import Client
from agent.repository import NoHome, Repository
from fusefs.imports import Writers
from fusefs.staging import Staging


def writers(client: Client) -> Writers:
    """The agent's user, which has its socket, and its admin group, where that can be read in its configuration; root
    may everything anyway."""
    try:
        owner = os.stat(os.path.realpath(client.path)).st_uid  # noqa: PTH116
    except OSError:
        owner = None
    group = _admin_gid()
    return Writers(owner, group, 0o755 if group is None else 0o775)


def staging() -> Staging:
    """Where this mount puts what is copied, in the agent's own folder; made the agent's if root mounts for another."""
    repository = Repository.from_environment()
    try:
        found = repository.staging.stat()
    except OSError:
        return Staging(repository.staging)
    is_other = os.geteuid() == 0 and found.st_uid != 0
    return Staging(repository.staging, (found.st_uid, found.st_gid) if is_other else None)


def _admin_gid() -> int | None:
    from agent import config  # 20 ms, for mounts of an agent alone

    try:
        path = Repository.from_environment().config
        return config.load(path, required=False, environ=os.environ).admin_gid()
    except (config.ConfigError, NoHome, OSError):
        return None
