"""Reading ahead: it begins where the disk is waited for, keeps its distance, ends by itself, and changes nothing."""

from __future__ import annotations

import itertools
import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from carlib import warming
from carlib.pack import pack
from carlib.warming import FILES_AHEAD, Warming

FILE, FOLDER = stat.S_IFREG, stat.S_IFDIR


def listing(*entries: tuple[bytes, int]) -> list[bytes]:
    return [b"%b\0%d" % entry for entry in reversed(entries)]


def cold() -> Callable[[], int]:
    """A disk that had to be read each time it is asked about."""
    return itertools.count(0, 1000).__next__


class Files:
    """What was read ahead, and a way to wait until so much was."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.paths: list[bytes] = []
        self._more = threading.Semaphore(0)
        monkeypatch.setattr(warming, "_read_ahead", self._add)

    def _add(self, path: bytes) -> None:
        self.paths.append(path)
        self._more.release()

    def wait_for(self, count: int) -> None:
        for _ in range(count):
            assert self._more.acquire(timeout=10)


def step(running: Warming, count: int, *folders: tuple[bytes, list[bytes]]) -> None:
    for _ in range(count):
        running.step(folders)


def test_where_all_is_in_memory_no_thread_is_started() -> None:
    running = Warming(True, lambda: 0)
    step(running, 1000, (b"x", listing((b"a", FILE))))
    assert not running.is_running
    running.close()


def test_it_goes_the_way_of_the_walk_and_no_further_than_it_may(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner = tmp_path / "b"
    inner.mkdir()
    (inner / "sub").mkdir()
    for path in (inner / "sub" / "z", inner / "a", inner / "t", inner / ".hidden"):
        path.write_bytes(b"x")
    many = [(b"c%04d" % number, FILE) for number in range(FILES_AHEAD)]
    files, running = Files(monkeypatch), Warming(False, cold())
    top = os.fsencode(tmp_path)
    step(running, 32, (top, listing((b"a", FILE), (b"b", FOLDER), (b"link", stat.S_IFLNK), *many)))
    files.wait_for(FILES_AHEAD)
    names = [b"a", b"b/a", b"b/sub/z", b"b/t", *(name for name, _ in many)]
    assert files.paths == [top + b"/" + name for name in names[:FILES_AHEAD]]
    step(running, 32)
    files.wait_for(4)
    assert files.paths == [top + b"/" + name for name in names]
    running.close()
    assert not running.is_running


def test_it_ends_where_all_is_in_memory_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warming, "_IDLE_FILES", 64)
    files, reads = Files(monkeypatch), itertools.chain([0, 1000], itertools.repeat(1000))
    running = Warming(True, reads.__next__)
    step(running, 32, (b"x", listing(*((b"%03d" % number, FILE) for number in range(200)))))
    files.wait_for(64)
    thread = running._thread
    assert thread is not None
    thread.join(10)
    assert len(files.paths) == 64
    running.close()


def test_who_closes_it_does_not_wait_for_all_files(monkeypatch: pytest.MonkeyPatch) -> None:
    files, running = Files(monkeypatch), Warming(True, cold())
    step(running, 32, (b"x", listing(*((b"%05d" % number, FILE) for number in range(50_000)))))
    files.wait_for(FILES_AHEAD)
    running.close()
    assert len(files.paths) == FILES_AHEAD


def test_what_is_gone_or_no_file_is_left_to_the_walk(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to("/")
    entries = [(b"gone", FILE), (b"gone too", FOLDER), (b"fifo", FILE), (b"link", FILE)]
    running = Warming(True, cold())
    step(running, 32, (os.fsencode(tmp_path), listing(*entries)))
    assert running._thread is not None
    running._thread.join(10)
    assert not running.is_running
    running.close()


def test_packing_is_the_same_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(300):
        path = tmp_path / "in" / str(number % 7) / f"{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"%d" % number * (number % 50))
    warm = pack(tmp_path / "in", tmp_path / "warm.car")
    started: list[Warming] = []

    class Cold(Warming):
        def __init__(self, hidden: bool) -> None:
            super().__init__(hidden, cold())
            started.append(self)

    monkeypatch.setattr("carlib.packer.Warming", Cold)
    assert pack(tmp_path / "in", tmp_path / "cold.car") == warm
    assert (tmp_path / "cold.car").read_bytes() == (tmp_path / "warm.car").read_bytes()
    assert started[0]._thread is not None
    assert not started[0].is_running
