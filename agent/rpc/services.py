"""What the methods work with: one value, made by `agent.service`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import trio

from agent.dagstore.dagstore import Dagstore
from agent.dagstore.leases import Leases
from agent.rpc.backend import Doctor, Verifier
from agent.rpc.tokens import Tokens
from agent.workers import WorkerPool


@dataclass(frozen=True, slots=True)
class Services:
    """The parts of one agent that answer calls."""

    dagstore: Dagstore
    leases: Leases
    pool: WorkerPool
    directory: Path  # $CARFS_PATH
    version: str
    stop: trio.Event
    started: float  # time.monotonic()
    tokens: Tokens
    addresses: list[str] = field(default_factory=list)  # of TCP, once they are bound
    verifier: Verifier | None = None
    doctor: Doctor | None = None
