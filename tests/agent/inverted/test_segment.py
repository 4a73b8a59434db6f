"""Segments: what was put in is found, nothing else is, and a file that is not whole is never searched."""

from __future__ import annotations

import struct
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.dagstore.inverted import builder
from agent.dagstore.inverted.builder import Source, SourceFailed
from agent.dagstore.inverted.segment import (
    Damaged,
    Directory,
    Member,
    Segment,
    mapped,
    read_directory,
    search,
)
from carlib.index import INDEX_SORTED
from tests.agent.inverted.indices import SHA2_256, multihash, write_index

# Few different ones, so that shards share them; some begin alike, some end in NULs, which numpy's strings drop.
DIGESTS = st.sampled_from(
    [
        bytes(32),
        b"\1" + bytes(31),
        b"\1" * 31 + b"\0",
        b"\1" * 32,
        b"\xff" * 32,
        *(bytes([n]) * 32 for n in range(9)),
    ]
)
MULTIHASHES = st.one_of(
    DIGESTS.map(multihash),
    st.tuples(st.binary(min_size=1, max_size=3), st.sampled_from([0x13, 0x1E])).map(
        lambda one: multihash(*one)
    ),
)


def build(folder: Path, shards: Sequence[Sequence[bytes]], name: str = "1.segment") -> Segment:
    """A segment of shards "0", "1", …, all of which count."""
    sources = []
    for number, listed in enumerate(shards):
        path = write_index(folder / f"{number}.idx", listed)
        sources.append(Source.of_index(number, path, Member(str(number), 1, "", 0), number))
    size, _ = builder.build(folder / name, 1, sources)
    segment, members = Segment.open(folder / name, size, 1)
    for number, member in enumerate(members):
        segment.revive(number, member.key)
    return segment


def found(segment: Segment, digest: bytes, code: int = SHA2_256) -> list[str]:
    table = segment.tables.get((code, len(digest)))
    return [] if table is None else search((table,), digest)


