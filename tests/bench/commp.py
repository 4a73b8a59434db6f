"""`python -m tests.bench.commp`: speed of piece commitments and of fr32, each way there is on this CPU.

Limits beside them: SHA-256 of one long stream, over the four blocks of 64 bytes that a commitment compresses for each
64 bytes of its piece; and a copy in memory.  go-fil-commp-hashhash is measured where `make peers` could build it.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import tempfile
from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from carlib.piece import fr32, kernel, portable
from carlib.piece.commitment import CHUNK_BYTES, SPAN_BYTES, Commitment, commit_file
from tests.bench.library import go_car
from tests.bench.peers import Peers, found
from tests.bench.table import Table, best_s, rate

MB = 1e6
REPEATS = 7


def main() -> None:
    arguments = argparse.ArgumentParser(prog="tests.bench.commp", description=__doc__)
    arguments.add_argument(
        "--quick", action="store_true", help="little data: shows that it runs, measures nothing"
    )
    measure(16 if arguments.parse_args().quick else 1024, found(Path(".bench").resolve()))


def measure(chunks: int, peers: Peers) -> None:
    """Prints the tables for a payload of so many chunks of 256 KiB (padded)."""
    data = os.urandom(chunks * CHUNK_BYTES)
    _measure_ways(data)
    _measure_files(data, peers)
    _measure_fr32(data[: SPAN_BYTES // 4])


def _measure_ways(data: bytes) -> None:
    table = Table("CommP in memory, one core", ("a second",))
    table.begin()
    for name, subtree in ways():
        part = data if name != "hashlib" else data[: len(data) // 16]
        table.row(name, _speed(part, partial(_commit, part, subtree)))
    stream = best_s(partial(_sha256, data), REPEATS)
    table.row("limit: hashlib's SHA-256 of one stream, a quarter", rate(len(data) / 4 / MB, stream, "MB"))


def ways() -> list[tuple[str, kernel.Subtree]]:
    """Every way to hash a subtree, by name."""
    variants: list[tuple[str, kernel.Subtree]] = []
    if kernel.VARIANTS:
        from carlib.piece import _kernel

        variants = [(f"C, {name}", partial(_variant, number)) for number, name in enumerate(kernel.VARIANTS)]
        assert variants[0][1](bytes(127)) == _kernel.subtree(bytes(127))
    return [*variants, ("hashlib", portable.subtree)]


def _variant(number: int, data: bytes | bytearray | memoryview) -> bytes:
    from carlib.piece import _kernel

    return _kernel.subtree(data, number)


def _commit(data: bytes, subtree: kernel.Subtree) -> None:
    commitment = Commitment(subtree=subtree)
    commitment.update(data)
    commitment.piece()


def _sha256(data: bytes) -> None:
    hashlib.sha256(data).digest()


def _measure_files(data: bytes, peers: Peers) -> None:
    table = Table("CommP of a file in the page cache", ("carfs", "go-fil-commp-hashhash"))
    table.begin()
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        path = Path(file.name)
        theirs = rate(len(data) / MB, go_car(peers, "commp", path), "MB")
        table.row("as it comes", _speed(data, partial(commit_file, path)), theirs)
        pools: list[tuple[str, Executor]] = [
            ("two threads", ThreadPoolExecutor(2)),
            ("two processes", ProcessPoolExecutor(2, get_context("spawn"))),
        ]
        for name, pool in pools:
            with pool:
                table.row(name, _speed(data, partial(commit_file, path, executor=pool)))


def _measure_fr32(data: bytes) -> None:
    table = Table("fr32, one core", ("carfs", "numpy", "limit: a copy"))
    table.begin()
    padded = fr32.pad(data)
    copy = partial(bytearray, padded)
    table.row(
        "pad", *(_speed(data, run) for run in (partial(fr32.pad, data), partial(portable.pad, data), copy))
    )
    table.row(
        "unpad",
        *(_speed(data, run) for run in (partial(fr32.unpad, padded), partial(portable.unpad, padded), copy)),
    )


def _speed(data: bytes, run: Callable[[], object]) -> str | None:
    return rate(len(data) / MB, best_s(run, REPEATS), "MB")


if __name__ == "__main__":
    main()
