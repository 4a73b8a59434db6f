"""Who has a file open, and who was killed, as `/proc` tells."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from fusefs import closing


def test_a_file_is_open_elsewhere_until_the_other_process_has_closed_it(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with path.open("wb") as file:
        inode, ending = os.fstat(file.fileno()).st_ino, b"/file"
        assert not closing.is_open_elsewhere(inode, ending)  # we ourselves do not count
        with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=file) as other:
            assert closing.is_open_elsewhere(inode, ending)
            assert not closing.is_open_elsewhere(inode + 1, ending)
            assert not closing.is_open_elsewhere(inode, b"/another")
            assert other.stdin is not None
            other.stdin.close()
            other.wait()
        assert not closing.is_open_elsewhere(inode, ending)


def test_who_only_reads_does_not_count(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    with path.open("rb") as file, subprocess.Popen(["sleep", "100"], stdin=file) as other:
        assert not closing.is_open_elsewhere(os.fstat(file.fileno()).st_ino, b"/file")
        other.terminate()


def test_a_process_that_a_signal_has_ended_was_killed_and_one_that_failed_was_not() -> None:
    for text, was_killed in (("import os; os.kill(os.getpid(), 9)", True), ("raise SystemExit(3)", False)):
        process = subprocess.Popen([sys.executable, "-c", text])
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # it stays a zombie, for us to look at
        assert closing.was_killed(process.pid) is was_killed
        process.wait()
        assert not closing.was_killed(process.pid)  # gone


def test_a_process_that_runs_was_not_killed() -> None:
    with subprocess.Popen(["sleep", "100"]) as process:
        assert not closing.was_killed(process.pid)
        process.send_signal(signal.SIGTERM)


def test_a_thread_is_of_its_process() -> None:
    assert closing.process_of(os.getpid()) == os.getpid()
    assert closing.process_of(0) == 0  # nobody
