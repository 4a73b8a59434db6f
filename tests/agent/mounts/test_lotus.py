"""The `lotus` mount: pieces in unsealed sectors, found by their CID, read as the bytes that the deal is about."""

from __future__ import annotations

import json
import os
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from agent.dagstore import mounts
from agent.dagstore.access import FileAccess, SectorAccess
from agent.dagstore.failures import ErrorClass, ShardError
from agent.dagstore.mounts import DataChanged, LotusMount
from agent.dagstore.mounts.config import MountsConfig
from agent.dagstore.mounts.environment import Environment, open_environment
from agent.dagstore.mounts.probing import read
from carlib.piece import commitment
from carlib.piece.cids import Piece
from carlib.piece.fr32 import Padder
from carlib.piece.sizes import padded_size, unpadded_size
from tests.agent.mounts.conformance import DATA, MountConformance, Subject

SMALL = DATA[:1000]  # a piece of 1024 padded bytes


@dataclass(frozen=True)
class Sector:
    """An unsealed sector with one piece in the middle, and a folder that says so."""

    folder: Path
    piece: Piece
    data: bytes
    offset: int

    @property
    def file(self) -> Path:
        return self.folder / "unsealed" / "s-t01000-7"

    @property
    def note(self) -> Path:
        return self.folder / f"{self.piece.v1}.json"

    def write(self, data: bytes | None = None) -> None:
        """The piece's bytes, in a file that is else full of holes, as Lotus makes it, with its trailer."""
        self.file.parent.mkdir(exist_ok=True)
        padder = Padder()
        with self.file.open("wb") as file:
            file.seek(self.offset)
            file.write(padder.feed(self.data if data is None else data) + padder.finish())
            file.truncate(4 * self.piece.padded_size)
            file.seek(0, os.SEEK_END)
            file.write(b"\x18\x01\x00\x00\x00")

    def describe(self, *more: dict[str, object], payload: int | None = None) -> None:
        place = {"file": "unsealed/s-t01000-7", "offset": self.offset, "size": self.piece.padded_size}
        about = {} if payload is None else {"payload": payload}
        self.note.write_text(json.dumps({"places": [*more, place], **about}))


def sector_in(folder: Path, data: bytes) -> Sector:
    piece = commitment.commit(data)
    sector = Sector(folder, piece, data, 2 * piece.padded_size)
    sector.write()
    sector.describe(payload=len(data))
    return sector


@pytest.fixture
def small(tmp_path: Path) -> Sector:
    return sector_in(tmp_path, SMALL)


def at(folder: Path) -> AbstractAsyncContextManager[Environment]:
    return open_environment(MountsConfig(piece_directory="."), folder)


class TestLotusByVersion1(MountConformance):
    @pytest.fixture
    def subject(self, tmp_path: Path) -> Subject:
        sector = sector_in(tmp_path, DATA)
        return Subject(
            LotusMount(sector.piece.v1),
            DATA,
            lambda: at(tmp_path),
            change=lambda: sector.write(DATA[::-1]),
            remove=sector.note.unlink,
        )


class TestLotusByVersion2(MountConformance):
    @pytest.fixture
    def subject(self, tmp_path: Path) -> Subject:
        sector = sector_in(tmp_path, DATA)
        sector.describe()
        return Subject(
            LotusMount(sector.piece.v2),
            DATA,
            lambda: at(tmp_path),
            change=lambda: sector.write(DATA[::-1]),
            remove=sector.file.unlink,
        )


class TestLotusOfAStagedCar(MountConformance):
    @pytest.fixture
    def subject(self, tmp_path: Path) -> Subject:
        piece = commitment.commit(DATA)
        path = tmp_path / f"{piece.v1}.car"
        path.write_bytes(DATA)

        def change() -> None:
            path.write_bytes(DATA[::-1])
            os.utime(path, ns=(0, 0))

        return Subject(LotusMount(piece.v2), DATA, lambda: at(tmp_path), change=change, remove=path.unlink)


async def test_the_size_is_of_the_data_and_never_the_padded_one(small: Sector) -> None:
    """Lotus gave the deal's padded length as "unpadded CAR size"."""
    async with at(small.folder) as environment:
        assert (await LotusMount(small.piece.v1).look(environment)).size == 1000
        assert (await LotusMount(small.piece.v2).look(environment)).size == 1000
        small.describe()
        found = await LotusMount(small.piece.v1).look(environment)
        assert found.size == unpadded_size(padded_size(1000)) == 1016
        data = await read(LotusMount(small.piece.v1), environment, 0, 1016, found)
        assert data == SMALL + bytes(16)
        assert (await LotusMount(small.piece.v2).look(environment)).size == 1000


async def test_a_piece_that_no_deal_is_about_is_gone_in_lotus_words(tmp_path: Path) -> None:
    cid = commitment.commit(b"nobody's").v1
    async with at(tmp_path) as environment:
        with pytest.raises(ShardError, match=f"no storage deals found for piece {cid} in ") as raised:
            await LotusMount(cid).look(environment)
        assert raised.value.error_class is ErrorClass.GONE
        with pytest.raises(ShardError, match="no storage deals found"):
            LotusMount(cid).access(environment)


