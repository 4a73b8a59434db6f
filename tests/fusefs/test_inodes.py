"""The inode table."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusefs.errors import StaleNode
from fusefs.inodes import InodeTable, number_of
from fusefs.tree import RenderedFile


def node(version: bytes = b"") -> RenderedFile:
    made = RenderedFile(lambda: b"text", lambda: 0)
    made.version = version
    return made


def test_an_inode_is_dropped_when_all_its_look_ups_are_taken_back() -> None:
    table = InodeTable(node())
    inode = table.meet(table.root, b"name", node())
    inode.lookups += 3
    table.forget(inode.number, 2)
    assert table[inode.number] is inode
    table.forget(inode.number, 1)
    assert len(table) == 1
    with pytest.raises(StaleNode):
        table[inode.number]


def test_a_number_is_the_same_after_a_forget() -> None:
    table = InodeTable(node())
    first = table.meet(table.root, b"name", node()).number
    table.forget(first, 0)
    assert table.meet(table.root, b"name", node()).number == first


def test_another_version_is_another_inode() -> None:
    table = InodeTable(node())
    assert table.meet(table.root, b"n", node(b"1")).number != table.meet(table.root, b"n", node(b"2")).number


def test_the_root_is_never_forgotten() -> None:
    table = InodeTable(node())
    table.forget(1, 1_000_000)
    assert table[1] is table.root


def test_two_names_with_one_number_are_two_inodes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fusefs.inodes.number_of", lambda parent, name, version: 100 + len(version))
    table = InodeTable(node())
    first, second = table.meet(table.root, b"a", node()), table.meet(table.root, b"b", node())
    assert first.number != second.number
    assert table.meet(table.root, b"b", node()) is second


def test_a_child_is_found_again_though_its_parent_was_forgotten_meanwhile() -> None:
    table = InodeTable(node())
    parent = table.meet(table.root, b"folder", node())
    child = table.meet(parent, b"file", node())
    child.lookups += 1
    table.forget(parent.number, 0)
    assert table.meet(table.meet(table.root, b"folder", node()), b"file", node()) is child
    assert child.path == "folder/file"


@given(st.integers(0, 2**63 - 1), st.binary(max_size=300), st.binary(max_size=80))
def test_numbers_fit_and_are_never_the_roots(parent: int, name: bytes, version: bytes) -> None:
    assert 1 < number_of(parent, name, version) < 2**63
