"""Extraction: what was packed comes back, and nothing ever lands outside of the destination."""

from __future__ import annotations

import dataclasses
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carlib import names
from carlib.blockstore import MemoryBlocks, ReadOnlyBlockstore
from carlib.cid import DAG_CBOR, Cid
from carlib.errors import BlockNotFound, CarError, LimitExceeded, Malformed
from carlib.extract import ExtractionLimit, ExtractReport, extract
from carlib.pack import pack
from carlib.unixfs.builder import Builder
from carlib.unixfs.node import Data, DataType
from carlib.unixfs.profile import CARFS
from tests.carlib.nodes import CountingBlocks, put, put_directory, put_file, put_node, put_raw
from tests.carlib.test_pack import SMALL, TREES, Tree, write
from tests.fixtures import fixture

HOSTILE_NAMES = [
    b"",
    b".",
    b"..",
    b"/",
    b"../escaped",
    b"/tmp/escaped",
    b"a/../../escaped",
    b"nul\0",
    b"x" * 300,
]


def symlink(blocks: MemoryBlocks, target: bytes) -> Cid:
    return put_node(blocks, (), Data(DataType.SYMLINK, target).encode())


def read(folder: Path) -> Tree:
    return {
        os.fsencode(path.name): read(path) if path.is_dir() and not path.is_symlink() else path.read_bytes()
        for path in folder.iterdir()
    }


def listing(folder: Path) -> set[bytes]:
    return {os.fsencode(path.name) for path in folder.iterdir()}


def problems(report: ExtractReport) -> dict[bytes, type[Exception]]:
    return {problem.path: type(problem.error) for problem in report.problems}


@settings(max_examples=60)
@given(TREES)
def test_what_was_packed_is_extracted(tree: Tree) -> None:
    with TemporaryDirectory() as folder:
        source, out, dest = Path(folder, "source"), Path(folder, "out.car"), Path(folder, "dest")
        write(tree, source)
        root = pack(source, out, profile=SMALL).root
        with ReadOnlyBlockstore.open(out) as blocks:
            report = extract(blocks, root, dest)
        # Names that look like escapes come back escaped once more; read them as they are shown.
        assert read(dest) == as_shown(tree)
        assert report.is_complete


def as_shown(tree: Tree) -> Tree:
    return {
        names.shown(name): as_shown(content) if isinstance(content, dict) else content
        for name, content in tree.items()
    }


@given(
    st.dictionaries(
        st.sampled_from(HOSTILE_NAMES) | st.binary(max_size=20),
        st.sampled_from([b"file", b"../outside", b"/tmp", b"."]),
        max_size=6,
    )
)
@settings(max_examples=60)
def test_no_name_and_no_symlink_leads_outside(entries: dict[bytes, bytes]) -> None:
    blocks = MemoryBlocks()
    leaf = put_raw(blocks, b"file")
    inner = put_directory(blocks, [(name, leaf) for name in HOSTILE_NAMES])
    links = [
        (name, inner if content == b"." else leaf if content == b"file" else symlink(blocks, content))
        for name, content in entries.items()
    ]
    with TemporaryDirectory() as folder:
        dest = Path(folder, "dest")
        report = extract(blocks, put_directory(blocks, links), dest)
        assert listing(Path(folder)) == {b"dest"}
        assert listing(dest) == {names.shown(name) for name in entries}
        assert report.is_complete


def test_nothing_is_written_through_a_symlink_that_stands_in_the_way(tmp_path: Path) -> None:
    outside, dest = tmp_path / "outside", tmp_path / "dest"
    outside.mkdir()
    dest.mkdir()
    (outside / "file").write_bytes(b"mine")
    (dest / "folder").symlink_to(outside)
    (dest / "file").symlink_to(outside / "file")
    blocks = MemoryBlocks()
    leaf = put_raw(blocks, b"theirs")
    root = put_directory(blocks, [(b"folder", put_directory(blocks, [(b"file", leaf)])), (b"file", leaf)])
    report = extract(blocks, root, dest)
    assert (outside / "file").read_bytes() == b"mine"
    assert (dest / "file").read_bytes() == b"theirs"
    assert not (dest / "file").is_symlink()
    assert problems(report) == {b"folder": NotADirectoryError}


