"""`carfs car` beside go-car's own `car`: the same command on the same file gives the same output and the same files."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.fixtures import fixture
from tests.peers import program

pytestmark = pytest.mark.peers

TOOL = "ipld+go-car/cmd/car/testdata/inputs"
SAMPLES = {
    "v1.car": "ipld+go-car/v2/testdata/sample-v1.car",
    "v2.car": "ipld+go-car/v2/testdata/sample-wrapped-v2.car",
    "plain-v2.car": "ipld+go-car/v2/testdata/sample-v2-indexless.car",
    "unixfs.car": f"{TOOL}/simple-unixfs.car",
    "holes.car": f"{TOOL}/simple-unixfs-missing-blocks.car",
    "sharded.car": f"{TOOL}/wikipedia-cryptographic-hash-function.car",
    "basic.car": "ipld+ipld/specs/transport/car/fixture/carv1-basic/carv1-basic.car",
    "small.car": "ipld+go-car/v2/testdata/sample-unixfs-v2.car",
    "options.car": "generated-with-go-car/rw-identity.car",
}
BLOCK = "bafy2bzacebohz654namrgmwjjx4qmtwgxixsd7pn4tlanyrc3g3hwj75hlxrw"
DAG = "bafy2bzaceaycv7jhaegckatnncu5yugzkrnzeqsppzegufr35lroxxnsnpspu"
THREE = f"{BLOCK}\nbafy2bzaceaqtiesyfqd2jibmofz22oolguzf5wscwh73rmeypglfu2xhkptri\n{DAG}\n"
LEAVES = ("QmazwWa2vNLpy6WDBMjx7neWMbmn2oi9LQzCjan4kcGjBX", "QmVKt1VVkgfYcbSZqLD9sxZAkDpbH3L7RM6mJ6LHbkj5Bm")
OURS = [sys.executable, "-m", "agent.cli.main", "car"]
SELECTOR = '{"f":{"f>":{"Links":{"i":{"i":0,">":{"f":{"f>":{"Hash":{"a":{">":{".":{}}}}}}}}}}}}'
HELLO = "bafkreifjjcie6lypi6ny7amxnfftagclbuxndqonfipmb64f2km2devei4"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a command printed, and every file there is afterwards."""

    printed: bytes
    files: dict[str, bytes]


def prepare(folder: Path) -> None:
    """A folder with the samples and a small tree."""
    folder.mkdir()
    for name, path in SAMPLES.items():
        (folder / name).symlink_to(fixture(path))
    (folder / "tree" / "empty").mkdir(parents=True)
    (folder / "tree" / "numbers").write_text("".join(f"{number}\n" for number in range(200_000)))
    (folder / "tree" / "link").symlink_to("numbers")
    (folder / "foo.txt").write_text("hello world")
    (folder / "leaves.cids").write_text("\n".join(LEAVES))


def outcome(command: Sequence[str | Path], steps: Sequence[str], stdin: str | bytes, folder: Path) -> Outcome:
    """Runs each step in a folder of its own; all of them must succeed."""
    prepare(folder)
    printed = b""
    data = stdin.encode() if isinstance(stdin, str) else stdin
    for step in steps:
        run = subprocess.run(
            [*command, *step.split()], cwd=folder, input=data, capture_output=True, timeout=60
        )
        assert run.returncode == 0, (step, run.stderr.decode())
        printed += run.stdout
    names = sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return Outcome(printed, {str(path.relative_to(folder)): path.read_bytes() for path in names})


def compare(steps: Sequence[str], ours: Sequence[str], stdin: str, tmp_path: Path) -> None:
    theirs = outcome([program("go_car_tool")], steps, stdin, tmp_path / "theirs")
    found = outcome(OURS, ours, stdin, tmp_path / "ours")
    assert found.files == theirs.files
    assert found.printed == theirs.printed


