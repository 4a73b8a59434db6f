"""Indices: built by hopping, searched where they lie, byte for byte as go-car writes them."""

from __future__ import annotations

import hashlib
import io
import resource
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from carlib import index, indexing, varint
from carlib.cid import RAW, Cid
from carlib.errors import CarError, LimitExceeded, Malformed, Truncated, UnknownCodec
from carlib.index import INDEX_SORTED, MULTIHASH_INDEX_SORTED, Index, SortedBucket
from carlib.source import FileSource, MemorySource
from tests.carlib.cars import BLOCKS, HELLO, car_v1, many_blocks, section, write_car
from tests.fixtures import fixture

CODECS = [INDEX_SORTED, MULTIHASH_INDEX_SORTED]


def built(tmp_path: Path, car: bytes, **options: object) -> tuple[indexing.IndexReport, Index]:
    path = tmp_path / "some.car"
    path.write_bytes(car)
    report = indexing.build(path, tmp_path / "some.idx", **options)  # type: ignore[arg-type]  # options of each test
    return report, Index.open(FileSource(tmp_path / "some.idx"))


@pytest.mark.parametrize("codec", CODECS)
def test_every_block_is_found_at_its_section_and_no_other(tmp_path: Path, codec: int) -> None:
    report, found = built(tmp_path, car_v1(BLOCKS), codec=codec)
    assert (report.block_count, report.identity_count, len(found)) == (len(BLOCKS), 1, len(BLOCKS) - 1)
    offset = report.data_size - sum(len(section(*block)) for block in BLOCKS)
    for cid, data in BLOCKS:
        expected = [] if cid.is_identity else [offset]
        assert [at for _, at in found.find(cid.hash_code, cid.digest)] == expected
        offset += len(section(cid, data))
    assert list(found.find(0x12, hashlib.sha256(b"absent").digest())) == []
    assert list(found.find(0x99, bytes(5))) == []


@pytest.mark.parametrize("codec", CODECS)
def test_identity_cids_are_listed_on_demand(tmp_path: Path, codec: int) -> None:
    _, found = built(tmp_path, car_v1(BLOCKS), codec=codec, identity=True)
    assert len(found) == len(BLOCKS)


def test_duplicates_are_all_given(tmp_path: Path) -> None:
    _, found = built(tmp_path, car_v1([BLOCKS[0], BLOCKS[1], BLOCKS[0], BLOCKS[0]]))
    assert len(list(found.find(HELLO.hash_code, HELLO.digest))) == 3


def test_runs_are_merged_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """More entries than one run holds, with duplicates, give what one run would."""
    blocks = many_blocks(20_000)
    car = car_v1(blocks + blocks[:500] + BLOCKS)
    one = built(tmp_path, car)[1]
    whole = (tmp_path / "some.idx").read_bytes()
    monkeypatch.setattr(indexing, "RUN_BYTES", 40_000)
    many = built(tmp_path, car)[1]
    assert (tmp_path / "some.idx").read_bytes() == whole
    digests = [(entry.hash_code, len(entry.digest), entry.digest) for entry in many]
    assert digests == sorted(digests)
    assert [entry.ordinal for entry in many] == list(range(len(one)))
    for cid, _ in blocks[::37]:
        assert len(list(many.find(cid.hash_code, cid.digest))) in (1, 2)


def test_no_descriptor_is_taken_for_each_hash_function(tmp_path: Path) -> None:
    """Else a small CAR of a thousand made-up codes could not be read, nor anything else in its process."""
    blocks = [(Cid.v1(RAW, varint.encode(0x400000 + code) + b"\x20" + bytes(32)), b"") for code in range(200)]
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(list(Path("/proc/self/fd").iterdir())) + 50, before[1]))
    try:
        _, found = built(tmp_path, car_v1(blocks))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert [entry.hash_code for entry in found] == [cid.hash_code for cid, _ in blocks]


def test_writing_looks_at_each_bucket_once_however_many_hash_functions_there_are() -> None:
    looks = 0

    class Looked(SortedBucket):
        def __getattribute__(self, name: str) -> Any:  # Any: whatever the attribute is
            nonlocal looks
            looks += name == "hash_code"
            return super().__getattribute__(name)

    index.write(io.BytesIO(), MULTIHASH_INDEX_SORTED, [Looked(code, 32, 0, ()) for code in range(100)])
    assert looks == 100


