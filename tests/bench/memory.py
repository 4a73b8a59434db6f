"""Resident memory of agent and mount with CARs of growing size open and being read at random."""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.bench.data import Data, small_block, small_cid
from tests.bench.processes import CARFS, mounted, resident_bytes, running
from tests.bench.table import Table

READS = 1_000
SEED = 7
MIB = 1 << 20


def measure(data: Data) -> None:
    """Prints the table: all that is resident, and of it what is not page cache."""
    table = Table("Resident memory, and of it without page cache", ("mount", "agent"))
    table.begin()
    for count in (0, data.sizes.few_blocks, data.sizes.many_blocks, data.sizes.most_blocks):
        car = data.blocks(count, 1) if count else None
        mount, agent = _memory(data, car, count)
        name = f"shard of {count:,} blocks, {READS:,} of them read" if count else "no shard"
        table.row(name, _text(mount), _text(agent))


def _memory(data: Data, car: Path | None, count: int) -> tuple[tuple[int, int], tuple[int, int]]:
    state, mountpoint = data.scratch("state"), data.folder / "mnt"
    environment = os.environ | {"CARFS_PATH": str(state)}
    with (
        running([CARFS, "agent"], lambda: _carfs("status", environment=environment), environment) as agent,
        mounted([CARFS, "mount", "-f"], mountpoint, environment) as mount,
    ):
        if car is not None:
            assert _carfs("dagstore", "register-shard", "shard", str(car), environment=environment)
            _read_blocks(mountpoint / "shards" / "shard" / "blocks", count)
        return resident_bytes(mount.pid), resident_bytes(agent.pid)


def _read_blocks(folder: Path, count: int) -> None:
    numbers = random.Random(SEED)
    for _ in range(READS):
        number = numbers.randrange(count)
        assert (folder / str(small_cid(number))).read_bytes() == small_block(number)


def _carfs(*arguments: str, environment: Mapping[str, str]) -> bool:
    run = subprocess.run([CARFS, *arguments], env=environment, capture_output=True, check=False)
    return run.returncode == 0


def _text(resident: tuple[int, int]) -> str:
    return f"{resident[0] / MIB:.0f} MiB, {resident[1] / MIB:.0f} MiB"