def test_a_directory_of_the_car_named_like_its_own_symlink_is_not_entered_through_it(tmp_path: Path) -> None:
    """The attack on go-car#264: first a symlink, then a directory of the same name. The first name counts."""
    blocks = MemoryBlocks()
    inner = put_directory(blocks, [(b"file", put_raw(blocks, b"x"))])
    root = put_directory(blocks, [(b"a", symlink(blocks, b"../outside")), (b"a", inner)])
    (tmp_path / "outside").mkdir()
    report = extract(blocks, root, tmp_path / "dest")
    assert listing(tmp_path / "outside") == set()
    assert (tmp_path / "dest" / "a").readlink() == Path("../outside")
    assert (report.symlinks, report.files) == (1, 0)


def test_symlinks_are_made_as_stored(tmp_path: Path) -> None:
    blocks = MemoryBlocks()
    data = Data(DataType.SYMLINK, b"../\xff", mtime_ns=5_000_000_007).encode()
    extract(blocks, put_directory(blocks, [(b"a", put_node(blocks, (), data))]), tmp_path / "dest")
    path = tmp_path / "dest" / "a"
    assert (path.readlink(), path.lstat().st_mtime_ns) == (Path("../\udcff"), 5_000_000_007)


def test_symlinks_that_no_file_system_can_hold_are_problems(tmp_path: Path) -> None:
    blocks = MemoryBlocks()
    entries = [(b"empty", b""), (b"nul", b"a\0b"), (b"long", b"x" * 5000)]
    root = put_directory(blocks, [(name, symlink(blocks, target)) for name, target in entries])
    report = extract(blocks, root, tmp_path / "dest")
    assert problems(report) == {b"empty": Malformed, b"nul": Malformed, b"long": OSError}
    assert listing(tmp_path / "dest") == set()


def test_stored_permissions_and_times_are_restored_but_never_set_user_id(tmp_path: Path) -> None:
    blocks = MemoryBlocks()
    builder = Builder(blocks)
    file = builder.file([b"x"], mode=0o6751, mtime_ns=-1_000_000_001)
    inner = builder.directory([(b"file", file)], mode=0o1500, mtime_ns=3_000_000_000)
    root = builder.directory([(b"inner", inner)], mode=0o700).cid
    extract(blocks, root, tmp_path / "dest")
    dest, inner_path = tmp_path / "dest", tmp_path / "dest" / "inner"
    found = (inner_path / "file").stat()
    assert (found.st_mode & 0o7777, found.st_mtime_ns) == (0o751, -1_000_000_001)
    assert (inner_path.stat().st_mode & 0o7777, inner_path.stat().st_mtime_ns) == (0o500, 3_000_000_000)
    assert dest.stat().st_mode & 0o7777 == 0o700


def test_an_existing_destination_keeps_its_attributes_and_its_other_files(tmp_path: Path) -> None:
    dest = tmp_path / "dest"
    dest.mkdir(mode=0o755)
    (dest / "mine").write_bytes(b"mine")
    (dest / "old").write_bytes(b"a longer old content")
    blocks = MemoryBlocks()
    builder = Builder(blocks)
    root = builder.directory([(b"old", builder.file([b"new"]))], mode=0o700).cid
    extract(blocks, root, dest)
    assert read(dest) == {b"mine": b"mine", b"old": b"new"}
    assert dest.stat().st_mode & 0o777 == 0o755


def test_a_directory_where_a_file_should_be_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "dest" / "a").mkdir(parents=True)
    blocks = MemoryBlocks()
    report = extract(blocks, put_directory(blocks, [(b"a", put_raw(blocks, b"x"))]), tmp_path / "dest")
    assert problems(report) == {b"a": IsADirectoryError}
    assert listing(tmp_path / "dest") == {b"a"}


