"""`GET /metrics`: what is so at the moment, of all parts of the agent, and what was counted; for all who may read."""

from __future__ import annotations

import enum
import os
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from importlib import import_module
from pathlib import Path

import trio
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from agent.dagstore.sector_reads import READS
from agent.imports.transitions import ImportState
from agent.market.transitions import State as DealState
from agent.metrics import Sample, text
from agent.resources.explaining import by
from agent.resources.facts import Snapshot
from agent.retrievals.transitions import State as RetrievalState
from agent.rpc.counting import counted
from agent.rpc.filters import Filter
from agent.rpc.services import Services
from agent.scheduler.document import WAITING, reserved
from agent.scheduler.jobs import Scheduling

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_KIND = re.compile(r"^(ImportState|RetrievalState|StorageDeal)")
"""In front of the names of states on the wire."""


class MetricsPage:
    """The ASGI endpoint."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        found = await text_of(self._services)
        await Response(found, media_type=CONTENT_TYPE)(scope, receive, send)


async def text_of(services: Services) -> bytes:
    """All metrics of the agent."""
    scheduler = services.scheduler
    samples = [*_agent(services), *limits(scheduler.snapshot()), *tasks(scheduler), *_transients(services)]
    samples += [*_states(services), *_gateway(services), *_sectors(), *await _shards(services)]
    await trio.to_thread.run_sync(
        import_module, "prometheus_client"
    )  # the first time others need not wait for it
    return text(services.metrics, samples)


def limits(snapshot: Snapshot) -> Iterator[Sample]:
    """What binds; a limit that there is not has no sample."""
    memory, swap, cpus, pids = snapshot.memory, snapshot.swap, snapshot.cpus, snapshot.pids
    if memory.limit is not None and memory.headroom is not None:
        yield Sample("carfs_memory_used_bytes", memory.used)
    for name, value in (
        ("carfs_memory_limit_bytes", memory.limit),
        ("carfs_memory_headroom_bytes", memory.headroom),
        ("carfs_swap_limit_bytes", swap.limit),
        ("carfs_swap_headroom_bytes", swap.headroom),
        ("carfs_cpus_limit", None if cpus.limit is None else cpus.limit / 1000),
        ("carfs_pids_limit", pids.limit),
        ("carfs_pids_headroom", pids.headroom),
    ):
        if value is not None:
            yield Sample(name, value)
    for resource, bound in (("memory", memory), ("swap", swap), ("cpus", cpus), ("pids", pids)):
        if bound.limit is not None:
            yield Sample("carfs_limit_info", 1, (resource, by(bound.limit_by), by(bound.headroom_by)))
    yield Sample("carfs_limit_problems", len(snapshot.problems))
    if snapshot.pressure is not None:
        yield Sample("carfs_memory_pressure_ratio", snapshot.pressure.some_10s / 100, ("some",))
        yield Sample("carfs_memory_pressure_ratio", snapshot.pressure.full_10s / 100, ("full",))


def tasks(scheduling: Scheduling) -> Iterator[Sample]:
    """Tasks and workers."""
    tally, workers = scheduling.tally(), scheduling.workers()
    for (kind, phase), count in sorted(tally.running.items()):
        yield Sample("carfs_tasks", count, (kind, phase.value))
    for kind, count in sorted(tally.waiting.items()):
        yield Sample("carfs_tasks", count, (kind, WAITING))
    yield Sample("carfs_tasks_hopeless", tally.hopeless)
    yield Sample("carfs_tasks_reserved_bytes", sum(reserved(view.running)[1] for view in workers))
    for one in scheduling.estimates():
        yield Sample("carfs_task_peak_bytes", one.peak_bytes, (one.kind, one.size_class))
    enabled = sum(view.enabled for view in workers)
    yield Sample("carfs_workers", enabled, ("true",))
    yield Sample("carfs_workers", len(workers) - enabled, ("false",))


def _agent(services: Services) -> Iterator[Sample]:
    yield Sample("carfs_up", 1)
    yield Sample("carfs_build_info", 1, (services.version,))
    yield Sample("carfs_uptime_seconds", round(time.monotonic() - services.started, 3))
    yield Sample("carfs_resident_memory_bytes", resident_bytes())
    yield Sample("carfs_leases", sum(leases for _client, leases in services.leases.held()))


def _transients(services: Services) -> Iterator[Sample]:
    found = services.dagstore.transients()
    yield Sample("carfs_transients_bytes", found.used_bytes)
    yield Sample("carfs_transients_limit_bytes", found.limit_bytes)
    yield Sample("carfs_fetched_bytes_total", found.fetched_bytes)
    yield Sample("carfs_evicted_bytes_total", found.evicted_bytes)


def _states(services: Services) -> Iterator[Sample]:
    """How many imports, retrievals and deals are in each state; those without any are there as 0."""
    if (importing := services.importing) is not None:
        there = [state for state in ImportState if state is not ImportState.ABSENT]
        yield from _counts(
            "carfs_imports", there, importing.imports.numbers(), lambda one: importing.imports.row(one).state
        )
    if (retrievals := services.retrievals) is not None:
        yield from _counts("carfs_retrievals", RetrievalState, retrievals.numbers(), retrievals.state)
    if (deals := services.deals) is not None:
        yield from _counts("carfs_deals", DealState, deals.numbers(), lambda one: deals.row(one).state)


def _sectors() -> Iterator[Sample]:
    yield Sample("carfs_sector_opens_total", READS.opened)
    for size in ("small", "big"):
        yield Sample("carfs_sector_reads_total", READS.reads[size], (size,))
        yield Sample("carfs_sector_read_bytes_total", READS.read_bytes[size], (size,))


def _gateway(services: Services) -> Iterator[Sample]:
    if services.serving is not None:
        answering = services.serving.answering
        yield Sample("carfs_gateway_requests", answering.in_flight.count)
        for (endpoint, status), count in sorted(answering.answered.items()):
            yield Sample("carfs_gateway_answers_total", count, (endpoint, status))
        yield Sample("carfs_gateway_sent_bytes_total", answering.sent_bytes)


def _counts(
    name: str, states: Iterable[enum.Enum], numbers: Iterable[int], state_of: Callable[[int], enum.Enum]
) -> Iterator[Sample]:
    count = Counter(map(state_of, numbers))
    for state in states:
        yield Sample(name, count[state], (_KIND.sub("", state.value),))


async def _shards(services: Services) -> list[Sample]:
    counts = await counted(services, Filter())
    return [
        Sample("carfs_shards", count, (state.removeprefix("ShardState"),))
        for state, count in sorted(counts.states.items())
    ]


def resident_bytes() -> int:
    """Memory of this process."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGESIZE")
