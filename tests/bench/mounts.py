"""Reading through a mount: sequential, random, and walking very many files; beside ext4 and ratarmount."""

from __future__ import annotations

import os
import random
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from tests.bench.data import BIG_FILE, Data
from tests.bench.peers import Peers
from tests.bench.processes import CARFS, drop_caches, mounted
from tests.bench.table import Table, best_s, rate, seconds_text

MB = 1e6
READ_BYTES = 1 << 20
RANDOM_BYTES = 4096
SEED = 7
PLAIN, OURS, RATARMOUNT = "ext4", "carfs", "ratarmount"


def measure(data: Data, peers: Peers) -> None:
    """Prints the table; a row at a time, every contender one after the other."""
    contenders = [OURS, PLAIN] + ([RATARMOUNT] if peers.ratarmount else [])
    found: dict[str, dict[str, str | None]] = {}
    for contender in contenders:
        found[contender] = _measure_file(data, peers, contender) | _measure_tree(data, peers, contender)
    table = Table("Read through a mount", tuple(contenders))
    table.begin()
    for name in found[OURS]:
        table.row(name, *(found[contender].get(name) for contender in contenders))


def _measure_file(data: Data, peers: Peers, contender: str) -> dict[str, str | None]:
    size = data.sizes.file_bytes
    originals = [data.source("one") / BIG_FILE, data.car("one"), data.tar("one")]
    for original in originals:
        _read_all(original)  # so that a disk behind this disk (a virtual machine's host) is as warm for each
    with _shown(data, peers, contender, "one") as top:
        file, reads = top / BIG_FILE, data.sizes.random_reads
        drop_caches(*originals)
        cold = best_s(partial(_read_all, file), 1)
        warm = best_s(partial(_read_all, file))
        drop_caches(*originals)
        scattered = best_s(partial(_read_at_random, file, size, reads), 1)
        again = best_s(partial(_read_at_random, file, size, reads))
    return {
        f"sequential, {size >> 20} MiB, cold": rate(size / MB, cold, "MB"),
        f"sequential, {size >> 20} MiB, warm": rate(size / MB, warm, "MB"),
        "random 4 KiB, cold": rate(reads, scattered, "reads"),
        "random 4 KiB, warm": rate(reads, again, "reads"),
    }


def _measure_tree(data: Data, peers: Peers, contender: str) -> dict[str, str | None]:
    originals = [data.car("tree"), data.tar("tree")]
    begun = time.perf_counter()
    with _shown(data, peers, contender, "tree") as top:
        up = None if contender == PLAIN else time.perf_counter() - begun
        drop_caches(*originals)
        first = best_s(partial(_find, top, data.sizes.files), 1)
        again = best_s(partial(_find, top, data.sizes.files), 1)
    return {
        f"mount {data.sizes.files:,} files": seconds_text(up),
        "find -printf %s, cold": seconds_text(first),
        "find -printf %s, again": seconds_text(again),
    }


@contextmanager
def _shown(data: Data, peers: Peers, contender: str, name: str) -> Iterator[Path]:
    """The folder of that name as the contender shows it."""
    mountpoint = data.folder / "mnt"
    if contender == PLAIN:
        yield data.source(name)
    elif contender == OURS:
        with mounted([CARFS, "mount", "-f", str(data.car(name))], mountpoint):
            yield mountpoint
    else:
        tar = data.tar(name)
        tar.with_name(f"{tar.name}.index.sqlite").unlink(missing_ok=True)
        with mounted([str(peers.ratarmount), "-f", str(tar)], mountpoint):
            yield mountpoint


def _read_all(path: Path) -> None:
    with path.open("rb", buffering=0) as file:
        while file.read(READ_BYTES):
            pass


def _read_at_random(path: Path, size: int, count: int) -> None:
    places = random.Random(SEED)
    fd = os.open(path, os.O_RDONLY)
    try:
        for _ in range(count):
            assert len(os.pread(fd, RANDOM_BYTES, places.randrange(0, size - RANDOM_BYTES))) == RANDOM_BYTES
    finally:
        os.close(fd)


def _find(top: Path, files: int) -> None:
    """What `find` does when it must look at every file."""
    run = subprocess.run(
        ["find", str(top), "-type", "f", "-printf", "%s\n"], stdout=subprocess.PIPE, check=True
    )
    assert run.stdout.count(b"\n") >= files
