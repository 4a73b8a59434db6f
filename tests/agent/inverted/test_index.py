"""The inverted index: what is in is found, what is gone is not, and nothing that happens to its files changes that."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from agent.dagstore.failures import ErrorClass, ShardError
from agent.dagstore.inverted import manifest
from agent.dagstore.inverted.index import ShardIndex
from agent.workers import Needs, WorkerFailed
from carlib.index import INDEX_SORTED
from tests.agent.inverted.indices import (
    Shards,
    assert_answers,
    inverted_at,
    multihash,
    settled,
    write_index,
)
from tests.agent.stores import LocalWorkers
from tests.conftest import ExpectWarning

ONE, TWO, BOTH, NONE = (multihash(bytes([number]) * 32) for number in range(4))


@pytest.fixture
def shards(tmp_path: Path) -> Shards:
    made = Shards(tmp_path)
    made.put("one", [ONE, BOTH])
    made.put("two", [TWO, BOTH])
    return made


async def test_a_look_up_gives_all_shards_that_hold_the_block(tmp_path: Path, shards: Shards) -> None:
    async with inverted_at(shards, tmp_path / "inverted") as inverted:
        await settled(inverted)
        assert [sorted(keys) for keys in inverted.lookup_many([ONE, TWO, BOTH, NONE])] == [
            ["one"],
            ["two"],
            ["one", "two"],
            [],
        ]


@pytest.mark.parametrize("raw", [b"", b"\x12", b"\x12\x20short", ONE + b"x", b"\xff" * 40, b"\x00\x00"])
async def test_what_is_no_multihash_is_found_nowhere(tmp_path: Path, shards: Shards, raw: bytes) -> None:
    async with inverted_at(shards, tmp_path / "inverted") as inverted:
        await settled(inverted)
        assert inverted.lookup(raw) == []


async def test_i8_a_multihash_is_bytes_and_is_never_cleaned_like_a_path(tmp_path: Path) -> None:
    """I-8: multihashes were keys of a path-like kind, so some lost their ends."""
    shards = Shards(tmp_path)
    awkward = [
        b"/" * 32,
        b"a" * 31 + b"/",
        b"a" * 30 + b"//",
        bytes(32),
        b"a" * 31 + b"\0",
        b"../" * 10 + b"..",
        b"a" * 31 + b"\n",
    ]
    for digest in awkward:
        shards.put(repr(digest), [multihash(digest)])
    async with inverted_at(shards, tmp_path / "inverted") as inverted:
        await settled(inverted)
        assert [inverted.lookup(multihash(digest)) for digest in awkward] == [[repr(one)] for one in awkward]
        assert inverted.lookup(multihash(b"a" * 31 + b"b")) == []


async def test_an_index_that_does_not_tell_the_hash_function_is_found_under_any(
    tmp_path: Path, shards: Shards
) -> None:
    path = write_index(tmp_path / "old.idx", [ONE], INDEX_SORTED)
    async with inverted_at(shards, tmp_path / "inverted") as inverted:
        await settled(inverted)
        inverted.add(ShardIndex("old", 1, "", path, 1))
        await settled(inverted)
        assert sorted(inverted.lookup(ONE)) == ["old", "one"]
        assert inverted.lookup(multihash(ONE[2:], 0x1E)) == ["old"]


async def test_i5_a_removed_shard_is_not_found_from_that_moment_on(tmp_path: Path, shards: Shards) -> None:
    """I-5: destroying or recovering a shard left its entries behind."""
    async with inverted_at(shards, tmp_path / "inverted") as inverted:
        await settled(inverted)
        inverted.remove("one")
        inverted.remove("never there")
        assert inverted.lookup_many([ONE, BOTH]) == [[], ["two"]]
        shards.drop("one")
    async with inverted_at(shards, tmp_path / "inverted") as inverted:
        await settled(inverted)
        assert inverted.lookup_many([ONE, BOTH]) == [[], ["two"]]


async def test_i5_a_key_that_comes_again_has_its_new_content_alone(tmp_path: Path, shards: Shards) -> None:
    """Even with the old one's generation, and if the agent was away in between."""
    async with inverted_at(shards, tmp_path / "inverted") as inverted:
        await settled(inverted)
    shards.put("one", [TWO], generation=1)
    async with inverted_at(shards, tmp_path / "inverted") as inverted:
        await settled(inverted)
        assert_answers(inverted, shards, [ONE, TWO, BOTH])
        inverted.add(shards.put("one", [NONE], generation=2))
        assert inverted.lookup_many([TWO, NONE]) == [["two"], []]
        await settled(inverted)
        assert_answers(inverted, shards, [ONE, TWO, BOTH, NONE])