def test_missing_blocks_are_reported_by_path_and_the_rest_is_there(tmp_path: Path) -> None:
    path = "ipld+go-car/cmd/car/testdata/inputs/simple-unixfs-missing-blocks.car"
    with ReadOnlyBlockstore.open(fixture(path)) as blocks:
        report = extract(blocks, blocks.roots[0], tmp_path)
    assert problems(report) == {
        b"b/4": BlockNotFound,
        b"b/5/E.txt": BlockNotFound,
        b"b/6": BlockNotFound,
    }
    assert not report.is_complete
    assert report.files == 6
    assert read(tmp_path)[b"c"] == {
        b"7": {b"G.txt": b"c7G\n"},
        b"8": {b"H.txt": b"c8H\n"},
        b"9": {b"I.txt": b"c9I\n"},
    }


def test_all_of_the_go_car_sample_is_extracted(tmp_path: Path) -> None:
    with ReadOnlyBlockstore.open(fixture("ipld+go-car/cmd/car/testdata/inputs/simple-unixfs.car")) as blocks:
        report = extract(blocks, blocks.roots[0], tmp_path)
    assert (report.files, report.directories, report.bytes, report.problems) == (9, 13, 36, ())


def test_a_file_with_a_missing_chunk_leaves_nothing_behind(tmp_path: Path) -> None:
    blocks = CountingBlocks()
    first, second = put_raw(blocks, b"abc"), put_raw(blocks, b"def")
    root = put_directory(blocks, [(b"a", put_file(blocks, [(first, 3), (second, 3)]))])
    blocks.forget(second)
    report = extract(blocks, root, tmp_path)
    assert problems(report) == {b"a": BlockNotFound}
    assert listing(tmp_path) == set()


def test_missing_shards_are_a_problem_of_their_directory(tmp_path: Path) -> None:
    from tests.carlib.test_unixfs_directory import shard_with_missing_children

    blocks = CountingBlocks()
    root, listed = shard_with_missing_children(blocks)
    for name in listed:
        blocks.put(Cid.of(name), name)
    report = extract(blocks, root, tmp_path)
    assert listing(tmp_path) == listed
    assert {problem.path for problem in report.problems} == {b""}


@pytest.mark.parametrize("codec", [None, DAG_CBOR])
def test_a_root_that_is_no_directory_becomes_the_destination_or_goes_into_it(
    tmp_path: Path, codec: int | None
) -> None:
    blocks = MemoryBlocks()
    root = put_raw(blocks, b"x") if codec is None else put(blocks, b"x", codec)
    assert extract(blocks, root, tmp_path / "file").path == tmp_path / "file"
    assert extract(blocks, root, tmp_path).path == tmp_path / str(root)
    assert (tmp_path / "file").read_bytes() == (tmp_path / str(root)).read_bytes() == b"x"


def test_a_missing_root_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(BlockNotFound):
        extract(MemoryBlocks(), put_directory(MemoryBlocks(), []), tmp_path / "dest")
    assert listing(tmp_path) == set()


def test_a_tree_that_never_ends_is_stopped_where_the_caller_says(tmp_path: Path) -> None:
    blocks = MemoryBlocks()
    cid = put_raw(blocks, b"x" * 1000)
    for _ in range(20):
        cid = put_directory(blocks, [(b"a", cid), (b"b", cid)])
    with pytest.raises(ExtractionLimit):
        extract(blocks, cid, tmp_path, max_bytes=50_000)
    assert sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()) <= 50_000


def nested(blocks: MemoryBlocks, levels: int, name: bytes = b"d") -> Cid:
    """So many directories inside of one another, each with a file in it that comes after the directory."""
    leaf = put_raw(blocks, b"x")
    cid = put_directory(blocks, [(b"file", leaf)])
    for _ in range(levels - 1):
        cid = put_directory(blocks, [(name, cid), (b"file", leaf)])
    return cid


@pytest.fixture
def deep(tmp_path: Path) -> Iterator[Path]:
    """A folder for trees of any depth, removed here: what pytest removes folders with recurses."""
    folder = tmp_path / "deep"
    folder.mkdir()
    yield folder
    subprocess.run(["rm", "-rf", folder], check=True)


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208


