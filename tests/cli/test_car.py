"""`carfs car …` on CARs made here: what goes in comes out, and what is wrong is said with the right exit code."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from agent.cli.exits import Exit
from agent.cli.main import main
from carlib.blockstore import ReadOnlyBlockstore
from carlib.cid import RAW, Cid
from carlib.pack import pack
from carlib.unixfs import Directory
from carlib.unixfs.builder import Builder
from carlib.unixfs.links import Link
from carlib.writer import creating
from tests.carlib.keystream import keystream

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A small tree of files, an empty folder, a symlink and a name that is no UTF-8."""
    top = tmp_path / "tree"
    (top / "sub" / "empty").mkdir(parents=True)
    (top / "hello.txt").write_text("hello\n")
    (top / "sub" / "big.bin").write_bytes(bytes(range(256)) * 10_000)
    (top / "sub" / "link").symlink_to("../hello.txt")
    (top / os.fsdecode(b"caf\xe9")).write_bytes(b"")
    return top


@pytest.fixture
def car(tree: Path, tmp_path: Path) -> Path:
    """The tree, packed."""
    pack(tree, tmp_path / "tree.car")
    return tmp_path / "tree.car"


def flip_bit(path: Path, needle: bytes) -> None:
    data = bytearray(path.read_bytes())
    data[data.index(needle)] ^= 1
    path.write_bytes(data)


def contents(top: Path) -> dict[str, bytes | str | None]:
    """Every path below `top`: a file's bytes, a symlink's target, None for a folder."""
    found: dict[str, bytes | str | None] = {}
    for path in sorted(top.rglob("*")):
        what = (
            path.readlink().as_posix() if path.is_symlink() else path.read_bytes() if path.is_file() else None
        )
        found[str(path.relative_to(top))] = what
    return found


def test_extract_gives_back_what_create_took(tree: Path, car: Path, tmp_path: Path, capsys: Capture) -> None:
    assert main(["car", "extract", str(car), "-o", str(tmp_path / "out")]) == Exit.DONE
    assert contents(tmp_path / "out") == contents(tree)
    assert capsys.readouterr().err == "extracted 4 file(s)\n"


def test_create_prints_the_root_and_tells_what_it_left_out(
    tree: Path, tmp_path: Path, capsys: Capture
) -> None:
    os.mkfifo(tree / "pipe")
    assert main(["car", "create", str(tree), "-o", str(tmp_path / "a.car")]) == Exit.DONE
    shown = capsys.readouterr()
    assert Cid.parse(shown.out.strip()).version == 1
    assert shown.err == f"carfs: left out: {tree}/pipe is a FIFO\n"


def test_create_as_json_counts(tree: Path, tmp_path: Path, capsys: Capture) -> None:
    assert main(["car", "create", "--json", str(tree), "-o", str(tmp_path / "a.car")]) == Exit.DONE
    packed = json.loads(capsys.readouterr().out)
    assert (packed["files"], packed["directories"], packed["symlinks"]) == (3, 3, 1)


def created(tree: Path, tmp_path: Path, capsys: Capture, *options: str) -> str:
    """The root that `create` prints."""
    assert main(["car", "create", str(tree), "-o", str(tmp_path / "a.car"), *options]) == Exit.DONE
    return capsys.readouterr().out.strip()


def test_create_takes_a_chunker_a_layout_and_what_to_preserve(tmp_path: Path, capsys: Capture) -> None:
    """As given by Kubo 0.43.0 with the same choices."""
    file = tmp_path / "file"
    file.write_bytes(keystream("chunker-seed", 3 << 20))
    chosen = ("--profile", "legacy-cid-v0", "--chunker", "rabin-65536", "--layout", "trickle")
    assert created(file, tmp_path, capsys, *chosen) == "QmNPCZxgFqH822gQy9AmjxEJThLBSztyrikDd1Fa3QYKdX"
    file.write_bytes(b"hello world")
    file.chmod(0o4751)
    os.utime(file, ns=(0, 1_700_000_000_123_456_789))
    both = created(file, tmp_path, capsys, "--profile", "unixfs-v0-2015", "--preserve")
    assert both == "QmaDqdvRKJF7K52bXEgdcUf8xqdnZe1yjBQtx7FEgxCnfx"
    one, other = (created(file, tmp_path, capsys, f"--preserve-{what}") for what in ("mode", "mtime"))
    assert len({one, other, both}) == 3


def test_create_overrides_what_the_profile_packs(tmp_path: Path, capsys: Capture) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / ".hidden").touch()
    (tree / "link").symlink_to(".hidden")

    def names(*options: str) -> list[bytes]:
        created(tree, tmp_path, capsys, *options)
        with ReadOnlyBlockstore.open(tmp_path / "a.car") as blocks:
            return [entry.name for entry in Directory.open(blocks, blocks.roots[0])]

    assert names() == [b".hidden", b"link"]
    assert names("--no-hidden") == [b"link"]
    assert names("--profile", "ipfs-car") == []
    assert names("--profile", "ipfs-car", "--hidden", "--symlinks", "follow") == [b".hidden", b"link"]


