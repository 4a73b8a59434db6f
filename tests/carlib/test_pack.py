"""Packing: the CAR holds what the source holds, in one pass, in little memory, and says what it left out."""

from __future__ import annotations

import dataclasses
import errno
import os
import socket
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carlib.blockstore import ReadOnlyBlockstore
from carlib.cid import RAW, Cid
from carlib.pack import PackReport, Preserve, Skipped, SourceChanged, Unreadable, pack
from carlib.unixfs import Directory, File, Kind, Stat, resolve, stat
from carlib.unixfs.profile import CARFS, PROFILES, Symlinks
from carlib.verify import verify
from tests.carlib.keystream import keystream

Tree = dict[bytes, "Tree | bytes"]

EMPTY_DIRECTORY = "bafybeiczsscdsbs7ffqz55asqdf3smv6klcw3gofszvwlyarci47bgf354"
FILE_NAMES = st.binary(min_size=1, max_size=12).filter(
    lambda name: name not in (b".", b"..") and not {0, 0x2F} & set(name)
)
TREES: st.SearchStrategy[Tree] = st.dictionaries(
    FILE_NAMES,
    st.recursive(
        st.binary(max_size=60), lambda inner: st.dictionaries(FILE_NAMES, inner, max_size=4), max_leaves=8
    ),
    max_size=5,
)
SMALL = dataclasses.replace(CARFS, chunk_size=16, width=3, hamt_threshold=100, hamt_fanout=8)


def write(tree: Tree, folder: Path) -> None:
    folder.mkdir()
    for name, content in tree.items():
        path = folder / os.fsdecode(name)
        if isinstance(content, dict):
            write(content, path)
        else:
            path.write_bytes(content)


def listed(blocks: ReadOnlyBlockstore, cid: Cid) -> Tree | bytes:
    found = stat(blocks, cid)
    if found.kind is Kind.DIRECTORY:
        return {entry.name: listed(blocks, entry.cid) for entry in Directory.open(blocks, cid)}
    return File.open(blocks, cid).read(0, found.size)


def packed(source: Path, **options: object) -> tuple[PackReport, Path]:
    out = source.parent / "out.car"
    return pack(source, out, **options), out  # type: ignore[arg-type]  # a test passes what pack takes


@settings(max_examples=60)
@given(TREES)
def test_a_packed_tree_lists_and_reads_as_its_source(tree: Tree) -> None:
    with TemporaryDirectory() as folder:
        source = Path(folder, "source")
        write(tree, source)
        report, out = packed(source, profile=SMALL)
        with ReadOnlyBlockstore.open(out) as blocks:
            assert blocks.roots == (report.root,)
            assert listed(blocks, report.root) == tree


def test_a_small_tree_has_the_cid_that_the_profile_says(tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "empty").mkdir(parents=True)
    (source / "hello").write_bytes(b"hello world")
    report, out = packed(source)
    assert (report.files, report.directories, report.symlinks, report.bytes, report.blocks) == (
        1,
        2,
        0,
        11,
        3,
    )
    with ReadOnlyBlockstore.open(out) as blocks:
        assert {entry.name: str(entry.cid) for entry in Directory.open(blocks, report.root)} == {
            b"empty": EMPTY_DIRECTORY,
            b"hello": "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e",
        }


def test_a_single_file_is_the_root_itself(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"hello world")
    report, _ = packed(tmp_path / "file")
    assert report.root == Cid.of(b"hello world", RAW)


def test_empty_sources(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    assert packed(tmp_path / "file")[0].root == Cid.of(b"", RAW)
    assert str(packed(tmp_path / "folder")[0].root) == EMPTY_DIRECTORY


@pytest.mark.parametrize("profile", PROFILES.values(), ids=PROFILES)
def test_every_profile_leaves_a_readable_car(tmp_path: Path, profile: object) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "file").write_bytes(b"x" * 300_000)
    report, out = packed(tmp_path / "source", profile=profile)
    with ReadOnlyBlockstore.open(out) as blocks:
        assert listed(blocks, report.root) == {b"file": b"x" * 300_000}