async def test_entries_of_dead_shards_are_purged_when_most_are(tmp_path: Path) -> None:
    shards = Shards(tmp_path)
    for number in range(4):
        shards.put(str(number), [multihash(bytes([number, other]) * 16) for other in range(100)])
    async with inverted_at(shards, tmp_path / "inverted") as inverted:
        await settled(inverted)
        for key in ("0", "1", "2"):
            shards.drop(key)
            inverted.remove(key)
        with trio.fail_after(10):
            while inverted.statistics().dead_entries:
                await trio.testing.wait_all_tasks_blocked(0.01)
        assert inverted.statistics().entries == 100
        assert_answers(inverted, shards, [])


async def test_nothing_is_left_when_all_shards_are_gone(tmp_path: Path, shards: Shards) -> None:
    async with inverted_at(shards, tmp_path / "inverted") as inverted:
        await settled(inverted)
        for key in ("one", "two"):
            shards.drop(key)
            inverted.remove(key)
        with trio.fail_after(10):
            while inverted.statistics().segments:
                await trio.testing.wait_all_tasks_blocked(0.01)
    assert [path.name for path in (tmp_path / "inverted").iterdir()] == [manifest.NAME]


async def test_i3_what_the_catalogue_has_and_the_index_lacks_is_taken_in_at_the_start(
    tmp_path: Path, shards: Shards
) -> None:
    """I-3: the index was not filled when a shard's own index was there already."""
    async with inverted_at(shards, tmp_path / "inverted") as inverted:
        await settled(inverted)
    shards.put("three", [NONE])
    shards.drop("two")
    async with inverted_at(shards, tmp_path / "inverted") as inverted:
        await settled(inverted)
        assert_answers(inverted, shards, [ONE, TWO, BOTH, NONE])


async def test_a_look_up_that_finds_nothing_waits_for_what_is_on_its_way(
    tmp_path: Path, shards: Shards
) -> None:
    workers = LocalWorkers()
    workers.hold()
    async with inverted_at(shards, tmp_path / "inverted", workers) as inverted:
        answers: list[list[str]] = []

        async def look() -> None:
            answers.append(await inverted.find(ONE))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(look)
            await trio.testing.wait_all_tasks_blocked()
            assert answers == []
            workers.gate.set()
        assert answers == [["one"]]
        assert await inverted.find(NONE) == []


async def test_whoever_has_tried_what_is_known_waits_for_what_is_on_its_way(
    tmp_path: Path, shards: Shards
) -> None:
    workers = LocalWorkers()
    async with inverted_at(shards, tmp_path / "inverted", workers) as inverted:
        await settled(inverted)
        workers.hold()
        inverted.add(shards.put("late", [ONE]))
        answers: list[list[str]] = []

        async def look() -> None:
            answers.append(await inverted.find(ONE))
            answers.append(await inverted.find(ONE, but=["one"]))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(look)
            while not answers:
                await trio.testing.wait_all_tasks_blocked(0.01)
            workers.gate.set()
        assert answers == [["one"], ["late"]]


