"""`carfs top`: pages that fit any terminal, and a screen that goes on without the agent and ends as it was."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from agent.cli.bars import Part, bar, cells, cut, fitted, percent
from agent.cli.load import text_of
from agent.cli.top import AWAY
from agent.cli.top_page import View, page
from agent.resources.document import Limits
from agent.scheduler.document import Tasks
from tests.agent.processes import until
from tests.agent.scheduling import AT, REMOTE, FakeScheduler, running, waiting, worker
from tests.agent.serving import served_at
from tests.fixtures import REPOSITORY

STATUS = {
    "Version": "0.1.0", "Pid": 4711, "UptimeSeconds": 36000.0, "UnhealthyOrigins": [],
    "Shards": {"ShardStateAvailable": 40000, "ShardStateErrored": 1},
}  # fmt: skip
numbers = st.floats() | st.integers(-(1 << 70), 1 << 70)


def json_of(value: object) -> Any:  # Any: JSON
    return json.loads(msgspec.json.encode(value))


def view_of(scheduler: FakeScheduler, **more: Any) -> View:  # Any: fields of View
    limits = json_of(Limits.of(scheduler.snapshot()))
    return View(STATUS, limits, json_of(Tasks.of(scheduler, AT, 0)), **more)


MANY = FakeScheduler(
    (running(1), running(2, subject="宽" * 40), *(waiting(number, number) for number in range(3, 60))),
    views=(worker(running(1)), worker(id=REMOTE, name="far-away.example.org", enabled=False)),
)


@given(numbers | st.none(), st.lists(numbers, max_size=4), st.integers(-3, 80), st.booleans())
def test_s3_a_bar_has_its_width_whatever_the_numbers(
    whole: float | None, amounts: list[float], width: int, plain: bool
) -> None:
    words = bar(whole, [Part(amount) for amount in amounts], width, plain=plain)
    assert len("".join(word.text for word in words)) == max(2, width)
    assert 0 <= int(percent(whole, sum(amounts[:1])).removesuffix(" %")) <= 100


def test_a_bar_is_as_full_as_its_parts() -> None:
    parts = [Part(2), Part(1, "yellow", "▓", "=")]
    assert text_of(bar(4, parts, 10)) == "[████▓▓··]"
    assert text_of(bar(4, parts, 10, plain=True)) == "[####==..]"
    assert text_of(bar(4, [Part(9)], 10)) == "[████████]"
    assert text_of(bar(0, [Part(0)], 10)) == "[········]"


@given(st.text(max_size=40), st.integers(0, 20))
def test_a_text_fits_into_its_columns(text: str, width: int) -> None:
    assert cells(fitted(text, width)) == width
    assert cells(cut(text, width, keep_end=True)) <= width


@pytest.mark.parametrize("size", [(80, 24), (40, 8), (120, 40), (200, 60), (20, 4), (1, 1)])
@pytest.mark.parametrize("plain", [False, True])
def test_a_page_fits_its_terminal(size: tuple[int, int], plain: bool) -> None:
    width, height = size
    for view in (view_of(MANY), view_of(MANY, problem=AWAY, age_s=70.0), View(problem=AWAY), View()):
        lines = page(view, width, height, plain=plain)
        assert len(lines) == height
        assert max(cells(text_of(line)) for line in lines) <= width


def test_a_page_of_80x24_has_bars_workers_tasks_and_one_reason() -> None:
    text = [text_of(line) for line in page(view_of(MANY), 80, 24)]
    assert text[3].startswith("memory    [█▓▓▓▓▓▓") and text[3].endswith(" 62 %  5.0 GiB of 8.0 GiB")
    assert text[4].strip() == "3.0 GiB left under system.slice/carfs.service memory.max"
    assert any(line.startswith("b1d3e6f5  far-away.example.org") and "disabled" in line for line in text)
    assert any(line.startswith("00000001  index      shard-1") and "running" in line for line in text)
    reason = "  needs 512 MiB, headroom 310 MiB under system.slice/carfs.service memory.max"
    assert text.count(reason) == 1
    assert re.fullmatch(r"and \d+ more tasks", text[-2])


def test_a_page_without_an_end_has_every_task() -> None:
    text = [text_of(line) for line in page(view_of(MANY), 110, None)]
    assert sum("shard-" in line for line in text) == 58


class Terminal:
    """A program on a pseudo-terminal of 80x24, and all that it has written."""

    def __init__(self, process: subprocess.Popen[bytes], ours: int) -> None:
        self.process = process
        self._ours = ours
        self._written = b""
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def press(self, keys: bytes) -> None:
        os.write(self._ours, keys)

    def has(self, text: str) -> bool:
        """Whether it has written that since the last `forget`; colours and cursor movements are left out."""
        return text in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self._written.decode(errors="replace"))

    def forget(self) -> None:
        self._written = b""

    def raw(self) -> bytes:
        return self._written

    def resize(self, width: int, height: int) -> None:
        fcntl.ioctl(self._ours, termios.TIOCSWINSZ, struct.pack("4H", height, width, 0, 0))
        self.process.send_signal(signal.SIGWINCH)

    def echoes(self) -> bool:
        return bool(termios.tcgetattr(self._ours)[3] & termios.ECHO)

    def close(self) -> None:
        self._reader.join()
        os.close(self._ours)

    def _read(self) -> None:
        try:
            while piece := os.read(self._ours, 65536):
                self._written += piece
        except OSError:  # how Linux says that the other end was closed
            pass


@contextmanager
def top_of(path: Path, *arguments: str, **environ: str) -> Iterator[Terminal]:
    """`carfs top`, which is ended in any case."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", 24, 80, 0, 0))
    own = {"CARFS_PATH": str(path), "PYTHONPATH": str(REPOSITORY), "TERM": "xterm-256color"}
    kept = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "COLUMNS", "LINES")}
    process = subprocess.Popen(
        [sys.executable, "-m", "agent.cli.main", "top", *arguments],
        stdin=theirs, stdout=theirs, stderr=theirs, env={**kept, **own, **environ}, start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )  # fmt: skip
    terminal = Terminal(process, ours)
    try:
        yield terminal
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        os.close(theirs)
        terminal.close()


