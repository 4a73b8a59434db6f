"""Limits, workers and tasks over RPC: ours with all that is known, Lotus' in Lotus' JSON."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from agent.resources.facts import Bound
from agent.rpc.methods import Services
from agent.rpc.sealing import NO_WORKER
from agent.scheduler.jobs import Job
from tests.agent.scheduling import (
    AT,
    GIB,
    LOCAL,
    MIB,
    SNAPSHOT,
    FakeScheduler,
    running,
    waiting,
    worker,
)
from tests.agent.serving import ask, services_at
from tests.agent.test_shard_methods import values


def json_of(value: object) -> Any:  # Any: JSON
    return msgspec.json.decode(msgspec.json.encode(value))


def scheduled(services: Services, scheduler: FakeScheduler) -> Services:
    return replace(services, scheduler=scheduler)


async def test_resources_name_what_binds_and_every_fact_behind_it(tmp_path: Path) -> None:
    async with services_at(tmp_path) as services:
        found = json_of(await ask(scheduled(services, FakeScheduler()), "Carfs.Resources"))
    service = "system.slice/carfs.service memory.max"
    assert found["Memory"] == {
        "Limit": 8 * GIB, "Used": 5 * GIB, "Headroom": 3 * GIB, "LimitBy": service, "HeadroomBy": service
    }  # fmt: skip
    assert found["Swap"] == {"Limit": None, "Used": 0, "Headroom": None, "LimitBy": "", "HeadroomBy": ""}
    assert [fact["Name"] for fact in found["Facts"]] == [fact.name for fact in SNAPSHOT.facts]
    assert found["Problems"][0]["Message"] == "Permission denied"
    assert any(service in line or "memory.max" in line for line in found["Explanation"])


async def test_s3_used_is_never_more_than_there_is_nor_less_than_nothing(tmp_path: Path) -> None:
    """Lotus counts what its tasks use twice in its list of workers."""
    view = worker(running(1), memory=GIB, memory_left=-5, swap=0, swap_left=7)
    fact = SNAPSHOT.facts[0]
    limits = replace(SNAPSHOT, memory=Bound(GIB, fact, 2 * GIB, fact))
    async with services_at(tmp_path) as services:
        with_it = scheduled(services, FakeScheduler((running(1),), limits, (view,)))
        (shown,) = json_of(await ask(with_it, "Carfs.Tasks"))["Workers"]
        stats = json_of(await ask(with_it, "Filecoin.WorkerStats"))[LOCAL]["Info"]["Resources"]
        assert json_of(await ask(with_it, "Carfs.Resources"))["Memory"]["Used"] == 0
    assert (shown["MemoryUsedBytes"], shown["SwapUsedBytes"]) == (GIB, 0)
    assert (stats["MemUsed"], stats["MemSwapUsed"]) == (GIB, 0)


async def test_s2_what_tasks_of_a_kind_share_counts_once_in_the_stats_of_a_worker(tmp_path: Path) -> None:
    jobs = (running(1), running(2), running(3, kind="commp", size_bytes=GIB // 4))
    async with services_at(tmp_path) as services:
        stats = json_of(await ask(scheduled(services, FakeScheduler(jobs)), "Filecoin.WorkerStats"))
    assert stats == {
        LOCAL: {
            "Info": {
                "Hostname": "agent-host",
                "IgnoreResources": False,
                "Resources": {
                    "MemPhysical": 8 * GIB, "MemUsed": 5 * GIB, "MemSwap": GIB, "MemSwapUsed": 0,
                    "CPUs": 4, "GPUs": [], "Resources": None,
                },
            },
            "Tasks": ["commp", "index", "verify"],
            "Enabled": True,
            "MemUsedMin": 2 * 32 * MIB + 3 * 100 * MIB,
            "MemUsedMax": 2 * 32 * MIB + 3 * 512 * MIB,
            "GpuUsed": 0.0,
            "CpuUse": 3,
            "TaskCounts": {"2:commp": 1, "3:index": 2},
        }
    }  # fmt: skip


async def test_overrides_are_by_kind_and_the_number_of_the_proof_with_that_size(tmp_path: Path) -> None:
    scheduler = FakeScheduler(environment={"INDEX_32G_MAX_MEMORY": "5GiB"})
    async with services_at(tmp_path) as services:
        stats = json_of(await ask(scheduled(services, scheduler), "Filecoin.WorkerStats"))
    found = stats[LOCAL]["Info"]["Resources"]["Resources"]
    assert found.keys() == {"index"}
    assert found["index"].keys() == {"0", "1", "2", "3", "4"}
    assert (found["index"]["3"]["MaxMemory"], found["index"]["4"]["MaxMemory"] == 5 * GIB) == (5 * GIB, False)
    assert found["index"]["3"].keys() == {
        "MinMemory", "MaxMemory", "BaseMinMemory", "MaxParallelism", "MaxConcurrent", "GPUUtilization",
        "MaxParallelismGPU",
    }  # fmt: skip


async def test_lotus_sees_jobs_by_worker_and_those_that_wait_without_one(tmp_path: Path) -> None:
    first, second = running(7), waiting(9)
    async with services_at(tmp_path) as services:
        jobs = json_of(await ask(scheduled(services, FakeScheduler((first, second))), "Filecoin.WorkerJobs"))
    sector = {"Miner": 0, "Number": 7}
    assert jobs[LOCAL] == [
        {
            "ID": {"Sector": sector, "ID": first.task.id}, "Sector": sector, "Task": "index", "RunWait": 0,
            "Start": AT, "Hostname": "agent-host", "Subject": "shard-7",
        }
    ]  # fmt: skip
    assert [(job["RunWait"], job["Start"]) for job in jobs[NO_WORKER]] == [(2, AT)]


async def test_the_queue_is_shown_with_what_each_waits_for(tmp_path: Path) -> None:
    jobs = (running(1), waiting(2, 1, priority=1024), waiting(3, 2))
    async with services_at(tmp_path) as services:
        with_it = scheduled(services, FakeScheduler(jobs))
        diag = json_of(await ask(with_it, "Filecoin.SealingSchedDiag", [True]))
        tasks = json_of(await ask(with_it, "Carfs.Tasks"))
        assert len(json_of(await ask(with_it, "Carfs.Tasks", {"Limit": 2}))["Tasks"]) == 2
    assert [(one["SchedId"], one["Priority"]) for one in diag["SchedInfo"]["Requests"]] == [
        (jobs[1].task.id, 1024),
        (jobs[2].task.id, 0),
    ]
    assert diag.keys() == {"SchedInfo", "ReturnedWork", "Waiting", "CallToWork", "EarlyRet"}
    assert (tasks["Running"], tasks["Waiting"]) == (1, 2)
    assert [(one["State"], one["Place"]) for one in tasks["Tasks"]] == [
        ("active", 0),
        ("waiting", 1),
        ("waiting", 2),
    ]
    assert tasks["Tasks"][1]["WaitsFor"].startswith("needs 512 MiB, headroom 310 MiB under system.slice/")


async def test_tasks_end_by_their_ids_in_ours_and_in_lotus_forms(tmp_path: Path) -> None:
    first, second = running(1), waiting(2)
    one, two = first.task.id, second.task.id
    scheduler = FakeScheduler((first, second))
    async with services_at(tmp_path) as services:
        with_it = scheduled(services, scheduler)
        assert await ask(with_it, "Carfs.AbortTask", [one]) is None
        assert await ask(with_it, "Carfs.AbortTask", {"ID": two}) is None
        call = {"Sector": {"Miner": 0, "Number": 1}, "ID": one}
        assert await ask(with_it, "Filecoin.SealingAbort", [call]) is None
        assert await ask(with_it, "Filecoin.SealingAbort", [one]) is None
        assert await ask(with_it, "Filecoin.SealingRemoveRequest", [two]) is None
        assert (await ask(with_it, "Carfs.AbortTask", ["none"])).data["class"] == "not-found"
        assert (await ask(with_it, "Filecoin.SealingAbort", [two])).data["class"] == "not-found"
        assert (await ask(with_it, "Filecoin.SealingRemoveRequest", [one])).data["class"] == "busy"
    assert scheduler.told == [
        ("abort", one), ("remove", two), ("abort", one), ("abort", one), ("remove", two)
    ]  # fmt: skip


async def test_a_worker_is_disabled_and_enabled_by_its_id(tmp_path: Path) -> None:
    scheduler = FakeScheduler()
    async with services_at(tmp_path) as services:
        with_it = scheduled(services, scheduler)
        for enabled in (False, True):
            assert await ask(with_it, "Carfs.SetWorkerEnabled", [LOCAL, enabled]) is None
        assert (await ask(with_it, "Carfs.SetWorkerEnabled", ["none", True])).data["class"] == "not-found"
    assert scheduler.told == [("disable", LOCAL), ("enable", LOCAL)]


async def test_watching_shows_what_changes(tmp_path: Path) -> None:
    scheduler = FakeScheduler((running(1),))
    async with services_at(tmp_path) as services:
        with_it = scheduled(services, scheduler)
        found = json_of(await values(with_it, "Carfs.WatchTasks", {"Interval": 0.05}, at_most=2))
    assert [one["Tasks"]["Running"] for one in found] == [1, 1]
    assert found[0]["Limits"]["Memory"]["Limit"] == 8 * GIB


async def test_showing_some_tasks_of_a_long_queue_looks_at_no_others(tmp_path: Path) -> None:
    class Long(FakeScheduler):
        def jobs(self, waiting: int | None = None) -> tuple[Job, ...]:
            assert waiting is not None and waiting < 20
            return super().jobs(waiting)

    scheduler = Long((running(1), *(waiting(number, number) for number in range(2, 500))))
    async with services_at(tmp_path) as services:
        with_it = scheduled(services, scheduler)
        status = json_of(await ask(with_it, "Carfs.Status"))
        tasks = json_of(await ask(with_it, "Carfs.Tasks", {"Limit": 5}))
        assert await ask(with_it, "Carfs.Metrics")
    assert (status["Tasks"]["Waiting"], len(status["Tasks"]["Tasks"])) == (498, 20)
    assert [one["Place"] for one in tasks["Tasks"]] == [0, 1, 2, 3, 4]
