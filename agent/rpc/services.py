"""What the methods work with: one value, made by `agent.service`."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import trio

from agent.dagstore.dagstore import Dagstore
from agent.dagstore.indexer import Workers
from agent.dagstore.leases import Leases
from agent.dagstore.records import ShardRecord, without_secrets
from agent.gateway.application import Serving
from agent.imports.opening import Importing
from agent.market.deals import Deals
from agent.market.migrating import Migration
from agent.market.sealing import Sealing
from agent.metrics import Metrics
from agent.network.kernel import Announcing
from agent.retrievals.retrievals import Retrievals
from agent.rpc.backend import Doctor, Verifier
from agent.rpc.peers import Caller, Permission
from agent.rpc.tokens import Tokens
from agent.scheduler.jobs import Scheduling
from agent.workers.remote.joining import RemoteWorkers


@dataclass(frozen=True, slots=True)
class Services:
    """The parts of one agent that answer calls."""

    dagstore: Dagstore
    leases: Leases
    scheduler: Scheduling
    directory: Path  # $CARFS_PATH
    version: str
    stop: trio.Event
    started: float  # time.monotonic()
    tokens: Tokens
    addresses: list[str] = field(default_factory=list)  # of TCP, once they are bound
    verifier: Verifier | None = None
    doctor: Doctor | None = None
    remote: RemoteWorkers | None = None  # those that have joined
    metrics: Metrics = field(default_factory=Metrics)
    workers: Workers | None = None  # for what is heavy and is not about a shard
    importing: Importing | None = None
    serving: Serving | None = None  # data over HTTP
    retrievals: Retrievals | None = None
    announcing: Announcing | None = None
    deals: Deals | None = None
    sealing: Sealing | None = None
    migration: Migration | None = None
    sees_secrets: bool = False  # whoever they answer now

    def for_caller(self, caller: Caller) -> Services:
        """The same for one caller."""
        return replace(self, sees_secrets=caller.permission >= Permission.ADMIN)

    def record(self, key: str) -> ShardRecord:
        """The record of a shard, as far as the caller may see it; raises ShardError(not-found)."""
        return self.seen(self.dagstore.record(key))

    def seen(self, record: ShardRecord) -> ShardRecord:
        """What the caller may see of it: URLs with what is secret in them are for admins."""
        return record if self.sees_secrets else without_secrets(record)