@pytest.mark.parametrize("chunker", ["size-0", "rabin-47", "fastcdc"])
def test_create_refuses_a_chunker_that_is_none(
    tree: Path, tmp_path: Path, capsys: Capture, chunker: str
) -> None:
    arguments = ["car", "create", str(tree), "-o", str(tmp_path / "a.car"), "--chunker", chunker]
    assert main(arguments) == Exit.USAGE
    assert chunker.split("-")[0] in capsys.readouterr().err


def test_create_of_nothing_is_not_found(tmp_path: Path, capsys: Capture) -> None:
    assert main(["car", "create", str(tmp_path / "none"), "-o", str(tmp_path / "a.car")]) == Exit.NOT_FOUND
    assert capsys.readouterr().err == f"carfs: {tmp_path}/none: No such file or directory\n"
    assert list(tmp_path.iterdir()) == []


def test_ls_shows_paths_with_names_that_cannot_steer_a_terminal(car: Path, capsys: Capture) -> None:
    assert main(["car", "ls", "--unixfs", str(car)]) == Exit.DONE
    assert sorted(capsys.readouterr().out.splitlines()) == sorted(
        ["caf\\xe9", "hello.txt", "sub", "sub/big.bin", "sub/empty", "sub/link"]
    )


def test_ls_reads_a_pipe(car: Path, capsys: Capture) -> None:
    assert main(["car", "ls", str(car)]) == Exit.DONE
    listed = capsys.readouterr().out
    run = subprocess.run(
        [sys.executable, "-m", "agent.cli.main", "car", "ls", "-"],
        input=car.read_bytes(),
        stdout=subprocess.PIPE,
    )
    assert (run.returncode, run.stdout.decode()) == (Exit.DONE, listed)


@pytest.mark.parametrize("what", ["/hello.txt", "hello.txt", "sub/../hello.txt"])
def test_get_writes_the_file_at_a_path(what: str, car: Path, tmp_path: Path, capsys: Capture) -> None:
    code = main(["car", "get", str(car), what, "-o", str(tmp_path / "out")])
    if ".." in what:  # no walking about: a name is a name
        assert (code, (tmp_path / "out").exists()) == (Exit.NOT_FOUND, False)
    else:
        assert (code, (tmp_path / "out").read_text()) == (Exit.DONE, "hello\n")


