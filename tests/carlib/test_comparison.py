"""What differs between two CARs: roots, blocks, paths."""

from __future__ import annotations

from pathlib import Path

import pytest

from carlib import comparison
from carlib.blockstore import ReadOnlyBlockstore
from carlib.cid import Cid
from carlib.comparison import BlockChange, RootChange, Side
from carlib.pack import pack
from tests.carlib.cars import many_blocks, write_car


@pytest.fixture
def pair(tmp_path: Path) -> tuple[ReadOnlyBlockstore, ReadOnlyBlockstore]:
    """Two versions of a tree, packed."""
    opened = []
    for name, files in (
        ("old", {"same": "1", "sub/a": "2", "gone": "3"}),
        ("new", {"same": "1", "sub/a": "4", "x/y": "5"}),
    ):
        for file, text in files.items():
            (tmp_path / name / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name / file).write_text(text)
        pack(tmp_path / name, tmp_path / f"{name}.car")
        opened.append(ReadOnlyBlockstore.open(tmp_path / f"{name}.car"))
    return opened[0], opened[1]


def test_paths_that_differ_are_told_in_order_and_what_is_equal_is_not(
    pair: tuple[ReadOnlyBlockstore, ReadOnlyBlockstore],
) -> None:
    old, new = pair
    found = list(comparison.paths(old, old.roots[0], new, new.roots[0]))
    assert [f"{one.side.value}{b'/'.join(one.path).decode()}" for one in found] == [
        "~",
        "-gone",
        "~sub",
        "~sub/a",
        "+x",
    ]
    assert (found[3].left, found[3].right) == (Cid.of(b"2"), Cid.of(b"4"))
    assert list(comparison.paths(old, old.roots[0], old, old.roots[0])) == []


def test_blocks_of_one_alone_are_told_once(tmp_path: Path) -> None:
    blocks = many_blocks(3)
    left = write_car(tmp_path / "l.car", [blocks[0], blocks[0], blocks[1]])
    right = write_car(tmp_path / "r.car", [blocks[1], blocks[2]], (blocks[1][0],))
    with ReadOnlyBlockstore.open(left) as one, ReadOnlyBlockstore.open(right) as other:
        assert list(comparison.blocks(one, other)) == [
            BlockChange(Side.LEFT, blocks[0][0], 20),
            BlockChange(Side.RIGHT, blocks[2][0], 20),
        ]
        assert list(comparison.roots(one, other)) == [
            RootChange(Side.LEFT, one.roots[0]),
            RootChange(Side.RIGHT, blocks[1][0]),
        ]


def test_what_cannot_be_read_is_told_with_the_reason(
    tmp_path: Path, pair: tuple[ReadOnlyBlockstore, ReadOnlyBlockstore]
) -> None:
    old, new = pair
    empty = ReadOnlyBlockstore.open(write_car(tmp_path / "empty.car", []))
    (found,) = comparison.paths(old, old.roots[0], empty, new.roots[0])
    assert "is not here" in str(found.problem)
