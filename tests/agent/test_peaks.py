"""What a worker says of its memory is what the kernel cannot drop: its own, spikes included, and no mapped files."""

from __future__ import annotations

import ctypes
import mmap
import os
import platform
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.scheduler.requirement import IoClass
from agent.workers.peaks import PeakWatch, own_bytes
from agent.workers.priorities import set_io_class

MIB = 1 << 20
SIZE = 96 * MIB
SLACK = 24 * MIB


def more_at_most_during(work: Callable[[], object]) -> int:
    """By how much the peak of the work is above what the process has."""
    before = own_bytes(os.getpid())
    with PeakWatch() as watch:
        work()
    return watch.peak_bytes - before


def test_a_spike_that_is_over_at_the_end_counts() -> None:
    assert SIZE - SLACK < more_at_most_during(lambda: bytearray(SIZE).find(b"x")) < SIZE + SLACK


def test_a_mapped_file_does_not_count(tmp_path: Path) -> None:
    path = tmp_path / "big"
    path.write_bytes(bytes(SIZE))

    before = own_bytes(os.getpid())
    with (
        PeakWatch() as watch,
        path.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
    ):
        assert mapped.find(b"x") == -1
        deadline = time.monotonic() + 30
        while watch.files_bytes < SIZE and time.monotonic() < deadline:  # it looks now and then
            os.sched_yield()
    assert watch.peak_bytes - before < SLACK


def test_what_came_before_is_no_peak_of_what_comes_after() -> None:
    bytearray(SIZE).find(b"x")
    assert more_at_most_during(lambda: None) < SLACK


def test_a_process_that_is_gone_has_nothing() -> None:
    assert own_bytes(1 << 22) == 0


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the number of the system call is that of x86_64")
@pytest.mark.parametrize(("io_class", "number"), [(IoClass.IDLE, 3), (IoClass.BEST_EFFORT, 2)])
def test_the_class_of_disk_requests_is_set_for_the_task(io_class: IoClass, number: int) -> None:
    found: list[int] = []

    def run() -> None:
        assert set_io_class(io_class)
        found.append(ctypes.CDLL(None).syscall(252, 1, 0) >> 13)  # ioprio_get(2)

    thread = threading.Thread(target=run)  # it is of a thread, and the tests' own stays as it is
    thread.start()
    thread.join()
    assert found == [number]
