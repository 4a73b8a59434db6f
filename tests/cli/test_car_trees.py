"""`carfs car create`, `extract`, `list --unixfs`, `tree`, `diff` and `verify` on trees of files."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from agent.cli.exits import Exit
from carlib.cid import Cid
from carlib.pack import pack
from tests.cli.cars import names, piped, run
from tests.fixtures import fixture

Capture = pytest.CaptureFixture[str]
TOOL = "ipld+go-car/cmd/car/testdata/inputs"


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A packed tree, as t.car in the working directory."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t" / "sub" / "deep").mkdir(parents=True)
    (tmp_path / "t" / "hello").write_text("hello\n")
    (tmp_path / "t" / "sub" / "deep" / "x").write_bytes(bytes(2000))
    (tmp_path / "t" / "sub" / "link").symlink_to("../hello")
    pack(Path("t"), Path("t.car"))
    return Path("t.car")


def test_create_wraps_several_sources_and_one_on_demand(tree: Path, capsys: Capture) -> None:
    assert run("c", "t/hello", "t/sub", "-o", "several.car") == Exit.DONE
    assert run("create", "t", "-f", "one.car") == Exit.DONE
    several, one = capsys.readouterr().out.split()
    assert several == one
    assert run("create", "--wrap", "t", "-o", "wrapped.car") == Exit.DONE
    assert run("list", "--unixfs", "wrapped.car") == Exit.DONE
    assert capsys.readouterr().out.split()[1:3] == ["t", "t/hello"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--no-wrap", "t", "t/sub", "-o", "x.car"], "no-wrap cannot be set with multiple source locations"),
        (["t", "-o", "-"], "cannot be packed into a pipe"),
        (["-o", "x.car"], "Missing argument"),
    ],
)
def test_create_says_what_cannot_be(arguments: list[str], words: str, tree: Path, capsys: Capture) -> None:
    assert run("create", *arguments) == Exit.USAGE
    assert words in capsys.readouterr().err
    assert names() == ["t", "t.car"]


def test_list_gives_cids_with_paths(tree: Path, capsys: Capture) -> None:
    assert run("ls", "--unixfs-blocks", tree) == Exit.DONE
    lines = {line.split()[1]: line.split()[0] for line in capsys.readouterr().out.splitlines()}
    assert list(lines) == ["hello", "sub", "sub/deep", "sub/deep/x", "sub/link"]
    assert lines["hello"] == str(Cid.of(b"hello\n"))


def test_tree_is_drawn_with_sizes(tree: Path, capsys: Capture) -> None:
    assert run("tree", tree) == Exit.DONE
    root, *lines = capsys.readouterr().out.splitlines()
    assert Cid.parse(root).version == 1
    assert lines == [
        "├── hello (6 B)",
        "└── sub",
        "    ├── deep",
        "    │   └── x (2.0 KiB)",
        "    └── link -> ../hello",
        "",
        "2 directories, 2 files, 2.0 KiB",
    ]
    assert run("tree", "--depth", "1", "--cids", tree) == Exit.DONE
    assert capsys.readouterr().out.splitlines()[1] == f"├── hello (6 B) {Cid.of(b'hello' + bytes([10]))}"
    assert run("tree", "--json", tree) == Exit.DONE
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (last["path"], last["kind"], last["target"]) == ("sub/link", "symlink", "../hello")


def test_tree_tells_what_is_missing(capsys: Capture) -> None:
    assert run("tree", fixture(f"{TOOL}/simple-unixfs-missing-blocks.car")) == Exit.NOT_FOUND
    assert "4 (missing)" in capsys.readouterr().out


def test_extract_takes_the_car_as_an_option_and_puts_paths_under_paths(tree: Path, capsys: Capture) -> None:
    assert run("x", "-f", tree, "-o", "out", "-v", "sub/deep", "/hello") == Exit.DONE
    assert sorted(capsys.readouterr().err.splitlines()) == [
        "extracted 2 file(s)",
        "out/hello",
        "out/sub/deep/x",
    ]
    assert names(Path("out")) == ["hello", "sub"]
    assert run("extract") == Exit.USAGE
    assert "a file source must be specified" in capsys.readouterr().err


def test_extract_writes_files_to_standard_output(tree: Path, capsys: Capture) -> None:
    assert piped("extract", "-f", "-", "-o", "-", "hello", stdin=tree.read_bytes()) == (Exit.DONE, b"hello\n")
    assert run("extract", tree, "-o", "-") == Exit.USAGE
    assert "cannot extract a directory to stdout" in capsys.readouterr().err
    assert run("extract", tree, "-o", "-", "sub/link") == Exit.USAGE


def test_verify_looks_as_deep_as_it_is_told(tree: Path, capsys: Capture) -> None:
    seen = []
    for depth in ("structure", "index", "blocks", "full"):
        assert run("verify", "--json", "--depth", depth, tree) == Exit.DONE
        found = json.loads(capsys.readouterr().out)
        seen.append((found["depth"], found["index"], found["links"] and found["links"]["reachable"]))
    assert seen == [
        ("structure", "readable", None),
        ("index", "good", None),
        ("blocks", "good", None),
        ("full", "good", 6),
    ]
    tree.write_bytes(tree.read_bytes().replace(b"hello\n", b"hullo\n"))
    codes = [run("verify", "--depth", depth, tree) for depth in ("structure", "index", "blocks", "full")]
    assert codes == [Exit.DONE, Exit.DONE, Exit.CORRUPT, Exit.CORRUPT]
    assert "Blocks: 6 blocks, 2.2 KiB of data, not read" in capsys.readouterr().out


def test_verify_samples_an_index(tree: Path, capsys: Capture) -> None:
    assert run("v", "--depth", "index", "--sample", "2", tree) == Exit.DONE
    assert "Index: good, by 2 entries" in capsys.readouterr().out
    assert run("verify", "--depth", "structure", "--sample", "2", tree) == Exit.USAGE


def test_verify_names_links_that_lead_nowhere_and_fails_where_all_must_be_there(capsys: Capture) -> None:
    path = fixture(f"{TOOL}/simple-unixfs-missing-blocks.car")
    assert run("verify", "--depth", "full", path) == Exit.DONE
    shown = capsys.readouterr().out
    assert "Links: 17 blocks reachable, 3 links dangling, 0 blocks unreachable" in shown
    assert shown.count("Dangling: ") == 3
    assert run("verify", "--depth", "full", "--complete", path) == Exit.NOT_FOUND
    assert run("verify", "--complete", path) == Exit.DONE


def test_diff_compares_paths(tree: Path, capsys: Capture) -> None:
    Path("t/sub/deep/x").write_text("changed")
    Path("t/sub/link").unlink()
    assert run("create", "t", "-o", "u.car") == Exit.DONE
    capsys.readouterr()
    assert run("diff", "--only", "paths", tree, "u.car") == Exit.FAILED
    lines = ["~ path  .", "~ path  sub", "~ path  sub/deep", "~ path  sub/deep/x", "- path  sub/link"]
    assert capsys.readouterr().out.splitlines() == lines


def test_an_output_that_is_no_file_is_not_replaced(tree: Path, capsys: Capture) -> None:
    os.mkfifo("fifo")
    for words in (["unwrap", tree, "fifo"], ["create", "t", "-o", "t"]):
        assert run(*words) == Exit.FAILED
        assert "not a regular file, so it cannot be replaced" in capsys.readouterr().err
    assert Path("fifo").is_fifo()


WRITERS = {
    "create": ["create", "t", "-o", "out"],
    "concat": ["concat", "-", "-o", "out"],
    "dedup": ["dedup", "-", "out"],
    "index": ["index", "-", "out"],
    "wrap": ["wrap", "-", "out"],
    "debug": ["debug", "-", "out"],
    "split": ["split", "--size", "1MiB", "-o", "out", "-"],
    "filter": ["filter", "--inverse", "--cid-file", "/dev/null", "-", "out"],
}


@pytest.mark.parametrize("command", WRITERS)
def test_a_command_that_fails_halfway_leaves_what_was_there(command: str, tree: Path) -> None:
    """A CAR that is cut is an error at its very end."""
    if command == "create":
        Path("t/sub/deep/y").symlink_to("y")
        words = ["create", "--symlinks", "follow", "t/none", "-o", "out"]
    else:
        words = WRITERS[command]
    if command != "split":
        Path("out").write_text("before")
    before = names()
    run("unwrap", tree, "v1.car")
    cut = Path("v1.car").read_bytes()[:-1]
    Path("v1.car").unlink()
    code, _ = piped(*words, stdin=cut)
    assert code in (Exit.CORRUPT, Exit.NOT_FOUND)
    assert names() == before
    assert command == "split" or Path("out").read_text() == "before"


@pytest.mark.parametrize("command", [name for name in WRITERS if name != "create"])
def test_ctrl_c_leaves_nothing_behind(command: str, tree: Path) -> None:
    before = names()
    process = subprocess.Popen(
        [sys.executable, "-m", "agent.cli.main", "car", *WRITERS[command]],
        stdin=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdin is not None
    process.stdin.write(bytes(1 << 20))  # more than a pipe holds, so the command is reading when this returns
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert (process.returncode, said, names()) == (Exit.INTERRUPTED, b"", before)


@pytest.mark.parametrize("command", ["inspect", "list", "root", "debug"])
def test_what_go_car_reads_from_standard_input_we_read_too(command: str, tree: Path, capfd: Capture) -> None:
    assert run(command, tree) == Exit.DONE
    expected = capfd.readouterr().out.replace("t.car", "-")
    assert piped(command, stdin=tree.read_bytes()) == (Exit.DONE, expected.encode())