async def test_a_place_where_nothing_is_written_is_not_believed(small: Sector) -> None:
    """Lotus said `Exists: true` of every piece that it had a deal for."""
    mount = LotusMount(small.piece.v1)
    nowhere = {"file": "unsealed/s-t01000-6", "offset": 0, "size": 1024}
    hole = {"file": "unsealed/s-t01000-8", "offset": 1 << 20, "size": 1024}
    short = {"file": "unsealed/s-t01000-7", "offset": 1 << 30, "size": 1024}
    with (small.folder / "unsealed" / "s-t01000-8").open("wb") as file:
        file.truncate(2 << 20)
    small.describe(nowhere, hole, short, payload=1000)
    async with at(small.folder) as environment:
        expected = await mount.look(environment)
        assert await read(mount, environment, 0, 1000, expected) == SMALL
        assert mount.access(environment) == SectorAccess(str(small.file), small.offset, 1000)
        small.file.unlink()
        with pytest.raises(
            ShardError, match=r"no unsealed copy of piece baga.*No such file.*holds nothing at"
        ) as one:
            await mount.look(environment)
        assert one.value.error_class is ErrorClass.GONE


async def test_a_second_copy_is_as_good_as_the_one_that_was_indexed_and_another_piece_there_is_not(
    small: Sector,
) -> None:
    mount = LotusMount(small.piece.v1)
    async with at(small.folder) as environment:
        expected = await mount.look(environment)
        other = small.folder / "unsealed" / "s-t01000-9"
        other.write_bytes(small.file.read_bytes())
        small.describe({"file": str(other), "offset": small.offset, "size": 1024}, payload=1000)
        assert await read(mount, environment, 1, 999, expected) == SMALL[1:]
        small.file.unlink()
        assert await read(mount, environment, 1, 999, expected) == SMALL[1:]
        other.write_bytes(bytes(small.offset) + b"\1" * (other.stat().st_size - small.offset))
        with pytest.raises(DataChanged, match="etag"):
            await read(mount, environment, 1, 999, expected)


async def test_pieces_that_come_and_go_beside_it_do_not_change_it(small: Sector) -> None:
    mount = LotusMount(small.piece.v1)
    async with at(small.folder) as environment:
        expected = await mount.look(environment)
        with small.file.open("r+b") as file:
            file.write(b"before")
            file.seek(0, 2)
            file.write(b"behind" * 1000)
        assert not expected.differs_from(await mount.look(environment))
        assert await read(mount, environment, 0, 1000, expected) == SMALL


async def test_sizes_that_contradict_the_cid_are_corrupt(small: Sector) -> None:
    async with at(small.folder) as environment:
        for payload, padded in ((999, 1024), (1000, 2048)):
            replace(small, piece=replace(small.piece, payload_size=padded // 128 * 127)).describe(
                payload=payload
            )
            with pytest.raises(ShardError, match="are not those in the CID") as raised:
                await LotusMount(small.piece.v2).look(environment)
            assert raised.value.error_class is ErrorClass.CORRUPT
        small.describe(payload=1017)
        with pytest.raises(ShardError, match="1017 bytes are not in a piece of 1024"):
            await LotusMount(small.piece.v1).look(environment)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "truncated|malformed"),
        ('{"places": [{"file": "x", "offset": 1, "size": 128}]}', "cannot lie at 1"),
        ('{"places": [{"file": "x", "offset": 0, "size": 100}]}', "not a padded piece size"),
        ('{"places": [{"file": "x", "offset": 0}]}', "missing required field `size`"),
        ('{"places": [], "unsealed": true}', "unknown field"),
        ('{"places": [{"file": "x\\u0000", "offset": 0, "size": 128}]}', "null byte"),
    ],
)
async def test_a_note_that_makes_no_sense_is_named(small: Sector, text: str, message: str) -> None:
    small.note.write_text(text)
    async with at(small.folder) as environment:
        with pytest.raises(ShardError, match=rf"\.json: .*({message})") as raised:
            await LotusMount(small.piece.v1).look(environment)
    assert raised.value.error_class is ErrorClass.CORRUPT


async def test_a_pipe_in_the_place_of_a_sector_holds_nobody_up(small: Sector) -> None:
    small.file.unlink()
    os.mkfifo(small.file)
    async with at(small.folder) as environment:
        with pytest.raises(ShardError, match="not a regular file"):
            await LotusMount(small.piece.v1).look(environment)


async def test_without_a_piece_store_it_says_so(small: Sector) -> None:
    assert LotusMount(small.piece.v1).access() is None
    async with open_environment(MountsConfig(piece_directory="")) as environment:
        with pytest.raises(ShardError, match=r"no piece store \(mounts.piece_directory\)"):
            await LotusMount(small.piece.v1).look(environment)


async def test_a_staged_car_is_read_as_the_file_that_it_is(small: Sector) -> None:
    small.note.unlink()
    car = small.folder / f"{small.piece.v1}.car"
    car.write_bytes(SMALL)
    async with at(small.folder) as environment:
        assert LotusMount(small.piece.v1).access(environment) == FileAccess(str(car))
        car.write_bytes(SMALL + b"x")
        with pytest.raises(ShardError, match="has 1001 bytes, the piece 1000"):
            await LotusMount(small.piece.v2).look(environment)


@pytest.mark.parametrize(
    "text", ["lotus://", "lotus://zzz", "lotus://bafkqaaa", "lotus:x", "lotus://a/b", "lotus://é"]
)
def test_x7_what_is_no_piece_cid_is_refused(text: str) -> None:
    with pytest.raises(ShardError, match="failed to parse PieceCid") as raised:
        mounts.parse(text)
    assert raised.value.error_class is ErrorClass.INVALID


def test_a_piece_has_one_url_whatever_the_base(small: Sector) -> None:
    for cid in (small.piece.v1, small.piece.v2):
        assert (
            mounts.resolve(f"LOTUS://{cid}/") == mounts.parse(f"lotus://f{cid.raw.hex()}") == LotusMount(cid)
        )