def test_equal_files_are_stored_once_and_children_before_parents(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    for name in "abc":
        (tmp_path / "source" / name).write_bytes(b"same")
    report, out = packed(tmp_path / "source")
    assert (report.files, report.blocks, report.duplicates) == (3, 2, 2)
    with ReadOnlyBlockstore.open(out) as blocks:
        assert [cid for cid, _ in blocks.cids()] == [Cid.of(b"same"), report.root]


def test_blocks_of_a_large_file_come_in_order(tmp_path: Path) -> None:
    """Hashing in threads must not show in the file."""
    chunks = [bytes((number,)) * CARFS.chunk_size for number in range(24)]
    (tmp_path / "file").write_bytes(b"".join(chunks))
    report, out = packed(tmp_path / "file")
    with ReadOnlyBlockstore.open(out) as blocks:
        assert [cid for cid, _ in blocks.cids()] == [*map(Cid.of, chunks), report.root]


def test_symlinks_are_kept_and_not_followed(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "dangling").symlink_to("nowhere/\udcff")
    (source / "loop").symlink_to(".")
    report, out = packed(source)
    assert report.symlinks == 2
    with ReadOnlyBlockstore.open(out) as blocks:
        found = stat(blocks, resolve(blocks, report.root, [b"dangling"]))
        assert found == Stat(Kind.SYMLINK, 9, target=b"nowhere/\xff")


def test_the_source_itself_may_be_a_symlink(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "link").symlink_to("file")
    assert packed(tmp_path / "link")[0].root == Cid.of(b"x")


def test_hidden_files_are_packed_unless_told_otherwise(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / ".hidden").touch()
    assert packed(source)[0].files == 1
    assert str(packed(source, hidden=False)[0].root) == EMPTY_DIRECTORY


def names(out: Path) -> set[bytes]:
    with ReadOnlyBlockstore.open(out) as blocks:
        return {entry.name for entry in Directory.open(blocks, blocks.roots[0])}


def test_whether_hidden_files_are_packed_is_up_to_the_profile_and_then_to_the_caller(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / ".hidden").touch()
    packed_by = {name: packed(source, profile=profile)[0].files for name, profile in PROFILES.items()}
    assert {name for name, files in packed_by.items() if files} == {"carfs", "lotus", "go-car"}
    assert packed(source, profile=PROFILES["ipfs-car"], hidden=True)[0].files == 1


@pytest.fixture
def linked(tmp_path: Path) -> Path:
    """A folder with symlinks to a file, to a folder, to nothing, to itself and to the folder that they are in."""
    source = tmp_path / "source"
    (source / "folder").mkdir(parents=True)
    (source / "folder" / "file").write_bytes(b"content")
    for name, target in (("to-file", "folder/file"), ("to-folder", "folder"), ("nowhere", "none")):
        (source / name).symlink_to(target)
    (source / "folder" / "up").symlink_to("..")
    (source / "self").symlink_to("self")
    return source


def test_symlinks_that_are_followed_become_what_they_point_to(linked: Path) -> None:
    report, out = packed(linked, profile=dataclasses.replace(CARFS, symlinks=Symlinks.FOLLOW))
    folder = {b"file": b"content"}
    with ReadOnlyBlockstore.open(out) as blocks:
        assert listed(blocks, report.root) == {
            b"folder": folder,
            b"to-file": b"content",
            b"to-folder": folder,
        }
    assert (report.symlinks, {(skipped.path.name, skipped.reason) for skipped in report.skipped}) == (
        0,
        {
            ("nowhere", "is a symlink to nothing (No such file or directory)"),
            ("self", "is a symlink to nothing (Too many levels of symbolic links)"),
            ("up", "is a symlink to a folder that it is in"),
        },
    )


def test_symlinks_that_are_not_wanted_are_left_out_and_reported(linked: Path) -> None:
    report, out = packed(linked, profile=PROFILES["ipfs-car"])
    assert names(out) == {b"folder"}
    assert {skipped.reason for skipped in report.skipped} == {"is a symlink"}


def test_directories_without_a_file_may_be_left_out_but_for_the_root(tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "empty" / "empty").mkdir(parents=True)
    profile = dataclasses.replace(CARFS, empty_directories=False)
    assert str(packed(source, profile=profile)[0].root) == EMPTY_DIRECTORY
    (source / "full" / "er").mkdir(parents=True)
    (source / "full" / "er" / "file").touch()
    report, out = packed(source, profile=profile)
    assert (names(out), report.directories) == ({b"full"}, 3)


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize(
    ("size", "inlined"),
    [(0, True), (126, True), (127, False), (CARFS.chunk_size + 1, True), (3 * CARFS.chunk_size, False)],
)
def test_a_root_may_be_inlined_and_of_any_length(
    tmp_path: Path, version: int, size: int, inlined: bool
) -> None:
    """The header has room for a root of the usual length, and Lotus fails on another."""
    data = b"".join(bytes((number,)) * CARFS.chunk_size for number in range(3))[:size]
    (tmp_path / "file").write_bytes(data)
    report, out = packed(tmp_path / "file", profile=PROFILES["lotus"], version=version)
    assert report.root.is_identity == inlined
    assert verify(out).good
    with ReadOnlyBlockstore.open(out) as blocks:
        assert blocks.roots == (report.root,)
        assert listed(blocks, report.root) == data
        assert not any(cid.is_identity for cid, _ in blocks.cids())


@pytest.mark.parametrize("chunker", ["rabin-64-256-1000", "buzhash", "size-300"])
def test_a_chunker_cuts_files_as_they_are_read(tmp_path: Path, chunker: str) -> None:
    (tmp_path / "file").write_bytes(data := keystream("pack", 600_000))
    report, out = packed(tmp_path / "file", profile=CARFS.with_chunker(chunker))
    with ReadOnlyBlockstore.open(out) as blocks:
        assert listed(blocks, report.root) == data
    assert report.blocks > 2


@pytest.mark.parametrize(
    ("preserve", "kept"),
    [(Preserve.MODE, (0o640, None)), (Preserve.MTIME, (None, 7)), (Preserve.ALL, (0o640, 7))],
)
def test_mode_and_mtime_can_be_kept_apart(
    tmp_path: Path, preserve: Preserve, kept: tuple[int | None, int | None]
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x")
    path.chmod(0o640)
    os.utime(path, ns=(0, 7))
    report, out = packed(path, preserve=preserve)
    with ReadOnlyBlockstore.open(out) as blocks:
        found = stat(blocks, report.root)
    assert (found.mode, found.mtime_ns) == kept


def test_special_files_are_left_out_and_reported(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    os.mkfifo(source / "fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(source / "socket"))
        report, _ = packed(source)
    assert report.skipped == (
        Skipped(source / "fifo", "is a FIFO"),
        Skipped(source / "socket", "is a socket"),
    )
    with pytest.raises(ValueError, match="is a FIFO"):
        packed(source / "fifo")


def test_a_car_written_into_its_own_source_does_not_hold_itself(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    first = pack(tmp_path, tmp_path / "out.car")
    second = pack(tmp_path, tmp_path / "out.car")
    assert first.root == second.root
    assert second.skipped == (Skipped(tmp_path / "out.car", "is the CAR being written"),)


def test_preserved_attributes_come_back(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    times = {"folder": -5_000_000_001, "small": 1_700_000_000_123_456_789, "large": 7, "link": 9_000_000_000}
    (source / "small").write_bytes(b"x")
    (source / "large").write_bytes(b"x" * (CARFS.chunk_size + 1))
    (source / "link").symlink_to("small")
    (source / "small").chmod(0o4751)
    (source / "large").chmod(0o600)
    for name in ("small", "large", "link"):
        os.utime(source / name, ns=(0, times[name]), follow_symlinks=False)
    source.chmod(0o2750)
    os.utime(source, ns=(0, times["folder"]))
    report, out = packed(source, preserve=Preserve.ALL)
    with ReadOnlyBlockstore.open(out) as blocks:
        found = {entry.name: stat(blocks, entry.cid) for entry in Directory.open(blocks, report.root)}
        assert stat(blocks, report.root) == Stat(Kind.DIRECTORY, 0, 0o2750, times["folder"])
        assert found == {
            b"small": Stat(Kind.FILE, 1, 0o4751, times["small"]),
            b"large": Stat(Kind.FILE, CARFS.chunk_size + 1, 0o600, times["large"]),
            b"link": Stat(Kind.SYMLINK, 5, None, times["link"], b"small"),
        }
        assert listed(blocks, resolve(blocks, report.root, [b"small"])) == b"x"


def test_without_preserve_attributes_do_not_change_the_cid(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    before = packed(tmp_path / "file")[0].root
    (tmp_path / "file").chmod(0o700)
    os.utime(tmp_path / "file", (1, 1))
    assert packed(tmp_path / "file")[0].root == before


class Appender:
    """A progress callback that writes to the file being read, a number of times."""

    def __init__(self, path: Path, times: int) -> None:
        self.path, self.times = path, times

    def __call__(self, _done: int, _total: int) -> None:
        if self.times:
            self.times -= 1
            with self.path.open("ab") as file:
                file.write(b"more")


def test_a_file_that_changed_while_it_was_read_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * 3 * CARFS.chunk_size)
    report, out = packed(path, progress=Appender(path, 1))
    with ReadOnlyBlockstore.open(out) as blocks:
        assert listed(blocks, report.root) == path.read_bytes()


def test_a_file_that_never_is_as_long_as_it_says_is_an_error_and_leaves_no_car(tmp_path: Path) -> None:
    """As one that is written to all the time; /proc has such files at rest."""
    with pytest.raises(SourceChanged, match="changed while it was read"):
        pack(Path("/proc/self/maps"), tmp_path / "out.car")
    assert list(tmp_path.iterdir()) == []


def test_a_small_file_that_does_not_tell_its_length_is_packed(tmp_path: Path) -> None:
    """As those of /proc, which say that they are empty."""
    version = Path("/proc/version")
    out = tmp_path / "out.car"
    report = pack(version, out)
    with ReadOnlyBlockstore.open(out) as blocks:
        assert listed(blocks, report.root) == version.read_bytes()


def test_an_unreadable_file_is_an_error_that_names_it(tmp_path: Path) -> None:
    """As root nothing is unreadable, so the file is gone by the time it is opened."""
    source = tmp_path / "source"
    source.mkdir()
    (source / "a").write_bytes(b"x" * 2 * CARFS.chunk_size)
    (source / "b").write_bytes(b"x")
    with pytest.raises(Unreadable) as caught:
        packed(source, progress=lambda _done, _total: (source / "b").unlink(missing_ok=True))
    assert (caught.value.errno, os.fsdecode(caught.value.filename)) == (errno.ENOENT, str(source / "b"))


def test_progress_is_bytes_done_of_all_where_known(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(5 * CARFS.chunk_size))
    steps: list[tuple[int, int]] = []
    packed(tmp_path / "file", progress=lambda done, total: steps.append((done, total)))
    assert steps == [(count * CARFS.chunk_size, 5 * CARFS.chunk_size) for count in range(1, 6)]


PACK_AND_PRINT_PEAK = """
import re, sys
from pathlib import Path
from carlib.pack import pack
pack(Path(sys.argv[1]), Path(sys.argv[2]))
# Not ru_maxrss: that is inherited from the process that started this one.
print(int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) // 1024)
"""


def peak_mib(source: Path, out: Path) -> int:
    result = subprocess.run(
        [sys.executable, "-c", PACK_AND_PRINT_PEAK, source, out], check=True, capture_output=True, text=True
    )
    return int(result.stdout)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_source(tmp_path: Path) -> None:
    """512 MiB of distinct data, and 100,000 files in one directory, in under 100 and 90 MiB."""
    (tmp_path / "many").mkdir()
    for number in range(100_000):
        (tmp_path / "many" / f"file-{number:06}").write_bytes(b"%d" % number)
    with (tmp_path / "large").open("wb") as file:
        for number in range(512):
            file.write(number.to_bytes(4, "big") * (CARFS.chunk_size // 4))
    assert peak_mib(tmp_path / "large", tmp_path / "large.car") < 100
    assert peak_mib(tmp_path / "many", tmp_path / "many.car") < 90


def test_several_sources_are_wrapped_in_a_directory_in_the_order_of_their_names(tmp_path: Path) -> None:
    (tmp_path / "all").mkdir()
    for name in ("b", "a", "c"):
        (tmp_path / "all" / name).write_text(name)
    whole = pack(tmp_path / "all", tmp_path / "whole.car")
    sources = [tmp_path / "all" / name for name in ("c", "a", "b")]
    wrapped = pack(sources, tmp_path / "wrapped.car")
    assert (wrapped.root, wrapped.files, wrapped.directories) == (whole.root, 3, 1)


def test_two_sources_of_one_name_are_refused(tmp_path: Path) -> None:
    (tmp_path / "x").touch()
    with pytest.raises(ValueError, match="two sources are called x"):
        pack([tmp_path / "x", tmp_path / "." / "x"], tmp_path / "x.car")
    assert list(tmp_path.iterdir()) == [tmp_path / "x"]


def test_the_car_being_written_is_left_out_where_a_symlink_leads_to_it(tmp_path: Path) -> None:
    source, link = tmp_path / "source", tmp_path / "link.car"
    source.mkdir()
    (source / "a").write_bytes(b"a")
    link.symlink_to("source/out.car")
    assert pack(source, link).files == 1
    assert [one.path.name for one in pack(source, link).skipped] == ["out.car"]


@pytest.mark.parametrize("raw_leaves", [True, False])
@pytest.mark.parametrize("size", [65_535, 65_536, 65_537, 131_072, 3_000_000])
def test_chunks_read_into_memory_that_is_used_again_come_out_as_they_went_in(
    tmp_path: Path, size: int, raw_leaves: bool
) -> None:
    """Files around the length from which that is done, with chunks that are the same, and more of them than wait."""
    profile = dataclasses.replace(CARFS, chunk_size=65_536, width=4, raw_leaves=raw_leaves)
    data = keystream("reused", size // 2) + bytes(size - size // 2)
    (tmp_path / "in").mkdir()
    for name in ("a", "b"):
        (tmp_path / "in" / name).write_bytes(data)
        data = data[::-1]
    report, out = packed(tmp_path / "in", profile=profile)
    assert verify(out).good
    with ReadOnlyBlockstore.open(out) as blocks:
        assert listed(blocks, report.root) == {b"a": data, b"b": data[::-1]}


def test_a_file_that_grows_or_shrinks_right_after_it_was_opened_is_read_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "small"
    for content in (b"longer than it was", b""):
        path.write_bytes(b"as it was")
        real, changes = os.read, [content]

        def read(fd: int, size: int, real=real, changes=changes) -> bytes:  # type: ignore[no-untyped-def]  # bound here
            if changes:
                path.write_bytes(changes.pop())
            return real(fd, size)  # type: ignore[no-any-return]

        monkeypatch.setattr(os, "read", read)
        report, out = packed(path)
        monkeypatch.undo()
        assert (report.bytes, report.files) == (len(content), 1)
        with ReadOnlyBlockstore.open(out) as blocks:
            assert File.open(blocks, report.root).read(0, 100) == content


def test_a_file_is_not_replaced_by_its_own_car(tmp_path: Path) -> None:
    file, link = tmp_path / "file", tmp_path / "link"
    file.write_bytes(b"data")
    link.symlink_to("file")
    (tmp_path / "other").write_bytes(b"other")
    for source, out in ((file, file), (link, file), (file, link), ([tmp_path / "other", file], file)):
        with pytest.raises(ValueError, match="would be replaced by the CAR of it"):
            pack(source, out)
    assert file.read_bytes() == b"data"
