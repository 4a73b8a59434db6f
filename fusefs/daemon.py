"""Leaving the terminal once the work is well under way: like sshfs, errors come to the terminal and as the
exit code before that.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

from agent.cli.exits import run_to_exit_code

Ready = Callable[[], None]
_READY = b"ready"


def detached(work: Callable[[Ready], object], log: Path) -> int:
    """Runs `work(ready)` in a child that leaves the terminal when it calls `ready`; gives the exit code.

    That is 0 as soon as `ready` was called, else what the child ended with, which has told the terminal why.
    Call it while the process has one thread.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        code = 1
        try:
            code = run_to_exit_code(lambda: work(lambda: _leave(writing, log)))
        finally:
            os._exit(code)  # not through the parent's clean-up
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        if pipe.read() == _READY:
            return 0
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


def _leave(pipe: int, log: Path) -> None:
    """Own session, no terminal, no directory held; what is still printed goes to the log."""
    os.setsid()
    os.chdir("/")
    nowhere = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nowhere, 0)
    os.close(nowhere)
    sys.stdout.flush()
    sys.stderr.flush()
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    os.dup2(out, 1)
    os.dup2(out, 2)
    os.close(out)
    os.write(pipe, _READY)
    os.close(pipe)


def default_log() -> Path:
    """`$XDG_STATE_HOME/carfs/mount.log`; its folder is made."""
    state = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "carfs"
    state.mkdir(parents=True, exist_ok=True, mode=0o700)
    return state / "mount.log"
