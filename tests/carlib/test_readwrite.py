"""The read-write blockstore: go-car's bytes, every block after every kill, nothing damaged by a refusal."""

from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carlib.blockstore import ReadOnlyBlockstore
from carlib.cid import DAG_PB, RAW, Cid
from carlib.errors import BlockNotFound, CarError, HashMismatch, LimitExceeded, Malformed
from carlib.index import INDEX_SORTED
from carlib.limits import MAX_BLOCK_BYTES
from carlib.options import WriteOptions
from carlib.readwrite import Finalised, ReadWriteBlockstore
from carlib.source import FileSource
from carlib.verify import verify
from tests.carlib.cars import BLOCKS, HELLO, many_blocks
from tests.fixtures import fixture

ROOTS = [HELLO]
STORED = [(cid, data) for cid, data in BLOCKS if not cid.is_identity]
GO = "generated-with-go-car/"


def eleven_puts() -> list[tuple[Cid, bytes]]:
    """The blocks that go-car's sample files were all made of, in order."""
    path = fixture(GO + "rw-v1-dups.car")
    with ReadOnlyBlockstore.open(path) as store, FileSource(path) as source:
        return [(cid, source.pread(at.data_offset, at.size)) for cid, at in store.cids()]


OPTIONS = {
    "rw-default.car": WriteOptions(),
    "rw-dups.car": WriteOptions(allow_duplicates=True),
    "rw-identity.car": WriteOptions(identity=True),
    "rw-index-sorted.car": WriteOptions(identity=True, index_codec=INDEX_SORTED),
    "rw-padded.car": WriteOptions(data_padding=1413, index_padding=1314),
    "rw-v1-dups.car": WriteOptions(version=1, allow_duplicates=True, identity=True),
    "rw-v1.car": WriteOptions(version=1),
    "rw-wholecid.car": WriteOptions(whole_cids=True),
    "rw-wholecid-identity.car": WriteOptions(whole_cids=True, identity=True),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_the_same_puts_give_go_cars_file(tmp_path: Path, name: str) -> None:
    """Byte for byte, but for the order among equal digests in an index, which go leaves open."""
    theirs, path = fixture(GO + name), tmp_path / name
    with ReadOnlyBlockstore.open(theirs) as store:
        roots, container = store.roots, store.container
    with ReadWriteBlockstore.open(path, roots, OPTIONS[name]) as writing:
        for cid, data in eleven_puts():
            writing.put(cid, data)
        writing.finalise()
    ours, expected = path.read_bytes(), theirs.read_bytes()
    if "dups" in name or "wholecid" in name:
        cut = container.index_offset or len(expected)
        assert (ours[:cut], len(ours)) == (expected[:cut], len(expected))
    else:
        assert ours == expected
    assert verify(path).good


@pytest.mark.parametrize(
    ("name", "options", "result"),
    [
        ("rw-unfinalised.car", WriteOptions(), "rw-default.car"),
        ("rw-unfinalised-padded.car", WriteOptions(data_padding=1413, index_padding=1314), "rw-padded.car"),
        ("rw-unfinalised-empty.car", WriteOptions(), "rw-empty.car"),
        ("rw-default.car", WriteOptions(), "rw-default.car"),
    ],
)
def test_a_file_of_go_cars_is_resumed(tmp_path: Path, name: str, options: WriteOptions, result: str) -> None:
    path = tmp_path / name
    path.write_bytes(fixture(GO + name).read_bytes())
    with ReadOnlyBlockstore.open(fixture(GO + result)) as store:
        roots = store.roots
    with ReadWriteBlockstore.open(path, roots, options) as writing:
        writing.finalise()
    assert path.read_bytes() == fixture(GO + result).read_bytes()


def test_a_finalised_file_of_go_cars_takes_another_block(tmp_path: Path) -> None:
    path, expected = tmp_path / "a.car", fixture(GO + "rw-resumed.car")
    path.write_bytes(fixture(GO + "rw-default.car").read_bytes())
    with ReadOnlyBlockstore.open(expected) as store, FileSource(expected) as source:
        *_, (cid, at) = store.cids()
        added, roots = source.pread(at.data_offset, at.size), store.roots
    with ReadWriteBlockstore.open(path, roots) as writing:
        assert writing.put(cid, added)
        writing.finalise()
    assert path.read_bytes() == expected.read_bytes()


def test_blocks_are_read_while_others_are_put(tmp_path: Path) -> None:
    with ReadWriteBlockstore.open(tmp_path / "a.car", ROOTS) as store:
        for number, (cid, data) in enumerate(STORED):
            assert (store.has(cid), store.put(cid, data), store.put(cid, data)) == (False, True, False)
            assert [store.get(cid) for cid, _ in STORED[: number + 1]] == [d for _, d in STORED[: number + 1]]
        assert [store.size(cid) for cid, _ in STORED] == [len(data) for _, data in STORED]
        assert list(store.cids()) == [cid for cid, _ in STORED]
        with pytest.raises(BlockNotFound):
            store.get(Cid.of(b"absent"))
        store.finalise()
        assert store.get(HELLO) == b"hello"
        with pytest.raises(Finalised):
            store.put(Cid.of(b"late"), b"late")
        with pytest.raises(Finalised):
            store.finalise()


def test_identity_cids_are_answered_and_not_stored_unless_asked(tmp_path: Path) -> None:
    cid = Cid.identity(b"data")
    with ReadWriteBlockstore.open(tmp_path / "a.car", ROOTS) as store:
        assert (store.put(cid, b"data"), store.has(cid), store.get(cid), store.size(cid)) == (
            False,
            True,
            b"data",
            4,
        )
    with ReadWriteBlockstore.open(tmp_path / "b.car", ROOTS, WriteOptions(identity=True)) as store:
        assert (store.has(cid), store.put(cid, b"data"), store.has(cid), store.get(cid)) == (
            False,
            True,
            True,
            b"data",
        )


def test_whole_cids_keep_codecs_apart(tmp_path: Path) -> None:
    twins = [Cid.v1(codec, HELLO.multihash) for codec in (RAW, DAG_PB)]
    with ReadWriteBlockstore.open(tmp_path / "a.car", ROOTS) as store:
        assert [store.put(cid, b"hello") for cid in twins] == [True, False]
    with ReadWriteBlockstore.open(tmp_path / "b.car", ROOTS, WriteOptions(whole_cids=True)) as store:
        assert [store.put(cid, b"hello") for cid in twins] == [True, True]


def test_what_may_not_be_put_is_not_there_afterwards(tmp_path: Path) -> None:
    with ReadWriteBlockstore.open(tmp_path / "a.car", ROOTS) as store:
        with pytest.raises(HashMismatch):
            store.put(HELLO, b"other")
        big = bytes(MAX_BLOCK_BYTES + 1)
        with pytest.raises(LimitExceeded):
            store.put(Cid.of(big), big, verified=True)
        assert (store.has(HELLO), list(store.cids())) == (False, [])


def unfinalised(path: Path, blocks: list[tuple[Cid, bytes]] = STORED, **options: Any) -> bytes:
    """The bytes of a CAR whose writer went away."""
    with ReadWriteBlockstore.open(path, ROOTS, WriteOptions(**options)) as store:
        for cid, data in blocks:
            store.put(cid, data)
    return path.read_bytes()


@pytest.mark.parametrize("options", [{}, {"data_padding": 100}, {"version": 1}])
def test_every_prefix_is_resumed_with_every_whole_block(tmp_path: Path, options: dict[str, Any]) -> None:
    """go-car refuses 393 of 442 such prefixes and corrupts 41."""
    whole = unfinalised(tmp_path / "whole.car", **options)
    path = tmp_path / "cut.car"
    counts = []
    for length in range(len(whole) + 1):
        path.write_bytes(whole[:length])
        with ReadWriteBlockstore.open(path, ROOTS, WriteOptions(**options)) as store:
            found = list(store.cids())
            assert found == [cid for cid, _ in STORED[: len(found)]]
            counts.append(len(found))
            store.finalise()
        if counts[-2:-1] != counts[-1:]:
            report = verify(path)
            assert (report.good, report.blocks) == (True, len(found))
    assert counts == sorted(counts)
    assert counts[-1] == len(STORED)


@pytest.mark.parametrize("padding", [0, 50])
@pytest.mark.parametrize("codec", [0x0400, 0x0401])
def test_a_kill_while_finalising_loses_nothing(tmp_path: Path, padding: int, codec: int) -> None:
    """Whatever part of the index was written, and no header yet."""
    options = WriteOptions(index_padding=padding, index_codec=codec)
    path = tmp_path / "a.car"
    before = unfinalised(path)
    with ReadWriteBlockstore.open(path, ROOTS, options) as store:
        store.finalise()
    final = path.read_bytes()
    for length in range(len(before), len(final) + 1):
        path.write_bytes(before + final[len(before) : length])
        with ReadWriteBlockstore.open(path, ROOTS, options) as store:
            assert (len(list(store.cids())), store.dropped_bytes) == (len(STORED), length - len(before))
            store.finalise()
        assert path.read_bytes() == final


@pytest.mark.parametrize("tail", [b"\0", b"\0" * 5000, b"\x2b\x01\x55\x12\x20" + b"x" * 39])
def test_zeros_and_a_last_section_of_garbage_are_a_torn_tail(tmp_path: Path, tail: bytes) -> None:
    path = tmp_path / "a.car"
    path.write_bytes(unfinalised(path) + tail)
    with ReadWriteBlockstore.open(path, ROOTS) as store:
        assert (len(list(store.cids())), store.dropped_bytes) == (len(STORED), len(tail))


REFUSED = {
    "other roots": ([Cid.of(b"other")], {}, "other roots"),
    "fewer roots": ([], {}, "other roots"),
    "other padding": (ROOTS, {"data_padding": 10}, "padding"),
    "other version": (ROOTS, {"version": 1}, "cannot resume on a CARv2 file, a CARv1"),
}


@pytest.mark.parametrize(("roots", "options", "text"), REFUSED.values(), ids=REFUSED.keys())
@pytest.mark.parametrize("final", [False, True])
def test_a_refusal_says_why_and_leaves_the_file_alone(
    tmp_path: Path, roots: list[Cid], options: dict[str, Any], text: str, final: bool
) -> None:
    path = tmp_path / "a.car"
    before = unfinalised(path)
    if final:
        with ReadWriteBlockstore.open(path, ROOTS) as store:
            store.finalise()
        before = path.read_bytes()
    with pytest.raises(Malformed, match=text):
        ReadWriteBlockstore.open(path, roots, WriteOptions(**options))
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", [b"junk" * 100, b"\x0a\xa1gversion\x03", b"PK\x03\x04"])
def test_a_foreign_file_is_refused_and_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.car"
    path.write_bytes(content)
    with pytest.raises(CarError):
        ReadWriteBlockstore.open(path, ROOTS)
    assert path.read_bytes() == content


def test_roots_may_come_in_any_order(tmp_path: Path) -> None:
    roots = [HELLO, Cid.of(b"2")]
    with ReadWriteBlockstore.open(tmp_path / "a.car", roots):
        pass
    with ReadWriteBlockstore.open(tmp_path / "a.car", roots[::-1]) as store:
        assert list(store.cids()) == []


def test_damage_in_the_middle_is_refused_unless_salvaged(tmp_path: Path) -> None:
    path = tmp_path / "a.car"
    blocks = many_blocks(10, 100)
    content = bytearray(unfinalised(path, blocks))
    content[content.index(blocks[4][1]) + 50] ^= 1
    path.write_bytes(content)
    with pytest.raises(HashMismatch):
        ReadWriteBlockstore.open(path, ROOTS)
    assert path.read_bytes() == content
    with ReadWriteBlockstore.open(path, ROOTS, salvage=True) as store:
        assert list(store.cids()) == [cid for cid, _ in blocks[:4]]
        assert store.dropped_bytes > 500


def test_a_second_writer_is_refused(tmp_path: Path) -> None:
    with (
        ReadWriteBlockstore.open(tmp_path / "a.car", ROOTS),
        pytest.raises(BlockingIOError, match="another writer"),
    ):
        ReadWriteBlockstore.open(tmp_path / "a.car", ROOTS)


def test_a_full_disk_loses_only_the_block_that_did_not_fit(tmp_path: Path) -> None:
    """The limit on file size stands in for the disk: the kernel writes what fits, then refuses."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    blocks = many_blocks(8, 10_000)
    with ReadWriteBlockstore.open(tmp_path / "a.car", ROOTS) as store:
        for cid, data in blocks[:4]:
            store.put(cid, data)
        whole = (tmp_path / "a.car").stat().st_size
        handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (whole + 5000, hard))
        try:
            with pytest.raises(OSError, match="too large"):
                store.put(*blocks[4])
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
            signal.signal(signal.SIGXFSZ, handler)
        assert (tmp_path / "a.car").stat().st_size == whole
        assert not store.has(blocks[4][0])
        assert store.put(*blocks[5])
        store.finalise()
    assert verify(tmp_path / "a.car").blocks == 5


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_file_whose_finalising_failed_is_not_final_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """A disk that fails at the first, second or third flush: of the index, of the header, of the folder."""
    flush, flushes = os.fsync, 0

    def failing(fd: int) -> None:
        nonlocal flushes
        flushes += 1
        if flushes == number:
            raise OSError(errno.EIO, "Input/output error")
        flush(fd)

    path = tmp_path / "a.car"
    blocks = many_blocks(3)
    with ReadWriteBlockstore.open(path, ROOTS) as store:
        store.put(*blocks[0])
        before = path.read_bytes()
        monkeypatch.setattr(os, "fsync", failing)
        with pytest.raises(OSError, match="Input/output") as raised:
            store.finalise()
        assert raised.value.filename == str(path)
        assert path.read_bytes() == before
        for cid, data in blocks[1:]:
            store.put(cid, data)
        store.finalise()
    found = verify(path)
    assert (found.blocks, found.index_state, found.good) == (3, "good", True)


WRITER = """
import sys
from pathlib import Path
from typing import Any
from carlib.readwrite import ReadWriteBlockstore
from tests.carlib.cars import HELLO, many_blocks
with ReadWriteBlockstore.open(Path(sys.argv[1]), [HELLO]) as store:
    for cid, data in many_blocks(100_000, 2000):
        if store.put(cid, data):
            print(cid, flush=True)
"""


def test_a_killed_writer_loses_no_block_that_it_answered_for(tmp_path: Path) -> None:
    path = tmp_path / "a.car"
    acknowledged: list[str] = []
    for _ in range(4):
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, path], stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            for line in process.stdout:
                if not line.endswith("\n"):
                    break
                acknowledged.append(line.strip())
                if len(acknowledged) % 150 == 0:
                    process.kill()
                    break
            acknowledged += [line.strip() for line in process.stdout if line.endswith("\n")]
        with ReadWriteBlockstore.open(path, ROOTS) as store:
            found = [str(cid) for cid in store.cids()]
        assert found[: len(acknowledged)] == acknowledged
        assert len(found) <= len(acknowledged) + 1
        acknowledged = found


@settings(max_examples=50)
@given(
    st.lists(
        st.tuples(st.integers(0, 12), st.sampled_from(["put", "cut", "reopen", "finalise"])), max_size=30
    )
)
def test_any_history_keeps_what_was_put(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[int, str]]
) -> None:
    """Puts, torn tails, re-openings and finalisations in any order."""
    path = tmp_path_factory.mktemp("history") / "a.car"
    blocks, expected = many_blocks(13, 40), list[Cid]()
    store = ReadWriteBlockstore.open(path, ROOTS)
    for number, step in steps:
        if step == "put":
            if store.put(*blocks[number]):
                expected.append(blocks[number][0])
            continue
        if step == "finalise":
            store.finalise()
            assert verify(path).good
        store.discard()
        if step == "cut" and expected:
            os.truncate(path, path.stat().st_size - number - 1)
            expected.pop()
        store = ReadWriteBlockstore.open(path, ROOTS)
        assert list(store.cids()) == expected
    store.discard()