@pytest.mark.parametrize("levels", [1, 64, 65, 66, 300, 2046])
def test_what_is_as_deep_as_can_be_packed_is_extracted(
    deep: Path, monkeypatch: pytest.MonkeyPatch, levels: int
) -> None:
    monkeypatch.chdir(deep)  # a path of 4095 bytes is the longest that can be packed
    blocks = MemoryBlocks()
    built, before = Builder(blocks).directory([]), open_descriptors()
    for _ in range(levels - 1):
        built = Builder(blocks).directory([(b"d", built), (b"f", Builder(blocks).file([b"x"]))])
    report = extract(blocks, built.cid, Path("t"))
    assert (report.directories, report.files, report.problems) == (levels, levels - 1, ())
    assert open_descriptors() == before
    assert pack(Path("t"), Path("../again.car")).root == built.cid


def test_paths_longer_than_any_path_may_be_are_extracted(tmp_path: Path) -> None:
    blocks, told = MemoryBlocks(), list[bytes]()
    report = extract(blocks, nested(blocks, 60, b"d" * 250), tmp_path / "dest", tell=told.append)
    assert (report.directories, report.files, report.problems) == (60, 60, ())
    assert max(map(len, told)) > 4096


def test_directories_too_deep_are_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("carlib.extract.MAX_FOLDER_DEPTH", 100)
    blocks = MemoryBlocks()
    report = extract(blocks, nested(blocks, 102), tmp_path / "dest")
    assert report.directories == report.files == 100
    assert problems(report) == {b"/".join([b"d"] * 100): LimitExceeded}


def test_what_a_directory_forbids_does_not_keep_from_going_back_up(tmp_path: Path) -> None:
    blocks = MemoryBlocks()
    builder = Builder(blocks)
    built = builder.directory([], mode=0)
    for _ in range(100):
        built = builder.directory([(b"d", built), (b"file", builder.file([b"x"]))], mode=0o300)
    report = extract(blocks, built.cid, tmp_path / "dest")
    assert (report.directories, report.files, report.problems) == (101, 100, ())
    assert (tmp_path / "dest").stat().st_mode & 0o777 == 0o300
    for depth in range(101):
        tmp_path.joinpath("dest", *["d"] * depth).chmod(0o700)


@pytest.mark.parametrize("swapped", ["directory", "symlink"])
def test_a_folder_that_is_moved_elsewhere_meanwhile_is_not_followed(tmp_path: Path, swapped: str) -> None:
    """On the way back ``..`` leads to where the folder is now, and that may be outside."""
    outside, dest = tmp_path / "outside", tmp_path / "dest"
    outside.mkdir()
    blocks = MemoryBlocks()

    def move(path: bytes) -> None:
        if path == b"/".join([b"d"] * 99):
            (dest / "d" / "d").rename(outside / "d")
            if swapped == "symlink":
                (dest / "d" / "d").symlink_to(outside)

    before = open_descriptors()
    with pytest.raises(OSError, match="was moved while it was written to"):
        extract(blocks, nested(blocks, 100), dest, tell=move)
    assert listing(outside) == {b"d"}
    assert listing(dest / "d") == {b"d"} if swapped == "symlink" else listing(dest / "d") == set()
    assert open_descriptors() == before


def test_a_problem_reads_as_a_line(tmp_path: Path) -> None:
    blocks = MemoryBlocks()
    gone = Cid.of(b"gone")
    report = extract(blocks, put_directory(blocks, [(b"a/b", gone)]), tmp_path)
    assert [str(problem) for problem in report.problems] == [f"a%2Fb: block {gone} is not here"]


@given(st.binary(min_size=1, max_size=200), st.data())
@settings(max_examples=60)
def test_a_damaged_tree_is_extracted_as_far_as_it_goes(data: bytes, draw: st.DataObject) -> None:
    blocks = MemoryBlocks()
    builder = Builder(blocks, dataclasses.replace(CARFS, chunk_size=16, width=3))
    file = builder.file([data[start : start + 16] for start in range(0, len(data), 16)])
    block = bytearray(blocks.get(builder.directory([(b"a", file), (b"b", file)]).cid))
    block[draw.draw(st.integers(0, len(block) - 1))] ^= draw.draw(st.integers(1, 255))
    with TemporaryDirectory() as folder:
        try:
            report = extract(blocks, put(blocks, bytes(block)), Path(folder))
        except CarError:
            return
        assert report.files + report.directories + report.symlinks + len(report.problems) >= 1
