"""A booted systemd for tests, in two kinds that take the same image and the same checks.

`box` is namespaces on this machine's own kernel: up in under a second, at full speed, on cgroup v1.
`run` is an emulated machine: up in ten seconds, Python ten times slower than here, on cgroup v2.

**To add a check**: put a module into `tests/machine/checks/`, with a docstring that says the rule it holds, and

    MACHINES = ("run",)          # or ("box", "run"), or ("box",)

    def check() -> None:         # as root in the booted machine; fails by raising

`tests.machine.guest` has what checks use: `unit(...)` runs a command as a unit with properties, `show` reads a
property, `until` waits for something; `tests.machine.agents` runs the real agent as a unit. Blocks `console machine` of
the pages in docs/ are run by the check `pages`. The checkout is at /job/src and `carfs` in the PATH; only what carfs
depends on is installed, no pytest. All checks of one kind run in one boot, one after the other, each in a process of
its own, and each is a test: `pytest tests/machine -k NAME`. By hand, without pytest:

    make machine                                            # the image, once: some 80 s
    .venv/bin/python -m tests.machine run 'systemctl status; carfs resources --explain'
    .venv/bin/python -m tests.machine box 'systemd-run --wait --pipe -p MemoryMax=300M cat /proc/self/cgroup'

`box(...)` and `run(...)` here do the same for tests that want a boot of their own.
"""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from tests.machine import image

Kind = Literal["box", "run"]
KINDS: tuple[Kind, ...] = get_args(Kind)
TIMEOUT_S = 300


@dataclass(frozen=True, slots=True)
class Result:
    """What a command in a machine gave; `code` 124: it took too long, 125: the machine did not come up or died."""

    code: int
    output: str
    errors: str


def box(command: str, *, out: Path | None = None, mem_mib: int = 0, timeout_s: int = TIMEOUT_S) -> Result:
    """Runs a line of bash in a box. `mem_mib` limits the whole box, from where it cannot be seen within."""
    return _boot("box", command, out, timeout_s, ["--mem", str(mem_mib)] if mem_mib else [])


def run(command: str, *, out: Path | None = None, append: str = "", timeout_s: int = TIMEOUT_S) -> Result:
    """Runs it in an emulated machine. `append`: arguments of its kernel, which choose among others the cgroups."""
    return _boot("run", command, out, timeout_s, ["--append", append] if append else [])


def _boot(kind: Kind, command: str, out: Path | None, timeout_s: int, more: list[str]) -> Result:
    arguments = [
        "--image",
        str(image.folder()),
        "--src",
        str(image.REPOSITORY),
        "--timeout",
        str(timeout_s),
        *more,
    ]
    if out is not None:
        arguments += ["--out", str(out)]
    image.keep()
    done = subprocess.run(
        [image.HERE / kind, *arguments, command],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    return Result(done.returncode, done.stdout, done.stderr)


def why_not(kind: Kind) -> str:
    """Why no machine of this kind can be booted here, and what to do about it; "" where it can."""
    if kind == "box" and os.geteuid() != 0:
        return "a box needs root"
    if kind == "box" and not os.access("/sys/fs/cgroup/memory/cgroup.procs", os.W_OK):
        return "a box needs cgroup v1 with its memory controller, writable, at /sys/fs/cgroup/memory"
    if not image.is_built():
        return f"no image to boot at {image.folder()}: {image.why_not_build() or 'run `make machine`'}"
    return ""
