"""`Filecoin.Client…`: pieces of files, computed in a worker."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agent.rpc.jsonrpc import ErrorObject
from carlib.piece import commit_file
from tests.agent.cars import write_car
from tests.agent.machines import Working, working
from tests.agent.serving import ask, services_at
from tests.agent.stores import dagstore_at, register


async def test_commp_is_the_piece_of_all_bytes_of_the_file(tmp_path: Path) -> None:
    path = write_car(tmp_path / "x.car", blocks=1000)
    piece = commit_file(path)
    async with services_at(tmp_path) as services:
        found = await ask(services, "Filecoin.ClientCalcCommP", [str(path)])
    assert msgspec.to_builtins(found) == {"Root": {"/": str(piece.v1)}, "Size": piece.padded_size}


@pytest.mark.parametrize(
    ("name", "error_class", "message"),
    [
        ("missing", "gone", "missing: No such file"),
        ("folder", "invalid", "is not a regular file"),
        ("fifo", "invalid", "is not a regular file"),
    ],
)
async def test_what_has_no_piece_is_refused(
    tmp_path: Path, name: str, error_class: str, message: str
) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "fifo")
    async with services_at(tmp_path) as services:
        found = await ask(services, "Filecoin.ClientCalcCommP", {"Inpath": str(tmp_path / name)})
    assert (class_of(found), message in found.message) == (error_class, True)


async def test_a_path_that_only_the_caller_understands_is_refused(tmp_path: Path) -> None:
    async with services_at(tmp_path) as services:
        found = await ask(services, "Filecoin.ClientCalcCommP", ["x.car"])
    assert (class_of(found), "is not an absolute path" in found.message) == ("invalid", True)


async def test_commp_of_a_shard_is_that_of_its_data(tmp_path: Path) -> None:
    path = write_car(tmp_path / "x.car")
    async with dagstore_at(tmp_path) as dagstore, working() as here:
        await register(dagstore, "x", path)
        result = await of_file(here, path)
    assert result == {
        "root": str(commit_file(path).v1),
        "padded": commit_file(path).padded_size,
        "payload": path.stat().st_size,
    }


async def of_file(here: Working, path: Path) -> Any:  # JSON
    access = {"Kind": "file", "Path": str(path)}
    return await here.run("commp", {"access": access}, subject="x", size_bytes=path.stat().st_size)


def class_of(found: Any) -> str:
    assert isinstance(found, ErrorObject)
    return str(found.data["class"])