async def test_i4_a_shard_that_cannot_be_taken_in_is_said_and_nobody_is_told_that_its_blocks_are_nowhere(
    tmp_path: Path, shards: Shards, expect_warning: ExpectWarning, autojump_clock: trio.testing.MockClock
) -> None:
    """I-4: a failed addition was logged, and look-ups answered as if all were in."""
    expect_warning("does not get on: disk full; trying again")
    workers = FailingWorkers(3)
    async with inverted_at(shards, tmp_path / "inverted", workers) as inverted:
        while not inverted.statistics().pending:
            await trio.sleep(0.01)
        with pytest.raises(
            ShardError, match="2 shards are not in the inverted index yet: disk full"
        ) as raised:
            await inverted.find(ONE, timeout_s=0.5)
        assert raised.value.error_class is ErrorClass.BUSY
        assert (inverted.statistics().pending, inverted.statistics().problem) == (2, "disk full")
        await inverted.wait_complete()  # no limit: the clock jumps while threads work
        assert (await inverted.find(ONE), inverted.statistics().problem) == (["one"], "")


class FailingWorkers(LocalWorkers):
    """Workers that find the disk full a few times."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self._times = times

    async def run(
        self,
        kind: str,
        params: dict[str, Any],
        progress: Callable[[int, int], None] | None = None,
        needs: Needs | None = None,
        *,
        subject: str = "",
        size_bytes: int = 0,
        priority: int = 0,
    ) -> dict[str, Any]:
        self._times -= 1
        if self._times >= 0:
            raise WorkerFailed(ErrorClass.NO_SPACE, "disk full")
        return await super().run(kind, params, progress, needs, priority=priority)


@pytest.mark.parametrize("damage", ["cut", "changed", "gone"])
async def test_a_damaged_shard_index_is_reported_and_the_others_are_taken_in(
    tmp_path: Path, shards: Shards, damage: str
) -> None:
    path = shards.indices["one"].path
    data = path.read_bytes()
    match damage:
        case "cut":
            path.write_bytes(data[:-1])
        case "changed":
            path.write_bytes(data[:-1] + b"x")
        case "gone":
            path.unlink()
    async with inverted_at(shards, tmp_path / "inverted") as inverted:
        await settled(inverted)
        assert [key for key, why in shards.damaged if "index file" in why] == ["one"]
        assert inverted.lookup_many([ONE, TWO]) == [[], ["two"]]


def damage_each_file(folder: Path) -> Iterator[Callable[[], None]]:
    """Ways to damage each file: gone, empty, cut short, changed at some places."""
    for path in sorted(folder.iterdir()):
        whole = path.read_bytes()
        yield path.unlink
        for end in (0, 1, len(whole) // 2, len(whole) - 1):
            yield lambda path=path, whole=whole, end=end: path.write_bytes(whole[:end])  # type: ignore[misc]
        for at in range(0, len(whole), max(1, len(whole) // 40)):
            changed = whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]
            yield lambda path=path, changed=changed: path.write_bytes(changed)  # type: ignore[misc]


async def test_whatever_is_damaged_is_made_anew_and_no_answer_is_wrong(
    tmp_path: Path, shards: Shards, expect_warning: ExpectWarning
) -> None:
    """Damage to entries, which a start does not read, is found by a check."""
    expect_warning("made anew")
    folder = tmp_path / "inverted"
    async with inverted_at(shards, folder) as inverted:
        await settled(inverted)
    whole = {path: path.read_bytes() for path in folder.iterdir()}
    for damage in damage_each_file(folder):
        for path in folder.iterdir():
            path.unlink()
        for path, data in whole.items():
            path.write_bytes(data)
        damage()
        async with inverted_at(shards, folder) as inverted:
            await settled(inverted)
            if await inverted.check():
                await inverted.rebuild()
            assert await inverted.check() == []
            assert_answers(inverted, shards, [NONE])


async def test_a_segment_found_damaged_when_it_is_merged_is_made_anew_from_its_shards(
    tmp_path: Path, shards: Shards, expect_warning: ExpectWarning
) -> None:
    expect_warning("the checksum of its entries is wrong; it is made anew|its entries are not in order")
    async with inverted_at(shards, tmp_path / "inverted") as inverted:
        await settled(inverted)
        (segment,) = (tmp_path / "inverted").glob("*.segment")
        whole = segment.read_bytes()
        segment.write_bytes(whole[:5] + b"\x55" + whole[6:])  # the file itself, not a new one: it is mapped
        for number in range(4):
            inverted.add(shards.put(f"more {number}", [multihash(bytes([9, number]) * 16)]))
            await settled(inverted)
        assert_answers(inverted, shards, [NONE])
        assert await inverted.check() == []


async def test_a_check_finds_what_the_index_has_too_little_and_too_much(
    tmp_path: Path, shards: Shards
) -> None:
    async with inverted_at(shards, tmp_path / "inverted") as inverted:
        await settled(inverted)
        shards.put("one", [NONE], generation=1)
        assert await inverted.check() == [
            ("one", "the inverted index lacks 1 of its 1 multihashes"),
            ("one", "the inverted index has 2 multihashes that it does not have"),
        ]


class PowerCut(BaseException):
    """The process is no more."""


@pytest.mark.parametrize("calls", range(1, 40))
async def test_killed_at_any_step_on_disk_it_gives_no_wrong_answer(
    tmp_path: Path, shards: Shards, calls: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before each fsync, rename and unlink of a first filling, an addition, a removal and merges."""
    left = calls

    def cut_at(original: Callable[..., Any]) -> Callable[..., Any]:
        def step(*arguments: Any, **named: Any) -> Any:
            nonlocal left
            left -= 1
            if left <= 0:
                raise PowerCut
            return original(*arguments, **named)

        return step

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", cut_at(os.fsync))
        patch.setattr(Path, "replace", cut_at(Path.replace))
        patch.setattr(Path, "unlink", cut_at(Path.unlink))
        try:
            async with inverted_at(shards, tmp_path / "inverted") as inverted:
                await settled(inverted)
                for number in range(5):
                    inverted.add(shards.put(f"more {number}", [multihash(bytes([number, 9]) * 16), BOTH]))
                    await settled(inverted)
                inverted.remove("one")
                shards.drop("one")
                inverted.add(shards.put("last", [NONE]))
                await settled(inverted)
        except BaseExceptionGroup as group:
            assert group.split(PowerCut)[1] is None
    async with inverted_at(shards, tmp_path / "inverted") as inverted:
        await settled(inverted)
        assert_answers(inverted, shards, [ONE, TWO, BOTH, NONE])
        assert await inverted.check() == []


