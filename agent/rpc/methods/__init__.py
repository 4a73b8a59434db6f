"""The methods, a module for each noun: a method is one function and the registration line above it."""

from agent.rpc.methods import (
    auth,
    bulk,
    client,
    dagstore,
    discovery,
    doctor,
    export,
    imports,
    inverted,
    leases,
    lotus_imports,
    resources,
    scrub,
    shards,
    status,
    tasks,
    workers_remote,
)
from agent.rpc.registry import METHODS, answer
from agent.rpc.services import Services

__all__ = [
    "METHODS",
    "Services",
    "answer",
    "auth",
    "bulk",
    "client",
    "dagstore",
    "discovery",
    "doctor",
    "export",
    "imports",
    "inverted",
    "leases",
    "lotus_imports",
    "resources",
    "scrub",
    "shards",
    "status",
    "tasks",
    "workers_remote",
]
