"""Existing CARs as imports: taken for what they are, with their roots, or refused with the place of the damage."""

from __future__ import annotations

from pathlib import Path

import pytest

from carlib.cid import RAW, Cid
from carlib.existing import Facts, NotTaken, adopt
from carlib.options import WriteOptions
from carlib.references.packing import pack_references
from carlib.writer import creating

BLOCKS = [b"one", b"two", b"three"]


def write(path: Path, version: int, roots: list[Cid], **options: object) -> Path:
    with creating(path, WriteOptions(version=version, **options), roots=roots) as car:  # type: ignore[arg-type]
        for block in BLOCKS:
            car.put(Cid.of(block), block)
        car.finish()
    return path


@pytest.mark.parametrize("version", [1, 2])
def test_c1_the_roots_of_either_version_are_seen(tmp_path: Path, version: int) -> None:
    root = Cid.of(b"one")
    path = write(tmp_path / "x.car", version, [root])
    assert adopt(path) == Facts(version, (root,), (), 3, 11, path.stat().st_size, version == 2, False)
    assert (adopt(path).note, adopt(path, deep=False)) == ("", adopt(path))


def test_no_root_several_and_one_that_is_not_there_are_said(tmp_path: Path) -> None:
    roots = [Cid.of(b"one"), Cid.of(b"two")]
    assert adopt(write(tmp_path / "x.car", 2, [])).note == "the CAR has no root"
    assert adopt(write(tmp_path / "x.car", 2, roots)).note == "the CAR has 2 roots"
    absent = Cid.of(b"absent")
    found = adopt(write(tmp_path / "x.car", 1, [absent]))
    assert (found.missing_roots, found.note) == ((absent,), f"the root {absent} is not in the CAR")


@pytest.mark.parametrize("version", [1, 2])
def test_a_cut_car_is_refused_with_the_offset(tmp_path: Path, version: int) -> None:
    path = write(
        tmp_path / "x.car", version, [Cid.of(b"one")], **({"index_codec": None} if version == 2 else {})
    )
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[:-2])
    with pytest.raises(NotTaken) as caught:
        adopt(path)
    assert caught.value.source == str(path)
    assert caught.value.offset is not None
    assert caught.value.offset < size


def test_a_block_that_is_another_is_refused_with_the_offset(tmp_path: Path) -> None:
    path = write(tmp_path / "x.car", 2, [Cid.of(b"one")])
    data = path.read_bytes()
    path.write_bytes(data.replace(b"three", b"thrEE"))
    with pytest.raises(NotTaken, match="does not match its CID") as caught:
        adopt(path)
    assert caught.value.offset == data.index(b"three") - 37


def test_a_block_that_cannot_be_verified_is_refused(tmp_path: Path) -> None:
    with creating(tmp_path / "x.car", roots=[Cid.of(b"one")]) as car:
        car.put(Cid.v1(RAW, b"\xb0\xff\x01\x14" + bytes(20)), b"who knows")
        car.finish()
    with pytest.raises(NotTaken, match="not supported"):
        adopt(tmp_path / "x.car")


@pytest.mark.parametrize("content", [b"", b"no CAR", bytes(100), b"\x0a\xa1gversion\x02" + bytes(40)])
def test_what_is_no_car_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.car").write_bytes(content)
    with pytest.raises(NotTaken):
        adopt(tmp_path / "x.car")


def test_an_index_that_is_wrong_is_no_reason_to_refuse(tmp_path: Path) -> None:
    path = write(tmp_path / "x.car", 2, [Cid.of(b"one")])
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert adopt(path).has_index
    path.write_bytes(data[:-30])
    assert not adopt(path).has_index


def test_an_import_of_references_is_known_as_one(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"data")
    pack_references(tmp_path / "file", tmp_path / "ref.car", folder=tmp_path)
    found = adopt(tmp_path / "ref.car")
    assert (found.has_references, found.blocks, found.note) == (True, 0, "")
