"""Frames around a payload: put on, taken off, indexed, given other roots; the payload stays."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from carlib import frame, indexing
from carlib.blockstore import ReadOnlyBlockstore
from carlib.cid import Cid
from carlib.container import read_container
from carlib.errors import Malformed, Truncated
from carlib.frame import AlreadyV1
from carlib.header import V1Header
from carlib.index import INDEX_SORTED
from carlib.options import WriteOptions
from carlib.source import FileSource
from carlib.verify import verify
from tests.carlib.cars import BLOCKS, HELLO, car_v1, many_blocks, write_car
from tests.fixtures import fixture

SAMPLES = "ipld+go-car/v2/testdata/"
OPTIONS = [
    WriteOptions(),
    WriteOptions(index_codec=None),
    WriteOptions(index_codec=INDEX_SORTED),
    WriteOptions(identity=True),
    WriteOptions(data_padding=1413, index_padding=1314),
]


def only_file(folder: Path) -> Path:
    (found,) = folder.iterdir()
    return found


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("in_place", [False, True])
def test_wrapping_and_extracting_give_the_payload_back(
    tmp_path: Path, options: WriteOptions, in_place: bool
) -> None:
    path = write_car(tmp_path / "a.car")
    payload = path.read_bytes()
    wrapped = path if in_place else tmp_path / "b.car"
    frame.wrap(path, wrapped, options)
    with FileSource(wrapped) as source:
        container = read_container(source)
    assert (container.data_offset, container.data_size) == (options.base, len(payload))
    assert (bool(container.index_offset), container.fully_indexed) == (options.indexed, options.identity)
    report = verify(wrapped)
    assert (report.good, report.index_state) == (True, "good" if options.indexed else "none")
    frame.extract_v1(wrapped, wrapped)
    assert wrapped.read_bytes() == payload


def test_wrapping_equals_go_cars(tmp_path: Path) -> None:
    frame.wrap(fixture(SAMPLES + "sample-v1.car"), tmp_path / "a.car")
    assert (tmp_path / "a.car").read_bytes() == fixture(SAMPLES + "sample-wrapped-v2.car").read_bytes()
    frame.extract_v1(tmp_path / "a.car", tmp_path / "b.car")
    assert (tmp_path / "b.car").read_bytes() == fixture(SAMPLES + "sample-v1.car").read_bytes()


def test_a_v1_has_nothing_to_take_off(tmp_path: Path) -> None:
    path = write_car(tmp_path / "a.car")
    with pytest.raises(AlreadyV1):
        frame.extract_v1(path, path)
    assert path.read_bytes() == car_v1(BLOCKS)


def test_an_index_goes_off_and_on_again(tmp_path: Path) -> None:
    wrapped, index = tmp_path / "a.car", tmp_path / "a.idx"
    frame.wrap(write_car(tmp_path / "v1.car", many_blocks(100)), wrapped)
    assert frame.detach_index(wrapped, index) == 100
    indexing.build(wrapped, tmp_path / "built.idx")
    assert index.read_bytes() == (tmp_path / "built.idx").read_bytes()
    whole = wrapped.read_bytes()
    frame.wrap(wrapped, wrapped, WriteOptions(index_codec=None))
    with pytest.raises(Malformed, match="no index"):
        frame.detach_index(wrapped, tmp_path / "none.idx")
    frame.wrap(wrapped, wrapped, index=index)
    assert wrapped.read_bytes() == whole


def test_an_index_that_points_outside_is_not_attached(tmp_path: Path) -> None:
    large, small = write_car(tmp_path / "large.car", many_blocks(100)), write_car(tmp_path / "small.car")
    indexing.build(large, tmp_path / "large.idx")
    before = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises(Malformed, match="outside of the data"):
        frame.wrap(small, tmp_path / "out.car", index=tmp_path / "large.idx")
    assert sorted(path.name for path in tmp_path.iterdir()) == before


@pytest.mark.parametrize("version", [1, 2])
def test_roots_of_the_same_size_are_replaced_in_place(tmp_path: Path, version: int) -> None:
    path = write_car(tmp_path / "a.car")
    if version == 2:
        frame.wrap(path, path)
    before, other = path.read_bytes(), Cid.of(b"other")
    frame.replace_roots(path, [other])
    assert path.read_bytes() == before.replace(HELLO.raw, other.raw, 1)


@pytest.mark.parametrize("options", [None, *OPTIONS])
def test_roots_of_another_size_need_a_rewrite(tmp_path: Path, options: WriteOptions | None) -> None:
    path, roots = write_car(tmp_path / "a.car"), [HELLO, Cid.of(b"second")]
    if options is not None:
        frame.wrap(path, path, options)
    before = path.read_bytes()
    with pytest.raises(Malformed) as caught:
        frame.replace_roots(path, roots)
    sizes = [len(V1Header(tuple(each)).encode()) for each in ([HELLO], roots)]
    assert caught.value.message == (
        f"current header size ({sizes[0]}) must match replacement header size ({sizes[1]})"
    )
    assert path.read_bytes() == before
    frame.replace_roots(path, roots, rewrite=True)
    report = verify(path)
    assert (report.good, report.roots, report.blocks) == (True, tuple(roots), len(BLOCKS))
    assert report.index_state == ("good" if options is not None and options.indexed else "none")
    with ReadOnlyBlockstore.open(path) as store:
        assert [store.get(cid) for cid, _ in BLOCKS] == [data for _, data in BLOCKS]
    assert only_file(tmp_path) == path


def test_a_damaged_source_leaves_everything_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "a.car"
    path.write_bytes(car_v1(BLOCKS)[:-2])
    with pytest.raises(Truncated):
        frame.wrap(path, path)
    assert path.read_bytes() == car_v1(BLOCKS)[:-2]
    assert only_file(tmp_path) == path


@pytest.mark.parametrize("options", OPTIONS)
def test_a_stream_gets_what_a_file_gets(options: WriteOptions, tmp_path: Path) -> None:
    source, stream = write_car(tmp_path / "a.car"), io.BytesIO()
    frame.wrap(source, tmp_path / "b.car", options)
    frame.wrap(source, stream, options)
    assert stream.getvalue() == (tmp_path / "b.car").read_bytes()


@pytest.mark.parametrize("options", [WriteOptions(version=1), *OPTIONS])
def test_appended_blocks_stand_behind_the_others_and_in_the_index(
    options: WriteOptions, tmp_path: Path
) -> None:
    path, blocks = write_car(tmp_path / "a.car", many_blocks(3)), many_blocks(5)
    if options.version == 2:
        frame.wrap(path, path, options)
    assert frame.append(path, [*blocks, blocks[4]]) == 2
    with ReadOnlyBlockstore.open(path) as car:
        assert ([cid for cid, _ in car.cids()], car.roots) == ([cid for cid, _ in blocks], (HELLO,))
        assert car.container.data_offset == options.base
    report = verify(path)
    assert (report.good, report.index_state) == (True, "good" if options.indexed else "none")


def test_appending_what_is_there_changes_nothing(tmp_path: Path) -> None:
    path = write_car(tmp_path / "a.car", many_blocks(3))
    before = path.stat()
    assert frame.append(path, many_blocks(2)) == 0
    assert path.stat() == before


def test_nothing_is_appended_to_a_damaged_car(tmp_path: Path) -> None:
    path = write_car(tmp_path / "a.car", many_blocks(3))
    path.write_bytes(path.read_bytes()[:-1])
    before = path.read_bytes()
    with pytest.raises(Truncated):
        frame.append(path, many_blocks(5))
    assert (path.read_bytes(), only_file(tmp_path)) == (before, path)
