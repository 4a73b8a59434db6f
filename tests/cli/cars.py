"""What tests of `carfs car` share: a small CAR, commands run here or in a process of their own, looks at results."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import pytest

from agent.cli.main import main
from carlib import dagcbor
from carlib.blockstore import ReadOnlyBlockstore
from carlib.cid import DAG_CBOR, Cid
from carlib.container import read_container
from carlib.source import FileSource
from tests.carlib.cars import many_blocks

LEAVES = many_blocks(3)
NODE = dagcbor.encode([cid for cid, _ in LEAVES])
ROOT = Cid.of(NODE, DAG_CBOR)
INLINE = (Cid.identity(b"inline"), b"inline")
ALL = [*LEAVES, (ROOT, NODE), INLINE]


def run(*arguments: object) -> int:
    return main(["car", *map(str, arguments)])


def cids(path: str | Path) -> list[Cid]:
    with ReadOnlyBlockstore.open(Path(path)) as store:
        return [cid for cid, _ in store.cids()]


def roots(path: str | Path) -> tuple[Cid, ...]:
    with FileSource(Path(path)) as source:
        return read_container(source).roots


def give(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    """`data` on standard input."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))


def names(folder: Path = Path()) -> list[str]:
    """What is in a folder."""
    return sorted(path.name for path in folder.iterdir())


def piped(*arguments: str, stdin: bytes = b"") -> tuple[int, bytes]:
    """Exit code and output of a process of its own, whose input and output are pipes."""
    done = subprocess.run(
        [sys.executable, "-m", "agent.cli.main", "car", *arguments], input=stdin, stdout=subprocess.PIPE
    )
    return done.returncode, done.stdout
