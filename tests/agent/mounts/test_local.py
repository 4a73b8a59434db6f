"""The mounts that need no network, and the mount that fails as told."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from agent.dagstore import mounts
from agent.dagstore.failures import ErrorClass, ShardError
from agent.dagstore.mounts import BytesMount, FileMount, Fingerprint
from agent.dagstore.mounts.environment import Environment
from agent.dagstore.mounts.probing import read
from tests.agent.mounts.conformance import DATA, MountConformance, Subject
from tests.agent.mounts.faults import (
    Corrupt,
    Cut,
    Delay,
    Fail,
    Faults,
    FaultyMount,
    Hang,
    faulty_url,
    install,
)

BYTES = BytesMount(DATA[:20_001])


class TestBytes(MountConformance):
    @pytest.fixture
    def subject(self) -> Subject:
        return Subject(BYTES, BYTES.data)


class TestFile(MountConformance):
    @pytest.fixture
    def subject(self, tmp_path: Path) -> Subject:
        path = tmp_path / "odd name%41é\n.car"
        path.write_bytes(DATA)

        def change() -> None:
            path.write_bytes(DATA[::-1])
            os.utime(path, ns=(0, 0))

        return Subject(FileMount(path), DATA, change=change, remove=path.unlink)


class TestFaultyWithoutFaults(MountConformance):
    @pytest.fixture
    def subject(self, monkeypatch: pytest.MonkeyPatch) -> Subject:
        faults = Faults()
        install(monkeypatch, faults)
        return Subject(FaultyMount(BYTES, faults), BYTES.data)


async def test_a_file_that_was_replaced_by_another_is_noticed(tmp_path: Path) -> None:
    environment, mount = Environment(), FileMount(tmp_path / "x")
    mount.path.write_bytes(b"1234")
    expected = mount.stat()
    (tmp_path / "y").write_bytes(b"1234")
    os.utime(tmp_path / "y", ns=(expected.mtime_ns, expected.mtime_ns))
    (tmp_path / "y").rename(mount.path)
    with pytest.raises(mounts.DataChanged, match="inode"):
        await read(mount, environment, 0, 4, expected)


async def test_a_file_that_may_not_be_read_is_found_out_by_the_probe(tmp_path: Path) -> None:
    (tmp_path / "fifo").touch()
    mount = FileMount(tmp_path / "fifo" / "below")
    with pytest.raises(ShardError, match="Not a directory") as raised:
        await mount.probe(Environment())
    assert raised.value.error_class is ErrorClass.GONE


@pytest.mark.parametrize("url", ["bytes:%", "bytes:a", "bytes:a b", "bytes://x", "bytes:é"])
def test_what_is_not_base64url_is_refused(url: str) -> None:
    with pytest.raises(ShardError, match="not base64url") as raised:
        mounts.parse(url)
    assert raised.value.error_class is ErrorClass.INVALID


def test_bytes_in_any_spelling_are_the_same_mount() -> None:
    assert mounts.resolve("bytes:aGk=") == mounts.resolve("BYTES:aGk") == BytesMount(b"hi")
    assert mounts.parse("bytes:") == BytesMount(b"")


@pytest.mark.parametrize(
    ("before", "after", "difference"),
    [
        (Fingerprint(1, 5, 6, 7), Fingerprint(1, 5, 6, 8), ""),
        (Fingerprint(1, 0, 6, 7), Fingerprint(1, 1, 6, 7), "mtime_ns 0 -> 1"),
        (Fingerprint(1, 5, 6, 7), Fingerprint(2, 5, 7, 7), "size 1 -> 2, inode 6 -> 7"),
        (Fingerprint(1, 5, 6, 7), Fingerprint(1, etag='"a"'), ""),
        (Fingerprint(1, etag='"a"', modified="x"), Fingerprint(1, etag='"a"', modified="y"), ""),
        (Fingerprint(1, etag='"a"'), Fingerprint(1, etag='"b"'), 'etag "a" -> "b"'),
        (Fingerprint(1, etag='"a"', modified="x"), Fingerprint(1, modified="y"), "modified x -> y"),
        (Fingerprint(1, etag='"a"'), Fingerprint(1), ""),
    ],
)
def test_fingerprints_differ_in_what_both_sides_know(
    before: Fingerprint, after: Fingerprint, difference: str
) -> None:
    assert before.differs_from(after) == difference


async def test_m1_a_read_that_failed_is_tried_anew() -> None:
    busy = ShardError(ErrorClass.BUSY, "not now")
    faults = Faults({0: Fail(busy), 1: Cut(after=3)})
    mount, expected = FaultyMount(BytesMount(b"0123456789"), faults), Fingerprint(10)
    for message in ("not now", "cut after 3 bytes"):
        with pytest.raises(ShardError, match=message):
            await read(mount, Environment(), 0, 10, expected)
    assert await read(mount, Environment(), 0, 10, expected) == b"0123456789"


async def test_m8_every_read_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    faults = Faults({1: Corrupt(5), 2: Delay(3600)})
    install(monkeypatch, faults)
    mount = mounts.resolve(faulty_url("bytes:MDEyMzQ1Njc4OQ"))
    with trio.move_on_after(0):
        await read(mount, Environment(), 0, 1, Fingerprint(10))
    assert await read(mount, Environment(), 4, 3, Fingerprint(10)) == b"446"
    with trio.move_on_after(0):
        await read(mount, Environment(), 7, 3, Fingerprint(10))
    assert (faults.reads, faults.open_streams) == ([(0, 1), (4, 3), (7, 3)], 0)


async def test_a_mount_that_hangs_can_be_let_go(autojump_clock: MockClock) -> None:
    hang = Hang(after=2)
    faults = Faults({0: hang})
    mount = FaultyMount(BytesMount(b"0123456789"), faults)
    found: list[bytes] = []
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def take() -> None:
            found.append(await read(mount, Environment(), 0, 10, Fingerprint(10)))

        await trio.testing.wait_all_tasks_blocked()
        assert (found, faults.open_streams) == ([], 1)
        hang.released.set()
    assert (found, faults.open_streams) == ([b"0123456789"], 0)


async def test_a_mount_that_answers_every_range_with_the_start_has_no_ranges() -> None:
    class Liar(FaultyMount):
        def stream(self, environment, offset, length, expected):  # type: ignore[no-untyped-def]  # as the original
            return super().stream(environment, 0, length, expected)

    probe = await Liar(BytesMount(DATA[:10_000]), Faults()).probe(Environment())
    assert not probe.ranges