async def eventually(condition: Callable[[], object]) -> None:
    await trio.to_thread.run_sync(until, condition)


@pytest.mark.parametrize("keys", [b"q", b"\x03"], ids=["q", "ctrl-c"])
async def test_a_key_ends_it_and_the_terminal_is_as_it_was(tmp_path: Path, keys: bytes) -> None:
    (tmp_path / "agent.sock").symlink_to("s")
    async with served_at(tmp_path, scheduler=FakeScheduler((running(1), waiting(2)))):
        with top_of(tmp_path) as top:
            await eventually(lambda: top.has("3.0 GiB left under system.slice/carfs.service memory.max"))
            await eventually(lambda: top.has("tasks: 1 running, 1 waiting"))
            assert not top.echoes()
            top.press(keys)
            await eventually(lambda: top.process.poll() is not None)
            assert top.process.returncode == 0
            assert top.echoes()
            await eventually(lambda: b"\x1b[?1049l" in top.raw())  # the screen before it is back
            assert b"\x1b[?25h" in top.raw()  # and the cursor
            assert not top.has("Traceback")


async def test_it_goes_on_when_the_agent_was_away(tmp_path: Path) -> None:
    (tmp_path / "agent.sock").symlink_to("s")
    with top_of(tmp_path, "--interval", "0.1") as top:
        await eventually(lambda: top.has(AWAY))
        async with served_at(tmp_path, scheduler=FakeScheduler((running(1),))):
            await eventually(lambda: top.has("tasks: 1 running, 0 waiting"))
            top.forget()
        await eventually(lambda: top.has(AWAY))
        assert top.process.poll() is None
        top.forget()
        async with served_at(tmp_path, scheduler=FakeScheduler((running(1), running(2)))):
            await eventually(lambda: top.has("tasks: 2 running, 0 waiting"))


async def test_it_fits_a_terminal_that_changes_its_size(tmp_path: Path) -> None:
    (tmp_path / "agent.sock").symlink_to("s")
    async with served_at(tmp_path, scheduler=MANY):
        with top_of(tmp_path) as top:
            await eventually(lambda: top.has("reserved for tasks"))
            assert not top.has("shard-30")
            top.resize(120, 60)
            await eventually(lambda: top.has("shard-30"))


async def test_no_color_is_heeded(tmp_path: Path) -> None:
    (tmp_path / "agent.sock").symlink_to("s")
    async with served_at(tmp_path, scheduler=MANY):
        for environ, has_colors in (({"NO_COLOR": "1"}, False), ({}, True)):
            with top_of(tmp_path, **environ) as top:
                await eventually(partial(top.has, "reserved for tasks"))
                assert (re.search(rb"\x1b\[[0-9;]*3[0-9]m", top.raw()) is not None) == has_colors
