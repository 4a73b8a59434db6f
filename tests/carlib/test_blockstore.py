"""The read-only blockstore: verified, tolerant of lying indices, true to a file that changes under it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from carlib import indexing
from carlib.blockstore import MemoryBlocks, ReadOnlyBlockstore
from carlib.cid import DAG_CBOR, DAG_PB, RAW, Cid
from carlib.errors import BlockNotFound, CarError, HashMismatch, Truncated
from carlib.header import PRAGMA, V2_PREFIX_BYTES, V2Header
from carlib.verify import verify
from carlib.writer import creating
from tests.carlib.cars import BLOCKS, HELLO, V0, car_v1, many_blocks, write_car

ABSENT = Cid.of(b"absent")


@pytest.fixture(params=["v1", "v1 + detached", "v2", "v2 + detached"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ReadOnlyBlockstore:
    path = tmp_path / "store.car"
    if request.param.startswith("v1"):
        write_car(path)
    else:
        with creating(path, roots=[HELLO]) as writer:
            for cid, data in BLOCKS:
                writer.put(cid, data)
            writer.finish()
    index = None
    if "detached" in request.param:
        index = tmp_path / "store.idx"
        indexing.build(path, index)
    opened = ReadOnlyBlockstore.open(path, index=index)
    request.addfinalizer(opened.close)
    return opened


def test_every_block_comes_back(store: ReadOnlyBlockstore) -> None:
    assert store.roots == (HELLO,)
    for cid, data in BLOCKS:
        assert (store.get(cid), store.size(cid), store.has(cid)) == (data, len(data), True)
        assert (store.read(cid, 1, 3), store.read(cid, 0, 1 << 30), store.is_verified(cid)) == (
            data[1:3],
            data,
            True,
        )


def test_an_absent_block_is_not_found(store: ReadOnlyBlockstore) -> None:
    assert (store.has(ABSENT), store.locate(ABSENT), store.is_verified(ABSENT)) == (False, None, False)
    for ask in (store.get, store.size, lambda cid: store.read(cid, 0, 1)):
        with pytest.raises(BlockNotFound) as caught:
            ask(ABSENT)
        assert caught.value.cid == ABSENT


def test_identity_cids_are_answered_from_themselves(store: ReadOnlyBlockstore) -> None:
    never_stored = Cid.identity(b"nowhere else")
    assert (store.get(never_stored), store.size(never_stored), store.has(never_stored)) == (
        b"nowhere else",
        12,
        True,
    )


def test_look_up_is_by_multihash(store: ReadOnlyBlockstore) -> None:
    assert store.get(Cid.v1(DAG_CBOR, HELLO.multihash)) == b"hello"
    assert store.get(Cid.v1(DAG_PB, V0.multihash)) == store.get(V0)


def test_after_close_everything_fails_as_a_closed_file(store: ReadOnlyBlockstore) -> None:
    store.close()
    store.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        store.get(HELLO)


def test_whole_cids_tell_codecs_apart(tmp_path: Path) -> None:
    twins = [(Cid.v1(codec, HELLO.multihash), b"hello") for codec in (RAW, DAG_PB)]
    with ReadOnlyBlockstore.open(write_car(tmp_path / "a.car", twins), whole_cids=True) as store:
        assert [store.has(cid) for cid, _ in twins] == [True, True]
        assert not store.has(Cid.v1(DAG_CBOR, HELLO.multihash))


def test_a_corrupt_block_is_never_handed_out(tmp_path: Path) -> None:
    car = bytearray(car_v1(BLOCKS))
    car[car.index(b"hello") + 1] ^= 1
    (tmp_path / "a.car").write_bytes(car)
    with ReadOnlyBlockstore.open(tmp_path / "a.car") as store:
        for _ in range(2):
            with pytest.raises(HashMismatch) as caught:
                store.get(HELLO)
            with pytest.raises(HashMismatch):
                store.read(HELLO, 0, 1)
        assert (caught.value.source, caught.value.cid) == (str(tmp_path / "a.car"), HELLO)
        assert not store.is_verified(HELLO)
        assert store.get(BLOCKS[2][0]) == BLOCKS[2][1]
    with ReadOnlyBlockstore.open(tmp_path / "a.car", verify=False) as store:
        assert store.get(HELLO) == b"iello"[:0] + bytes([ord("h")]) + bytes([ord("e") ^ 1]) + b"llo"


def test_a_block_that_changes_after_it_was_verified_is_verified_anew(tmp_path: Path) -> None:
    path = write_car(tmp_path / "a.car")
    with ReadOnlyBlockstore.open(path) as store:
        assert store.read(HELLO, 0, 2) == b"he"
        data = bytearray(path.read_bytes())
        data[data.index(b"hello")] ^= 1
        with path.open("r+b") as file:
            file.write(data)
        os.utime(path, ns=(1, 1))
        with pytest.raises(HashMismatch):
            store.read(HELLO, 0, 2)


def test_a_file_cut_short_under_us_is_an_error_and_no_crash(tmp_path: Path) -> None:
    blocks = many_blocks(10, 100_000)
    path = write_car(tmp_path / "a.car", blocks)
    with ReadOnlyBlockstore.open(path) as store:
        assert store.get(blocks[9][0]) == blocks[9][1]
        os.truncate(path, 450_000)
        with pytest.raises(Truncated):
            store.get(blocks[9][0])
        assert store.get(blocks[0][0]) == blocks[0][1]


def _v2_with_index(tmp_path: Path, change: str) -> Path:
    """A CARv2 of many blocks whose own index lies as ``change`` says."""
    path = tmp_path / "a.car"
    blocks = many_blocks(100)
    with creating(path, roots=[blocks[0][0]]) as writer:
        for cid, data in blocks:
            writer.put(cid, data)
        writer.finish()
    content = bytearray(path.read_bytes())
    start = content.rindex(b"\x81\x08\x01\x00\x00\x00\x12")
    entries = start + 2 + 4 + 8 + 4 + 12
    if change == "offsets":
        for at in range(entries, len(content), 40):
            content[at + 32 : at + 40] = content[entries + 32 : entries + 40]
    elif change == "wild offsets":
        for at in range(entries, len(content), 40):
            content[at + 32 : at + 40] = b"\xff" * 8
    elif change == "digests":
        content[entries : entries + 32 * 40] = bytes(32 * 40)
    elif change == "unsorted":
        content[entries:] = b"".join(
            content[at : at + 40] for at in range(len(content) - 40, entries - 1, -40)
        )
    elif change == "codec":
        content[start:] = b"\x01" + content[start + 1 :]
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("change", ["none", "offsets", "wild offsets", "digests", "unsorted", "codec"])
def test_an_index_inside_the_car_is_a_hint_and_never_evidence(tmp_path: Path, change: str) -> None:
    with ReadOnlyBlockstore.open(_v2_with_index(tmp_path, change)) as store:
        for cid, data in many_blocks(100):
            assert store.get(cid) == data
        assert not store.has(ABSENT)


@pytest.mark.parametrize("offset", [1 << 62, (1 << 63) - 5, (1 << 63) - 1])
def test_an_index_said_to_lie_past_the_end_of_any_file_is_made_anew(tmp_path: Path, offset: int) -> None:
    path = tmp_path / "a.car"
    payload = car_v1(BLOCKS)
    path.write_bytes(PRAGMA + V2Header(V2_PREFIX_BYTES, len(payload), offset).encode() + payload)
    with ReadOnlyBlockstore.open(path) as store:
        assert store.get(HELLO) == b"hello"
    assert verify(path).index_state == "unusable"
    path.write_bytes(PRAGMA + V2Header((1 << 63) - 1, 1).encode() + payload)
    with pytest.raises(Truncated):
        ReadOnlyBlockstore.open(path, salvage=True)


def test_cids_come_in_file_order_with_their_places(tmp_path: Path) -> None:
    path = write_car(tmp_path / "a.car")
    data = path.read_bytes()
    with ReadOnlyBlockstore.open(path) as store:
        found = list(store.cids())
    assert [cid for cid, _ in found] == [cid for cid, _ in BLOCKS]
    assert [data[at.data_offset : at.data_offset + at.size] for _, at in found] == [
        body for _, body in BLOCKS
    ]


def test_a_truncated_v2_is_refused_or_salvaged(tmp_path: Path) -> None:
    path = _v2_with_index(tmp_path, "none")
    os.truncate(path, V2_PREFIX_BYTES + 1000)
    with pytest.raises(Truncated, match="payload ends at"):
        ReadOnlyBlockstore.open(path)
    with ReadOnlyBlockstore.open(path, salvage=True) as store:
        assert store.get(many_blocks(1)[0][0]) == many_blocks(1)[0][1]
        assert not store.has(many_blocks(100)[99][0])


def test_what_cannot_be_opened_leaves_no_descriptor(tmp_path: Path) -> None:
    (tmp_path / "junk").write_bytes(b"junk" * 100)
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(5):
        with pytest.raises(CarError):
            ReadOnlyBlockstore.open(tmp_path / "junk")
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_fifo_is_an_error_and_no_wait(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises((CarError, OSError)):
        ReadOnlyBlockstore.open(tmp_path / "fifo")


def test_memory_blocks_keep_the_same_promises() -> None:
    blocks = MemoryBlocks()
    for cid, data in BLOCKS:
        blocks.put(cid, data)
    assert [blocks.get(cid) for cid, _ in BLOCKS] == [data for _, data in BLOCKS]
    assert (blocks.size(HELLO), blocks.has(ABSENT), blocks.has(Cid.identity(b"x"))) == (5, False, True)
    blocks.put(HELLO, b"other")
    with pytest.raises(HashMismatch):
        blocks.get(HELLO)
    with pytest.raises(BlockNotFound):
        blocks.get(ABSENT)
