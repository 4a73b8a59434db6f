"""Taking over the index of a CARv2: as it is where looks show nothing wrong, not at all where they do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from carlib import indexing
from carlib.adoption import NotAdopted, adopt
from carlib.cid import Cid
from carlib.container import read_container
from carlib.index import INDEX_SORTED, MULTIHASH_INDEX_SORTED
from carlib.indexing import IndexReport
from carlib.options import WriteOptions
from carlib.source import FileSource, MemorySource
from carlib.writer import creating

BLOCKS = [(Cid.of(b"%d" % number), b"%d" % number) for number in range(200)]
INLINE = (Cid.identity(b"inline"), b"inline")


def write(
    path: Path,
    blocks: Sequence[tuple[Cid, bytes]] = BLOCKS,
    *,
    codec: int | None = MULTIHASH_INDEX_SORTED,
    identity: bool = False,
) -> bytes:
    with creating(
        path, WriteOptions(version=2, index_codec=codec, identity=identity), roots=(BLOCKS[0][0],)
    ) as writer:
        for cid, data in blocks:
            writer.put(cid, data)
        writer.finish((BLOCKS[0][0],))
    return path.read_bytes()


def adopted(data: bytes, out: Path, hints: list[tuple[int, int]] | None = None) -> IndexReport:
    source = MemorySource(data)
    told = hints if hints is not None else []
    return adopt(source, read_container(source, whole=False), out, hint=told.extend, samples=200)


@pytest.mark.parametrize("codec", [INDEX_SORTED, MULTIHASH_INDEX_SORTED])
def test_an_index_is_taken_as_it_is(tmp_path: Path, codec: int) -> None:
    data = write(tmp_path / "x.car", codec=codec)
    report = adopted(data, tmp_path / "out")
    expected = indexing.build(tmp_path / "x.car", tmp_path / "expected", codec=codec)
    assert report == expected
    assert (tmp_path / "out").read_bytes() == (tmp_path / "expected").read_bytes()


def test_what_will_be_read_is_told_first(tmp_path: Path) -> None:
    hints: list[tuple[int, int]] = []
    data = write(tmp_path / "x.car")
    with closing(FileSource(tmp_path / "x.car")) as source:
        start = read_container(source).index_offset
    adopted(data, tmp_path / "out", hints)
    assert hints[0] == (start, len(data) - start)
    assert len(hints) > 200


def test_a_car_without_blocks_has_an_index_too(tmp_path: Path) -> None:
    assert adopted(write(tmp_path / "x.car", []), tmp_path / "out").block_count == 0


def test_blocks_of_identity_cids_need_not_be_listed(tmp_path: Path) -> None:
    write(tmp_path / "x.car", [*BLOCKS, INLINE], identity=True)
    report = adopted((tmp_path / "x.car").read_bytes(), tmp_path / "out")
    assert report.data_size == indexing.build(tmp_path / "x.car", tmp_path / "expected").data_size


def v2(payload_of: bytes, index_of: bytes) -> bytes:
    """The payload of one CARv2 with the index of another; the header is the first one's."""
    container = read_container(MemorySource(payload_of))
    other = read_container(MemorySource(index_of), whole=False)
    return payload_of[: container.index_offset] + index_of[other.index_offset :]


def swapped(data: bytes) -> bytes:
    """Two entries change places."""
    container = read_container(MemorySource(data))
    start = container.index_offset + 2 + 4 + 8 + 4 + 12
    first, second = data[start : start + 40], data[start + 40 : start + 80]
    return data[:start] + second + first + data[start + 80 :]


def pointing(data: bytes, offset: int) -> bytes:
    """The first entry leads elsewhere."""
    start = read_container(MemorySource(data)).index_offset + 2 + 4 + 8 + 4 + 12 + 32
    return data[:start] + offset.to_bytes(8, "little") + data[start + 8 :]


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (lambda data, _: swapped(data), "not in order"),
        (lambda data, _: pointing(data, 1 << 40), "outside of the data"),
        (lambda data, _: pointing(data, 3), "outside of the data"),
        (lambda data, _: pointing(data, 60), "leads|lacks|another|shorter|begins|CID"),
        (lambda data, folder: v2(data, write(folder / "y.car", BLOCKS[:-1])), "it lacks the block at"),
        (lambda data, folder: v2(data, write(folder / "y.car", BLOCKS[:-3])), "it lacks the block at"),
        (
            lambda data, folder: v2(data, write(folder / "y.car", BLOCKS[1:])),
            "leads|lacks|another|shorter|begins|CID",
        ),
        (lambda data, _: data[: read_container(MemorySource(data)).index_offset] + b"\xff" * 20, "no index"),
        (lambda data, _: data[:-1], "no index"),
        (lambda _, folder: write(folder / "z.car", codec=None), "no index"),
    ],
)
def test_an_index_that_is_wrong_is_not_taken(
    tmp_path: Path, damage: Callable[[bytes, Path], bytes], why: str
) -> None:
    data = damage(write(tmp_path / "x.car"), tmp_path)
    with pytest.raises(NotAdopted, match=why):
        adopted(data, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_padding_behind_the_last_block_is_found(tmp_path: Path) -> None:
    plain = write(tmp_path / "x.car")
    container = read_container(MemorySource(plain))
    end = container.data_end
    header = bytearray(plain[:51])
    header[11 + 16 + 8 : 11 + 24 + 8] = (container.data_size + 100).to_bytes(8, "little")
    header[11 + 24 + 8 : 11 + 32 + 8] = (container.index_offset + 100).to_bytes(8, "little")
    padded = bytes(header) + plain[51:end] + bytes(100) + plain[end:]
    report = adopted(padded, tmp_path / "out")
    assert (report.data_size, report.padding_size) == (container.data_size, 100)
