"""What the agent counts, and every metric that it gives, in Prometheus' text format.

`Metrics` is told what happens (by the scheduler, and by `rpc.registry` of each call) and keeps numbers alone; what is
so at the moment `rpc.exposition` asks for. prometheus_client writes the text; its import takes 50 ms, so only who asks
for the text pays for it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prometheus_client import Metric

Labels = tuple[str, ...]
"""The values of a metric's labels, in the order of its `Described.labels`."""


@dataclass(frozen=True, slots=True)
class Described:
    """A metric: its name, with the unit in it, its kind, help in a line, and its labels."""

    name: str
    kind: str  # gauge, counter, histogram, summary
    help: str
    labels: Labels = ()


DESCRIBED = {
    one.name: one
    for one in (
        Described("carfs_up", "gauge", "1: the agent answers; in a mount 0 while it does not."),
        Described("carfs_build_info", "gauge", "The version, as a label; always 1.", ("version",)),
        Described("carfs_uptime_seconds", "gauge", "Since the agent began."),
        Described("carfs_resident_memory_bytes", "gauge",
                  "Memory of the agent's own process, without its workers."),
        Described("carfs_memory_limit_bytes", "gauge",
                  "The smallest limit of memory that holds for the agent."),
        Described("carfs_memory_used_bytes", "gauge", "What counts as used of that limit, whoever uses it."),
        Described("carfs_memory_headroom_bytes", "gauge",
                  "Memory that can be taken before any level is full."),
        Described("carfs_swap_limit_bytes", "gauge", "The smallest limit of swap that holds for the agent."),
        Described("carfs_swap_headroom_bytes", "gauge", "Swap that can be taken before any level is full."),
        Described("carfs_cpus_limit", "gauge", "CPUs that the agent may use, in parts of one too."),
        Described("carfs_pids_limit", "gauge", "Processes and threads that there may be."),
        Described("carfs_pids_headroom", "gauge", "Processes and threads that can still be begun."),
        Described("carfs_limit_info", "gauge",
                  "Which level and file binds; always 1.", ("resource", "limit_by", "headroom_by")),
        Described("carfs_limit_problems", "gauge",
                  "Files that should have named a limit and could not be read."),
        Described("carfs_memory_pressure_ratio", "gauge",
                  "Part of the last 10 s in which some tasks, or all, waited for memory.", ("share",)),
        Described("carfs_tasks", "gauge", "Tasks that have not ended.", ("kind", "state")),
        Described("carfs_tasks_hopeless", "gauge",
                  "Tasks that would not fit if nothing else ran: limits have to change."),
        Described("carfs_tasks_reserved_bytes", "gauge",
                  "Memory that tasks under way were given, at their peak."),
        Described("carfs_task_peak_bytes", "gauge",
                  "Memory that tasks were seen to take at most.", ("kind", "size_class")),
        Described("carfs_workers", "gauge", "Workers that are connected, the agent's own too.", ("enabled",)),
        Described("carfs_tasks_ended_total", "counter", "Tasks that ended.", ("kind", "outcome")),
        Described("carfs_task_duration_seconds", "histogram",
                  "From a task's beginning to its end.", ("kind",)),
        Described("carfs_task_wait_seconds", "histogram",
                  "From when a task was asked for to its beginning.", ("kind",)),
        Described("carfs_worker_deaths_total", "counter",
                  "Worker processes that ended in the middle of a task.", ("cause",)),
        Described("carfs_oom_kills_total", "counter",
                  "Worker processes that the kernel killed because memory ran out."),
        Described("carfs_shards", "gauge", "Shards.", ("state",)),
        Described("carfs_leases", "gauge", "Shards that clients hold open."),
        Described("carfs_transients_bytes", "gauge", "Disk taken by local copies of remote data."),
        Described("carfs_transients_limit_bytes", "gauge",
                  "What these may take at most; 0: what the disk holds."),
        Described("carfs_fetched_bytes_total", "counter", "Remote data that was fetched."),
        Described("carfs_evicted_bytes_total", "counter", "Local copies that were given up for others."),
        Described("carfs_imports", "gauge", "Imports.", ("state",)),
        Described("carfs_retrievals", "gauge", "Retrievals.", ("state",)),
        Described("carfs_deals", "gauge", "Storage deals that this agent provides for.", ("state",)),
        Described("carfs_gateway_requests", "gauge", "Requests for data that are being answered."),
        Described("carfs_gateway_answers_total", "counter",
                  "Answers that were begun, and those that broke off.", ("endpoint", "status")),
        Described("carfs_gateway_sent_bytes_total", "counter", "Data that were given out over HTTP."),
        Described("carfs_sector_opens_total", "counter", "Pieces in unsealed sectors that were opened for reading."),
        Described("carfs_sector_reads_total", "counter",
                  "Reads of unsealed sectors; small: below 4 KiB.", ("size",)),
        Described("carfs_sector_read_bytes_total", "counter", "Padded bytes of them.", ("size",)),
        Described("carfs_rpc_calls_total", "counter",
                  "Calls that were answered; code is ok, or a class of error.", ("method", "code")),
        Described("carfs_rpc_duration_seconds", "summary",
                  "How long it took to answer; of a stream, to open it.", ("method",)),
    )
}  # fmt: skip
"""All of them, in the order in which they are given. docs/metrics.md has a row for each."""

