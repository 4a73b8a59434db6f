"""The same bytes get the same root CID as from Kubo and ipfs-car themselves: every profile, chunker and choice."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest

from carlib.blockstore import ReadOnlyBlockstore
from carlib.pack import Preserve, pack
from carlib.unixfs.profile import PROFILES, Layout, Profile, Symlinks
from tests.carlib.keystream import pieces
from tests.peers import Kubo, program, run

pytestmark = pytest.mark.peers

CID_V1 = ("--cid-version=1", "--raw-leaves", "--chunker=size-1048576")
INLINED = ("--hash=blake2b-256", "--inline", "--inline-limit=126", "--max-file-links=1024")
WIDE = ("--max-file-links=1024", "--max-hamt-fanout=1024")
ADD_OPTIONS = {
    "unixfs-v0-2015": (),
    "kubo-cid-v1": CID_V1,
    "test-cid-v1": CID_V1,
    "test-cid-v1-wide": (*CID_V1, *WIDE),
    "lotus": (*CID_V1, *INLINED, "--hidden"),
}
"""What makes `ipfs add` do as the profile does; two profiles are in the configuration instead."""
CHUNKERS = ("size-1", "size-1000", "size-2096896", "rabin", "rabin-65536", "rabin-16-100-1000",
            "rabin-min:1024-avg:5000-max:20000", "rabin-87-262144-2000000", "buzhash")  # fmt: skip


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files at the boundaries of chunks and inlining, small and large folders, and all that profiles differ in."""
    top = tmp_path_factory.mktemp("peers") / "source"
    for folder in ("a/deep/er", "empty/in/empty", ".hidden", "sharded", "plain"):
        (top / folder).mkdir(parents=True)
    stream = b"".join(pieces("peers", 5 << 20))
    sizes = (0, 1, 126, 127, 262144, 262145, 1048576, 1048577, 2 * 1048576, 2 * 1048576 + 1, 5 << 20)
    for size in sizes:
        (top / f"{size} bytes").write_bytes(stream[:size])
    for name in ("a/deep/er/ü", "a/deep/.dot", ".hidden/file", "a-b", "a/b", "a.b"):
        (top / name).write_bytes(name.encode())
    (top / os.fsdecode(b"\xf0\x9f\x90\xa2")).write_bytes(b"outside of the basic plane")
    (top / "link").symlink_to("a/b")
    (top / "a" / "folder").symlink_to("deep")
    for number in range(3000):
        (top / "sharded" / f"{number}-{'x' * 100}").write_bytes(b"%d" % (number % 7))
    for number in range(1000):
        (top / "plain" / f"{number}").write_bytes(b"%d" % number)
    return top


@pytest.fixture(scope="module")
def kubo(tmp_path_factory: pytest.TempPathFactory) -> Kubo:
    return Kubo(tmp_path_factory.mktemp("kubo"))


def packed(source: Path, folder: Path, profile: Profile, preserve: Preserve = Preserve.NOTHING) -> str:
    return str(pack(source, folder / "out.car", profile=profile, preserve=preserve).root)


@pytest.mark.parametrize("name", ADD_OPTIONS)
def test_kubo_adds_a_tree_under_the_same_root(kubo: Kubo, source: Path, tmp_path: Path, name: str) -> None:
    profile = PROFILES[name]
    wide = profile.hamt_threshold != 262144
    kubo("config", "Import.UnixFSHAMTDirectorySizeThreshold", "1MiB" if wide else "256KiB")
    assert packed(source, tmp_path, profile) == kubo.add(source, "-r", *ADD_OPTIONS[name])


@pytest.mark.parametrize(("name", "options"), [("unixfs-v1-2025", ()), ("carfs", ("--hidden",))])
def test_kubo_in_its_profile_of_2025_too(
    source: Path, tmp_path: Path, name: str, options: tuple[str, ...]
) -> None:
    kubo = Kubo(tmp_path / "kubo")
    kubo("config", "profile", "apply", "unixfs-v1-2025")
    assert packed(source, tmp_path, PROFILES[name]) == kubo.add(source, "-r", *options)


@pytest.mark.parametrize("size", [0, 126, 127, 1048576, 1048577, 2 * 1048576, 2 * 1048576 + 1, 5 << 20])
def test_files_as_lotus_imports_them_by_the_library_that_it_uses(
    kubo: Kubo, source: Path, tmp_path: Path, size: int
) -> None:
    """Lotus called boxo with what these options pass on."""
    path = source / f"{size} bytes"
    assert packed(path, tmp_path, PROFILES["lotus"]) == kubo.add(path, *CID_V1, *INLINED)


