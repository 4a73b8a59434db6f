"""The sources of limits: one function a source. A new one is a function and a line here."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from agent.resources.context import Context
from agent.resources.facts import Fact
from agent.resources.sources import affinity, cgroup_v1, cgroup_v2, configured, host, rlimits

SOURCES: tuple[tuple[str, Callable[[Context], Iterator[Fact]]], ...] = (
    (host.SOURCE, host.limits),
    (cgroup_v1.SOURCE, cgroup_v1.limits),
    (cgroup_v2.SOURCE, cgroup_v2.limits),
    (affinity.SOURCE, affinity.limits),
    (rlimits.SOURCE, rlimits.limits),
    (configured.SOURCE, configured.limits),
)
"""In the order in which `--explain` shows them: from the machine down to the process."""
