"""The agent of `carfs up`: started if none answers, waited for, ended with the mount."""

from __future__ import annotations

import contextlib
import ctypes
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

from agent.cli.exits import AgentUnreachable as Unreachable
from agent.client import AgentUnreachable, Client

_START_S = 30.0
_POLL_S = 0.02
_STOP_S = 10.0
_PR_SET_PDEATHSIG = 1


@contextlib.contextmanager
def agent() -> Iterator[str]:
    """An agent that answers while the block runs; gives a word on it for people.

    One that answered before is used and left alone.  Ours has a process group of its own, so that Ctrl-C
    comes to the mount alone, which then ends the agent, last; and it dies with us if we are killed.
    """
    client = Client(timeout_s=5.0)
    if _answers(client):
        yield f"on {client.path} was there already and stays"
        return
    process = subprocess.Popen(
        [sys.executable, "-m", "agent.cli.main", "agent"], process_group=0, preexec_fn=_die_with_parent
    )
    try:
        _wait_for(client, process)
        yield f"on {client.path}"
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_for(client: Client, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _START_S
    while not _answers(client):
        code = process.poll()
        if code is not None:
            raise Unreachable(f"the agent ended with exit code {code} before it was ready")
        if time.monotonic() > deadline:
            raise Unreachable(f"the agent was not ready within {_START_S:g} s")
        time.sleep(_POLL_S)


def _answers(client: Client) -> bool:
    try:
        client.call("Filecoin.Version")
    except AgentUnreachable:
        return False
    return True


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
