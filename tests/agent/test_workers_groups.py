"""Worker processes in cgroups of their own, on the real kernel: who outgrows what was reserved for it dies alone."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from agent.scheduler.overrides import from_environment
from agent.scheduler.scheduler import Settings
from agent.workers.groups import Groups, open_groups
from tests.agent.cars import write_car
from tests.agent.machines import Learned, working
from tests.conftest import ExpectWarning

MIB = 1 << 20
V1 = Path("/sys/fs/cgroup/memory/cgroup.procs")


@pytest.fixture
def groups() -> Iterator[Groups]:
    if not V1.exists():  # v2 would move the process of the tests into another group
        pytest.skip("there is no memory controller on cgroup v1 here")
    with closing(open_groups()) as opened:
        if not opened.possible:
            pytest.skip(f"no cgroups can be made here: {opened.reason}")
        yield opened


@pytest.fixture(scope="module")
def car(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One whose index takes clearly more memory than a process that does nothing."""
    return write_car(tmp_path_factory.mktemp("cars") / "x.car", blocks=300_000)


def task(folder: Path, car: Path) -> dict[str, Any]:  # JSON
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return {"path": str(car), "scratch": str(folder / "scratch"), "out": str(folder / "out.idx")}


async def peak_of(folder: Path, car: Path) -> int:
    async with working() as here:
        await here.run("index", task(folder, car), size_bytes=car.stat().st_size)
    (found,) = here.learned.kept.values()
    return found.peak_bytes


def reserved(memory: int) -> Settings:
    values = {"INDEX_MIN_MEMORY": 8 * MIB, "INDEX_MAX_MEMORY": memory, "INDEX_BASE_MIN_MEMORY": 0}
    return Settings(overrides=from_environment({name: str(value) for name, value in values.items()}))


async def test_a_task_that_outgrows_its_limit_dies_alone_and_is_retried_with_more(
    tmp_path: Path, car: Path, groups: Groups, expect_warning: ExpectWarning
) -> None:
    expect_warning("which outgrew the .* that were reserved for it; trying once more, with more memory")
    peak = await peak_of(tmp_path / "first", car)
    learned = Learned()
    async with working(groups=groups, settings=reserved(int(peak * 0.8)), learned=learned, limit=2) as here:
        others = []

        async def another() -> None:
            small = write_car(tmp_path / "y.car")
            others.append(await here.run("commp", {"path": str(small)}))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(another)
            facts = await here.run("index", task(tmp_path / "second", car), size_bytes=car.stat().st_size)
    assert (facts["blocks"], len(others)) == (300_000, 1)
    assert learned.kept["index", "512M"].peak_bytes >= int(peak * 0.8) * 1.5 * 0.9


async def test_a_task_is_done_although_far_too_little_was_reserved(
    tmp_path: Path, car: Path, groups: Groups, expect_warning: ExpectWarning
) -> None:
    expect_warning("with more memory")
    peak = await peak_of(tmp_path / "first", car)
    async with working(groups=groups, settings=reserved(int(peak * 0.5))) as here:
        facts = await here.run("index", task(tmp_path / "second", car), size_bytes=car.stat().st_size)
    assert facts["blocks"] == 300_000


async def test_each_process_is_in_a_group_of_its_own_which_goes_with_it(
    tmp_path: Path, car: Path, groups: Groups
) -> None:
    async with working(groups=groups) as here, trio.open_nursery() as nursery:
        params = task(tmp_path / "x", car)
        nursery.start_soon(partial(here.run, "index", params, size_bytes=car.stat().st_size))
        with trio.fail_after(30):
            while not (jobs := here.scheduler.jobs()) or not (level := here.local.level(jobs[0].task.id)):
                await trio.lowlevel.checkpoint()
        assert jobs[0].limit_bytes > 0
        assert (V1.parent / level).exists()
    assert not (V1.parent / level).exists()
