"""The metrics: readable by Prometheus' own parser, described on the page, and few whatever happens."""

from __future__ import annotations

import os
import re
import signal
import socket
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest
import trio
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from agent.metrics import BUCKETS_S, DESCRIBED, Metrics, Sample, text
from agent.rpc.exposition import limits, tasks
from agent.rpc.methods import Services
from agent.workers import WorkerDied, WorkerFailed
from tests.agent.cars import write_car
from tests.agent.machines import working
from tests.agent.processes import AgentProcess
from tests.agent.scheduling import GIB, MIB, SNAPSHOT, FakeScheduler, running, waiting
from tests.agent.serving import ask, served_at, services_at
from tests.agent.stores import register
from tests.fixtures import REPOSITORY

PAGE = (REPOSITORY / "docs" / "metrics.md").read_text()


OF_DATA = {"carfs_deals", "carfs_gateway_requests", "carfs_gateway_answers_total"}
"""That only a whole agent gives."""


def parsed(exposition: bytes) -> dict[str, Metric]:
    """By name, as Prometheus' own parser reads them."""
    return {family.name: family for family in text_string_to_metric_families(exposition.decode())}


def value(families: dict[str, Metric], name: str, **labels: str) -> float:
    (found,) = [
        sample.value
        for family in families.values()
        for sample in family.samples
        if sample.name == name and sample.labels == labels
    ]
    return float(found)


def given(*samples: Sample) -> dict[str, Metric]:
    return parsed(text(Metrics(), samples))


async def all_of(services: Services) -> dict[str, Metric]:
    return parsed((await ask(services, "Carfs.Metrics")).encode())


async def test_everything_is_readable_by_prometheus_own_parser(tmp_path: Path) -> None:
    async with services_at(tmp_path) as services:
        await register(services.dagstore, "x", write_car(tmp_path / "x.car"))
        with_swap = replace(SNAPSHOT, swap=SNAPSHOT.memory)
        full = replace(services, scheduler=FakeScheduler((running(1), waiting(2)), with_swap))
        full.metrics.task_began("index", 0.2)
        full.metrics.task_ended("index", "done", 4.0)
        full.metrics.worker_died(out_of_memory=True)
        assert await ask(full, "Filecoin.Version")
        found = await all_of(full)
    names = {f"{name}_total" if one.type == "counter" else name for name, one in found.items()}
    assert names == DESCRIBED.keys() - OF_DATA
    assert {one.name: one.documentation for one in found.values()} == {
        name.removesuffix("_total"): one.help for name, one in DESCRIBED.items() if name not in OF_DATA
    }
    assert value(found, "carfs_shards", state="Available") == 1
    assert value(found, "carfs_oom_kills_total") == 1
    assert value(found, "carfs_worker_deaths_total", cause="memory") == 1
    assert value(found, "carfs_tasks_ended_total", kind="index", outcome="done") == 1
    assert value(found, "carfs_rpc_calls_total", method="Filecoin.Version", code="ok") == 1


