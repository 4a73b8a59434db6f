"""Imports beside other programs, and beside what nobody can go below: hashing the same bytes on all cores.

Everything but hashing is a command from its start to its end, with an agent (or a repository) that is there before
and empty. Kubo has no daemon then, which would only cost it time, and cuts chunks as carfs does. Runs take turns.
Extra disk is what the state takes more than before; memory the most that a command and all that it started had at once,
of carfs the agent and its workers, page cache of mapped files included.

What bounds it: a big file the hash, as long as reading is not slower. Small files our processor time and the kernel's
for opening them; Kubo's `add` writes a file for each of them, and syncs it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.bench.data import Data
from tests.bench.packing import hash_files
from tests.bench.peers import Peers
from tests.bench.processes import CARFS, agent_answers, running
from tests.bench.table import Table, best_s, rate, seconds_text

TURNS = 2
MIB = 1 << 20
SAMPLED_EVERY_S = 0.02
_ADD = ("--offline", "-Q", "-r", "--cid-version=1", "--raw-leaves", "--chunker=size-1048576")


@dataclass(frozen=True, slots=True)
class Figures:
    """One run, or the best of several; None: not known, or does not make sense."""

    seconds: float | None
    disk_bytes: int | None = None
    memory_bytes: int | None = None

    def or_better(self, other: Figures) -> Figures:
        """The faster one; of both the memory that is more."""
        if self.seconds is None or (other.seconds is not None and other.seconds < self.seconds):
            return other.or_better(self) if self.seconds is not None else other
        memory = max(
            (one for one in (self.memory_bytes, other.memory_bytes) if one is not None), default=None
        )
        return Figures(self.seconds, self.disk_bytes, memory)


Run = Callable[[Path], Figures]
"""Does it once, with the empty folder for all that it makes."""


def measure(data: Data, peers: Peers) -> None:
    """Prints a table for each kind of source."""
    sources = (
        (f"a file of {data.sizes.large_bytes / (1 << 30):g} GiB", data.source("large") / "file.bin"),
        (f"{data.sizes.files:,} small files", data.source("tree")),
    )
    for title, source in sources:
        size, files = _size(source)
        table = Table(
            f"Import {title}",
            ("time", "a second", "of hashing", "× ipfs add", "extra disk", "memory at most"),
        )
        table.begin()
        found = _take_turns(data.folder, _contenders(source, peers))
        limit, add = found["limit: sha256 on all cores"].seconds, found["ipfs add"].seconds
        for name, one in found.items():
            amount = rate(size / 1e6, one.seconds, "MB") if files == 1 else rate(files, one.seconds, "files")
            table.row(
                name, seconds_text(one.seconds), amount, _ratio(limit, one.seconds, percent=True),
                _ratio(add, one.seconds), _share(one.disk_bytes, size), _mebibytes(one.memory_bytes),
            )  # fmt: skip


def _contenders(source: Path, peers: Peers) -> dict[str, Run]:
    return {
        "carfs, by reference": partial(_carfs, source, ()),
        "carfs, dense": partial(_carfs, source, ("--dense",)),
        "ipfs add": partial(_kubo, peers.kubo, source, ()),
        "ipfs add --nocopy": partial(_kubo, peers.kubo, source, ("--nocopy",)),
        "ipfs-car pack": lambda folder: _command(
            peers.ipfs_car, "pack", str(source), "--no-wrap", "-o", str(folder / "out.car"), folder=folder
        ),
        "car create": lambda folder: _command(
            peers.go_car_tool,
            "create",
            "--no-wrap",
            "-f",
            str(folder / "out.car"),
            str(source),
            folder=folder,
        ),
        "limit: sha256 on all cores": lambda _folder: Figures(
            best_s(partial(hash_files, source if source.is_dir() else source.parent), 1)
        ),
    }


def _take_turns(folder: Path, contenders: Mapping[str, Run]) -> dict[str, Figures]:
    best: dict[str, Figures] = {}
    for _ in range(TURNS):
        for name, run in contenders.items():
            # Kubo refers to files below the folder that its repository is in, and to no others.
            scratch = Path(tempfile.mkdtemp(dir=folder, prefix="scratch-"))
            try:
                found = run(scratch)
            finally:
                shutil.rmtree(scratch)
            best[name] = best[name].or_better(found) if name in best else found
    return best


def _carfs(source: Path, options: Sequence[str], folder: Path) -> Figures:
    environment = {**os.environ, "CARFS_PATH": str(folder)}
    ready = partial(agent_answers, environment)
    with running([CARFS, "agent"], ready, environment) as agent:
        before = _disk(folder)
        with _watched(agent.pid) as most:
            seconds = _timed([CARFS, "client", "import", "-q", *options, str(source)], environment)
        return Figures(seconds, _disk(folder) - before, most[0])


def _kubo(program: Path | None, source: Path, options: Sequence[str], folder: Path) -> Figures:
    if program is None:
        return Figures(None)
    repository = folder.with_name(f"{folder.name}-ipfs")  # beside the source, which it may refer to then
    environment = {**os.environ, "IPFS_PATH": str(repository)}
    try:
        for arguments in (["init"], ["config", "--json", "Experimental.FilestoreEnabled", "true"]):
            subprocess.run([str(program), *arguments], env=environment, check=True, capture_output=True)
        before = _disk(repository)
        return _measured([str(program), "add", *_ADD, *options, str(source)], environment, repository, before)
    finally:
        shutil.rmtree(repository, ignore_errors=True)


def _command(program: Path | None, *arguments: str, folder: Path) -> Figures:
    if program is None:
        return Figures(None)
    return _measured([str(program), *arguments], os.environ, folder, 0)


def _measured(command: Sequence[str], environment: Mapping[str, str], folder: Path, before: int) -> Figures:
    with _watched(os.getpid(), own=False) as most:
        seconds = _timed(command, environment)
    return Figures(seconds, None if seconds is None else _disk(folder) - before, most[0])


def _timed(command: Sequence[str], environment: Mapping[str, str]) -> float | None:
    begun = time.perf_counter()
    done = subprocess.run(command, env=environment, capture_output=True, check=False)
    return time.perf_counter() - begun if done.returncode == 0 else None


@contextmanager
def _watched(pid: int, *, own: bool = True) -> Iterator[list[int]]:
    """The most resident memory of a process (unless it is not to count) and all below it, while the block runs."""
    most, ended = [0], threading.Event()

    def watch() -> None:
        while not ended.wait(SAMPLED_EVERY_S):
            most[0] = max(most[0], sum(map(_resident, _tree(pid) if own else _tree(pid)[1:])))

    with ExitStack() as stack:
        thread = threading.Thread(target=watch)
        thread.start()
        stack.callback(thread.join)
        stack.callback(ended.set)
        yield most


def _tree(pid: int) -> list[int]:
    """A process and all that it has started, directly or not."""
    found = [pid]
    for each in found:
        try:
            lists = [path.read_text() for path in Path(f"/proc/{each}/task").glob("*/children")]
        except OSError:
            continue
        found += [int(child) for text in lists for child in text.split()]
    return found


def _resident(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")
    except OSError:
        return 0


def _size(source: Path) -> tuple[int, int]:
    """Bytes and files."""
    if source.is_file():
        return source.stat().st_size, 1
    sizes = [path.stat().st_size for path in source.rglob("*") if path.is_file()]
    return sum(sizes), len(sizes)


def _disk(folder: Path) -> int:
    """What everything in a folder takes of the disk."""
    return sum(path.lstat().st_blocks * 512 for path in folder.rglob("*"))


def _ratio(reference: float | None, seconds: float | None, *, percent: bool = False) -> str | None:
    if reference is None or seconds is None:
        return None
    return f"{reference / seconds:.0%}" if percent else f"{reference / seconds:.1f}"


def _share(amount: int | None, of: int) -> str | None:
    return None if amount is None else f"{amount / of:.3%}"


def _mebibytes(amount: int | None) -> str | None:
    return None if not amount else f"{amount / MIB:,.0f} MiB"