BUCKETS_S = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0, 10000.0)


@dataclass(frozen=True, slots=True)
class Sample:
    """One value that is so now."""

    name: str
    value: float
    labels: Labels = ()


@dataclass(slots=True)
class Distribution:
    """Durations that were seen: how many, their sum, and how many in each bucket."""

    count: int = 0
    sum_s: float = 0.0
    buckets: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS_S) + 1))

    def add(self, value_s: float) -> None:
        self.count += 1
        self.sum_s += value_s
        self.buckets[bisect_left(BUCKETS_S, value_s)] += 1

    def cumulative(self) -> list[tuple[str, float]]:
        """As Prometheus has them: how many were at most so long."""
        total, found = 0, []
        for bound, count in zip((*BUCKETS_S, float("inf")), self.buckets, strict=True):
            total += count
            found.append(("+Inf" if bound == float("inf") else repr(bound), float(total)))
        return found


class Metrics:
    """Counts since the agent began. Used from the event loop's thread only; nothing here waits."""

    def __init__(self) -> None:
        self.counters: dict[tuple[str, Labels], float] = {}
        self.durations: dict[tuple[str, Labels], Distribution] = {}

    def task_began(self, kind: str, waited_s: float) -> None:
        """A task was given to a worker."""
        self._took("carfs_task_wait_seconds", (kind,), waited_s)

    def task_ended(self, kind: str, outcome: str, took_s: float | None) -> None:
        """`outcome` is "done" or a class of error; `took_s` counts from its beginning, if it was begun."""
        self._count("carfs_tasks_ended_total", (kind, outcome))
        if took_s is not None:
            self._took("carfs_task_duration_seconds", (kind,), took_s)

    def worker_died(self, *, out_of_memory: bool) -> None:
        """A worker process has ended in the middle of a task, by itself or killed by somebody."""
        self._count("carfs_worker_deaths_total", ("memory" if out_of_memory else "other",))
        if out_of_memory:
            self._count("carfs_oom_kills_total", ())

    def call_answered(self, method: str, code: str, took_s: float) -> None:
        """A call of a method that there is; `code` is "ok" or a class of error."""
        self._count("carfs_rpc_calls_total", (method, code))
        self._took("carfs_rpc_duration_seconds", (method,), took_s)

    def _count(self, name: str, labels: Labels) -> None:
        self.counters[name, labels] = self.counters.get((name, labels), 0.0) + 1

    def _took(self, name: str, labels: Labels, seconds: float) -> None:
        self.durations.setdefault((name, labels), Distribution()).add(max(0.0, seconds))


def text(metrics: Metrics, now: Iterable[Sample]) -> bytes:
    """All metrics that have values in Prometheus' text format; those that count without labels are there from the
    beginning, as 0."""
    from prometheus_client import generate_latest
    from prometheus_client.core import Metric

    families = {one.name: Metric(_family(one), one.help, one.kind) for one in DESCRIBED.values()}

    def add(name: str, suffix: str, labels: Labels, value: float, **more: str) -> None:
        described = DESCRIBED[name]
        families[name].add_sample(
            name + suffix, dict(zip(described.labels, labels, strict=True)) | more, value
        )

    for sample in now:
        add(sample.name, "", sample.labels, sample.value)
    unlabelled = {
        (one.name, ()): 0.0 for one in DESCRIBED.values() if one.kind == "counter" and not one.labels
    }
    given = {name for name, family in families.items() if family.samples}
    for (name, labels), value in sorted((unlabelled | metrics.counters).items()):
        if name not in given:
            add(name, "", labels, value)
    for (name, labels), seen in sorted(metrics.durations.items(), key=lambda item: item[0]):
        if DESCRIBED[name].kind == "histogram":
            for bound, count in seen.cumulative():
                add(name, "_bucket", labels, count, le=bound)
        add(name, "_count", labels, seen.count)
        add(name, "_sum", labels, seen.sum_s)

    return generate_latest(_Collected([family for family in families.values() if family.samples]))


@dataclass(frozen=True, slots=True)
class _Collected:
    """What prometheus_client takes for a registry."""

    families: Sequence[Metric]

    def collect(self) -> Sequence[Metric]:
        return self.families


def _family(described: Described) -> str:
    """prometheus_client keeps the end of a counter's name to itself."""
    return described.name.removesuffix("_total") if described.kind == "counter" else described.name