def test_get_writes_a_block_to_stdout(car: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert main(["car", "get", str(car), str(Cid.of(b"hello\n"))]) == Exit.DONE
    assert capfdbinary.readouterr().out == b"hello\n"


def test_get_of_a_folder_points_to_extract(car: Path, capsys: Capture) -> None:
    assert main(["car", "get", str(car), "sub"]) == Exit.USAGE
    assert "carfs car extract" in capsys.readouterr().err


def test_get_of_an_absent_block_is_not_found(car: Path, capsys: Capture) -> None:
    absent = Cid.of(b"absent")
    assert main(["car", "get", str(car), str(absent)]) == Exit.NOT_FOUND
    assert capsys.readouterr().err == f"carfs: {car}: block {absent} is not here\n"


def test_get_shows_a_node_as_dag_json(car: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert main(["car", "get", "--dag-json", str(car), "/"]) == Exit.DONE
    node = json.loads(capfdbinary.readouterr().out)
    assert [link["Name"] for link in node["Links"]] == ["caf\N{REPLACEMENT CHARACTER}", "hello.txt", "sub"]


def test_verify_of_a_good_car(car: Path, capsys: Capture) -> None:
    assert main(["car", "verify", str(car)]) == Exit.DONE
    lines = capsys.readouterr().out.splitlines()
    assert lines[1:] == ["Roots: 1 of 1 present", "Index: good", "Verdict: good"]


def test_verify_names_the_block_that_is_corrupt(car: Path, capsys: Capture) -> None:
    flip_bit(car, b"hello\n")
    assert main(["car", "verify", str(car)]) == Exit.CORRUPT
    shown = capsys.readouterr().out
    assert f"does not match its CID {Cid.of(b'hello' + bytes([10]))}" in shown
    assert shown.endswith("Verdict: corrupt\n")


def test_verify_says_how_far_a_cut_car_is_whole(tmp_path: Path, tree: Path, capsys: Capture) -> None:
    path = tmp_path / "a.car"
    assert main(["car", "create", "--version", "1", str(tree), "-o", str(path)]) == Exit.DONE
    path.write_bytes(path.read_bytes()[:-5])
    assert main(["car", "verify", "--json", str(path)]) == Exit.CORRUPT
    report = json.loads(capsys.readouterr().out.partition("\n")[2])
    assert report["good"] is False
    assert 0 < report["wholeUntil"] < report["size"] == path.stat().st_size


def test_extract_of_a_corrupt_file_names_it_and_takes_the_rest(
    car: Path, tmp_path: Path, capsys: Capture
) -> None:
    flip_bit(car, b"hello\n")
    assert main(["car", "extract", str(car), "-o", str(tmp_path / "out")]) == Exit.CORRUPT
    assert capsys.readouterr().err.startswith("carfs: hello.txt: ")
    assert "hello.txt" not in contents(tmp_path / "out")
    assert "sub/big.bin" in contents(tmp_path / "out")


def test_extract_takes_single_paths(car: Path, tmp_path: Path) -> None:
    assert (
        main(["car", "extract", str(car), "sub/big.bin", "sub/empty", "-o", str(tmp_path / "out")])
        == Exit.DONE
    )
    assert sorted(contents(tmp_path / "out")) == ["sub", "sub/big.bin", "sub/empty"]


def test_extract_never_follows_a_symlink_that_it_made(tmp_path: Path, capsys: Capture) -> None:
    path, outside = tmp_path / "evil.car", tmp_path / "outside"
    outside.mkdir()
    with creating(path) as car:
        builder = Builder(car)
        inner = builder.directory([(b"x", builder.file([b"data"]))])
        links: list[Link] = [
            (b"a", builder.symlink(os.fsencode(outside))),
            (b"b", other := builder.directory([(b"a", inner)])),
        ]
        root = builder.directory(links)
        car.finish([root.cid])
    assert (
        main(["car", "extract", str(path), "a", f"{other.cid}/a/x", "-o", str(tmp_path / "out")])
        == Exit.REFUSED
    )
    assert "symlink" in capsys.readouterr().err
    assert list(outside.iterdir()) == []


def test_several_roots_go_into_folders_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / "two.car"
    blocks = {Cid.of(data): data for data in (b"one", b"two")}
    with creating(path, roots=list(blocks)) as car:
        for cid, data in blocks.items():
            car.put(cid, data)
        car.finish()
    assert main(["car", "extract", str(path), "-o", str(tmp_path / "out")]) == Exit.DONE
    assert contents(tmp_path / "out") == {str(cid): data for cid, data in sorted(blocks.items(), key=str)}
    assert main(["car", "get", str(path), "/x"]) == Exit.USAGE


def test_what_one_root_or_path_lacks_does_not_keep_the_others_from_being_unpacked(
    tmp_path: Path, capsys: Capture
) -> None:
    path, absent, here = tmp_path / "two.car", Cid.of(b"absent"), Cid.of(b"here")
    with creating(path, roots=[absent, here]) as car:
        car.put(here, b"here")
        car.finish()
    for words in ([], [f"{here}/none", str(absent), str(here)]):
        assert main(["car", "extract", str(path), *words, "-o", str(tmp_path / "out")]) != Exit.DONE
        assert f"carfs: {absent}: " in capsys.readouterr().err
        assert contents(tmp_path / "out") == {str(here): b"here"}
        (tmp_path / "out" / str(here)).unlink()


@pytest.mark.parametrize("codec", ["car-index-sorted", "car-multihash-index-sorted"])
def test_a_detached_index_fits_its_car(codec: str, car: Path, tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "a.idx"
    assert main(["car", "index", "create", str(car), "-o", str(out), "--codec", codec]) == Exit.DONE
    assert main(["car", "verify", str(car), "--index", str(out)]) == Exit.DONE
    out.write_bytes(out.read_bytes()[:-1])
    assert main(["car", "verify", str(car), "--index", str(out)]) == Exit.CORRUPT


def test_an_indexed_car_made_of_its_own_payload_is_the_same(car: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.car"
    assert main(["car", "index", str(car), str(again)]) == Exit.DONE
    assert hashlib.sha256(again.read_bytes()).digest() == hashlib.sha256(car.read_bytes()).digest()


def test_inspect_full_fails_at_the_first_bad_block(car: Path, capsys: Capture) -> None:
    assert main(["car", "inspect", "--full", str(car)]) == Exit.DONE
    flip_bit(car, b"hello\n")
    assert main(["car", "inspect", str(car)]) == Exit.DONE
    assert main(["car", "inspect", "--full", str(car)]) == Exit.CORRUPT
    assert f"carfs: {car}: offset " in capsys.readouterr().err


@pytest.mark.parametrize("command", ["ls", "inspect", "verify", "extract"])
def test_what_is_no_car_is_corrupt_and_what_is_not_there_not_found(
    command: str, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("junk").write_bytes(b"\x07 this is no CAR")
    assert main(["car", command, "junk"]) == Exit.CORRUPT
    assert main(["car", command, "absent"]) == Exit.NOT_FOUND
    assert "Traceback" not in capsys.readouterr().err


def test_json_lines_of_ls_are_objects(car: Path, capsys: Capture) -> None:
    assert main(["car", "ls", "--json", str(car)]) == Exit.DONE
    lines = [json.loads(line) for line in io.StringIO(capsys.readouterr().out)]
    assert all(line["dataOffset"] > line["offset"] for line in lines)
    assert {line["codec"] for line in lines} == {"raw", "dag-pb"}
    assert any(Cid.parse(line["cid"]).codec == RAW for line in lines)
