"""What every mount owes the dagstore. A mount from elsewhere is tested by the same: subclass `MountConformance`.

```python
class TestMine(MountConformance):
    @pytest.fixture
    def subject(self, tmp_path: Path) -> Subject: ...
```
"""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from random import Random
from typing import Final

import msgspec
import pytest
import trio

from agent.dagstore import mounts
from agent.dagstore.access import FileAccess, SectorAccess
from agent.dagstore.failures import ErrorClass, ShardError
from agent.dagstore.mounts import DataChanged, Fingerprint, Mount
from agent.dagstore.mounts.config import MountsConfig
from agent.dagstore.mounts.environment import Environment, open_environment
from agent.dagstore.mounts.mount import MAX_CHUNK_BYTES
from agent.dagstore.mounts.probing import read
from carlib.piece import sector, sizes
from carlib.source import FileSource
from tests.agent.waiting import until

DATA: Final = Random(4).randbytes(5 * MAX_CHUNK_BYTES // 2)

STARTS: Final = (0, 1, 127, 4095, MAX_CHUNK_BYTES - 1, MAX_CHUNK_BYTES + 1)
LENGTHS: Final = (1, 2, 4097, MAX_CHUNK_BYTES + 3)


@dataclass(frozen=True)
class Subject:
    """A mount, what it must give, and what may happen to its data."""

    mount: Mount
    data: bytes
    environment: Callable[[], AbstractAsyncContextManager[Environment]] = lambda: open_environment(
        MountsConfig()
    )
    change: Callable[[], object] | None = None  # other bytes, as many; None: cannot happen to this mount
    remove: Callable[[], object] | None = None  # likewise
    ranges: bool = True


def descriptors() -> list[str]:
    """What this process has open, as names of files, pipes and sockets."""
    gc.collect()
    found = []
    for link in Path("/proc/self/fd").iterdir():
        try:
            found.append(str(link.readlink()).partition(":[")[0])
        except FileNotFoundError:  # the folder itself
            continue
    return sorted(found)


class MountConformance:
    """The tests; `subject` is the fixture that a subclass gives."""

    @pytest.fixture
    def subject(self) -> Subject:
        raise NotImplementedError

    @pytest.fixture
    async def environment(self, subject: Subject) -> AsyncIterator[Environment]:
        async with subject.environment() as environment:
            yield environment

    @pytest.fixture
    async def expected(self, subject: Subject, environment: Environment) -> Fingerprint:
        return await subject.mount.look(environment)

    def test_m5_its_url_is_all_that_a_restart_needs(self, subject: Subject) -> None:
        mount = mounts.parse(subject.mount.url)
        assert (mount, mount.url, hash(mount)) == (subject.mount, subject.mount.url, hash(subject.mount))
        assert mount.url.isascii()
        assert mount.url.isprintable()
        assert mount.origin

    async def test_a_probe_says_what_is_there(self, subject: Subject, environment: Environment) -> None:
        probe = await subject.mount.probe(environment)
        assert (probe.fingerprint.size, probe.ranges) == (len(subject.data), subject.ranges)
        assert probe.latency_s >= 0
        assert probe.fingerprint.differs_from(await subject.mount.look(environment)) == ""

    async def test_a_fingerprint_survives_being_stored(self, expected: Fingerprint) -> None:
        assert msgspec.json.decode(msgspec.json.encode(expected), type=Fingerprint) == expected

    async def test_a_range_is_those_bytes(
        self, subject: Subject, environment: Environment, expected: Fingerprint
    ) -> None:
        for start, length in product(STARTS, LENGTHS):
            first = start % len(subject.data)
            due = subject.data[first : first + length]
            assert await read(subject.mount, environment, first, len(due), expected) == due

    async def test_the_ends_are_in_reach(
        self, subject: Subject, environment: Environment, expected: Fingerprint
    ) -> None:
        size = len(subject.data)
        assert await read(subject.mount, environment, size - 1, 1, expected) == subject.data[-1:]
        for offset in (0, 1, size):
            assert await read(subject.mount, environment, offset, 0, expected) == b""

    async def test_all_of_it_comes_in_pieces_of_bounded_size(
        self, subject: Subject, environment: Environment, expected: Fingerprint
    ) -> None:
        async with subject.mount.stream(environment, 0, len(subject.data), expected) as pieces:
            parts = [piece async for piece in pieces]
        assert b"".join(parts) == subject.data
        assert all(0 < len(part) <= MAX_CHUNK_BYTES for part in parts)

    @pytest.mark.parametrize(("offset", "length"), [(-1, 2), (0, -1), ("end", 1), (1, "end")])
    async def test_what_is_past_the_end_is_refused(
        self,
        subject: Subject,
        environment: Environment,
        expected: Fingerprint,
        offset: int | str,
        length: int | str,
    ) -> None:
        first, count = (len(subject.data) if value == "end" else int(value) for value in (offset, length))
        with pytest.raises(ShardError, match="there is no range") as raised:
            await read(subject.mount, environment, first, count, expected)
        assert raised.value.error_class is ErrorClass.INVALID

    @pytest.fixture
    def changes(self, subject: Subject) -> None:
        """Skips outside of trio, which would lose the reason."""
        if subject.change is None:
            pytest.skip("data of this mount cannot change")

    @pytest.fixture
    def goes(self, subject: Subject) -> None:
        """Likewise."""
        if subject.remove is None:
            pytest.skip("data of this mount cannot go")

    @pytest.mark.usefixtures("changes")
    async def test_a_change_is_noticed(
        self, subject: Subject, environment: Environment, expected: Fingerprint
    ) -> None:
        assert subject.change is not None
        subject.change()
        assert expected.differs_from(await subject.mount.look(environment))
        with pytest.raises(DataChanged) as raised:
            await read(subject.mount, environment, 1, len(subject.data) - 1, expected)
        assert raised.value.error_class is ErrorClass.CORRUPT

    @pytest.mark.usefixtures("goes")
    async def test_what_is_not_there_any_more_is_gone(
        self, subject: Subject, environment: Environment, expected: Fingerprint
    ) -> None:
        assert subject.remove is not None
        subject.remove()
        with pytest.raises(ShardError) as looked:
            await subject.mount.look(environment)
        with pytest.raises(ShardError) as been_read:
            await read(subject.mount, environment, 1, 1, expected)
        assert (looked.value.error_class, been_read.value.error_class) == (ErrorClass.GONE, ErrorClass.GONE)

    async def test_m2_many_read_at_once_and_one_that_gives_up_harms_nobody(
        self, subject: Subject, environment: Environment, expected: Fingerprint
    ) -> None:
        size = len(subject.data)
        found: dict[int, bytes] = {}

        async def take(number: int) -> None:
            start = number * size // 20
            found[number] = await read(subject.mount, environment, start, size // 20, expected)

        with trio.fail_after(60):
            async with (
                trio.open_nursery() as nursery,
                subject.mount.stream(environment, 0, size, expected) as pieces,
            ):
                await anext(pieces)
                for number in range(20):
                    nursery.start_soon(take, number)
        assert found == {n: subject.data[n * size // 20 : n * size // 20 + size // 20] for n in range(20)}

    async def test_d5_a_cancel_in_the_middle_leaves_nothing_open(self, subject: Subject) -> None:
        async def use(pieces_before_cancel: int) -> None:
            async with subject.environment() as environment:
                expected = await subject.mount.look(environment)
                with trio.CancelScope() as scope:
                    async with subject.mount.stream(environment, 0, len(subject.data), expected) as pieces:
                        if not pieces_before_cancel:
                            scope.cancel()
                        number = 0
                        async for _ in pieces:
                            number += 1
                            if number == pieces_before_cancel:
                                scope.cancel()
                assert await read(subject.mount, environment, 0, 1, expected) == subject.data[:1]

        await use(1)  # what a library opens once and for all is open now
        before = descriptors()
        for count in (0, 1, 2):
            await use(count)
        await until(lambda: descriptors() == before)

    async def test_what_is_read_in_place_is_the_same(
        self, subject: Subject, environment: Environment
    ) -> None:
        access = subject.mount.access(environment)
        match access:
            case None:
                assert subject.mount.path is None
            case FileAccess(path):
                assert subject.mount.path in (None, Path(path))
                assert Path(path).read_bytes() == subject.data
            case SectorAccess(path, offset, size):
                with FileSource(Path(path)) as source:
                    place = sector.Placement(offset, sizes.padded_size(size))
                    view = sector.open_piece(source, place, size)
                    assert view.pread(0, view.size) == subject.data
            case _:
                pytest.fail(f"a mount does not give {access}")
