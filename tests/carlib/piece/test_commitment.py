"""A commitment is that of the bytes, however they come."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carlib.errors import CarError, LimitExceeded, Malformed
from carlib.piece import commitment, kernel, portable
from carlib.piece.cids import Piece
from carlib.piece.commitment import (
    CHUNK_BYTES,
    SPAN_BYTES,
    ZERO_ROOTS,
    Commitment,
    commit,
    commit_file,
    commit_source,
    join,
    pad_piece,
    pad_root,
)
from carlib.piece.sizes import MAX_SECTOR_HEIGHT, padded_size, unpadded_at
from carlib.source import MemorySource
from tests.carlib.piece import reference
from tests.fixtures import fixture, fixtures

HASHHASH = "filecoin-project+go-fil-commp-hashhash"
ZEROS_32_GIB = "baga6ea4seaqao7s73y24kcutaosvacpdjgfe5pw76ooefnyqw4ynr3d2y6x2mpq"
ZEROS_64_GIB = "baga6ea4seaqomqafu276g53zko4k23xzh4h4uecjwicbmvhsuqi7o4bhthhm4aq"


def rows(name: str) -> list[tuple[int, int, str]]:
    """Payload size, padded size and v1 of each vector; empty where the samples are absent."""
    found = fixtures(f"{HASHHASH}/testdata/{name}")
    lines = found[0].read_text().split() if found else []
    return [(int(size), int(padded), cid) for size, padded, cid in (line.split(",") for line in lines)]


def fed(data: bytes, *cuts: int) -> Piece:
    """The piece of `data`, fed in parts that end at the cuts."""
    made = Commitment()
    for start, stop in zip([0, *sorted(cuts)], [*sorted(cuts), len(data)], strict=True):
        made.update(data[start:stop])
    return made.piece()


@pytest.mark.parametrize(
    "size", [0, 1, 64, 65, 96, 126, 127, 128, 253, 254, 255, 508, 509, 1016, 1017, 8128, 20_000]
)
def test_payloads_of_every_size_down_to_nothing(size: int) -> None:
    data = reference.pattern(size)
    assert commit(data) == Piece(reference.root(data), size)


@pytest.mark.parametrize("extra", [-1, 0, 1, 127])
def test_payloads_around_a_chunk(extra: int) -> None:
    data = reference.pattern(CHUNK_BYTES + extra)
    assert commit(data).root == reference.root(data)


@pytest.mark.parametrize(
    ("data", "cid"),
    [
        (bytes(96), "baga6ea4seaqdomn3tgwgrh3g532zopskstnbrd2n3sxfqbze7rxt7vqn7veigmy"),
        (b"\xcc" * 96, "baga6ea4seaqhwcjhi4krhl3ht6dewnwevkpxbepxy7p7onwgz65t52typbsysby"),
        (b"\xcc" * 126, "baga6ea4seaqapbh46gdnszvb7fcinevsy5bzg3b4higkh7groptswf6zas6jamy"),
        (b"\xcc" * 127, "baga6ea4seaqmfldjtozgne6adk7eve2vdxte7vzlivae7nzsbrawobo546zkijq"),
        (bytes(2032), "baga6ea4seaqpy7usqklokfx2vxuynmupslkeutzexe2uqurdg5vhtebhxqmpqmy"),
    ],
)
def test_known_answers(data: bytes, cid: str) -> None:
    assert str(commit(data).v1) == cid


def test_all_vectors_are_there() -> None:
    fixture(f"{HASHHASH}/testdata/zero.txt")
    assert [len(rows(name)) for name in ("zero.txt", "0xCC.txt", "random.txt")] == [18, 18, 143]
    assert sum(size <= 1 << 20 for size, _, _ in rows("random.txt")) == 68


@pytest.mark.parametrize(("size", "padded", "cid"), rows("zero.txt"))
def test_vectors_of_zeros(size: int, padded: int, cid: str) -> None:
    made = Commitment()
    made.update_zeros(size)
    assert (str(made.piece().v1), made.piece().padded_size) == (cid, padded)


@pytest.mark.parametrize(("size", "padded", "cid"), [row for row in rows("0xCC.txt") if row[0] <= 64 << 20])
def test_vectors_of_one_byte(size: int, padded: int, cid: str) -> None:
    made = commit(b"\xcc" * size)
    assert (str(made.v1), made.padded_size) == (cid, padded)


@pytest.mark.parametrize(("size", "padded", "cid"), [row for row in rows("random.txt") if row[0] <= 1 << 20])
def test_vectors_of_random_bytes(size: int, padded: int, cid: str) -> None:
    made = commit(fixture(f"{HASHHASH}/random1337.bin").read_bytes()[:size])
    assert (str(made.v1), made.padded_size) == (cid, padded)


@given(st.integers(0, 3000), st.lists(st.integers(0, 3000), max_size=6))
def test_any_split_of_little_gives_the_same(size: int, cuts: list[int]) -> None:
    data = reference.pattern(size)
    assert fed(data, *(min(cut, size) for cut in cuts)) == Piece(reference.root(data), size)


BIG = reference.pattern(3 * CHUNK_BYTES + 1000)
BIG_PIECE = commit(BIG)


@given(st.lists(st.integers(0, len(BIG)), max_size=6))
def test_any_split_of_much_gives_the_same(cuts: list[int]) -> None:
    assert fed(BIG, *cuts) == BIG_PIECE


def test_python_alone_gives_the_same() -> None:
    made = Commitment(subtree=portable.subtree)
    made.update(BIG)
    assert made.piece() == BIG_PIECE


@given(st.integers(0, 2 * CHUNK_BYTES), st.integers(0, 3 * CHUNK_BYTES), st.integers(0, 300))
def test_runs_of_zeros_are_zeros(before: int, zeros: int, after: int) -> None:
    made = Commitment()
    made.update(BIG[:before])
    made.update_zeros(zeros)
    made.update(BIG[:after])
    assert made.piece() == commit(b"".join((BIG[:before], bytes(zeros), BIG[:after])))


def test_the_piece_so_far_can_be_asked_for_and_more_be_fed() -> None:
    made = Commitment()
    for stop in (10, 127, CHUNK_BYTES + 5, len(BIG)):
        made.update(BIG[made.payload_size : stop])
        assert made.piece() == commit(BIG[:stop]) == made.piece()


@pytest.mark.parametrize(("height", "cid"), [(30, ZEROS_32_GIB), (31, ZEROS_64_GIB)])
def test_sparse_pieces_cost_nothing(height: int, cid: str) -> None:
    made = Commitment()
    made.update_zeros(unpadded_at(height))
    assert str(made.piece().v1) == cid
    assert ZERO_ROOTS[height] == made.piece().root


def test_more_than_the_largest_sector_is_refused_and_nothing_taken() -> None:
    made = Commitment()
    made.update_zeros(unpadded_at(MAX_SECTOR_HEIGHT))
    before = made.piece()
    with pytest.raises(LimitExceeded):
        made.update(b"x")
    with pytest.raises(LimitExceeded):
        made.update_zeros(1)
    assert made.piece() == before


def test_padding_a_root_is_committing_to_the_zeros() -> None:
    data = reference.pattern(500)
    padded = commit(data + bytes(4064 - 500))
    assert pad_root(commit(data).root, 4, 7) == padded.root
    assert pad_piece(commit(data), 4096) == padded
    with pytest.raises(Malformed):
        pad_piece(commit(data), 256)
    with pytest.raises(ValueError, match="height 7"):
        pad_root(bytes(32), 7, 4)


@given(st.lists(st.integers(0, 5), max_size=8))
def test_a_piece_of_pieces_is_the_piece_of_their_bytes(levels: list[int]) -> None:
    parts = [reference.pattern(127 << level, seed) for seed, level in enumerate(levels)]
    data = b""
    for part in parts:
        data += bytes(-len(data) % len(part)) + part
    joined = join([commit(part) for part in parts])
    assert joined.root == reference.root(data)
    assert joined.payload_size == joined.unpadded_size
    assert joined.padded_size == padded_size(len(data))


def test_a_piece_of_pieces_has_the_size_that_is_asked_for() -> None:
    part = commit(b"\1" * 127)
    assert join([part, part], 1024).root == reference.root(b"\1" * 254 + bytes(762))
    assert join([]).root == join([], 128).root == bytes(32).join([b""]) + ZERO_ROOTS[2]
    with pytest.raises(Malformed):
        join([part, part, part], 256)


@pytest.mark.parametrize("kind", ["alone", "threads", "processes"])
def test_workers_share_a_file_and_agree(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "payload"
    path.write_bytes((BIG * 50)[: 2 * SPAN_BYTES + 12_345])
    seen: list[tuple[int, int]] = []
    expected = commit(path.read_bytes())
    if kind == "alone":
        made = commit_file(path, progress=lambda done, size: seen.append((done, size)))
    else:
        pool = ThreadPoolExecutor(2) if kind == "threads" else ProcessPoolExecutor(2, get_context("spawn"))
        with pool:
            made = commit_file(path, executor=pool, progress=lambda done, size: seen.append((done, size)))
    assert made == expected
    assert seen == sorted(seen)
    assert seen[-1] == (expected.payload_size, expected.payload_size)


def test_a_small_file_needs_no_workers(tmp_path: Path) -> None:
    path = tmp_path / "payload"
    path.write_bytes(BIG[:1000])
    with ThreadPoolExecutor(1) as pool:
        assert commit_file(path, executor=pool) == commit(BIG[:1000])


class Changing(MemorySource):
    """A source that somebody writes to while it is read."""

    reads = 0

    def pread(self, offset: int, length: int) -> bytes:
        self.reads += 1
        return super().pread(offset, length)

    def stamp(self) -> int:
        return self.reads


def test_a_file_that_changes_meanwhile_has_no_commitment() -> None:
    assert commit_source(MemorySource(b"abc")) == commit(b"abc")
    with pytest.raises(CarError, match="changed"):
        commit_source(Changing(b"abc"))


def test_chunks_lie_within_what_the_kernel_takes() -> None:
    assert kernel.subtree(bytes(CHUNK_BYTES)) == ZERO_ROOTS[commitment.CHUNK_HEIGHT]