@pytest.mark.parametrize(
    "step",
    [
        *(f"{command} {name}" for name in SAMPLES for command in ("list", "root", "inspect", "inspect --full")),
        *(f"ls -v {name}" for name in ("v1.car", "unixfs.car", "sharded.car", "small.car", "options.car")),
        *(f"{command} {name}" for name in ("unixfs.car", "small.car") for command in
          ("list --unixfs", "list --unixfs-blocks", "debug", "l")),
        "debug basic.car",
        "debug -o basic.patch basic.car",
        "detach-index v2.car",
        "detach-index small.car small.idx",
        *(f"index create {name} x.idx" for name in ("v1.car", "v2.car", "unixfs.car", "basic.car")),
        "index create unixfs.car",
        "i --codec none v1.car x.car",
        "index --version 1 v2.car x.car",
        "index unixfs.car x.car",
        "index unixfs.car",
        "index -c car-index-sorted small.car x.car",
        f"get-block v1.car {BLOCK}",
        f"gb v2.car {BLOCK} x.block",
        f"get-dag v1.car {DAG} x.car",
        f"get-dag --version 1 v1.car {DAG} x.car",
        "get-dag unixfs.car x.car",
        "gd --strict unixfs.car x.car",
        "get-dag holes.car x.car",
        f"get-dag -s {SELECTOR} unixfs.car x.car",
        "concat unixfs.car",
        "filter v2.car x.car",
        "filter --version 1 v2.car x.car",
        "filter --inverse unixfs.car x.car",
        "filter --cid-file leaves.cids unixfs.car x.car",
    ],
)  # fmt: skip
def test_the_same_words_give_the_same_output_and_the_same_files(step: str, tmp_path: Path) -> None:
    compare([step], [step], THREE, tmp_path)


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        (["create -f x.car tree foo.txt"], ["create --profile go-car -f x.car tree foo.txt"]),
        (["create -o x.car tree"], ["create --profile go-car --wrap -o x.car tree"]),
        (
            ["c --no-wrap --version 1 -f x.car tree"],
            ["c --profile go-car --no-wrap --version 1 -f x.car tree"],
        ),
        (
            ["concat -o x.car small.car basic.car"],
            ["concat --roots first --duplicates -o x.car small.car basic.car"],
        ),
    ],
)
def test_where_defaults_differ_options_give_the_same_files(
    theirs: list[str], ours: list[str], tmp_path: Path
) -> None:
    expected = outcome([program("go_car_tool")], theirs, "", tmp_path / "theirs")
    assert outcome(OURS, ours, "", tmp_path / "ours").files == expected.files


@pytest.mark.parametrize(
    "steps",
    [
        ["put-block x.car", "pb --codec dag-pb x.car", "list x.car"],
        ["put-block --set-root x.car", "root x.car"],
        ["put-block --version 1 --set-root x.car", "put-block --version 1 -c dag-cbor x.car"],
        [f"put-block --cid {HELLO} x.car", f"get-block x.car {HELLO}"],
        ["filter v2.car x.car", "filter --append --inverse unixfs.car x.car"],
        ["debug -o x.patch small.car", "compile -o x.car x.patch"],
    ],
    ids=" | ".join,
)
def test_steps_one_after_the_other_give_the_same_files(steps: list[str], tmp_path: Path) -> None:
    compare(steps, steps, "hello world\n" if "put-block" in steps[0] else THREE, tmp_path)


def test_extracted_trees_are_the_same(tmp_path: Path) -> None:
    for steps in (
        ["extract -f unixfs.car -o ."],
        ["x -f unixfs.car -o . a b/6 /c/7/G.txt"],
        ["extract -f - -o ."],
    ):
        stdin = fixture(SAMPLES["unixfs.car"]).read_bytes() if "-" in steps[0].split() else b""
        name = steps[0].replace("/", "_")
        theirs = outcome([program("go_car_tool")], steps, stdin, tmp_path / f"theirs {name}")
        assert len(theirs.files) > 6
        assert outcome(OURS, steps, stdin, tmp_path / f"ours {name}").files == theirs.files


@pytest.mark.parametrize(
    "steps",
    [
        ["create -o x.car tree", "verify x.car", "inspect --full x.car", "list --unixfs x.car"],
        ["create --profile lotus -o x.car tree", "verify x.car"],
        ["concat --version 2 -o x.car unixfs.car small.car", "verify x.car"],
        ["wrap --data-padding 1413 --identity v1.car x.car", "inspect --full x.car"],
        ["dedup sharded.car x.car", "inspect --full x.car"],
        ["split --size 100KiB -o x v1.car", "list x-0004.car"],
        ["root --set bafkqaaa --rewrite x.car", "root x.car"],
        ["debug basic.car x.patch", "compile -o y.car x.patch", "list y.car"],
    ],
    ids=" | ".join,
)
def test_go_car_reads_and_verifies_what_only_we_write(steps: list[str], tmp_path: Path) -> None:
    theirs = {"verify", "inspect", "list"}
    folder = tmp_path / "shared"
    prepare(folder)
    (folder / "x.car").write_bytes(fixture(SAMPLES["unixfs.car"]).read_bytes())
    for step in steps:
        command = [program("go_car_tool")] if step.split()[0] in theirs else OURS
        run = subprocess.run([*command, *step.split()], cwd=folder, capture_output=True, timeout=60)
        assert run.returncode == 0, (step, run.stderr.decode())
