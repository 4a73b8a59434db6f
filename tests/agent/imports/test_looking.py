"""What becomes of imports when files change under them, and what mends them."""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
import trio

from agent.dagstore.failures import ErrorClass
from agent.imports.imports import Imports
from agent.imports.records import Kind
from agent.imports.requests import Request
from agent.imports.settings import ImportsConfig
from carlib.cid import Cid
from carlib.pack import pack
from carlib.references import ReferenceBlockstore
from carlib.traversal import Traversal
from tests.agent.imports.worlds import Threads, add, edit, everything_below, imports_at, raising, tree_at
from tests.conftest import ExpectWarning


async def until_state(imports: Imports, number: int, state: str) -> None:
    deadline = time.monotonic() + 30  # of real time, whatever clock a test has
    while imports.record(number).state != f"ImportState{state}":
        assert time.monotonic() < deadline
        await trio.sleep(0.01)


def readable(record_path: str, folder: str = "/") -> int:
    """Bytes of all blocks, each verified."""
    with ReferenceBlockstore.open(Path(record_path), Path(folder)) as store:
        return sum(visit.size for visit in Traversal.of(store, *store.roots).walk())


async def test_an_edit_is_seen_when_the_import_is_next_acquired(
    tmp_path: Path, expect_warning: ExpectWarning
) -> None:
    expect_warning("FoundStale")
    source = tree_at(tmp_path / "set")
    async with imports_at(tmp_path) as importing:
        record = await add(importing.imports, source)
        edit(source / "file2", b"other")
        importing.imports.acquire(record.id)
        await until_state(importing.imports, record.id, "Stale")
        assert importing.imports.record(record.id).stale_files == (str(source / "file2"),)


async def test_a_touch_turns_out_harmless_and_is_not_looked_into_again(
    tmp_path: Path, expect_warning: ExpectWarning
) -> None:
    expect_warning("FoundStale")
    source, workers = tree_at(tmp_path / "set"), Threads()
    async with imports_at(tmp_path, workers) as importing:
        record = await add(importing.imports, source)
        os.utime(source / "file0", ns=(1, 1))
        await importing.looks.all()
        assert importing.imports.record(record.id).state == "ImportStateReady"
        assert workers.begun[-3:] == ["check-import check", "check-import check", "check-import repair"]
        await importing.looks.all()
        assert workers.begun[-2:] == ["check-import repair", "check-import check"]


async def test_what_is_stale_is_read_once_for_each_way_that_it_looks(
    tmp_path: Path, expect_warning: ExpectWarning
) -> None:
    expect_warning("FoundStale")
    source, workers = tree_at(tmp_path / "set"), Threads()
    async with imports_at(tmp_path, workers) as importing:
        await add(importing.imports, source)
        edit(source / "file0", b"other")
        await importing.looks.all()
        depths = [params["depth"] for params in workers.params if "depth" in params]
        await importing.looks.all()
        again = [params["depth"] for params in workers.params if "depth" in params]
        assert (depths[-2:], again[len(depths) :]) == (["look", "suspects"], ["look"])


async def test_looks_come_by_themselves(
    tmp_path: Path, autojump_clock: object, expect_warning: ExpectWarning
) -> None:
    expect_warning("FoundStale")
    source = tree_at(tmp_path / "set")
    async with imports_at(tmp_path, settings=ImportsConfig(look_interval_s=60)) as importing:
        record = await add(importing.imports, source)
        (source / "file0").unlink()
        await until_state(importing.imports, record.id, "Stale")


async def test_a_repair_finds_what_was_shifted(tmp_path: Path, expect_warning: ExpectWarning) -> None:
    expect_warning("FoundStale")
    source = tmp_path / "big"
    source.write_bytes(os.urandom(3 << 20))
    async with imports_at(tmp_path) as importing:
        record = await add(importing.imports, source, "ref")
        shutil.copy(source, tmp_path / "copy")
        edit(source, bytes(100), at=(1 << 20) + 50)
        assert (await importing.jobs.verify(record.id, deep=False)).changed_blocks == 1
        done = await importing.jobs.repair(record.id, also=(tmp_path / "copy",))
        assert (done.relinked, done.gone, done.record.state) == (1, 0, "ImportStateReady")
        assert readable(record.car_path) > 3 << 20


async def test_what_is_gone_stays_stale_after_a_repair(tmp_path: Path, expect_warning: ExpectWarning) -> None:
    expect_warning("FoundStale")
    source = tree_at(tmp_path / "set")
    async with imports_at(tmp_path) as importing:
        record = await add(importing.imports, source)
        edit(source / "file0", b"other")
        done = await importing.jobs.repair(record.id)
        assert (done.gone, done.record.state) == (1, "ImportStateStale")


async def test_a_source_that_moved_is_linked_anew_and_another_one_is_refused(
    tmp_path: Path, expect_warning: ExpectWarning
) -> None:
    expect_warning("FoundStale")
    source = tree_at(tmp_path / "set")
    async with imports_at(tmp_path) as importing:
        record = await add(importing.imports, source)
        source.rename(tmp_path / "moved")
        tree_at(tmp_path / "other", size=4999)
        await importing.looks.all()
        with raising(ErrorClass.CORRUPT):
            await importing.jobs.relink(record.id, tmp_path / "other")
        done = await importing.jobs.relink(record.id, tmp_path / "moved")
        assert (done.record.state, done.record.file_path) == ("ImportStateReady", str(tmp_path / "moved"))
        assert readable(record.car_path) > 15000