async def test_a_shard_that_kills_its_worker_holds_up_no_other(
    tmp_path: Path, shards: Shards, expect_warning: ExpectWarning, autojump_clock: trio.testing.MockClock
) -> None:
    expect_warning("does not get on: killed")
    for number in range(6):
        shards.put(str(number), [multihash(bytes([number]) * 32)])
    async with inverted_at(shards, tmp_path / "inverted", PoisonedWorkers("3")) as inverted:
        while inverted.statistics().shards < 7:
            await trio.sleep(1)
        assert "3" not in inverted
        assert inverted.statistics().pending == 1


class PoisonedWorkers(LocalWorkers):
    """Workers that die of one shard."""

    def __init__(self, key: str) -> None:
        super().__init__()
        self._key = key

    async def run(
        self,
        kind: str,
        params: dict[str, Any],
        progress: Callable[[int, int], None] | None = None,
        needs: Needs | None = None,
        *,
        subject: str = "",
        size_bytes: int = 0,
        priority: int = 0,
    ) -> dict[str, Any]:
        if any(shard["key"] == self._key for shard in params["shards"]):
            raise WorkerFailed(ErrorClass.BUSY, "killed")
        return await super().run(kind, params, progress, needs, priority=priority)


async def test_two_indices_of_one_folder_never_use_each_others_files(tmp_path: Path, shards: Shards) -> None:
    """Names of segments are never used again, not even when the manifest was lost."""
    names = set()
    for _ in range(3):
        async with inverted_at(shards, tmp_path / "inverted") as inverted:
            await settled(inverted)
            await inverted.rebuild()
            (segment,) = (tmp_path / "inverted").glob("*.segment")
        assert segment.name not in names
        names.add(segment.name)
