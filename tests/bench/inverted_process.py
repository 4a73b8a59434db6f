"""What `inverted.py` measures in a process of its own, without numpy: what that process holds is what an agent does.

`inverted FOLDER` prints seconds (and bytes), one figure after another in the order of `inverted.py`'s columns, for the
index files in FOLDER; `acquire FOLDER CAR NUMBER` prints the seconds it takes to find block NUMBER of CAR.
"""

from __future__ import annotations

import gc
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import closing
from pathlib import Path

import trio

from agent.catalogue import Catalogue
from agent.dagstore import index_files
from agent.dagstore.events import Hub
from agent.dagstore.indexer import Workers
from agent.dagstore.inverted.index import InvertedIndex, ShardIndex
from agent.dagstore.opening import open_dagstore
from carlib.blockstore import ReadOnlyBlockstore
from tests.agent.machines import working
from tests.bench.data import small_block, small_cid
from tests.bench.processes import drop_caches, resident_bytes

LOOKUPS = 20_000
COLD_LOOKUPS = 200
ENTRY_BYTES = 40


def each_s(ask: Callable[[bytes], object], some: Sequence[bytes]) -> float:
    """Seconds for each of the calls, the best of three rounds."""
    best = float("inf")
    for _ in range(3):
        begun = time.perf_counter()
        for one in some:
            ask(one)
        best = min(best, time.perf_counter() - begun)
    return best / len(some)


async def measure(folder: Path) -> None:
    """Prints the figures of the inverted index."""
    paths = sorted(folder.glob("*.idx"), key=lambda path: int(path.stem))
    shards = [
        ShardIndex(path.stem, 1, index_files.checksum(path), path, path.stat().st_size // ENTRY_BYTES)
        for path in paths
    ]
    wanted, missing = _samples(folder)
    figures: list[float] = []
    async with working(limit=1) as pool:
        figures += await _one_by_one(folder / "by-shard", pool.scheduler, shards, wanted, missing)
        figures += await _at_once(folder / "at-once", pool.scheduler, shards)
        figures += await _restarted(folder / "at-once", pool.scheduler, shards, wanted)
    print(*figures)


async def _one_by_one(
    directory: Path,
    pool: Workers,
    shards: Sequence[ShardIndex],
    wanted: Sequence[bytes],
    missing: Sequence[bytes],
) -> tuple[float, ...]:
    """Seconds to take in one shard after the other, which merges many times; then what a look-up takes, in how many
    segments, and the memory."""
    async with trio.open_nursery() as nursery:
        inverted = InvertedIndex(directory, pool, _of([]), _never)
        nursery.start_soon(inverted.run)
        await inverted.wait_complete()
        begun = time.perf_counter()
        for shard in shards:
            inverted.add(shard)
            await inverted.wait_complete()
        elapsed = time.perf_counter() - begun
        assert all(map(inverted.lookup, wanted))
        assert not any(map(inverted.lookup, missing))
        hit, miss = each_s(inverted.lookup, wanted), each_s(inverted.lookup, missing)
        gc.collect()
        _, memory = resident_bytes(os.getpid())
        segments = inverted.statistics().segments
        nursery.cancel_scope.cancel()
    shutil.rmtree(directory)
    return elapsed, hit, miss, segments, memory


async def _at_once(directory: Path, pool: Workers, shards: Sequence[ShardIndex]) -> tuple[float, ...]:
    """Seconds to take in all at once, bytes that it takes, seconds to make it anew and to remove a shard."""
    async with trio.open_nursery() as nursery:
        inverted = InvertedIndex(directory, pool, _of(shards), _never)
        begun = time.perf_counter()
        nursery.start_soon(inverted.run)
        await inverted.wait_complete()
        filled = time.perf_counter() - begun
        size = inverted.statistics().size_bytes
        begun = time.perf_counter()
        await inverted.rebuild()
        rebuilt = time.perf_counter() - begun
        removed = _elapsed_s(lambda: inverted.remove(shards[0].key))
        nursery.cancel_scope.cancel()
    return filled, size, rebuilt, removed


async def _restarted(
    directory: Path, pool: Workers, shards: Sequence[ShardIndex], wanted: Sequence[bytes]
) -> tuple[float, ...]:
    """Seconds from nothing in memory until it answers, and of the first look-ups then, each from storage."""
    gc.collect()  # what is mapped is not dropped
    drop_caches(*directory.iterdir())
    async with trio.open_nursery() as nursery:
        begun = time.perf_counter()
        inverted = InvertedIndex(directory, pool, _of(shards), _never)
        nursery.start_soon(inverted.run)
        await inverted.wait_complete()
        opened = time.perf_counter() - begun
        cold = _elapsed_s(lambda: [inverted.lookup(one) for one in wanted[:COLD_LOOKUPS]]) / COLD_LOOKUPS
        nursery.cancel_scope.cancel()
    return opened, cold


async def acquire(folder: Path, car: Path, number: int) -> None:
    """Prints the median of some acquisitions of a shard of `tests.bench.data`, each with a look at a block of it."""
    folder.mkdir()
    (folder / "index").mkdir()
    times = []
    with closing(Catalogue.open(folder / "carfs.db")) as store:
        async with (
            working(limit=1) as pool,
            open_dagstore(
                store=store, workers=pool.scheduler, hub=Hub(buffer=10), index_directory=folder / "index"
            ) as dagstore,
        ):
            await dagstore.register("x", str(car), wait=True)
            for _ in range(9):
                begun = time.perf_counter()
                record = await dagstore.acquire("x")
                assert record.index_path is not None
                with ReadOnlyBlockstore.open(car, index=Path(record.index_path)) as blocks:
                    assert blocks.get(small_cid(number)) == small_block(number)
                times.append(time.perf_counter() - begun)
                dagstore.release("x")
    print(statistics.median(times))


def _samples(folder: Path) -> tuple[list[bytes], list[bytes]]:
    """Multihashes that are in and such that are not, made by another process, since numpy takes memory."""
    code = (
        "import sys; from pathlib import Path; from tests.bench import inverted as made;"
        "sys.stdout.buffer.write(b''.join(made.sample(Path(sys.argv[1])) + made.absent(made.LOOKUPS)))"
    )
    text = subprocess.run([sys.executable, "-c", code, str(folder)], check=True, capture_output=True).stdout
    every = [text[start : start + 34] for start in range(0, len(text), 34)]
    return every[:-LOOKUPS], every[-LOOKUPS:]


def _elapsed_s(run: Callable[[], object]) -> float:
    begun = time.perf_counter()
    run()
    return time.perf_counter() - begun


def _of(shards: Sequence[ShardIndex]) -> Callable[[], AsyncIterator[ShardIndex]]:
    async def listed() -> AsyncIterator[ShardIndex]:
        for shard in shards:
            yield shard

    return listed


def _never(key: str, why: str) -> None:
    raise AssertionError(f"shard {key}: {why}")


def main() -> None:
    what, folder, *more = sys.argv[1:]
    if what == "acquire":
        trio.run(acquire, Path(folder), Path(more[0]), int(more[1]))
    else:
        trio.run(measure, Path(folder))


if __name__ == "__main__":
    main()
