"""Reading a shard in another process: over a file, in a sector, and through a transient that fills as it is read."""

from __future__ import annotations

import errno
import json
import os
import shutil
import threading
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from agent.dagstore.access import (
    Access,
    FileAccess,
    SectorAccess,
    TransientAccess,
    TransientSource,
    open_source,
)
from agent.dagstore.chunk_map import MapHead, MapWriter
from carlib.errors import Truncated
from carlib.piece.fr32 import pad

CHUNK = 1 << 10
DATA = os.urandom(10 * CHUNK - 9)


class Filler:
    """A `Fetch` that fills a transient from `DATA`, right away."""

    def __init__(self, folder: Path) -> None:
        self.access = TransientAccess(str(folder / "data"), str(folder / "map"), len(DATA))
        self.asked: list[tuple[int, int]] = []
        self.hinted: list[tuple[int, int]] = []
        self.make()

    def make(self) -> None:
        head = MapHead(len(DATA), CHUNK, bytes(32), bytes(16))
        self.fd = os.open(self.access.data, os.O_RDWR | os.O_CREAT)
        os.ftruncate(self.fd, len(DATA))
        self.map = MapWriter.create(Path(self.access.map), head)

    def put(self, offset: int, length: int, data: bytes = DATA) -> None:
        first, stop = self.map.head.range_of(offset, length)
        os.pwrite(self.fd, data[first * CHUNK : stop * CHUNK], first * CHUNK)
        self.map.set(first, stop)

    def ensure(self, offset: int, length: int) -> None:
        self.asked.append((offset, length))
        self.put(offset, length)

    def renew(self, offset: int, length: int) -> None:
        self.map.drop(*self.map.head.range_of(offset, length))
        self.ensure(offset, length)

    def hint(self, ranges: Sequence[tuple[int, int]]) -> None:
        self.hinted += ranges

    def open(self) -> TransientSource:
        source = open_source(self.access, self)
        assert isinstance(source, TransientSource)
        return source


@pytest.fixture
def filler(tmp_path: Path) -> Filler:
    return Filler(tmp_path)


def test_each_access_crosses_the_wire_as_it_is(tmp_path: Path) -> None:
    for access in (FileAccess("/a b"), SectorAccess("/s", 128, 5), TransientAccess("/d", "/m", 9)):
        assert msgspec.json.decode(msgspec.json.encode(access), type=Access) == access
    document = json.loads(msgspec.json.encode(TransientAccess("/d", "/m", 9)))
    assert document == {"Kind": "transient", "Data": "/d", "Map": "/m", "Size": 9}


def test_a_piece_in_a_sector_is_read_in_place(tmp_path: Path) -> None:
    payload = os.urandom(127 * 4)
    (tmp_path / "sector").write_bytes(bytes(512) + pad(payload))
    source = open_source(SectorAccess(str(tmp_path / "sector"), 512, 500), lambda _offset, _length: None)
    assert (source.size, source.pread(0, 500), source.pread(100, 7)) == (500, payload[:500], payload[100:107])


def test_only_what_is_missing_is_asked_for(filler: Filler) -> None:
    source = filler.open()
    filler.put(0, CHUNK)
    assert source.pread(3, 100) == DATA[3:103]
    assert filler.asked == []
    assert source.pread(CHUNK - 5, 10) == DATA[CHUNK - 5 : CHUNK + 5]
    assert source.pread(CHUNK - 5, 10) == DATA[CHUNK - 5 : CHUNK + 5]
    assert filler.asked == [(CHUNK - 5, 10)]


def test_the_end_is_the_end_of_the_data(filler: Filler) -> None:
    source = filler.open()
    assert source.peek(len(DATA) - 3, 100) == DATA[-3:]
    assert source.peek(len(DATA) + 5, 100) == b""
    with pytest.raises(Truncated):
        source.pread(len(DATA) - 3, 4)


def test_what_does_not_come_is_an_error_and_never_zeros(
    filler: Filler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filler, "ensure", lambda _offset, _length: None)
    with pytest.raises(OSError, match="did not come") as raised:
        filler.open().pread(0, 5)
    assert raised.value.errno == errno.EIO


