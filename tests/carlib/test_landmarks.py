"""Learned places in an index: they save reads and change no answer, whatever the index holds or becomes."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path

import pytest

from carlib import indexing, landmarks
from carlib.cid import RAW, Cid
from carlib.index import Index
from carlib.source import FileSource, MemorySource
from tests.carlib.cars import car_v1

ENTRIES = 5_000


class CountingSource(MemorySource):
    """Counts its reads."""

    reads = 0

    def pread(self, offset: int, length: int) -> bytes:
        self.reads += 1
        return super().pread(offset, length)


def digest(number: int) -> bytes:
    return hashlib.sha256(number.to_bytes(8, "big")).digest()


def index_of(tmp_path: Path, digests: list[bytes]) -> CountingSource:
    path = tmp_path / "a.car"
    path.write_bytes(car_v1([(Cid.v1(RAW, b"\x12\x20" + each), b"") for each in digests]))
    indexing.build(path, tmp_path / "a.idx")
    return CountingSource((tmp_path / "a.idx").read_bytes())


def plain(index: Index, wanted: bytes) -> list[tuple[int, int]]:
    """What a search through everything gives."""
    return [(entry.ordinal, entry.offset) for entry in index if entry.digest == wanted]


def test_every_look_up_gives_what_a_search_through_everything_does(tmp_path: Path) -> None:
    digests = [digest(number) for number in range(ENTRIES)]
    twins = digests[:40] * 3 + [digests[77]] * 600  # more than the wide window holds
    found = Index.open(index_of(tmp_path, digests + twins))
    expected: dict[bytes, list[tuple[int, int]]] = {}
    for entry in found:
        expected.setdefault(entry.digest, []).append((entry.ordinal, entry.offset))
    for turn in range(3):
        random.Random(turn).shuffle(digests)
        for each in digests:
            assert list(found.find(0x12, each)) == expected[each]
            assert found.near(0x12, each) in (None, expected[each][0])
    for number in range(ENTRIES, ENTRIES + 500):
        assert list(found.find(0x12, digest(number))) == []
        assert found.near(0x12, digest(number)) is None


def test_after_some_look_ups_one_read_is_enough(tmp_path: Path) -> None:
    digests = [digest(number) for number in range(ENTRIES)]
    source = index_of(tmp_path, digests)
    found = Index.open(source)
    for each in digests[:1_000]:
        assert next(found.find(0x12, each))
    source.reads = 0
    for each in digests[1_000:2_000]:
        assert next(found.find(0x12, each))
    assert source.reads < 1_200


@pytest.mark.parametrize("order", ["reversed", "shuffled", "all alike at first"])
def test_an_index_made_to_mislead_gives_no_entry_of_another_digest(tmp_path: Path, order: str) -> None:
    digests = [digest(number) for number in range(1_000)]
    if order == "all alike at first":
        digests = [bytes(16) + each[16:] for each in digests]
    index_of(tmp_path, digests)
    data = (tmp_path / "a.idx").read_bytes()
    start = len(data) - 1_000 * 40
    entries = [data[at : at + 40] for at in range(start, len(data), 40)]
    if order == "reversed":
        entries.reverse()
    elif order == "shuffled":
        random.Random(5).shuffle(entries)
    source = CountingSource(data[:start] + b"".join(entries))
    found = Index.open(source)
    for each in digests * 2:
        source.reads = 0
        assert set(found.find(0x12, each)) <= set(plain(found, each)) or not list(found.find(0x12, each))
        assert source.reads < 60
        if order == "all alike at first":
            assert list(found.find(0x12, each)) == plain(found, each)


def test_an_index_file_that_changes_under_us_is_read_as_it_is_now(tmp_path: Path) -> None:
    digests = [digest(number) for number in range(2_000)]
    index_of(tmp_path, digests)
    path = tmp_path / "a.idx"
    with FileSource(path) as source:
        found = Index.open(source)
        for each in digests:
            assert next(found.find(0x12, each))
        data = bytearray(path.read_bytes())
        start = len(data) - 2_000 * 40
        data[start + 40 * 1_000 + 32 : start + 40 * 1_000 + 40] = (12345).to_bytes(8, "little")
        path.write_bytes(data)
        changed = bytes(data[start + 40 * 1_000 : start + 40 * 1_000 + 32])
        assert list(found.find(0x12, changed)) == [(1_000, 12345)]


def test_memory_is_bounded_whatever_the_count() -> None:
    for count in (1, 63, 64, 255, 256, 10_000, 1 << 40, (1 << 63) // 40):
        known = landmarks.Landmarks(count)
        assert known.place(b"\xff" * 32) is None
        known.learn(b"\xff" * 32, count - 1)
        place = known.place(b"\xff" * 32)
        assert place is not None and abs(place - (count - 1)) <= 1
        assert len(known._errors) <= landmarks.MAX_SLOTS