def test_memory_is_bounded_where_digests_are_long(tmp_path: Path) -> None:
    digests = [hashlib.shake_128(bytes(2) + n.to_bytes(2, "big")).digest(2000) for n in range(20_000)]
    tracemalloc.start()
    try:
        with indexing.SortedRuns(tmp_path, MULTIHASH_INDEX_SORTED) as runs:
            for number, digest in enumerate(digests):
                runs.add_one(0, digest, number)
            largest = max(map(len, runs.buckets()[0].entries))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert largest < 2 * indexing.RUN_BYTES
    assert peak < 6 * indexing.RUN_BYTES


ALIKE = {
    "all the same": lambda n: b"same" * 8,
    "the same but for few": lambda n: b"same" * 8 if n % 1000 else b"%032d" % n,
    "alike in the beginning": lambda n: b"same" * 6 + (n * 7919 % 60_000).to_bytes(8, "big"),
    "few, each often": lambda n: bytes([n % 7]) * 32,
    "the highest": lambda n: b"\xff" * 32,
}


@pytest.mark.parametrize("digest", ALIKE.values(), ids=ALIKE)
def test_memory_is_bounded_where_digests_are_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, digest: Callable[[int], bytes]
) -> None:
    """One small block a million times in a CAR took 600 MiB."""
    monkeypatch.setattr(indexing, "RUN_BYTES", 100_000)
    rows = [digest(n) + n.to_bytes(8, "little") for n in range(60_000)]
    with indexing.SortedRuns(tmp_path, MULTIHASH_INDEX_SORTED) as runs:
        for start in range(0, len(rows), 1000):
            part = b"".join(rows[start : start + 1000])
            runs.add(0x12, np.frombuffer(part, np.uint8).reshape(-1, 40))
        pieces = [bytes(piece) for piece in runs.buckets()[0].entries]
    assert max(map(len, pieces)) < 3 * indexing.RUN_BYTES
    rows.sort(key=lambda row: row[:32])
    assert b"".join(pieces) == b"".join(rows)


def test_digests_with_equal_beginnings_sort_by_their_ends(tmp_path: Path) -> None:
    """An attacker may choose digests; the first eight bytes are not enough."""
    cids = [Cid(b"\x01\x55\x12\x20" + b"same" * 7 + n.to_bytes(4, "big")) for n in range(3000, 0, -1)]
    _, found = built(tmp_path, car_v1([(cid, b"") for cid in cids]))
    assert [entry.digest for entry in found] == sorted(cid.digest for cid in cids)
    for cid in cids[::50]:
        assert len(list(found.find(0x12, cid.digest))) == 1
    assert list(found.find(0x12, b"same" * 8)) == []


@given(st.sets(st.binary(min_size=32, max_size=32), max_size=400), st.binary(min_size=32, max_size=32))
def test_any_set_of_digests_is_searched_right(digests: set[bytes], probe: bytes) -> None:
    rows = sorted(digests)
    entries = b"".join(digest + number.to_bytes(8, "little") for number, digest in enumerate(rows))
    out = io.BytesIO()
    index.write(out, MULTIHASH_INDEX_SORTED, [SortedBucket(0x12, 32, len(rows), [entries])])
    found = Index.open(MemorySource(out.getvalue()))
    for number, digest in enumerate(rows):
        assert list(found.find(0x12, digest)) == [(number, number)]
    assert list(found.find(0x12, probe)) == ([(rows.index(probe),) * 2] if probe in digests else [])


@pytest.mark.parametrize(
    ("name", "car", "options"),
    [
        ("detached-0400.carindex", "rw-v1-dups.car", {"codec": INDEX_SORTED}),
        ("detached-0401.carindex", "rw-v1-dups.car", {}),
        ("detached-0401-identity.carindex", "rw-v1-dups.car", {"identity": True}),
    ],
)
def test_detached_indices_equal_go_cars(tmp_path: Path, name: str, car: str, options: dict[str, int]) -> None:
    folder = "generated-with-go-car/"
    _assert_same_index(tmp_path, fixture(folder + car), fixture(folder + name).read_bytes(), options)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("sample-index.carindex", {"codec": INDEX_SORTED, "identity": True}),
        ("sample-multihash-index-sorted.carindex", {}),
    ],
)
def test_sample_indices_equal_go_cars(tmp_path: Path, name: str, options: dict[str, int]) -> None:
    folder = "ipld+go-car/v2/testdata/"
    _assert_same_index(
        tmp_path, fixture(folder + "sample-v1.car"), fixture(folder + name).read_bytes(), options
    )


