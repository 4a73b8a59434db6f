"""Reads all limits of this process at one moment; some fifty small files, well below a millisecond."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING

from agent.resources import rule
from agent.resources.context import Context
from agent.resources.facts import Fact, Mode, Resource, Snapshot
from agent.resources.files import Files
from agent.resources.pressure import pressure
from agent.resources.sources import SOURCES

if TYPE_CHECKING:
    from agent.resources.settings import ResourcesConfig

_log = logging.getLogger(__name__)


def read(files: Files, settings: ResourcesConfig, *, pid: int | None = None) -> Snapshot:
    """What limits a process (None: this one) and how much is left. Raises nothing: what cannot be read is a Problem."""
    context = Context(files, settings, pid)
    facts: list[Fact] = []
    for name, limits in SOURCES:
        try:
            facts += limits(context)
        except Exception as error:  # a mistake in one source must not hide what the others say
            _log.exception("limits cannot be read from %s", name)
            context.problem(name, "", f"a mistake in carfs: {error!r}")
    tightest = rule.bound(facts, Resource.MEMORY).headroom_by
    pressed = pressure(context, tightest)
    return rule.conclude(facts, context.problems, _mode(context, facts), pressed)


def _mode(context: Context, facts: Iterable[Fact]) -> Mode:
    """Where the memory controller is for this process."""
    if "memory" in context.groups.v1_controllers:
        if "memory" not in context.groups.v1:
            return Mode.NONE
        return Mode.V1 if context.groups.v2 is None else Mode.HYBRID
    place = context.groups.v2
    if place is None or not place.levels:
        return Mode.NONE
    if any(fact.resource is Resource.MEMORY and fact.source == "cgroup-v2" for fact in facts):
        return Mode.V2
    top = context.text("cgroup", f"{place.levels[0].folder}/cgroup.controllers", optional=True) or ""
    return Mode.V2 if "memory" in top.split() else Mode.NONE
