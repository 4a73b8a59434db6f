"""`python -m tests.demo`: makes the demo data, starts `carfs up`, registers the CARs, says what to try.

`$CARFS_DEMO` (default `.demo`) is the folder for all of it; `--small` makes the big file 8 MiB instead of 2 GiB.
Ctrl-C ends agent and mount; what was made stays for the next time.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from tests.demo.data import make
from tests.fixtures import why_no_fuse

BIG_BYTES = 2 << 30
SMALL_BYTES = 8 << 20
PATIENCE_S = 30
CARFS = Path(sys.executable).with_name("carfs")

TRY = """
Ready. In a second shell:

    . {folder}/env
    ls -l mnt/shards
    ls -l mnt/shards/stdlib/root/json
    diff -r --no-dereference stdlib mnt/shards/stdlib/root/ && echo the same
    sha256sum -c big.sha256
    cat mnt/shards/damaged/root/commands.md
    carfs car verify cars/damaged.car
    cat mnt/shards/cut-short/shard.json
    carfs status

Ctrl-C here ends agent and mount."""


def main() -> int:
    arguments = argparse.ArgumentParser(prog="tests.demo")
    arguments.add_argument("--small", action="store_true", help="make the big file 8 MiB instead of 2 GiB")
    big_bytes = SMALL_BYTES if arguments.parse_args().small else BIG_BYTES
    if why := why_no_fuse():
        say(f"the demo mounts a file system, and here is {why}")
        return 1
    folder = Path(os.environ.get("CARFS_DEMO") or ".demo").resolve()
    cars = make(folder, big_bytes, say)
    mountpoint = folder / "mnt"
    mountpoint.mkdir(exist_ok=True)
    environment = environment_of(folder)
    (folder / "env").write_text(
        "".join(f"export {name}={shlex.quote(environment[name])}\n" for name in ("CARFS_PATH", "PATH"))
        + f"cd {shlex.quote(str(folder))}\n"
    )
    # A terminal's Ctrl-C reaches `carfs up` too, and its end is ours.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    up = subprocess.Popen([CARFS, "up", str(mountpoint)], env=environment, preexec_fn=restore_interrupts)
    signal.signal(signal.SIGTERM, lambda *_: up.terminate())
    if wait_for_mount(mountpoint, up):
        register(cars, environment)
        say(TRY.format(folder=folder))
    return up.wait()


def environment_of(folder: Path) -> dict[str, str]:
    """The caller's, with an agent of the demo's own and this environment's `carfs` first in the path."""
    path = f"{CARFS.parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    return os.environ | {"CARFS_PATH": str(folder / "agent"), "PATH": path}


def restore_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def wait_for_mount(mountpoint: Path, up: subprocess.Popen[bytes]) -> bool:
    """Whether the mount came up, before `carfs up` ended or the patience did."""
    deadline = time.monotonic() + PATIENCE_S
    while up.poll() is None and time.monotonic() < deadline:
        if mountpoint.is_mount():
            return True
        time.sleep(0.05)
    return False


def register(cars: Mapping[str, Path], environment: Mapping[str, str]) -> None:
    """Registers the CARs that the agent does not hold yet; one that cannot be read stays listed with its error."""
    listed = subprocess.run(
        [CARFS, "dagstore", "list-shards", "--json"], env=environment, stdout=subprocess.PIPE, check=True
    )
    held = {shard["Key"] for shard in json.loads(listed.stdout)}
    for key, path in cars.items():
        if key not in held:
            subprocess.run(
                [CARFS, "dagstore", "register-shard", key, path.as_uri()], env=environment, check=False
            )


def say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
