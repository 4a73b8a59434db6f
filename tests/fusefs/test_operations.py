"""The boundary to pyfuse3, without a mount."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable, Iterator
from typing import cast

import pyfuse3
import pytest
import trio
import trio.testing

from fusefs.attributes import Attributes, of_folder
from fusefs.operations import FOREVER_S, Tree
from fusefs.resident import NotResident
from fusefs.tree import Entry, Known, Node, RenderedFile, StaticFolder
from fusefs.waits import Lane, Waits

NOBODY = cast(pyfuse3.RequestContext, None)


class OneFolder:
    """A directory that runs `asked` when a name is looked up, in a thread."""

    lasting = True
    version = b""

    def __init__(self, waits: Waits, asked: Callable[[], None], *, settled: bool) -> None:
        self.lane: Lane | None = waits.names.lane()
        self.settled = settled
        self._asked = asked

    def attributes(self) -> Attributes:
        return of_folder(0, 0)

    def facts(self) -> dict[str, str]:
        return {}

    def child_nowait(self, name: bytes) -> Node | None:
        raise NotResident

    def child(self, name: bytes) -> Node | None:
        self._asked()
        return None

    def children(self, known: Known) -> Iterator[Entry]:
        return iter(())


async def test_that_a_name_is_absent_is_kept_only_where_it_was_settled_before() -> None:
    waits = Waits()
    settled = await Tree(OneFolder(waits, lambda: None, settled=True), waits).lookup(1, b"x", NOBODY)
    assert (settled.st_ino, settled.entry_timeout) == (0, FOREVER_S)

    def settle() -> None:
        folder.settled = True

    folder = OneFolder(waits, settle, settled=False)
    with pytest.raises(pyfuse3.FUSEError) as refused:
        await Tree(folder, waits).lookup(1, b"x", NOBODY)
    assert refused.value.errno == errno.ENOENT


async def test_what_nobody_foresaw_is_eio_with_a_traceback(
    expect_warning: Callable[[str], None], caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise KeyError("a bug")

    expect_warning("bug in lookup, answered EIO")
    waits = Waits()
    with pytest.raises(pyfuse3.FUSEError) as refused:
        await Tree(OneFolder(waits, fail, settled=True), waits).lookup(1, b"x", NOBODY)
    assert refused.value.errno == errno.EIO
    assert "KeyError: 'a bug'" in caplog.text


async def test_each_handler_answers_an_errno_for_what_does_not_exist() -> None:
    waits = Waits()
    tree = Tree(StaticFolder(dict, lasting=True, mtime_ns=lambda: 0), waits)
    calls = {
        tree.getattr(99, NOBODY): errno.ESTALE,
        tree.lookup(99, b"x", NOBODY): errno.ESTALE,
        tree.lookup(1, b"x" * 256, NOBODY): errno.ENAMETOOLONG,
        tree.readlink(1, NOBODY): errno.EINVAL,
        tree.open(1, 0, NOBODY): errno.EISDIR,
        tree.opendir(99, NOBODY): errno.ESTALE,
        tree.getxattr(1, b"user.carfs.cid", NOBODY): errno.ENODATA,
    }
    for call, number in calls.items():
        with pytest.raises(pyfuse3.FUSEError) as refused:
            await call
        assert refused.value.errno == number


def test_to_count_its_subdirectories_a_folder_renders_no_file() -> None:
    """The attributes of the mountpoint are asked for with each path: rendering `status.json` made that O(shards)."""

    def render() -> bytes:
        raise AssertionError("rendered")

    inner = StaticFolder(dict, lasting=False, mtime_ns=lambda: 0)
    entries: dict[bytes, Node] = {b"status.json": RenderedFile(render, lambda: 0), b"inner": inner}
    assert StaticFolder(lambda: entries, lasting=False, mtime_ns=lambda: 0).attributes().links == 3


async def test_after_a_look_up_that_is_overdue_the_next_for_that_name_waits_no_deadline_more(
    autojump_clock: trio.testing.MockClock, expect_warning: Callable[[str], None]
) -> None:
    """The kernel sends look-ups of one name one after the other: two hundred readers would hang for hours."""
    expect_warning("no data within")
    release = threading.Event()
    waits = Waits(deadline_s=30.0)

    def dead_storage() -> None:
        release.wait(60)

    tree = Tree(OneFolder(waits, dead_storage, settled=True), waits)
    try:
        for _ in range(200):
            with pytest.raises(pyfuse3.FUSEError) as refused:
                await tree.lookup(1, b"x", NOBODY)
            assert refused.value.errno == errno.ETIMEDOUT
        assert trio.current_time() < 31
        with pytest.raises(pyfuse3.FUSEError):
            await tree.lookup(1, b"another", NOBODY)
        assert trio.current_time() >= 60
    finally:
        release.set()
