"""The two hosts that tests of remote data use: a link that carries, loses, and leaves nothing behind."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.network.hosts import Host, hosts, why_none
from tests.network.link import Conditions

pytestmark = [
    pytest.mark.privileged,
    pytest.mark.skipif(bool(why_none()), reason=why_none()),
]

ECHO_ONCE = """
import socket
with socket.create_server(("0.0.0.0", 7)) as server:
    print("up", flush=True)
    with server.accept()[0] as connection:
        connection.sendall(connection.recv(16))
"""
SAY_HELLO = """
import socket, sys
with socket.create_connection((sys.argv[1], 7), timeout=float(sys.argv[2])) as connection:
    connection.sendall(b"hello")
    print(connection.recv(16).decode())
"""


def said(near: Host, far: Host, patience_s: float) -> subprocess.CompletedProcess[str]:
    command = near.command([sys.executable, "-c", SAY_HELLO, far.address, str(patience_s)])
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_far_host_answers_over_the_link_and_not_when_all_is_lost() -> None:
    with hosts(Conditions(delay_ms=1)) as both:
        command = both.far.command([sys.executable, "-c", ECHO_ONCE])
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
            assert server.stdout is not None and server.stdout.readline() == "up\n"
            both.set(Conditions(loss_percent=100))
            assert "timed out" in said(both.near, both.far, 0.2).stderr
            both.set(Conditions())
            assert said(both.near, both.far, 30).stdout == "hello\n"


def test_nothing_of_the_hosts_is_left() -> None:
    with hosts() as both:
        names = (both.near.name, both.far.name)
        assert all((Path("/run/netns") / name).exists() for name in names)
    assert not any((Path("/run/netns") / name).exists() for name in names)
