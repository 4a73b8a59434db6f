"""The side of a booted machine: runs the checks there, and has what they use. Imports only what is there.

`python -m tests.machine.guest FILE NAME…` runs the checks of these names, each in a process of its own, and writes
what came of each into FILE: JSON, `{name: {"code", "output"}}`.
"""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

PYTHON = "/opt/carfs/bin/python"
CHECKOUT = "/job/src"
CHECK_TIMEOUT_S = 300  # some seconds on a machine that has nothing else to do
DEADLINE_S = 120.0
POLL_S = 0.02


def unit(*command: str, user: str = "", **properties: str | int) -> subprocess.CompletedProcess[str]:
    """Runs a command as a service with these properties (`Delegate="memory"`, `MemoryMax="300M"`) until it ends."""
    options = [f"--property={name}={value}" for name, value in properties.items()]
    if user:
        options.append(f"--uid={user}")
    return subprocess.run(
        ["systemd-run", "--quiet", "--wait", "--pipe", f"--working-directory={CHECKOUT}", *options, *command],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def begin(name: str, *command: str, **properties: str | int) -> None:
    """Starts a command as the service of this name, which a check stops when it has done."""
    options = [f"--property={key}={value}" for key, value in properties.items()]
    service = [
        "systemd-run",
        "--quiet",
        f"--unit={name}",
        f"--working-directory={CHECKOUT}",
        *options,
        *command,
    ]
    subprocess.run(service, check=True)


def stop(name: str) -> None:
    """Ends it, with what it has started."""
    subprocess.run(["systemctl", "stop", name], check=True)


def show(name: str, property_name: str) -> str:
    """A property of a unit."""
    command = ["systemctl", "show", "--property", property_name, "--value", name]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def until(condition: Callable[[], object], deadline_s: float = DEADLINE_S) -> None:
    """Polls; an AssertionError after so long."""
    deadline = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(POLL_S)


def main(file: str, *names: str) -> None:
    """Runs checks one after the other."""
    results = {}
    for name in names:
        command = [sys.executable, "-m", "tests.machine.guest", "--one", name]
        try:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
                timeout=CHECK_TIMEOUT_S,
            )
            results[name] = {"code": done.returncode, "output": done.stdout}
        except subprocess.TimeoutExpired as error:
            output = (error.stdout or b"").decode()  # bytes, whatever was asked for
            results[name] = {"code": 124, "output": f"{output}took longer than {CHECK_TIMEOUT_S} s"}
        Path(file).write_text(json.dumps(results))


def one(name: str) -> int:
    """One check, in this process."""
    try:
        importlib.import_module(f"tests.machine.checks.{name}").check()
    except Exception:
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    if sys.argv[1] == "--one":
        sys.exit(one(sys.argv[2]))
    main(*sys.argv[1:])
