"""Packing references: of sources that change, vanish, cannot be read or are odd, the table says what is so."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from carlib.cid import Cid
from carlib.extract import extract
from carlib.limits import MIB
from carlib.pack import PackReport, SourceChanged, Unreadable, pack
from carlib.references import ReferenceBlockstore, Target
from carlib.references.packing import pack_references
from carlib.references.table import ReferenceTable
from carlib.unixfs.profile import PROFILES
from tests.carlib.keystream import keystream


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "source").mkdir()
    return tmp_path / "source"


def packed(source: Path, **options: object) -> PackReport:
    return pack_references(source, source.parent / "ref.car", folder=source.parent, **options)  # type: ignore[arg-type]


def check_whole(source: Path, report: PackReport) -> list[Target]:
    """Everything comes out as it is in ``source``, and every record of the table leads to its block; the files."""
    assert report.root == pack(source, source.parent / "dense.car").root
    with ReferenceBlockstore.open(source.parent / "ref.car", source.parent) as store:
        assert extract(store, report.root, source.parent / "out").is_complete
        table = store.references
        assert isinstance(table, ReferenceTable)
        table.check()
        for entry in table.index:
            reference = table.record(entry.offset)
            if reference is not None:
                path = source.parent / os.fsdecode(reference.target.path)
                data = path.read_bytes()[reference.offset : reference.offset + reference.size]
                assert Cid.of(data).digest == entry.digest
        return list(table.files)


class Once:
    """A progress callback that does something the first times."""

    def __init__(self, *actions: Callable[[], object]) -> None:
        self.actions = list(actions)

    def __call__(self, _done: int, _total: int) -> None:
        if self.actions:
            self.actions.pop(0)()


def test_a_file_that_changes_while_it_is_read_leaves_no_record_of_what_it_was(source: Path) -> None:
    """Also none for blocks that are elsewhere: those must lead there."""
    shared, large = keystream("shared", MIB), source / "b-large"
    (source / "a").write_bytes(shared)
    (source / "c").write_bytes(shared[:300])
    large.write_bytes(keystream("large", 5 * MIB) + shared)
    new = keystream("new", 3 * MIB)
    report = packed(source, progress=Once(lambda: None, lambda: None, lambda: large.write_bytes(new)))
    assert report.bytes == 4 * MIB + 300
    assert [target.size for target in check_whole(source, report)] == [MIB, 3 * MIB, 300]


@pytest.fixture
def at_end(monkeypatch: pytest.MonkeyPatch) -> list[Callable[[], object]]:
    """What to do, the last first, each time that a file was read to its end."""
    actions: list[Callable[[], object]] = []
    real = os.read

    def read(fd: int, size: int) -> bytes:
        data = real(fd, size)
        if not data and actions:
            actions.pop()()
        return data

    monkeypatch.setattr(os, "read", read)
    return actions


def test_a_file_that_grows_and_then_shrinks_is_read_a_third_time(
    source: Path, at_end: list[Callable[[], object]]
) -> None:
    large = source / "large"
    large.write_bytes(keystream("large", 5 * MIB))

    def grow() -> None:
        with large.open("ab") as file:
            file.write(b"more")

    at_end += [lambda: os.truncate(large, 3 * MIB), grow]
    report = packed(source)
    assert (report.bytes, at_end) == (3 * MIB, [])
    check_whole(source, report)


def test_a_file_that_never_rests_is_an_error_and_leaves_nothing(
    source: Path, at_end: list[Callable[[], object]]
) -> None:
    large = source / "large"
    large.write_bytes(bytes(3 * MIB))
    at_end += [lambda: large.write_bytes(os.urandom(MIB))] * 5
    with pytest.raises(SourceChanged, match="3 times"):
        packed(source)
    assert (list(source.parent.iterdir()), len(at_end)) == ([source], 2)


@pytest.fixture
def locked(source: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tree of which two files and a folder may not be read, and one breaks off (as root may read all, by a fake)."""
    for name in ("a", "locked-1", "locked-2", "torn", "z"):
        (source / name).write_bytes(keystream(name, MIB + 70_000))
    (source / "locked-folder").mkdir()
    opened, listed, readv = os.open, os.scandir, os.read

    def refusing(real: Callable[..., object]) -> Callable[..., object]:
        def call(path: bytes | str, *args: object, **kwargs: object) -> object:
            if isinstance(path, bytes) and b"locked" in path:
                raise PermissionError(errno.EACCES, "Permission denied", path)
            return real(path, *args, **kwargs)

        return call

    def torn(fd: int, size: int) -> bytes:
        data = readv(fd, size)
        if len(data) < MIB and Path(f"/proc/self/fd/{fd}").readlink().name == "torn":
            raise OSError(errno.EIO, "Input/output error")
        return data

    monkeypatch.setattr(os, "open", refusing(opened))
    monkeypatch.setattr(os, "scandir", refusing(listed))
    monkeypatch.setattr(os, "read", torn)
    return source


def test_all_that_cannot_be_read_is_told_at_once(locked: Path) -> None:
    with pytest.raises(Unreadable) as caught:
        packed(locked)
    assert [missed.path.name for missed in caught.value.files] == ["locked-1", "locked-2", "locked-folder"]
    assert (caught.value.errno, "locked-1' (and 2 more)" in str(caught.value)) == (errno.EACCES, True)
    assert list(locked.parent.iterdir()) == [locked]