@pytest.mark.parametrize("chunker", CHUNKERS)
@pytest.mark.parametrize("layout", Layout)
def test_every_chunker_and_layout(
    kubo: Kubo, source: Path, tmp_path: Path, chunker: str, layout: Layout
) -> None:
    path = source / ("262145 bytes" if chunker in ("size-1", "size-1000") else f"{5 << 20} bytes")
    profile = dataclasses.replace(PROFILES["unixfs-v0-2015"], layout=layout).with_chunker(chunker)
    flags = ["--trickle"] if layout is Layout.TRICKLE else []
    assert packed(path, tmp_path, profile) == kubo.add(path, f"--chunker={chunker}", *flags)


@pytest.mark.parametrize("name", ["unixfs-v0-2015", "kubo-cid-v1"])
@pytest.mark.parametrize("layout", Layout)
@pytest.mark.parametrize("preserve", [Preserve.MODE, Preserve.MTIME, Preserve.ALL])
def test_modes_and_mtimes(
    kubo: Kubo, source: Path, tmp_path: Path, name: str, layout: Layout, preserve: Preserve
) -> None:
    """Kubo refuses these with raw leaves and turns them off where they are only a default."""
    options = [option for option in ADD_OPTIONS[name] if option != "--raw-leaves"]
    options += ["--preserve-mode"] if preserve & Preserve.MODE else []
    options += ["--preserve-mtime"] if preserve & Preserve.MTIME else []
    options += ["--trickle"] if layout is Layout.TRICKLE else []
    profile = dataclasses.replace(PROFILES[name], layout=layout)
    assert packed(source, tmp_path, profile, preserve) == kubo.add(source, "-r", *options)


@pytest.mark.parametrize("layout", Layout)
def test_raw_leaves_below_either_layout(kubo: Kubo, source: Path, tmp_path: Path, layout: Layout) -> None:
    profile = dataclasses.replace(PROFILES["kubo-cid-v1"], layout=layout, width=3)
    options = [*CID_V1, "--max-file-links=3", *(["--trickle"] if layout is Layout.TRICKLE else [])]
    assert packed(source, tmp_path, profile) == kubo.add(source, "-r", *options)


def test_symlinks_that_are_followed(kubo: Kubo, source: Path, tmp_path: Path) -> None:
    profile = dataclasses.replace(PROFILES["unixfs-v0-2015"], symlinks=Symlinks.FOLLOW, hidden=True)
    assert packed(source, tmp_path, profile) == kubo.add(source, "-r", "--hidden", "--dereference-symlinks")


def test_kubo_reads_what_lotus_inlines(kubo: Kubo, source: Path, tmp_path: Path) -> None:
    """The CAR holds no inlined block, and its root may be one."""
    report = pack(source / "a", tmp_path / "out.car", profile=PROFILES["lotus"])
    small = pack(source / "a" / "deep" / "er", tmp_path / "small.car", profile=PROFILES["lotus"])
    assert (small.root.is_identity, small.blocks) == (True, 0)
    for car in ("out.car", "small.car"):
        kubo("dag", "import", "--pin-roots=false", tmp_path / car)
    assert kubo("cat", f"{report.root}/deep/er/ü") == kubo("cat", f"{small.root}/ü") == "a/deep/er/ü"


@pytest.mark.parametrize("path", ["", "0 bytes", "5242880 bytes", "a", "sharded", "plain", "empty"])
@pytest.mark.parametrize("hidden", [False, True])
def test_ipfs_car_packs_under_the_same_root(source: Path, tmp_path: Path, path: str, hidden: bool) -> None:
    ours = packed(source / path, tmp_path, dataclasses.replace(PROFILES["ipfs-car"], hidden=hidden))
    command: list[str | Path] = [
        program("ipfs_car"),
        "pack",
        source / path,
        "--no-wrap",
        *(["--hidden"] if hidden else []),
    ]
    theirs = tmp_path / "theirs.car"
    assert run([*command, "--output", theirs]).strip() == ours
    with ReadOnlyBlockstore.open(tmp_path / "out.car") as mine, ReadOnlyBlockstore.open(theirs) as other:
        assert {cid for cid, _ in mine.cids()} == {cid for cid, _ in other.cids()}
        assert [cid for cid, _ in mine.cids()][-1] == mine.roots[0]
