"""`python -m tests.bench`: prints all tables; `--quick` on little data, `--only` one part."""

from __future__ import annotations

import argparse
import os
import platform
from pathlib import Path

from tests.bench import (
    commp,
    dagstore,
    flood,
    imports,
    inverted,
    library,
    memory,
    mounts,
    peers,
    remote,
    transfers,
)
from tests.bench.data import QUICK, Data, Sizes
from tests.bench.processes import drop_caches
from tests.fixtures import why_no_fuse

PARTS = (
    "library",
    "pieces",
    "dagstore",
    "inverted",
    "imports",
    "transfers",
    "mounts",
    "remote",
    "memory",
    "flood",
)


def main() -> None:
    arguments = argparse.ArgumentParser(prog="tests.bench")
    arguments.add_argument(
        "--quick", action="store_true", help="little data: shows that it runs, measures nothing"
    )
    arguments.add_argument("--only", choices=PARTS, help="one part alone")
    arguments.add_argument(
        "--huge",
        action="store_true",
        help="the inverted index with 100 million multihashes too (12 GB of disk)",
    )
    given = arguments.parse_args()
    folder = Path(".bench").resolve()
    data = Data(folder / ("quick" if given.quick else "data"), QUICK if given.quick else Sizes())
    print(
        f"{platform.platform()}, Python {platform.python_version()}, {os.cpu_count()} CPUs; cold: {drop_caches()}"
    )
    parts = [given.only] if given.only else PARTS
    if "flood" in parts:
        flood.measure(data, quick=given.quick)
    if parts == ["flood"]:  # which nobody is compared in
        return
    others = peers.install(folder)
    if "library" in parts:
        library.measure(data, others)
    if "pieces" in parts:
        commp.measure(16 if given.quick else 1024, others)
    if "dagstore" in parts:
        dagstore.measure(data)
    if "inverted" in parts:
        inverted.measure(data, others, huge=given.huge)
    if "imports" in parts:
        imports.measure(data, others)
    if "transfers" in parts:
        if reason := transfers.why_none():
            print(f"\nNo figures of transfers: {reason}")
        else:
            transfers.measure(data, others)
    if why := why_no_fuse():
        print(f"\nNo figures of mounts: {why}")
        return
    if "mounts" in parts:
        mounts.measure(data, others)
    if "remote" in parts:
        remote.measure(data)
    if "memory" in parts:
        memory.measure(data)


if __name__ == "__main__":
    main()