async def test_what_is_frozen_needs_the_source_no_more(tmp_path: Path) -> None:
    source = tree_at(tmp_path / "set")
    async with imports_at(tmp_path) as importing:
        record = await add(importing.imports, source)
        done = await importing.jobs.freeze(record.id)
        shutil.rmtree(source)
        assert readable(record.car_path) > 15000
        assert (await importing.jobs.verify(record.id, deep=True)).count == 0
        assert done.record.kind is (Kind.REF if done.cloned else Kind.DENSE)
        await importing.imports.remove(record.id)
        assert not everything_below(tmp_path)


async def test_one_job_at_a_time_is_done_with_an_import_and_it_is_not_removed_meanwhile(
    tmp_path: Path,
) -> None:
    workers = Threads()
    async with imports_at(tmp_path, workers) as importing, trio.open_nursery() as nursery:
        record = await add(importing.imports, tree_at(tmp_path / "set"))
        workers.hold()
        nursery.start_soon(importing.jobs.freeze, record.id)
        while importing.imports.record(record.id).job != "freeze":
            await trio.sleep(0)
        with raising(ErrorClass.BUSY):
            await importing.jobs.repair(record.id)
        with raising(ErrorClass.BUSY):
            await importing.imports.remove(record.id)
        workers.gate.set()


def lines(records: Sequence[logging.LogRecord], level: int) -> list[str]:
    return [
        record.getMessage().partition(" {")[0]
        for record in records
        if record.name == "agent.imports.sanity" and record.levelno == level
    ]


async def test_the_check_at_the_start_has_lotus_lines_and_says_what_is_broken(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, expect_warning: ExpectWarning
) -> None:
    caplog.set_level(logging.INFO)
    expect_warning("FoundBroken")
    expect_warning("FoundStale")
    expect_warning("Failed")
    expect_warning("import lacks carv2 path; import will not work; please reimport")
    expect_warning("import has missing/broken carv2; please reimport")
    expect_warning("import is stale")
    workers = Threads()
    async with imports_at(tmp_path, workers) as importing:
        records = []
        for number, what in enumerate(("good", "gone", "cut", "table", "stale"), 1):
            source = tree_at(tmp_path / what, files=number)
            records.append(await add(importing.imports, source))
        workers.fail = lambda _kind: OSError(28, "No space left on device")
        failed = await importing.imports.add(tree_at(tmp_path / "failed", files=9), Request(), wait=False)
        await until_state(importing.imports, failed.number, "Broken")
    good, gone, cut, table, stale = (Path(record.car_path) for record in records)
    gone.unlink()
    os.truncate(cut, cut.stat().st_size - 20)
    damaged = table.read_bytes().replace(b"carfsref", b"carfsrex")
    table.write_bytes(damaged)
    (tmp_path / "stale" / "file0").unlink()
    before = len(caplog.records)
    async with imports_at(tmp_path) as importing:
        await importing.imports.checked.wait()
        states = [importing.imports.record(record.id).state.removeprefix("ImportState") for record in records]
        assert states == ["Ready", "Broken", "Broken", "Broken", "Stale"]
        assert [importing.imports.record(one.id).error_class for one in records[1:4]] == [
            "gone", "corrupt", "corrupt",
        ]  # fmt: skip
    assert good.exists()
    assert stale.exists()
    assert lines(caplog.records[before:], logging.INFO) == [
        "sanity checking imports",
        "import ok",
        "sanity check completed",
    ]
    assert (
        lines(caplog.records[before:], logging.WARNING).count(
            "import has missing/broken carv2; please reimport"
        )
        == 3
    )
    assert "import lacks carv2 path; import will not work; please reimport" in lines(
        caplog.records[before:], logging.WARNING
    )
    assert '"broken": 4, "total": 6' in caplog.text


async def test_a_car_in_place_that_was_written_to_is_broken_until_it_is_found_good(
    tmp_path: Path, expect_warning: ExpectWarning
) -> None:
    expect_warning("FoundBroken")
    car = tmp_path / "x.car"
    pack(tree_at(tmp_path / "set"), car)
    async with imports_at(tmp_path) as importing:
        record = await add(importing.imports, car)
        os.utime(car, ns=(1, 1))
        await importing.looks.all()
        assert importing.imports.record(record.id).state == "ImportStateBroken"
        assert (await importing.jobs.verify(record.id, deep=True)).broken == ""
        assert importing.imports.record(record.id).state == "ImportStateReady"
        assert importing.imports.find_root(Cid.parse(record.root or "")) == record.id


@pytest.mark.parametrize(("seconds", "depths"), [(60.0, ["start"]), (1e-9, ["start", "look"])])
async def test_reading_all_imports_at_the_start_has_a_bounded_time(
    tmp_path: Path, seconds: float, depths: list[str]
) -> None:
    """What there is no time to read is looked at from outside, and that is all."""
    async with imports_at(tmp_path) as importing:
        for number in range(3):
            await add(importing.imports, tree_at(tmp_path / f"set{number}", files=number + 1))
    workers = Threads()
    async with imports_at(tmp_path, workers, settings=ImportsConfig(0, seconds)) as importing:
        await importing.imports.checked.wait()
        assert [params["depth"] for params in workers.params] in (depths, depths[-1:])
        assert importing.imports.counts() == {"ImportStateReady": 3}
