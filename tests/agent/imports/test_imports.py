"""The imports: made, named, found, removed; nothing is left of what did not come about."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

import msgspec
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from agent.catalogue import Catalogue
from agent.dagstore.events import Hub, ImportKey
from agent.dagstore.failures import ErrorClass, ShardError
from agent.imports.records import Kind
from agent.imports.requests import Request
from agent.imports.transitions import ImportState
from carlib.blockstore import ReadOnlyBlockstore
from carlib.cid import Cid
from carlib.export import Export
from carlib.pack import pack
from carlib.references import ReferenceBlockstore
from carlib.traversal import Traversal
from carlib.unixfs.profile import LOTUS
from tests.agent.imports.worlds import Threads, add, edit, everything_below, imports_at, raising, tree_at
from tests.conftest import ExpectWarning


async def test_a_directory_is_imported_by_references_and_has_the_root_of_a_dense_one(tmp_path: Path) -> None:
    source = tree_at(tmp_path / "set")
    expected = pack(source, tmp_path / "dense.car").root
    async with imports_at(tmp_path) as importing:
        record = await add(importing.imports, source)
        assert (record.name, record.kind, record.state) == ("set", Kind.REF, "ImportStateReady")
        assert (record.root, record.files, record.size) == (str(expected), 3, 15000)
        assert record.file_path == str(source)
        assert Path(record.car_path).stat().st_size < 2000
        assert importing.imports.labels(record.id) == {
            "source": "import", "root": str(expected), "filename": str(source), "car_path": record.car_path,
            "car_owner": "importmgr",
        }  # fmt: skip


async def test_c6_an_edit_of_the_source_is_an_error_of_exactly_the_blocks_that_changed(
    tmp_path: Path, expect_warning: ExpectWarning
) -> None:
    expect_warning("FoundStale")
    source = tree_at(tmp_path / "set")
    async with imports_at(tmp_path) as importing:
        record = await add(importing.imports, source)
        edit(source / "file0", b"other")
        found = await importing.jobs.verify(record.id, deep=False)
        assert (found.count, found.changed_blocks, found.files) == (1, 1, (str(source / "file0"),))
        assert importing.imports.record(record.id).state == "ImportStateStale"
        assert importing.imports.record(record.id).stale_files == (str(source / "file0"),)


async def test_names_are_made_of_paths_and_numbered_where_they_are_taken(tmp_path: Path) -> None:
    async with imports_at(tmp_path) as importing:
        names = []
        for number in range(3):
            folder = tmp_path / f"{number}"
            folder.mkdir()
            (folder / "x.bin").write_bytes(bytes([number]) * 1000)
            names.append((await add(importing.imports, folder / "x.bin", "ref")).name)
        assert names == ["x.bin", "x.bin-2", "x.bin-3"]
        with raising(ErrorClass.EXISTS):
            await add(importing.imports, tmp_path / "0", name="x.bin")


@pytest.mark.parametrize("name", ["a/b", ".", "..", "\0", "x" * 256, "\udcff"])
async def test_what_cannot_be_a_file_name_is_no_name(tmp_path: Path, name: str) -> None:
    (tmp_path / "x").write_bytes(b"data")
    async with imports_at(tmp_path) as importing:
        with raising(ErrorClass.INVALID):
            await add(importing.imports, tmp_path / "x", name=name)
        assert not importing.imports.numbers()


async def test_a_path_that_is_no_utf8_is_imported_and_survives_a_restart(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"caf\xe9")
    path.write_bytes(b"x" * 1000)
    for again in (False, True):
        async with imports_at(tmp_path) as importing:
            record = await add(importing.imports, path, "ref")
            assert record.file_path == f"file://{tmp_path}/caf%E9"
            assert record.name == "caf\\xe9"
            msgspec.json.encode(record)
            assert len(importing.imports.numbers()) == 1, again


async def test_the_same_root_again_names_the_one_that_is_there_and_leaves_no_second_copy(
    tmp_path: Path,
) -> None:
    source = tree_at(tmp_path / "set")
    async with imports_at(tmp_path) as importing:
        first = await importing.imports.add(source, Request(), wait=True)
        before = everything_below(tmp_path)
        second = await importing.imports.add(source, Request("dense", "other"), wait=True)
        assert (second.number, second.existing, first.existing) == (first.number, True, False)
        assert everything_below(tmp_path) == before


async def test_a_twin_that_nobody_waits_for_stays_and_says_so(
    tmp_path: Path, expect_warning: ExpectWarning
) -> None:
    expect_warning("has the same root")
    source = tree_at(tmp_path / "set")
    async with imports_at(tmp_path) as importing:
        first = await add(importing.imports, source)
        second = await importing.imports.add(source, Request(name="twin"), wait=False)
        with suppress(ShardError):  # it has failed already, or the other one is named
            assert (await importing.imports.wait_made(second.number)).number == first.id
        record = importing.imports.record(second.number)
        assert (record.state, record.error_class) == ("ImportStateBroken", "exists")
        assert first.name in record.error
        await importing.imports.remove(second.number)
        assert importing.imports.numbers() == [first.id]


@pytest.mark.parametrize("kind", ["ref", "dense", "car"])
async def test_c4_a_failed_import_leaves_nothing_whatever_its_kind(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x.car"
    pack(tree_at(tmp_path / "set"), path, version=1)
    path.write_bytes(path.read_bytes()[:-100])
    workers = Threads()
    workers.fail = lambda task: OSError(28, "No space left on device") if kind != "car" else None
    async with imports_at(tmp_path, workers) as importing:
        with raising(ErrorClass.CORRUPT if kind == "car" else ErrorClass.NO_SPACE):
            await add(importing.imports, path, kind)
        assert not importing.imports.numbers()
        assert not everything_below(tmp_path)
        assert path.exists()


async def test_c4_what_is_removed_is_what_is_ours(tmp_path: Path) -> None:
    car = tmp_path / "x.car"
    pack(tree_at(tmp_path / "set"), car, version=1)
    async with imports_at(tmp_path) as importing:
        record = await add(importing.imports, car, "car")
        assert (record.car_owner, record.car_path) == ("user", str(car))
        assert everything_below(tmp_path) == {f"imports/{record.id}.idx"}
        await importing.imports.remove(record.id)
        assert car.exists()
        assert not everything_below(tmp_path)
        other = await add(importing.imports, tmp_path / "set")
        await importing.imports.remove(other.id)
        assert (tmp_path / "set" / "file0").exists()
        assert not everything_below(tmp_path)


@pytest.mark.parametrize("version", [1, 2])
async def test_c1_a_car_of_either_version_is_taken_with_its_root(tmp_path: Path, version: int) -> None:
    car = tmp_path / "x.car"
    root = pack(tree_at(tmp_path / "set"), car, version=version).root
    async with imports_at(tmp_path) as importing:
        record = await add(importing.imports, car)
        assert (record.kind, record.root, record.version) == (Kind.CAR, str(root), version)
        assert (record.index_path is None) == (version == 2)
        index = None if record.index_path is None else Path(record.index_path)
        with ReadOnlyBlockstore.open(car, index=index) as store:
            assert store.get(root)


@pytest.mark.parametrize("size", [0, 1, 126, 127, 1 << 20, (1 << 20) + 1, 3 << 20])
async def test_c2_c8_a_stream_of_any_size_has_the_root_that_its_file_has(tmp_path: Path, size: int) -> None:
    (tmp_path / "x").write_bytes(os.urandom(size))
    expected = pack(tmp_path / "x", tmp_path / "x.car", profile=LOTUS).root

    async def pieces() -> object:
        data = (tmp_path / "x").read_bytes()
        for start in range(0, len(data), 100_000):
            yield data[start : start + 100_000]

    async with imports_at(tmp_path) as importing:
        outcome = await importing.imports.add_stream(pieces(), Request("dense", "x", "lotus"))  # type: ignore[arg-type]
        record = importing.imports.record(outcome.number)
        assert (record.root, record.size, record.source.value) == (str(expected), size, "import-local")
        assert importing.imports.find_root(expected) == record.id
        with ReadOnlyBlockstore.open(Path(record.car_path)) as store:
            planned = Export.plan(Traversal.of(store, expected))
            assert b"".join(planned.chunks())


async def test_a_stream_that_breaks_off_leaves_nothing(tmp_path: Path) -> None:
    async def pieces() -> object:
        yield b"x" * 100_000
        raise ShardError(ErrorClass.CANCELLED, "the client hung up before the end")

    async with imports_at(tmp_path) as importing:
        with raising(ErrorClass.CANCELLED):
            await importing.imports.add_stream(pieces(), Request("dense"))  # type: ignore[arg-type]
        assert not importing.imports.numbers()
        assert not everything_below(tmp_path)


async def test_c3_an_export_of_an_import_by_references_has_the_bytes(tmp_path: Path) -> None:
    source = tree_at(tmp_path / "set")
    async with imports_at(tmp_path) as importing:
        record = await add(importing.imports, source)
        await importing.jobs.export(record.id, "car", out=str(tmp_path / "out.car"))
        with ReadOnlyBlockstore.open(tmp_path / "out.car") as store:
            found = {visit.cid for visit in Traversal.of(store, *store.roots).walk()}
        pack(source, tmp_path / "dense.car")
        with ReadOnlyBlockstore.open(tmp_path / "dense.car") as store:
            assert found == {visit.cid for visit in Traversal.of(store, *store.roots).walk()}
        size = await importing.jobs.export(record.id, "size")
        piece = await importing.jobs.export(record.id, "piece")
        assert size["payload"] == piece["payload"] == (tmp_path / "out.car").stat().st_size


async def test_c7_an_import_is_found_by_its_root_through_an_index(tmp_path: Path) -> None:
    async with imports_at(tmp_path) as importing:
        record = await add(importing.imports, tree_at(tmp_path / "set"))
    catalogue = Catalogue.open(tmp_path / "imports.db")
    with catalogue.reading() as connection:
        query = "EXPLAIN QUERY PLAN SELECT id, state FROM imports WHERE root = ? ORDER BY id"
        (plan,) = [row[-1] for row in connection.execute(query, (Cid.parse(record.root or "").raw,))]
    catalogue.close()
    assert "USING INDEX imports_by_root" in plan or "USING COVERING INDEX imports_by_root" in plan


async def test_an_import_is_found_by_number_name_and_root_of_either_version(tmp_path: Path) -> None:
    async with imports_at(tmp_path) as importing:
        record = await add(importing.imports, tree_at(tmp_path / "set"), "dense", profile="unixfs-v0-2015")
        root = record.root or ""
        assert root.startswith("Qm")
        for text in (record.id, str(record.id), "set", root, Cid.parse(root).encode("base32")):
            assert importing.imports.find(text) == record.id
        with raising(ErrorClass.NOT_FOUND):
            importing.imports.find("none")


async def test_c9_all_that_is_made_on_the_way_is_in_our_folder(tmp_path: Path) -> None:
    workers = Threads()
    async with imports_at(tmp_path, workers) as importing:
        await add(importing.imports, tree_at(tmp_path / "set"))
        await importing.jobs.generate(
            tmp_path / "set" / "file0", tmp_path / "x.car", is_car=False, profile="lotus"
        )
        staging = str(tmp_path / "staging")
        assert [
            params["staging"].startswith(staging) for params in workers.params if "staging" in params
        ] == [True] * 2
        assert not list((tmp_path / "staging").iterdir())


async def test_c10_a_root_that_nobody_has_is_no_error(tmp_path: Path) -> None:
    async with imports_at(tmp_path) as importing:
        assert importing.imports.find_root(Cid.of(b"nothing")) is None


async def test_c5_c11_an_import_that_is_leased_is_not_removed_and_its_last_release_frees_it(
    tmp_path: Path,
) -> None:
    async with imports_at(tmp_path) as importing:
        record = await add(importing.imports, tree_at(tmp_path / "set"))
        importing.imports.acquire(record.id)
        importing.imports.acquire(record.id)
        importing.imports.release(record.id)
        with raising(ErrorClass.BUSY):
            await importing.imports.remove(record.id)
        assert Path(record.car_path).exists()
        importing.imports.release(record.id)
        await importing.imports.remove(record.id)
        assert not everything_below(tmp_path)


async def test_whoever_leaves_leaves_nothing(tmp_path: Path) -> None:
    workers = Threads()
    workers.hold()
    async with imports_at(tmp_path, workers) as importing, trio.open_nursery() as nursery:
        wanted = partial(importing.imports.add, tree_at(tmp_path / "set"), Request(), wait=True)
        nursery.start_soon(wanted)
        while not importing.imports.numbers():
            await wait_all_tasks_blocked()
            await trio.sleep(0)
        nursery.cancel_scope.cancel()
    assert workers.cancelled
    assert not everything_below(tmp_path)
    async with imports_at(tmp_path) as importing:
        assert not importing.imports.numbers()


async def test_a_cancel_leaves_nothing_and_tells_who_waits(tmp_path: Path) -> None:
    workers = Threads()
    workers.hold()
    async with imports_at(tmp_path, workers) as importing:
        begun = await importing.imports.add(tree_at(tmp_path / "set"), Request(), wait=False)
        assert importing.imports.record(begun.number).state == "ImportStateImporting"
        async with trio.open_nursery() as nursery:

            async def wait() -> None:
                with raising(ErrorClass.CANCELLED):
                    await importing.imports.wait_made(begun.number)

            nursery.start_soon(wait)
            await wait_all_tasks_blocked()
            await importing.imports.cancel(begun.number)
        assert not importing.imports.numbers()
        assert not everything_below(tmp_path)


async def test_a_cancel_before_anything_was_begun_leaves_nothing_either(tmp_path: Path) -> None:
    async with imports_at(tmp_path) as importing:
        begun = await importing.imports.add(tree_at(tmp_path / "set"), Request(), wait=False)
        await importing.imports.cancel(begun.number)
        assert not everything_below(tmp_path)


async def test_what_was_left_to_itself_is_made_after_a_restart(tmp_path: Path) -> None:
    workers = Threads()
    workers.hold()
    async with imports_at(tmp_path, workers) as importing:
        begun = await importing.imports.add(tree_at(tmp_path / "set"), Request(), wait=False)
    async with imports_at(tmp_path) as importing:
        assert (await importing.imports.wait_made(begun.number)).number == begun.number
        record = importing.imports.record(begun.number)
        assert (record.state, record.generation) == ("ImportStateReady", 2)


async def test_what_was_taken_over_is_made_after_a_restart_too_and_gone_then(tmp_path: Path) -> None:
    (tmp_path / "staging").mkdir()
    (tmp_path / "staging" / "x.bin").write_bytes(b"x" * 10_000)
    workers = Threads()
    workers.hold()
    async with imports_at(tmp_path, workers) as importing:
        begun = await importing.imports.add(tmp_path / "staging" / "x.bin", Request(), wait=False)
        assert importing.imports.record(begun.number).name == "x.bin"
    async with imports_at(tmp_path) as importing:
        await importing.imports.wait_made(begun.number)
        record = importing.imports.record(begun.number)
        assert (record.kind, record.size, record.car_owner) == (Kind.DENSE, 10_000, "importmgr")
        assert everything_below(tmp_path) == {f"imports/{record.id}.car"}


async def test_a_car_that_is_taken_over_becomes_ours(tmp_path: Path) -> None:
    (tmp_path / "staging").mkdir()
    root = pack(tree_at(tmp_path / "set"), tmp_path / "staging" / "x.car").root
    async with imports_at(tmp_path) as importing:
        record = await add(importing.imports, tmp_path / "staging" / "x.car")
        assert (record.kind, record.root, record.car_owner) == (Kind.CAR, str(root), "importmgr")
        assert everything_below(tmp_path) == {f"imports/{record.id}.car"}


async def test_what_a_kill_has_left_is_swept_and_what_is_not_ours_stays(tmp_path: Path) -> None:
    for name in (
        "imports/12.car",
        "imports/13.idx",
        "staging/import-14/made.car",
        "imports/mine.car",
        "staging/mine",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    async with imports_at(tmp_path):
        assert everything_below(tmp_path) == {"imports/mine.car", "staging/mine"}


async def test_numbers_rise_even_if_the_clock_does_not(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"{number}").write_bytes(bytes([number]) * 500)
    async with imports_at(tmp_path, clock_ns=lambda: 5) as importing:
        assert [(await add(importing.imports, tmp_path / f"{n}", "ref")).id for n in range(3)] == [5, 6, 7]
    async with imports_at(tmp_path, clock_ns=lambda: 1) as importing:
        assert importing.imports.reserve() == 8
    assert importing.imports.reserve() < time.time_ns()


async def test_renaming_tells_of_both_names(tmp_path: Path) -> None:
    hub = Hub(buffer=100)
    news = hub.subscribe_all(lambda: None)
    async with imports_at(tmp_path, hub=hub) as importing:
        record = await add(importing.imports, tree_at(tmp_path / "set"))
        await news.wait_changed()
        importing.imports.rename(record.id, "other")
        assert await news.wait_changed() == [ImportKey(record.id, "set"), ImportKey(record.id, "other")]
        assert importing.imports.find("other") == record.id


async def test_a_profile_without_raw_leaves_cannot_be_referred_to(tmp_path: Path) -> None:
    async with imports_at(tmp_path) as importing:
        with raising(ErrorClass.INVALID):
            await add(importing.imports, tree_at(tmp_path / "set"), "ref", profile="unixfs-v0-2015")
        with raising(ErrorClass.INVALID):
            await add(importing.imports, tmp_path / "set", profile="none")
        assert not importing.imports.numbers()


async def test_special_files_are_left_out_and_reported(tmp_path: Path) -> None:
    source = tree_at(tmp_path / "set")
    os.mkfifo(source / "fifo")
    async with imports_at(tmp_path) as importing:
        record = await add(importing.imports, source)
        assert [(one.path, one.reason) for one in record.skipped] == [(str(source / "fifo"), "is a FIFO")]


async def test_a_dense_import_refers_to_leaves_of_others_if_it_may(tmp_path: Path) -> None:
    source = tree_at(tmp_path / "set", size=500_000)
    async with imports_at(tmp_path) as importing:
        await add(importing.imports, source)
        (source / "new").write_bytes(b"new")
        record = await add(importing.imports, source, "dense", name="more", share=True)
        assert (record.kind, record.files) == (Kind.REF, 3)
        assert Path(record.car_path).stat().st_size < 10_000
        with ReferenceBlockstore.open(Path(record.car_path), Path("/")) as store:
            assert sum(visit.size for visit in Traversal.of(store, *store.roots).walk()) > 1_500_000


async def test_a_damaged_row_keeps_nobody_from_starting(
    tmp_path: Path, expect_warning: ExpectWarning
) -> None:
    expect_warning("failed to query metadata for import; skipping")
    async with imports_at(tmp_path) as importing:
        record = await add(importing.imports, tree_at(tmp_path / "set"))
    catalogue = Catalogue.open(tmp_path / "imports.db")
    with catalogue.writing() as connection:
        connection.execute("UPDATE imports SET facts = x'7b'")
    catalogue.close()
    async with imports_at(tmp_path) as importing:
        await importing.imports.checked.wait()
        assert Path(record.car_path).exists()
        life = importing.imports.life(record.id)
        assert life is not None
        assert life.state is ImportState.BROKEN