def test_what_cannot_be_read_is_left_out_where_that_is_wanted(
    locked: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = packed(locked, skip_unreadable=True)
    monkeypatch.undo()
    assert [(missed.path.name, missed.reason) for missed in report.skipped] == [
        ("locked-1", "cannot be read (Permission denied)"),
        ("locked-2", "cannot be read (Permission denied)"),
        ("locked-folder", "cannot be read (Permission denied)"),
        ("torn", "cannot be read (Input/output error)"),
    ]
    for path in locked.iterdir():
        if path.is_dir():
            path.rmdir()
        elif path.name not in "az":
            path.unlink()
    assert [target.path for target in check_whole(locked, report)] == [b"source/a", b"source/z"]


def test_a_file_that_vanishes_before_its_turn_is_told(source: Path) -> None:
    (source / "a").write_bytes(keystream("a", 2 * MIB))
    (source / "b").write_bytes(b"b")
    with pytest.raises(Unreadable) as caught:
        packed(source, progress=lambda _done, _total: (source / "b").unlink(missing_ok=True))
    assert caught.value.errno == errno.ENOENT


def test_special_files_are_reported_and_nobody_waits_for_them(source: Path) -> None:
    os.mkfifo(source / "fifo")
    (source / "file").write_bytes(b"x")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(source / "socket"))
        report = packed(source)
    assert [(one.path.name, one.reason) for one in report.skipped] == [
        ("fifo", "is a FIFO"),
        ("socket", "is a socket"),
    ]
    with pytest.raises(ValueError, match="is a character device"):
        pack_references(Path("/dev/zero"), source.parent / "ref.car")


def test_a_file_that_became_a_fifo_since_it_was_listed_keeps_nobody_waiting(source: Path) -> None:
    (source / "a").write_bytes(keystream("a", 2 * MIB))
    (source / "b").write_bytes(b"b")

    def swap() -> None:
        (source / "b").unlink()
        os.mkfifo(source / "b")

    report = packed(source, progress=Once(swap), skip_unreadable=True)
    assert [(one.path.name, one.reason) for one in report.skipped] == [
        ("b", "cannot be read (is a FIFO now)")
    ]
    assert check_whole(source, report)[0].path == b"source/a"


def test_names_that_are_no_text_and_trees_that_are_deep(source: Path) -> None:
    (source / os.fsdecode(b"\xff\xfe\n")).write_bytes(b"odd")
    folder = source
    for _ in range(900):
        folder /= "d"
    folder.mkdir(parents=True)
    (folder / "bottom").write_bytes(b"bottom")
    report = packed(source)
    with ReferenceBlockstore.open(source.parent / "ref.car", source.parent) as store:
        assert store.get(Cid.of(b"odd")) == b"odd"
        assert store.get(Cid.of(b"bottom")) == b"bottom"
    assert (report.files, report.directories) == (2, 901)


def test_what_lies_deeper_than_a_path_can_be_is_told(source: Path) -> None:
    name, fd = "d" * 250, os.open(source, os.O_RDONLY)
    for _ in range(20):
        os.mkdir(name, dir_fd=fd)
        below = os.open(name, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)
    with pytest.raises(Unreadable) as caught:
        packed(source)
    assert caught.value.errno == errno.ENAMETOOLONG
    assert packed(source, skip_unreadable=True).skipped[0].reason == "cannot be read (File name too long)"


def test_the_order_is_stable(source: Path) -> None:
    for number in range(50):
        (source / f"{number * 7919 % 50}").write_bytes(keystream(str(number), 70_000 * (number % 3)))
    packed(source)
    first = (source.parent / "ref.car").read_bytes()
    packed(source)
    assert (source.parent / "ref.car").read_bytes() == first


def test_a_hole_of_many_gigabytes_takes_one_record(source: Path) -> None:
    with (source / "sparse").open("wb") as file:
        file.truncate(2 << 30)
        file.seek(1 << 30)
        file.write(b"data")
    report = packed(source)
    with ReferenceBlockstore.open(source.parent / "ref.car", source.parent) as store:
        table = store.references
        assert isinstance(table, ReferenceTable)
        assert (report.bytes, len(table)) == (2 << 30, 2)


@pytest.mark.parametrize(
    ("size", "cid"),
    [
        (0, "bafkqaaa"),
        (127, "bafk2bzacecmftbjsa5irso43aiescxrcn64cobt4im33tuejfxbfgixx5q5vk"),
        (MIB, "bafk2bzacecllfxswjx225ee4mddvjk6dqq5eh7a3mp7zzo5l7qv4kq3yd6bgk"),
        (
            MIB + 1,
            "bafyaasysfyfcmakvudsaeiewwlpfmtpvv2ijyyghksv4hbb2ip6bwy77ts52x7blyvbxqh4cmujaageaqbabecykauavkaabyyjaagab"
            "bigaqaqyqgaeaieaqbacaai",
        ),
        (5 * MIB + 5, "bafykbzaceb5wjf2zgoby5lyvxjq7nv5qxh663srlxhv5og7iltmsckl7rblew"),
    ],
)
def test_the_lotus_profile_gives_the_root_of_lotus(source: Path, size: int, cid: str) -> None:
    (source / "file").write_bytes(keystream("lotus-seed", size))
    out = source / "ref.car"
    report = pack_references(source / "file", out, profile=PROFILES["lotus"])
    assert str(report.root) == cid
    with ReferenceBlockstore.open(out, Path("/")) as store:
        assert extract(store, report.root, source / "out").is_complete
    assert (source / "out").read_bytes() == (source / "file").read_bytes()