def test_a_transient_that_was_removed_and_made_anew_is_found_again(filler: Filler) -> None:
    source = filler.open()
    assert source.pread(0, 5) == DATA[:5]
    Path(filler.access.data).unlink()
    Path(filler.access.map).unlink()
    assert source.pread(0, 5) == DATA[:5]  # it is still open
    filler.make()
    assert source.pread(5 * CHUNK, 5) == DATA[5 * CHUNK : 5 * CHUNK + 5]


def test_what_is_taken_back_while_it_is_read_is_read_again(
    filler: Filler, monkeypatch: pytest.MonkeyPatch
) -> None:
    filler.put(0, CHUNK, bytes(len(DATA)))
    source = filler.open()
    pread = os.pread

    def pread_in_the_middle_of_a_renewal(fd: int, length: int, offset: int) -> bytes:
        data = pread(fd, length, offset)
        if length == 5:
            monkeypatch.setattr(os, "pread", pread)
            filler.renew(0, CHUNK)
        return data

    monkeypatch.setattr(os, "pread", pread_in_the_middle_of_a_renewal)
    assert source.pread(0, 5) == DATA[:5]


def test_the_stamp_changes_with_what_is_taken_back_and_not_with_what_arrives(filler: Filler) -> None:
    source = filler.open()
    before = source.stamp()
    source.pread(0, len(DATA))
    assert source.stamp() == before
    source.renew(0, 1)
    assert source.stamp() != before


def test_peeking_gives_what_is_there_and_in_memory_and_asks_for_nothing(filler: Filler) -> None:
    source = filler.open()
    assert source.peek_nowait(0, 10) is None
    filler.put(0, CHUNK)
    assert source.peek_nowait(0, 10) in (None, DATA[:10])
    assert source.peek_nowait(CHUNK - 5, 10) is None
    assert filler.asked == []


def test_hints_are_passed_on_for_what_is_missing(filler: Filler) -> None:
    source = filler.open()
    filler.put(0, CHUNK)
    source.hint([(0, 10), (CHUNK, 10)])
    assert filler.hinted == [(CHUNK, 10)]


def test_a_reader_that_goes_on_is_given_what_comes(tmp_path: Path) -> None:
    filler = Filler(tmp_path)
    size = 64 << 20
    filler.access = msgspec.structs.replace(filler.access, size=size)
    os.ftruncate(filler.fd, size)
    filler.map = MapWriter.create(Path(filler.access.map), MapHead(size, 1 << 16, bytes(32), bytes(16)))
    filler.map.set(0, 16 << 4)  # 16 MiB are there
    source = filler.open()
    for offset in (40 << 20, 3 << 20, 50 << 20, 9 << 20):
        source.hint([])
        source.peek(offset if offset < 16 << 20 else 0, 1 << 16)
    assert filler.hinted == []
    for offset in range(0, 16 << 20, 1 << 20):
        source.pread(offset, 1 << 20)
    assert filler.hinted == [(end << 20, 12 << 20) for end in (8, 12, 16)]
    assert filler.asked == []


def test_m7_a_transient_of_another_size_is_refused(filler: Filler) -> None:
    access = msgspec.structs.replace(filler.access, size=len(DATA) - 1)
    with pytest.raises(OSError, match="other data"):
        open_source(access, filler.ensure)


def test_a_map_that_is_damaged_is_an_error_of_reading(filler: Filler) -> None:
    Path(filler.access.map).write_bytes(b"nonsense")
    with pytest.raises(OSError, match="a map of 8 bytes"):
        filler.open()


def test_many_threads_read_through_one_source(filler: Filler, tmp_path: Path) -> None:
    source = filler.open()
    lock = threading.Lock()
    ensure = filler.ensure

    def one_at_a_time(offset: int, length: int) -> None:
        with lock:
            ensure(offset, length)

    filler.ensure = one_at_a_time  # type: ignore[method-assign]
    read: list[bool] = []

    def work(seed: int) -> None:
        for number in range(50):
            offset = (seed * 911 + number * 373) % (len(DATA) - 100)
            read.append(source.pread(offset, 100) == DATA[offset : offset + 100])

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(read) == 400
    assert all(read)


def test_a_closed_source_says_so_and_leaves_no_descriptor(filler: Filler) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    source = filler.open()
    source.close()
    source.close()
    with pytest.raises(OSError) as raised:
        source.pread(0, 1)
    assert raised.value.errno == errno.EBADF
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    shutil.rmtree(Path(filler.access.data).parent)
    with pytest.raises(FileNotFoundError):
        filler.open()
