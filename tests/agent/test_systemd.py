"""What the agent tells systemd, and how its log lines look there."""

from __future__ import annotations

import io
import logging
import os
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from agent import logs, systemd
from agent.client import Client
from tests.fixtures import REPOSITORY


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


def test_sockets_are_taken_from_systemd_once_and_only_if_they_are_for_us() -> None:
    environ = {"LISTEN_FDS": "1", "LISTEN_PID": "1", "LISTEN_FDNAMES": "x"}
    assert systemd.given_sockets(environ) == [] and environ == {}
    assert systemd.given_sockets({}) == []


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "x"}, None),
        ({}, None),
    ],
)
def test_the_watchdog_is_fed_if_systemd_wants_that(environ: dict[str, str], expected: float | None) -> None:
    assert systemd.watchdog_s(environ) == expected


def test_an_agent_takes_the_sockets_that_are_listened_on_for_it_and_leaves_them_there(tmp_path: Path) -> None:
    """As systemd does it: descriptors from 3 on, and the pid of the process that `exec` makes the agent."""
    state = tmp_path / "a"
    state.mkdir()
    with socket.socket(socket.AF_UNIX) as rpc, socket.create_server(("127.0.0.1", 0)) as data:
        rpc.bind(str(state / "agent.sock"))
        rpc.listen()
        port = data.getsockname()[1]
        (state / "config.toml").write_text(f'[gateway]\nlisten = ["127.0.0.1:{port}"]\n')
        script = f"exec 3<&{rpc.fileno()} 4<&{data.fileno()}; export LISTEN_FDS=2 LISTEN_PID=$$; "
        script += f"exec {sys.executable} -m agent.cli.main agent"
        environment = {**os.environ, "CARFS_PATH": str(state), "PYTHONPATH": str(REPOSITORY)}
        for _ in range(2):
            with subprocess.Popen(
                ["bash", "-c", script], env=environment, pass_fds=(rpc.fileno(), data.fileno()),
                stderr=subprocess.DEVNULL,
            ) as process:  # fmt: skip
                # No agent has to be ready: whoever calls waits in the socket's queue.
                assert Client(state / "agent.sock", timeout_s=60).call("Carfs.Status")["Pid"] == process.pid
                with urllib.request.urlopen(
                    f"http://127.0.0.1:{port}/ipfs/bafkqaaa?format=raw", timeout=60
                ) as answer:
                    assert answer.status == 200
                process.terminate()
            assert process.returncode == 0
            assert (state / "agent.sock").is_socket()  # it is not ours to remove
