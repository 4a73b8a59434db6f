"""`carfs car debug`, `compile`, `index`, `detach-index`, `wrap`, `unwrap` and `commp`."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from agent.cli import progress
from agent.cli.exits import Exit
from carlib import dagpb
from carlib.cid import DAG_PB, Cid
from carlib.container import read_container
from carlib.frame import wrap
from carlib.source import FileSource
from carlib.unixfs.node import Data, DataType
from tests.carlib.cars import car_v1, write_car
from tests.cli.cars import ALL, LEAVES, ROOT, names, piped, run

Capture = pytest.CaptureFixture[str]
Binary = pytest.CaptureFixture[bytes]


@pytest.mark.parametrize("version", [1, 2])
def test_debug_and_compile_are_each_others_inverse(version: int, small: Path) -> None:
    write_car(small, ALL[:4], (ROOT,))
    if version == 2:
        wrap(small, small)
    assert run("debug", small, "a.patch") == Exit.DONE
    assert (
        Path("a.patch")
        .read_text()
        .startswith(f"car compile {'--v2 ' if version == 2 else ''}a.car\nroot {ROOT}\n--- ")
    )
    assert run("compile", "a.patch", "again.car") == Exit.DONE
    assert Path("again.car").read_bytes() == small.read_bytes()
    code, written = piped("compile", stdin=Path("a.patch").read_bytes())
    assert (code, written) == ((Exit.DONE, small.read_bytes()) if version == 1 else (Exit.USAGE, b""))


def test_compile_of_what_is_no_patch_is_corrupt(small: Path, capsys: Capture) -> None:
    Path("x.patch").write_text("hello\n")
    assert run("compile", "x.patch", "x.car") == Exit.CORRUPT
    assert not Path("x.car").exists()


def test_index_to_a_pipe_is_index_to_a_file(small: Path, capsys: Capture) -> None:
    for words in (["index"], ["index", "create"], ["index", "--codec", "none"], ["wrap"]):
        assert run(*words, small, "out") == Exit.DONE
        assert piped(*words, "-", "-", stdin=small.read_bytes()) == (Exit.DONE, Path("out").read_bytes())
    assert run("index", "--version", "1", "out", "v1.car") == Exit.DONE
    assert Path("v1.car").read_bytes() == small.read_bytes()
    assert run("index", "--version", "1", "-c", "car-index-sorted", small, "x") == Exit.USAGE


def test_a_detached_index_is_listed_by_multihash_and_offset(small: Path, capsys: Capture) -> None:
    assert run("index", small, "v2.car") == Exit.DONE
    assert run("detach-index", "v2.car", "a.idx") == Exit.DONE
    assert run("detach-index", "list", "a.idx") == Exit.DONE
    offset = len(car_v1([], (ROOT,)))
    assert f"{LEAVES[0][0].multihash.hex()} {offset}" in capsys.readouterr().out.splitlines()
    assert run("detach-index", "list", "--json", "a.idx") == Exit.DONE
    assert len([json.loads(line)["multihash"] for line in capsys.readouterr().out.splitlines()]) == 4
    assert run("index", "create", "-c", "car-index-sorted", small, "old.idx") == Exit.DONE
    assert run("detach-index", "list", "old.idx") == Exit.DONE
    assert f"{LEAVES[0][0].digest.hex()} {offset}" in capsys.readouterr().out.splitlines()
    assert run("detach-index", small, "b.idx") == Exit.NOT_FOUND
    assert "no index present" in capsys.readouterr().err


def test_wrap_takes_padding_identity_and_a_detached_index(small: Path, capsys: Capture) -> None:
    run("index", "create", small, "a.idx")
    assert (
        run("wrap", "--data-padding", "13", "--index-padding", "14", "--index", "a.idx", small, "v2.car")
        == Exit.DONE
    )
    with FileSource(Path("v2.car")) as source:
        found = read_container(source)
    assert (found.data_offset, found.index_offset) == (64, 64 + small.stat().st_size + 14)
    assert run("verify", "v2.car") == Exit.DONE
    assert run("wrap", "--identity", small, small) == Exit.DONE
    assert run("unwrap", "v2.car", "v2.car") == Exit.DONE
    assert run("unwrap", small, "v1.car") == Exit.DONE
    assert Path("v1.car").read_bytes() == Path("v2.car").read_bytes() == car_v1(ALL, (ROOT,))
    assert run("unwrap", "v1.car", "x") == Exit.REFUSED


def test_commp_of_a_file_and_of_a_pipe_are_known_answers(small: Path, capsys: Capture) -> None:
    Path("zeros").write_bytes(bytes(127 * 8))
    assert run("commp", "--json", "zeros") == Exit.DONE
    found = json.loads(capsys.readouterr().out)
    assert found == {
        "pieceCid": "baga6ea4seaqb66wjlfkrbye6uqoemcyxmqylwmrm235uclwfpsyx3ge2imidoly",
        "pieceCidV2": "bafkzcibcaacr66wjlfkrbye6uqoemcyxmqylwmrm235uclwfpsyx3ge2imidoly",
        "pieceSize": 1024, "unpaddedPieceSize": 1016, "payloadSize": 1016,
    }  # fmt: skip
    assert json.loads(piped("commp", "--json", "-", stdin=bytes(127 * 8))[1]) == found


def _directory(path: Path, *names: bytes) -> Cid:
    """A CAR of a directory in which each name is the same file."""
    leaf = Cid.of(b"data")
    block = dagpb.encode(
        dagpb.PBNode(tuple(dagpb.PBLink(leaf, name) for name in names), Data(DataType.DIRECTORY).encode())
    )
    write_car(path, [(root := Cid.of(block, DAG_PB), block), (leaf, b"data")], (root,))
    return root


@pytest.mark.parametrize("words", [["list", "--unixfs"], ["list", "-v"], ["tree"]])
def test_names_are_shown_where_output_has_an_encoding_that_lacks_them(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _directory(tmp_path / "a.car", "Grüße ☃".encode())
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    code, shown = piped(*words, str(tmp_path / "a.car"))
    assert (code, b"Gr\\xfc\\xdfe \\u2603" in shown) == (Exit.DONE, True)


def test_json_is_json_whatever_encoding_output_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _directory(tmp_path / "a.car", "Grüße ☃ 𝄞".encode())
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    code, shown = piped("list", "--unixfs", "--json", str(tmp_path / "a.car"))
    assert code == Exit.DONE
    assert json.loads(shown.splitlines()[1])["path"] == "Grüße ☃ 𝄞"


def test_names_of_files_that_are_no_text_are_printed_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "utf-8")
    car = tmp_path / os.fsdecode(b"\xff.car")
    _directory(car, b"a")
    code, shown = piped("split", "--size", "1000", str(car))
    assert (code, shown) == (Exit.DONE, os.fsencode(tmp_path) + b"/\xff-0000.car\n")
    code, shown = piped("split", "--size", "1000", "--json", "-o", str(car), str(car))
    assert (code, json.loads(shown)[0]["size"]) == (Exit.DONE, (tmp_path / car).stat().st_size)


@pytest.mark.parametrize("words", [["list"], ["verify"], ["commp"], ["get-dag", "--version", "1"]])
def test_a_pipe_that_has_a_name_is_read_like_standard_input(words: list[str], small: Path) -> None:
    os.mkfifo("fifo")
    result = ["-"] if words[0] == "get-dag" else []
    with ThreadPoolExecutor(1) as threads:
        writing = threads.submit(Path("fifo").write_bytes, small.read_bytes())
        found = piped(*words, "fifo", *result)
        writing.result()
    assert found == piped(*words, "a.car", *result)
    assert found[0] == Exit.DONE


@pytest.mark.parametrize("words", [["list"], ["commp"], ["index", "create"]])
def test_a_directory_is_named_in_the_error(words: list[str], tmp_path: Path, capsys: Capture) -> None:
    assert run(*words, tmp_path) == Exit.FAILED
    assert capsys.readouterr().err == f"carfs: {tmp_path}: Is a directory\n"


_STUCK = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored, if the tests run in the background of a shell
from agent.cli.main import main
from carlib import selection
blocks = selection._blocks
def stuck(*arguments):
    yield from blocks(*arguments)
    print("now", flush=True)
    sys.stdin.read()
selection._blocks = stuck
sys.exit(main(["car", "dedup", "a.car", "out.car"]))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_in_the_middle_leaves_nothing_behind(number: signal.Signals, small: Path) -> None:
    command = subprocess.Popen([sys.executable, "-c", _STUCK], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with command:
        assert command.stdout is not None
        assert command.stdout.readline() == b"now\n"
        assert len(names()) == 2
        command.send_signal(number)
    assert command.returncode == 128 + number
    assert names() == ["a.car"]


@pytest.mark.parametrize(
    ("words", "code", "error"),
    [
        ("list a.car >&-", Exit.FAILED, "carfs: Bad file descriptor\n"),
        ("get-dag a.car - >&-", Exit.FAILED, "carfs: Bad file descriptor\n"),
        ("list <&-", Exit.FAILED, "carfs: Bad file descriptor\n"),
        ("verify absent.car 2>&-", Exit.NOT_FOUND, ""),
        ("wrap a.car out.car <&- >&-", Exit.DONE, ""),
    ],
)
def test_a_closed_stream_is_an_error_where_it_is_used(
    words: str, code: Exit, error: str, small: Path
) -> None:
    program = f"{shlex.quote(sys.executable)} -m agent.cli.main car"
    done = subprocess.run(["sh", "-c", f"{program} {words}"], stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (code, error)


@pytest.mark.parametrize(
    "words",
    [
        ["list", "@"],
        ["list", "-v", "@"],
        ["list", "--unixfs", "@"],
        ["tree", "@"],
        ["inspect", "@"],
        ["inspect", "--full", "@"],
        ["diff", "@", "@"],
        ["get", "@", "/"],
    ],
)
def test_commands_that_can_last_show_progress_unless_they_are_to_be_quiet(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setattr(progress, "LINE_INTERVAL_S", 0.0)
    data = b"data"
    write_car(tmp_path / "a.car", [(root := Cid.of(data), data)], (root,))
    if "--unixfs" in words or words[0] == "tree":
        _directory(tmp_path / "a.car", b"name")
    words = [str(tmp_path / "a.car") if word == "@" else word for word in words]
    assert run(*words) == Exit.DONE
    assert ": " in capsys.readouterr().err
    assert run(*words, "--quiet") == Exit.DONE
    assert capsys.readouterr().err == ""