def test_a_whole_agent_counts_what_it_gives_out_and_what_it_has(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x" * 5000)
    with AgentProcess(tmp_path / "a") as agent:
        root = agent.client.call("Filecoin.ClientImport", [{"Path": str(tmp_path / "file")}])["Root"]["/"]

        def status(target: str) -> int:
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(str(agent.path / "agent.sock"))
                client.sendall(f"GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
                answer = b"".join(iter(lambda: client.recv(1 << 16), b""))
            return int(answer.split()[1])

        assert status(f"/ipfs/{root}?format=car") == 200
        assert status("/ipfs/bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy?format=raw") == 404
        found = parsed(agent.client.call("Carfs.Metrics").encode())
    assert {f"{one.name}_total" if one.type == "counter" else one.name for one in found.values()} >= OF_DATA
    assert value(found, "carfs_gateway_answers_total", endpoint="ipfs", status="200") == 1
    assert value(found, "carfs_gateway_answers_total", endpoint="ipfs", status="404") == 1
    assert 5000 < value(found, "carfs_gateway_sent_bytes_total") < 6000
    assert value(found, "carfs_gateway_requests") == 0
    assert value(found, "carfs_imports", state="Ready") == 1
    assert value(found, "carfs_imports", state="Broken") == 0
    assert value(found, "carfs_retrievals", state="Done") == 0
    assert value(found, "carfs_deals", state="Active") == 0


def test_limits_have_units_and_name_what_binds() -> None:
    found = given(*limits(SNAPSHOT))
    assert value(found, "carfs_memory_limit_bytes") == 8 * GIB
    assert value(found, "carfs_memory_headroom_bytes") == 3 * GIB
    assert value(found, "carfs_cpus_limit") == 4
    assert value(found, "carfs_memory_pressure_ratio", share="full") == 0.0025
    service = "system.slice/carfs.service memory.max"
    assert value(found, "carfs_limit_info", resource="memory", limit_by=service, headroom_by=service) == 1
    assert "carfs_swap_limit_bytes" not in found  # nothing limits it


def test_tasks_are_counted_by_kind_and_state() -> None:
    jobs = (running(1), running(2, kind="commp"), waiting(3), waiting(4, 2))
    found = given(*tasks(FakeScheduler(jobs)))
    assert value(found, "carfs_tasks", kind="index", state="active") == 1
    assert value(found, "carfs_tasks", kind="index", state="waiting") == 2
    assert value(found, "carfs_tasks_reserved_bytes") == 2 * (512 + 32) * MIB
    assert value(found, "carfs_task_peak_bytes", kind="index", size_class="32G") == 300 * MIB
    assert value(found, "carfs_workers", enabled="true") == 1


def test_durations_fall_into_buckets_that_add_up() -> None:
    metrics = Metrics()
    for seconds in (0.05, 0.1, 5.0, 1e9, -1.0):
        metrics.task_ended("index", "done", seconds)
    found = parsed(text(metrics, []))
    name = "carfs_task_duration_seconds"
    assert value(found, f"{name}_bucket", kind="index", le="0.1") == 3
    assert value(found, f"{name}_bucket", kind="index", le="10.0") == 4
    assert value(found, f"{name}_bucket", kind="index", le="+Inf") == 5
    assert value(found, f"{name}_count", kind="index") == 5
    assert tuple(sorted(BUCKETS_S)) == BUCKETS_S


async def test_the_scheduler_counts_what_becomes_of_tasks(tmp_path: Path, big_car: Path) -> None:
    def params(path: Path) -> dict[str, str]:
        return {"path": str(path), "scratch": str(tmp_path / "s"), "out": str(tmp_path / "o.idx")}

    async with working(limit=1) as machine:
        await machine.run("index", params(write_car(tmp_path / "x.car")))
        with pytest.raises(WorkerFailed):
            await machine.run("index", params(tmp_path / "none.car"))
        with trio.move_on_after(0):
            await machine.run("index", params(tmp_path / "x.car"))
        async with machine.scheduler.admitted("fetch"):
            pass
        with pytest.raises(WorkerDied):
            await machine.run("index", params(big_car), lambda *_: os.kill(machine.pids[0], signal.SIGSEGV))
        found = parsed(text(machine.scheduler.metrics, []))
    ended = {
        (sample.labels["kind"], sample.labels["outcome"]): sample.value
        for sample in found["carfs_tasks_ended"].samples
    }
    assert ended == {
        ("index", "done"): 1, ("index", "gone"): 1, ("index", "cancelled"): 1, ("index", "bug"): 1, ("fetch", "done"): 1
    }  # fmt: skip
    begun = value(found, "carfs_task_wait_seconds_count", kind="index")
    assert begun in (3, 4)  # whether the one that was cancelled at once was begun is a matter of chance
    assert value(found, "carfs_task_duration_seconds_count", kind="index") == begun
    assert value(found, "carfs_worker_deaths_total", cause="other") == 1


def test_what_is_counted_without_labels_is_there_before_the_first() -> None:
    assert value(given(), "carfs_oom_kills_total") == 0


async def test_names_that_others_make_up_are_not_counted(tmp_path: Path) -> None:
    async with services_at(tmp_path) as services:
        await ask(services, "Carfs.Nonsense")
        await ask(services, "Carfs.ShardInfo", ["none"])
        found = await all_of(services)
    assert [sample.labels for sample in found["carfs_rpc_calls"].samples] == [
        {"method": "Carfs.ShardInfo", "code": "not-found"}
    ]


async def test_metrics_are_a_page_on_the_socket_and_with_a_token_over_tcp(tmp_path: Path) -> None:
    def get(*headers: str) -> bytes:
        lines = ["GET /metrics HTTP/1.1", "host: localhost", "connection: close", *headers]
        return "\r\n".join([*lines, "", ""]).encode()

    async with served_at(tmp_path) as served:
        page = await served.exchange(await served.unix(), get())
        refused = await served.exchange(await served.tcp(), get())
        token = served.services.tokens.issue(["read"])
        over_tcp = await served.exchange(await served.tcp(), get(f"authorization: Bearer {token}"))
    assert page.startswith(b"HTTP/1.1 200") and b"text/plain; version=0.0.4" in page
    assert b"\ncarfs_up 1.0\n" in page and b"\ncarfs_up 1.0\n" in over_tcp
    assert refused.startswith(b"HTTP/1.1 401")


def test_the_page_has_every_metric_with_its_kind_and_labels() -> None:
    shown = re.findall(r"^\| `(carfs_\w+)` \| (\w+) \| (.*?) \|", PAGE, re.MULTILINE)
    assert shown == [
        (one.name, one.kind, ", ".join(f"`{label}`" for label in one.labels)) for one in DESCRIBED.values()
    ]


def test_names_have_their_units() -> None:
    units = ("_bytes", "_seconds", "_total", "_info", "_ratio", "_limit", "_headroom")
    counts: Iterable[str] = {
        "carfs_up", "carfs_limit_problems", "carfs_tasks", "carfs_tasks_hopeless", "carfs_workers", "carfs_shards",
        "carfs_leases", "carfs_imports", "carfs_retrievals", "carfs_deals", "carfs_gateway_requests",
    }  # fmt: skip
    assert [name for name in DESCRIBED if not name.endswith(units) and name not in counts] == []
