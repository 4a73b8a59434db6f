"""What the agent tells systemd, and how its log lines look there."""

from __future__ import annotations

import io
import logging
import os
import socket
from pathlib import Path

import pytest

from agent import logs, systemd


def test_readiness_goes_to_the_socket_that_systemd_names(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        assert systemd.notify("READY=1", "STATUS=x", environ={"NOTIFY_SOCKET": str(tmp_path / "notify")})
        assert listener.recv(100) == b"READY=1\nSTATUS=x"


def test_an_abstract_socket_will_do(tmp_path: Path) -> None:
    name = f"carfs-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind("\0" + name)
        assert systemd.notify("READY=1", environ={"NOTIFY_SOCKET": "@" + name})
        assert listener.recv(100) == b"READY=1"


@pytest.mark.parametrize(
    "environ", [{}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "/none"}, {"NOTIFY_SOCKET": "x"}]
)
def test_nobody_listening_is_no_error(environ: dict[str, str]) -> None:
    assert not systemd.notify("READY=1", environ=environ)


def test_the_journal_is_known_by_device_and_inode(tmp_path: Path) -> None:
    with (tmp_path / "stream").open("w") as stream:
        found = os.fstat(stream.fileno())
        assert systemd.is_journal(stream.fileno(), {"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"})
        assert not systemd.is_journal(stream.fileno(), {"JOURNAL_STREAM": "1:2"})
        assert not systemd.is_journal(stream.fileno(), {})


def test_a_message_is_one_line_whatever_is_in_it() -> None:
    """A key with a line end must not be able to write a log line of its own."""
    record = logging.LogRecord("x", logging.INFO, "f", 1, "shard %s", ("a\nb\x1b[31m ü\udcff",), None)
    assert logs.LineFormatter("%(message)s").format(record) == r"shard a\nb\x1b[31m ü\udcff"
    assert logs.JournalFormatter().format(record) == r"<6>x: shard a\nb\x1b[31m ü\udcff"


def test_each_line_of_a_record_has_its_level_for_the_journal() -> None:
    handler = logging.StreamHandler(io.StringIO())
    handler.setFormatter(logs.JournalFormatter())
    try:
        raise ValueError("bad")
    except ValueError as error:
        info = (type(error), error, error.__traceback__)
        record = logging.LogRecord("agent.x", logging.ERROR, "f", 1, "it is %s", ("so",), info)
    lines = handler.format(record).splitlines()
    assert lines[0] == "<3>agent.x: it is so"
    assert all(line.startswith("<3>") for line in lines)
    levels = {logging.DEBUG: "<7>", logging.INFO: "<6>", logging.WARNING: "<4>", logging.CRITICAL: "<2>"}
    for level, prefix in levels.items():
        assert handler.format(logging.LogRecord("x", level, "f", 1, "m", (), None)) == f"{prefix}x: m"