@given(shards=st.lists(st.lists(MULTIHASHES, max_size=30), min_size=1, max_size=6))
def test_each_shard_is_found_once_by_each_of_its_multihashes(
    shards: list[list[bytes]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    segment = build(tmp_path_factory.mktemp("segment"), shards)
    expected: dict[bytes, list[str]] = defaultdict(list)
    for number, listed in enumerate(shards):
        for raw in set(listed):
            expected[raw].append(str(number))
    for raw, keys in expected.items():
        assert found(segment, raw[2:], raw[0]) == keys
    assert segment.entries == sum(len(keys) for keys in expected.values())
    assert list(segment.counts) == [len(set(listed)) for listed in shards]


def test_equal_digests_of_different_hash_functions_do_not_mix(tmp_path: Path) -> None:
    digest = b"d" * 32
    segment = build(tmp_path, [[multihash(digest)], [multihash(digest, 0x1E)]])
    assert (found(segment, digest), found(segment, digest, 0x1E)) == (["0"], ["1"])
    assert found(segment, digest, 0x56) == []


def test_many_entries_are_found_and_their_neighbours_are_not(tmp_path: Path) -> None:
    """More than one range of the digest, and slots of the fan-out that are full, empty and first and last."""
    digests = [(number * 2**224 // 3).to_bytes(32, "big") for number in range(3 * builder.PIECE_ENTRIES // 2)]
    segment = build(tmp_path, [list(map(multihash, digests[::2])), list(map(multihash, digests[1::2]))])
    for number in (*range(0, len(digests), 997), len(digests) - 1):
        assert found(segment, digests[number]) == [str(number % 2)]
        assert found(segment, digests[number][:-1] + b"\7") == []


def test_digests_that_all_begin_alike_are_bisected(tmp_path: Path) -> None:
    """Nobody has checked them when they are indexed: they may be made to fall into one slot."""
    digests = [b"\5" * 28 + number.to_bytes(4, "big") for number in range(5000)]
    segment = build(tmp_path, [list(map(multihash, digests)), [multihash(digests[17])]])
    assert [found(segment, digests[number]) for number in (0, 17, 4999)] == [["0"], ["0", "1"], ["0"]]
    assert found(segment, b"\5" * 32) == []


def test_a_digest_that_stands_in_an_index_a_million_times_is_one_entry(tmp_path: Path) -> None:
    segment = build(tmp_path, [[multihash(b"x" * 32)] * (builder.PIECE_ENTRIES + 10)])
    assert (segment.entries, found(segment, b"x" * 32)) == (1, ["0"])


def test_an_index_that_does_not_tell_hash_functions_has_a_bucket_of_its_own(tmp_path: Path) -> None:
    path = write_index(tmp_path / "x.idx", [multihash(b"x" * 32)], INDEX_SORTED)
    source = Source.of_index(0, path, Member("x", 1, "", 0), 0)
    assert list(source.runs) == [(builder.UNKNOWN_CODE, 32)]


def test_what_nobody_looks_for_is_left_out(tmp_path: Path) -> None:
    """Identities are their own data, and digests of no length or of thousands of bytes verify nothing."""
    listed = [multihash(b"data itself", 0), multihash(b""), multihash(b"l" * 2000)]
    segment = build(tmp_path, [[*listed, multihash(b"x" * 32)]])
    assert list(segment.tables) == [(SHA2_256, 32)]


def test_a_merge_leaves_out_shards_that_are_gone_and_gives_the_others_new_numbers(tmp_path: Path) -> None:
    shards = [[multihash(bytes([number]) * 32), multihash(b"all" + bytes(29))] for number in range(4)]
    segment = build(tmp_path, shards)
    size = (tmp_path / "1.segment").stat().st_size
    _, members = Segment.open(tmp_path / "1.segment", size, 1)
    _, directory = rebuilt(tmp_path, [0, 2])
    assert [member.key for member in directory.members] == ["1", "3"]
    merged, _ = Segment.open(tmp_path / "2.segment", (tmp_path / "2.segment").stat().st_size, 2)
    for number, member in enumerate(directory.members):
        merged.revive(number, member.key)
    assert found(merged, b"all" + bytes(29)) == ["1", "3"]
    assert [found(merged, bytes([number]) * 32) for number in range(4)] == [[], ["1"], [], ["3"]]
    assert (len(members), segment.entries, merged.entries) == (4, 8, 4)


def rebuilt(folder: Path, dead: list[int]) -> tuple[int, Directory]:
    """The segment 2 made of segment 1."""
    path = folder / "1.segment"
    with mapped(path, path.stat().st_size) as data:
        directory = read_directory(data, 1)
    numbers = builder.renumbered(len(directory.members), dead, 0)
    return builder.build(folder / "2.segment", 2, [Source.of_segment(0, path, directory, numbers)])


def padding_of(whole: bytes) -> set[int]:
    """The bytes of a segment with one bucket that nothing covers: those that are skipped."""
    at, size = struct.unpack_from("=QQ", whole, len(whole) - 48)
    (bucket,) = msgspec.msgpack.decode(whole[at : at + size], type=Directory).buckets
    entries = range(bucket.offset, bucket.offset + bucket.count * bucket.width)
    fan = range(bucket.fan_offset, bucket.fan_offset + 4 * (1 << bucket.fan_bits) + 4)
    unused = range(len(whole) - 12, len(whole) - 8)
    return {number for number in range(at) if number not in entries and number not in fan} | {*unused}


def test_an_index_whose_entries_are_not_in_order_is_refused(tmp_path: Path) -> None:
    path = write_index(tmp_path / "x.idx", [multihash(bytes([number]) * 32) for number in range(9)])
    data = bytearray(path.read_bytes())
    data[-40:], data[-80:-40] = data[-80:-40], data[-40:]
    path.write_bytes(data)
    with pytest.raises(SourceFailed, match="not in order"):
        builder.build(tmp_path / "out", 1, [Source.of_index(0, path, Member("x", 1, "", 0), 0)])
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("whole")
    build(folder, [[multihash(bytes([number]) * 32) for number in range(40)]])
    return (folder / "1.segment").read_bytes()


@given(data=st.data())
def test_a_byte_that_is_changed_is_noticed_when_it_is_opened_or_merged(
    data: st.DataObject, whole: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("segment")
    unnoticed = padding_of(whole)
    at = data.draw(st.integers(0, len(whole) - 1).filter(lambda at: at not in unnoticed))
    (folder / "1.segment").write_bytes(whole[:at] + bytes([whole[at] ^ 0x40]) + whole[at + 1 :])
    with pytest.raises((Damaged, SourceFailed)):
        Segment.open(folder / "1.segment", len(whole), 1)
        rebuilt(folder, [])


def test_a_file_of_another_size_generation_or_kind_is_not_mapped(tmp_path: Path) -> None:
    size = build(tmp_path, [[multihash(b"x" * 32)]]).size
    path = tmp_path / "1.segment"
    for expected, arguments in (
        ("cannot be opened", (tmp_path / "none", size, 1)),
        ("bytes, not", (path, size + 1, 1)),
        ("generation 1", (path, size, 2)),
    ):
        with pytest.raises(Damaged, match=expected):
            Segment.open(*arguments)
    for text, expected in ((b"short", "no segment"), (bytes(200), "no segment")):
        path.write_bytes(text)
        with pytest.raises(Damaged, match=expected):
            Segment.open(path, len(text), 1)
