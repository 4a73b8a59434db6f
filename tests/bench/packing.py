"""Packing and unpacking beside other programs, and beside what nobody can go below: hashing, and copying to the disk.

Runs take turns, as memory that the page cache uses anew is faster than memory that the machine has to find first.  A
big file is removed after each run for that reason.  Trees of small files are removed at the end: ext4 without a
journal is slow to make files where some were removed in the last minutes.

What bounds it: a big file the hash, as all else is done beside it.  Small files in memory our processor time, half of
it in Python, of which copying alone shows what opening and reading take; of small files that are not in memory the
disk, which copying one by one has do one thing at a time (``carlib.warming`` reads ahead).
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from carlib.blockstore import ReadOnlyBlockstore
from carlib.extract import extract
from carlib.pack import pack
from tests.bench.data import Data
from tests.bench.peers import Peers
from tests.bench.processes import drop_caches
from tests.bench.table import Table, best_s, command_s, seconds_text

MIB = 1 << 20
TURNS = 2
_SMALL_FILES_AT_ONCE = 1_000

Run = Callable[[Path], float | None]
"""Does it once, into that path, and says in how many seconds; None where it failed."""


def measure(data: Data, peers: Peers) -> None:
    """Prints the table."""
    table = Table(
        "Pack and unpack",
        ("carfs", "ipfs-car", "go-car's car", "limit: hashing alone", "limit: copying alone"),
    )
    table.begin()
    for name, source, car in (
        ("one big file", data.source("one"), data.car("one")),
        (f"{data.sizes.files:,} files", data.source("tree"), data.car("tree")),
    ):
        hashing: Run = partial(_hashing, source)
        copying: Run = partial(_timed, partial(_copy_into_one, source))
        packing: list[Run] = [*_packing(source, peers), hashing, copying]
        table.row(f"pack {name}", *map(seconds_text, _take_turns(data.folder, packing)))
        if name != "one big file":
            cold = _take_turns(data.folder, packing, before=drop_caches)
            table.row(f"pack {name}, not in memory", *map(seconds_text, cold))
        copying = partial(_timed, partial(shutil.copytree, source, copy_function=shutil.copyfile))
        unpacking: list[Run] = [*_unpacking(car, peers), hashing, copying]
        table.row(f"unpack {name}", *map(seconds_text, _take_turns(data.folder, unpacking)))


def _packing(source: Path, peers: Peers) -> list[Run]:
    return [
        partial(_timed, partial(pack, source)),
        lambda out: command_s(peers.ipfs_car, "pack", str(source), "--no-wrap", "-o", str(out)),
        lambda out: command_s(peers.go_car_tool, "create", "--no-wrap", "-f", str(out), str(source)),
    ]


def _unpacking(car: Path, peers: Peers) -> list[Run]:
    def go_car(out: Path) -> float | None:
        out.mkdir()
        return command_s(peers.go_car_tool, "extract", "-f", str(car), "-o", str(out))

    return [
        partial(_timed, partial(_extract, car)),
        lambda out: command_s(peers.ipfs_car, "unpack", str(car), "-o", str(out)),
        go_car,
    ]


def _take_turns(
    folder: Path, runs: Sequence[Run], before: Callable[[], object] = lambda: None
) -> list[float | None]:
    """The best of each; ``before`` is called before each run."""
    best: list[float | None] = [None] * len(runs)
    with tempfile.TemporaryDirectory(dir=folder, prefix="scratch-") as scratch:
        for turn in range(TURNS):
            for number, run in enumerate(runs):
                out = Path(scratch) / f"{turn}-{number}"
                before()
                seconds = run(out)
                best[number] = min(
                    (each for each in (best[number], seconds) if each is not None), default=None
                )
                _remove(out)
    return best


def _remove(out: Path) -> None:
    """Unless there are many files in it."""
    if out.is_file():
        out.unlink()
    elif out.is_dir() and len(list(out.iterdir())) < 3:
        shutil.rmtree(out)


def _hashing(source: Path, _out: Path) -> float:
    return best_s(partial(hash_files, source), 1)


def _timed(run: Callable[[Path], object], out: Path) -> float:
    return best_s(partial(run, out), 1)


def _extract(car: Path, out: Path) -> None:
    with ReadOnlyBlockstore.open(car) as blocks:
        assert extract(blocks, blocks.roots[0], out).is_complete


def _files(source: Path) -> Iterator[Path]:
    for folder, _, names in os.walk(source):
        yield from (Path(folder) / name for name in names)


def hash_files(source: Path) -> None:
    """All of ``source`` read and hashed in pieces of a block, in as many threads as there are processors."""
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        list(threads.map(_hash_piece, _pieces(source)))


def _pieces(source: Path) -> Iterator[list[tuple[Path, int]]]:
    """Pieces of big files one by one, small files many at once."""
    few: list[tuple[Path, int]] = []
    for path in _files(source):
        size = path.stat().st_size
        if size >= MIB:
            yield from ([(path, offset)] for offset in range(0, size, MIB))
        else:
            few.append((path, 0))
            if len(few) == _SMALL_FILES_AT_ONCE:
                yield few
                few = []
    yield few


def _hash_piece(pieces: Sequence[tuple[Path, int]]) -> None:
    for path, offset in pieces:
        with path.open("rb", buffering=0) as file:
            file.seek(offset)
            hashlib.sha256(file.read(MIB)).digest()


def _copy_into_one(source: Path, out: Path) -> None:
    """What any program must do that makes one durable file of many."""
    with out.open("xb") as target:
        for path in _files(source):
            with path.open("rb", buffering=0) as file:
                shutil.copyfileobj(file, target, MIB // 4)
        target.flush()
        os.fsync(target.fileno())