def _assert_same_index(tmp_path: Path, car: Path, theirs: bytes, options: dict[str, int]) -> None:
    """Byte for byte, but for the order among equal digests, which go's unstable sort leaves open."""
    indexing.build(car, tmp_path / "ours", **options)  # type: ignore[arg-type]  # options of each test
    ours = (tmp_path / "ours").read_bytes()
    entries = [
        sorted((entry.hash_code or 0, entry.digest, entry.offset) for entry in Index.open(MemorySource(each)))
        for each in (ours, theirs)
    ]
    assert entries[0] == entries[1]
    if len({digest for _, digest, _ in entries[0]}) == len(entries[0]):
        assert ours == theirs
    assert len(ours) == len(theirs)


def body(*parts: int | bytes, forms: str) -> bytes:
    return b"".join(struct.pack("<" + form, part) for form, part in zip(forms, parts, strict=True))


BAD = {
    "no codec": (b"", Truncated),
    "foreign codec": (b"\x80\x80\xc0\x01rest", UnknownCodec),
    "ancient, codec-less": (b"\x01\x00\x00\x00", UnknownCodec),
    "no count": (b"\x81\x08\x01", Truncated),
    "negative count of codes": (b"\x81\x08" + body(-1, forms="i"), Malformed),
    "count of codes too large": (b"\x81\x08" + body(0x7FFFFFFF, forms="i"), LimitExceeded),
    "codes announced that are not there": (b"\x81\x08" + body(3, forms="i"), Truncated),
    "negative count of buckets": (b"\x80\x08" + body(-5, forms="i"), Malformed),
    "width 7": (b"\x80\x08" + body(1, 7, 7, forms="iIQ") + bytes(7), Malformed),
    "width 0": (b"\x80\x08" + body(1, 0, 0, forms="iIQ"), Malformed),
    "length no multiple of the width": (b"\x80\x08" + body(1, 40, 41, forms="iIQ") + bytes(41), Malformed),
    "width over the maximum": (b"\x80\x08" + body(1, 1 << 31, 0, forms="iIQ"), LimitExceeded),
    "bucket past the end": (b"\x80\x08" + body(1, 40, 40 << 40, forms="iIQ"), Truncated),
}


@pytest.mark.parametrize(("data", "error"), BAD.values(), ids=BAD.keys())
def test_bad_indices_are_refused_before_memory_is_taken(data: bytes, error: type[CarError]) -> None:
    with pytest.raises(error) as caught:
        Index.open(MemorySource(data, "bad.idx"))
    assert caught.value.source == "bad.idx"


@given(st.sampled_from([b"\x80\x08", b"\x81\x08", b""]), st.binary(max_size=120))
def test_any_bytes_give_an_index_or_our_error(codec: bytes, data: bytes) -> None:
    try:
        found = Index.open(MemorySource(codec + data))
        list(found)
        list(found.find(0x12, bytes(32)))
    except CarError:
        return


def test_a_damaged_car_has_no_index_unless_salvaged(tmp_path: Path) -> None:
    car = car_v1(BLOCKS)
    with pytest.raises(Truncated):
        built(tmp_path, car[:-3])
    assert list(tmp_path.iterdir()) == [tmp_path / "some.car"]
    report, found = built(tmp_path, car[:-3], salvage=True)
    assert (report.block_count, len(found), type(report.damage)) == (
        len(BLOCKS) - 1,
        len(BLOCKS) - 1,
        Truncated,
    )


def test_padding_is_measured_and_not_data(tmp_path: Path) -> None:
    car = car_v1(BLOCKS)
    report, _ = built(tmp_path, car + bytes(1000))
    assert (report.data_size, report.padding_size) == (len(car), 1000)
    with pytest.raises(Malformed, match="length zero"):
        built(tmp_path, car + bytes(1000), zero_is_end=False)


def test_progress_ends_at_the_end(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    path = write_car(tmp_path / "a.car", many_blocks(5000, 1000))
    indexing.build(path, tmp_path / "a.idx", progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (path.stat().st_size,) * 2
    assert told == sorted(told)
    assert len(told) > 2
