"""The map file: what another process believes, what survives a kill, and what a power cut."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.dagstore import chunk_map
from agent.dagstore.chunk_map import MapDamaged, MapHead, MapReader, MapWriter, bytes_present

CHUNK = 1 << 16
BOOT, NEXT_BOOT = b"b" * 16, b"n" * 16
HEAD = MapHead(100 * CHUNK - 5, CHUNK, b"f" * 32, BOOT)


def test_a_reader_sees_what_the_writer_has_set_at_once(tmp_path: Path) -> None:
    writer = MapWriter.create(tmp_path / "map", HEAD)
    reader = MapReader(tmp_path / "map")
    assert not reader.holds(0, 1)
    writer.set(3, 20)
    assert reader.holds(3 * CHUNK, 17 * CHUNK)
    assert not reader.holds(3 * CHUNK - 1, 2)
    assert not reader.holds(19 * CHUNK, CHUNK + 1)
    assert reader.head == HEAD


def test_a_reader_can_tell_that_chunks_were_taken_back(tmp_path: Path) -> None:
    writer = MapWriter.create(tmp_path / "map", HEAD)
    reader = MapReader(tmp_path / "map")
    writer.set(0, 9)
    before = reader.drops()
    writer.set(9, 10)
    assert reader.drops() == before
    writer.drop(2, 4)
    assert reader.drops() != before
    assert not reader.holds(2 * CHUNK, 1)
    assert reader.holds(4 * CHUNK, CHUNK)


def test_after_a_kill_all_that_was_set_is_believed(tmp_path: Path) -> None:
    MapWriter.create(tmp_path / "map", HEAD).set(5, 8)
    again = MapWriter.open(tmp_path / "map", BOOT)
    assert bytes_present(again.head, again.present) == 3 * CHUNK


def test_after_a_power_cut_only_what_was_put_on_disk_is_believed(tmp_path: Path) -> None:
    writer = MapWriter.create(tmp_path / "map", HEAD)
    writer.set(0, 3)
    writer.settle(writer.snapshot())
    writer.set(5, 8)
    again = MapWriter.open(tmp_path / "map", NEXT_BOOT)
    assert bytes_present(again.head, again.present) == 3 * CHUNK
    reader = MapReader(tmp_path / "map")
    assert (reader.holds(0, 3 * CHUNK), reader.holds(5 * CHUNK, 1)) == (True, False)
    assert MapWriter.open(tmp_path / "map", NEXT_BOOT).present == again.present


def test_what_was_taken_back_while_it_was_put_on_disk_is_not_called_durable(tmp_path: Path) -> None:
    writer = MapWriter.create(tmp_path / "map", HEAD)
    writer.set(0, 3)
    meanwhile = writer.snapshot()
    writer.drop(1, 2)
    writer.set(1, 2)
    writer.settle(meanwhile)
    assert bytes_present(HEAD, MapWriter.open(tmp_path / "map", NEXT_BOOT).present) == 0


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: b"x" + data[1:],
        lambda data: data[:20] + b"\xff" + data[21:],
        lambda data: data[:-1],
        lambda data: data[:8] + b"\x02" + data[9:],
    ],
)
def test_a_damaged_map_is_refused_and_never_believed(tmp_path: Path, damage: object) -> None:
    assert callable(damage)
    MapWriter.create(tmp_path / "map", HEAD).set(0, 50)
    (tmp_path / "map").write_bytes(damage((tmp_path / "map").read_bytes()))
    with pytest.raises(MapDamaged):
        MapWriter.open(tmp_path / "map", BOOT)


@given(st.binary(max_size=300))
def test_any_bytes_are_a_head_or_damaged(data: bytes) -> None:
    try:
        head = MapHead.parse(data)
    except MapDamaged:
        return
    assert MapHead.parse(head.encode()) == head


@given(size=st.integers(0, 5 * CHUNK), offset=st.integers(0, 5 * CHUNK), length=st.integers(0, 3 * CHUNK))
def test_ranges_of_chunks_cover_the_bytes_and_no_chunk_more(size: int, offset: int, length: int) -> None:
    head = MapHead(size, CHUNK, bytes(32), BOOT)
    first, stop = head.range_of(offset, length)
    touched = {place // CHUNK for place in (offset, offset + length - 1)} if length else set()
    assert all(first <= chunk < stop for chunk in touched)
    assert not length or {first, stop - 1} == touched


def test_the_bytes_of_a_full_map_are_the_size(tmp_path: Path) -> None:
    writer = MapWriter.create(tmp_path / "map", HEAD)
    writer.set(0, HEAD.chunks)
    assert bytes_present(HEAD, writer.present) == HEAD.size == HEAD.bytes_of(0, HEAD.chunks)
    empty = MapHead(0, CHUNK, bytes(32), BOOT)
    assert bytes_present(empty, MapWriter.create(tmp_path / "empty", empty).present) == 0


def test_a_machine_has_one_boot_id_at_a_time() -> None:
    assert chunk_map.boot_id() == chunk_map.boot_id()
    assert len(chunk_map.boot_id()) == 16


def test_making_a_map_leaves_nothing_else_behind(tmp_path: Path) -> None:
    MapWriter.create(tmp_path / "map", HEAD).close()
    assert os.listdir(tmp_path) == ["map"]  # noqa: PTH208
