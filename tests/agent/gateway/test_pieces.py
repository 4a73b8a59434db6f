"""Pieces over real HTTP: by CIDs of both versions, with ranges, padded and not, out of files and of sectors."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agent.dagstore.sector_reads import READS
from carlib.cid import Cid
from carlib.piece import Piece, commit_file
from carlib.piece.fr32 import padded_view
from carlib.source import MemorySource
from tests.agent.export.worlds import write_blocks
from tests.agent.gateway.worlds import Served, gateway_at


def make_car(path: Path) -> tuple[Path, Piece]:
    data = os.urandom(40_000)
    cid = Cid.of(data)
    car = write_blocks(path, [cid], [(cid, data)])
    return car, commit_file(car)


async def serve_piece(served: Served, folder: Path) -> tuple[bytes, Piece]:
    car, piece = make_car(folder / "piece.car")
    await served.world.dagstore.register(str(piece.v1), str(car), wait=True)
    return car.read_bytes(), piece


async def test_a_piece_is_found_by_both_versions_of_its_cid(tmp_path: Path) -> None:
    async with gateway_at(tmp_path) as served:
        data, piece = await serve_piece(served, tmp_path)
        for cid in (piece.v1, piece.v2):
            found = await served.ask(f"/piece/{cid}")
            assert (found.status, found.body) == (200, data)
            assert found.headers["etag"] == f'"{cid}"'
            assert found.headers["content-length"] == str(len(data))
            assert found.headers["accept-ranges"] == "bytes"
            assert found.headers["last-modified"].endswith("GMT")
            assert found.headers["content-type"].startswith("application/vnd.ipld.car")
            head = await served.ask(f"/piece/{cid}", "HEAD")
            assert (head.status, head.body, head.headers["content-length"]) == (200, b"", str(len(data)))
            same = await served.ask(f"/piece/{cid}", If_None_Match=f'"{cid}"')
            assert same.status == 304


@pytest.mark.parametrize(
    ("asked", "status", "start", "stop"),
    [("bytes=0-0", 206, 0, 1), ("bytes=100-", 206, 100, None), ("bytes=-7", 206, -7, None),
     ("bytes=5-10,20-30", 200, 0, None), ("bytes=9999999-", 416, 0, 0)],
)  # fmt: skip
async def test_ranges(tmp_path: Path, asked: str, status: int, start: int, stop: int | None) -> None:
    async with gateway_at(tmp_path) as served:
        data, piece = await serve_piece(served, tmp_path)
        found = await served.ask(f"/piece/{piece.v2}", Range=asked)
        assert found.status == status
        if status == 416:
            assert found.headers["content-range"] == f"bytes */{len(data)}"
        else:
            assert found.body == data[start:stop]
        other = await served.ask(f"/piece/{piece.v2}", Range="bytes=0-3", If_Range='"other"')
        assert (other.status, other.body) == (200, data)


async def test_the_padded_piece_ends_in_zeros(tmp_path: Path) -> None:
    async with gateway_at(tmp_path) as served:
        data, piece = await serve_piece(served, tmp_path)
        found = await served.ask(f"/piece/{piece.v1}?padded=true")
        assert len(found.body) == piece.unpadded_size
        assert found.body == data + bytes(piece.padding)
        edge = await served.ask(
            f"/piece/{piece.v1}?padded=true", Range=f"bytes={len(data) - 2}-{len(data) + 1}"
        )
        assert edge.body == data[-2:] + b"\0\0"
        assert edge.headers["content-range"].endswith(f"/{piece.unpadded_size}")


async def test_a_piece_in_a_sector_is_given_as_it_was(tmp_path: Path) -> None:
    car, piece = make_car(tmp_path / "piece.car")
    data = car.read_bytes()
    folder = tmp_path / "pieces"
    folder.mkdir()
    padded = padded_view(MemorySource(data + bytes(piece.padding)))
    (folder / "sector").write_bytes(padded.pread(0, piece.padded_size))
    places = f'{{"payload": {len(data)}, "places": [{{"file": "sector", "offset": 0, "size": {piece.padded_size}}}]}}'
    (folder / f"{piece.v1}.json").write_text(places)
    async with gateway_at(tmp_path / "agent", pieces=folder) as served:
        before = (READS.opened, READS.read_bytes.total())
        await served.world.dagstore.register(str(piece.v1), f"lotus://{piece.v1}", wait=True)
        found = await served.ask(f"/piece/{piece.v1}", Range="bytes=127-20000")
        assert (found.status, found.body) == (206, data[127:20001])
        assert READS.opened > before[0]
        assert READS.read_bytes.total() - before[1] >= 20001 * 128 // 127  # and nothing twice but for a group


async def test_what_is_no_piece_and_what_is_not_here(tmp_path: Path) -> None:
    async with gateway_at(tmp_path) as served:
        _data, piece = await serve_piece(served, tmp_path)
        assert (await served.ask(f"/piece/{Cid.of(b'x')}")).status == 400
        assert (await served.ask("/piece/nonsense")).status == 400
        other = Piece(bytes(31) + b"\1", 1000)
        assert (await served.ask(f"/piece/{other.v1}")).status == 404
        longer = Piece(piece.root, piece.payload_size + 1)
        assert (await served.ask(f"/piece/{longer.v2}")).status == 404
