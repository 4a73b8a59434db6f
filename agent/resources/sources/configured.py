"""Limits of ours: `[resources]` of the configuration."""

from __future__ import annotations

from collections.abc import Iterator

from agent.resources.context import Context
from agent.resources.facts import Fact, Resource

SOURCE = "config"


def limits(context: Context) -> Iterator[Fact]:
    settings = context.settings
    memory = settings.memory_bytes()
    if memory is not None:
        note = "used: the agent and its workers, files that they map left out"
        yield Fact(
            Resource.MEMORY, SOURCE, "config", "resources.memory", "", memory, context.own_bytes(), note=note
        )
    if not settings.swap:
        yield Fact(Resource.SWAP, SOURCE, "config", "resources.swap", "", 0, 0)
    if settings.cpus:
        yield Fact(Resource.CPUS, SOURCE, "config", "resources.cpus", "", max(1, round(settings.cpus * 1000)))
