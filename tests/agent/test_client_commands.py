"""`carfs client …` against an agent as it runs: imports from the command line, with Lotus' lines and our exit codes."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.agent.cars import write_car
from tests.agent.imports.worlds import edit, tree_at
from tests.agent.processes import AgentProcess, Shell, until
from tests.fixtures import REPOSITORY


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AgentProcess]:
    with AgentProcess(tmp_path_factory.mktemp("agent") / "a") as agent:
        yield agent


@pytest.fixture
def carfs(agent: AgentProcess, tmp_path: Path) -> Iterator[Shell]:
    yield Shell(agent.path, tmp_path)
    for one in agent.client.call("Carfs.Imports"):
        agent.client.call("Carfs.RemoveImport", {"Import": one["ID"]})
    until(lambda: left_of(agent) == set())


def left_of(agent: AgentProcess) -> set[str]:
    """What is in the folders of imports."""
    return {path.name for folder in ("imports", "staging") for path in (agent.path / folder).iterdir()}


def asked(carfs: Shell, *arguments: str) -> Any:
    """The JSON that a command prints."""
    code, out, err = carfs("client", *arguments, "--json")
    assert (code, err) == (0, "")
    return json.loads(out)


def begin_big_import(carfs: Shell, agent: AgentProcess, path: Path) -> subprocess.Popen[str]:
    """An import that goes on for a while."""
    with (path / "huge").open("wb") as file:
        file.truncate(64 << 30)
    process = carfs.begin("client", "import", "huge")
    until(lambda: any(one["Done"] for one in agent.client.call("Carfs.Imports")))
    return process


def test_an_import_from_importing_to_dropping_in_lotus_words(carfs: Shell, tmp_path: Path) -> None:
    tree_at(tmp_path / "set")
    code, out, err = carfs("client", "import", "set")
    match = re.fullmatch(r"Import (\d+), Root (bafy\w+)\n", out)
    assert match and (code, err) == (0, "")
    number, root = match.groups()
    line = f"{number}: {root} @{tmp_path / 'set'} (import)\n"
    assert carfs("client", "local") == (0, line, "")
    assert carfs("client", "list-imports") == (0, line, "")
    assert carfs("client", "local", "--long")[1].splitlines()[1].split() == [
        number, "set", "ref", "Ready", "14.6", "KiB", root, str(tmp_path / "set"),
    ]  # fmt: skip
    assert [(one["ID"], one["Name"]) for one in asked(carfs, "local")] == [(int(number), "set")]
    code, out, _ = carfs("client", "stat", root)
    assert re.fullmatch(r"Piece Size  : 16384\nPayload Size: 15\d\d\d\n", out)
    assert carfs("client", "drop", number) == (0, f"Dropped import {number}, set\n", "")
    assert carfs("client", "local") == (0, "", "")
    assert (tmp_path / "set" / "file0").exists()


def test_the_same_again_is_said_to_be_there_and_quiet_prints_the_root_alone(
    carfs: Shell, tmp_path: Path
) -> None:
    tree_at(tmp_path / "set")
    first = asked(carfs, "import", "set")
    code, out, err = carfs("client", "import", "set")
    assert (code, out) == (0, f"Import {first['ID']}, Root {first['Root']}\n")
    assert err == "carfs: it was there already, as import set\n"
    assert carfs("client", "import", "-q", "set") == (0, f"{first['Root']}\n", "")


def test_many_paths_are_imported_although_one_is_not_there(carfs: Shell, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_text(name * 1000)
    code, out, err = carfs("client", "import", "a", "none", "b")
    assert (code, len(out.splitlines())) == (3, 2)
    assert err.startswith("carfs: ") and "none: No such file or directory" in err
    assert carfs("client", "drop", "a", "none", "b")[0] == 3
    assert carfs("client", "local")[1] == ""


def test_what_is_left_out_is_named(carfs: Shell, tmp_path: Path) -> None:
    tree_at(tmp_path / "set")
    os.mkfifo(tmp_path / "set" / "pipe")
    code, _, err = carfs("client", "import", "set")
    assert code == 0 and err.startswith("carfs: left out: ") and "pipe: " in err


def test_standard_input_is_imported_as_a_file_or_as_the_car_that_it_is(carfs: Shell, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("some text")
    expected = asked(carfs, "import", "text")
    carfs("client", "drop", "text")
    code, out, err = carfs("client", "import", "--name", "in", "-", stdin="some text")
    assert (code, err) == (0, "") and out.endswith(f"Root {expected['Root']}\n")
    assert carfs("client", "cat", "in") == (0, "some text", "")
    write_car(tmp_path / "x.car")
    with (tmp_path / "x.car").open("rb") as car:
        done = subprocess.run(
            [sys.executable, "-m", "agent.cli.main", "client", "import", "--car", "-"], stdin=car,
            env=os.environ | {"CARFS_PATH": str(carfs._environ["CARFS_PATH"]), "PYTHONPATH": str(REPOSITORY)},
            cwd=tmp_path, capture_output=True, text=True, check=True,
        )  # fmt: skip
    assert done.stdout.startswith("Import ")
    assert [one["Kind"] for one in asked(carfs, "local")] == ["dense", "car"]
    assert carfs("client", "import", "--hidden", "-", stdin="")[0] == 2


def test_a_failed_upload_leaves_nothing(carfs: Shell, agent: AgentProcess) -> None:
    code, out, err = carfs("client", "import", "--car", "-", stdin="this is no CAR")
    assert (code, out) == (5, "") and err.startswith("carfs: ")
    until(lambda: left_of(agent) == set())


def test_an_import_is_named_by_a_beginning_of_its_number_name_or_root(carfs: Shell, tmp_path: Path) -> None:
    for name in ("alpha", "alps"):
        (tmp_path / name).write_text(name * 1000)
    alpha, alps = (asked(carfs, "import", name) for name in ("alpha", "alps"))
    for given in (
        "alpha",
        "alph",
        str(alpha["ID"]),
        str(alpha["ID"])[:-1],
        alpha["Root"],
        alpha["Root"][:-3],
    ):
        assert asked(carfs, "info", given)["ID"] == alpha["ID"]
    code, _, err = carfs("client", "info", "alp")
    assert (code, err.startswith("carfs: 2 imports have names")) == (2, True)
    code, _, err = carfs("client", "info", "beta")
    assert (code, err) == (3, "carfs: there is no import 'beta'; `carfs client local` lists all\n")
    assert carfs("client", "drop", "alph")[0] == 3
    assert carfs("client", "drop", alps["Root"][:20])[0] == 0


def test_ctrl_c_leaves_nothing_of_an_import(carfs: Shell, agent: AgentProcess, tmp_path: Path) -> None:
    process = begin_big_import(carfs, agent, tmp_path)
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=30) == ("", "")
    assert process.returncode == 130
    assert agent.client.call("Carfs.Imports") == []
    until(lambda: left_of(agent) == set())


def test_an_import_ends_with_the_command_that_was_killed(
    carfs: Shell, agent: AgentProcess, tmp_path: Path
) -> None:
    process = begin_big_import(carfs, agent, tmp_path)
    process.kill()
    process.communicate(timeout=30)
    until(lambda: agent.client.call("Carfs.Imports") == [] and left_of(agent) == set())


def test_an_import_that_is_not_waited_for_is_listed_and_can_be_called_off(
    carfs: Shell, agent: AgentProcess, tmp_path: Path
) -> None:
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(64 << 30)
    code, out, _ = carfs("client", "import", "--no-wait", "huge")
    assert code == 0 and out.endswith(", Root <nil>\n")
    assert "\n\timporting: " in carfs("client", "local")[1]
    assert carfs("client", "cat", "huge")[0] == 4
    assert carfs("client", "drop", "huge")[0] == 0
    until(lambda: left_of(agent) == set())


def test_progress_goes_to_a_terminal_with_rate_and_time_left(
    carfs: Shell, agent: AgentProcess, tmp_path: Path
) -> None:
    import pty

    with (tmp_path / "huge").open("wb") as file:
        file.truncate(64 << 30)
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "agent.cli.main", "client", "import", "huge"], cwd=tmp_path, stderr=theirs,
        stdout=subprocess.PIPE,
        env=os.environ | {"CARFS_PATH": str(agent.path), "PYTHONPATH": str(REPOSITORY), "COLUMNS": "150"},
    )  # fmt: skip
    os.close(theirs)
    seen = b""
    while not re.search(rb"importing huge.*/64\.0 GiB.*/s.*0:\d\d:\d\d", seen.replace(b"\x1b", b"")):
        seen += os.read(ours, 10_000)
        assert len(seen) < 1_000_000
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    os.close(ours)
    assert process.returncode == 130


def test_an_edited_source_is_named_repaired_relinked_and_frozen(carfs: Shell, tmp_path: Path) -> None:
    source = tree_at(tmp_path / "set")
    asked(carfs, "import", "set")
    assert carfs("client", "verify") == (0, "set: GOOD\n", "")
    edit(source / "file0", b"other")
    code, out, _ = carfs("client", "verify", "set")
    assert code == 5 and out.startswith("set: STALE 1 file changed, 1 block lost")
    assert f"    {source / 'file0'}: bytes 0 to 5000 are no longer bafk" in out
    assert "\tstale: 1 file changed since it was imported" in carfs("client", "local")[1]
    code, _, err = carfs("client", "cat", "set/file0")
    assert code == 5 and f"carfs: {source / 'file0'}: offset 0: " in err
    assert carfs("client", "cat", "set/sub/file1") == (0, "\2" * 5000, "")
    assert carfs("client", "export", "set", "out")[0] == 5
    assert not (tmp_path / "out").exists()
    code, out, _ = carfs("client", "repair", "set")
    assert (code, out) == (5, "Repaired set: 0 blocks found elsewhere, 0 files as before, 1 block lost\n")
    (tmp_path / "backup").write_bytes(b"x" + bytes([1]) * 5000)
    code, out, _ = carfs("client", "repair", "set", "--also", "backup")
    assert code == 5 or out.startswith("Repaired set: 1 block found elsewhere")
    edit(source / "file0", bytes([1]) * 5)
    assert carfs("client", "repair", "set")[0] == 0
    source.rename(tmp_path / "moved")
    assert carfs("client", "verify")[0] == 5
    assert carfs("client", "relink", "set", "none")[0] in (3, 5)
    assert carfs("client", "relink", "set", "moved")[:2] == (0, "Linked set to moved: 3 files\n")
    assert carfs("client", "freeze", "set")[0] == 0
    assert asked(carfs, "info", "set")["Kind"] in ("dense", "ref")
    assert carfs("client", "rename", "set", "kept") == (0, "Renamed import set to kept\n", "")
    assert carfs("client", "verify", "--deep", "kept")[0] == 0


def test_ls_lists_as_lotus_does_and_deeper(carfs: Shell, tmp_path: Path) -> None:
    tree_at(tmp_path / "set")
    asked(carfs, "import", "set")
    lines = carfs("client", "ls", "set")[1].splitlines()
    assert [line.split(" ", 1)[1] for line in lines][:2] == ["file0\t5000", "file2\t5000"]
    _code, out, _ = carfs("client", "ls", "--depth", "2", "--json", "set")
    found = [json.loads(line) for line in out.splitlines()]
    assert [(one["Name"], one["Kind"], one["Size"], one["Target"]) for one in found] == [
        ("file0", "file", 5000, ""), ("file2", "file", 5000, ""), ("link", "symlink", 5, "file0"),
        ("sub", "directory", 0, ""), ("sub/file1", "file", 5000, ""),
    ]  # fmt: skip
    assert carfs("client", "ls", "--ipld", "--depth", "2", "set")[1].splitlines()[:3] == [
        "Links", "Links/0", "Links/1"
    ]  # fmt: skip
    assert carfs("client", "ls", "set/none")[0] == 3


def test_find_names_imports_and_shards(carfs: Shell, agent: AgentProcess, tmp_path: Path) -> None:
    tree_at(tmp_path / "set")
    number = asked(carfs, "import", "set")["ID"]
    leaf = json.loads(carfs("client", "ls", "--json", "set")[1].splitlines()[0])["CID"]
    assert carfs("client", "find", "set")[1] == f"LOCAL\nimport {number} set (root)\n"
    assert carfs("client", "find", leaf)[1] == f"LOCAL\nimport {number} set\n"
    assert carfs("client", "export", "--car", "--version", "2", "set", "x.car")[0] == 0
    agent.register("copy", tmp_path / "x.car")
    try:
        assert carfs("client", "find", leaf)[1] == f"LOCAL\nimport {number} set\nshard copy\n"
        carfs("client", "drop", "set")
        assert carfs("client", "cat", leaf) == (0, "\1" * 5000, "")
    finally:
        agent.client.call("Carfs.DestroyShard", ["copy"])
    code, out, err = carfs("client", "find", leaf)
    assert (code, out, err) == (3, "", f"carfs: no import and no shard here holds {leaf}\n")


def test_export_writes_files_cars_and_streams(carfs: Shell, tmp_path: Path) -> None:
    source = tree_at(tmp_path / "set")
    root = asked(carfs, "import", "set")["Root"]
    assert carfs("client", "export", "set/sub/file1", "one") == (
        0, "Exported 1 file, 4.9 KiB, to one\n", "",
    )  # fmt: skip
    assert (tmp_path / "one").read_bytes() == (source / "sub" / "file1").read_bytes()
    code, _, err = carfs("client", "export", "set", "one")
    assert code == 4 and err.endswith("or say that it may be replaced (--force)\n")
    assert carfs("client", "export", "--force", "set", "one")[0] == 0
    assert (tmp_path / "one" / "sub" / "file1").exists()
    assert carfs("client", "export", "--car", "set", "x.car")[0] == 0
    done = subprocess.run(
        [sys.executable, "-m", "agent.cli.main", "client", "export", "--car", root, "-"],
        env=os.environ | {"CARFS_PATH": carfs._environ["CARFS_PATH"], "PYTHONPATH": str(REPOSITORY)},
        capture_output=True, check=True,
    )  # fmt: skip
    assert done.stdout == (tmp_path / "x.car").read_bytes()
    assert carfs("client", "cat", "--range", "1:3", "set/file0")[1] == "\1\1\1"
    told = asked(carfs, "export", "--car", "--path", "file0", "--path", "sub", "set", "two.car")
    assert len(told["Roots"]) == 2
    proof = ("--car", "--data-selector", "/Links/0/Hash", "--car-export-merkle-proof")
    assert asked(carfs, "export", *proof, "set", "proof.car")["Roots"] == [root]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["import", "--car", "--dense", "x"], 2, "give --car or --dense, not both"),
        (["import", "--name", "x", "a", "b"], 2, "--name is for one PATH"),
        (["import", "none"], 3, "none: No such file or directory"),
        (["import", ""], 2, "an empty path"),
        (["export", "none", "out"], 3, "there is no import 'none'"),
        (["export", "set", "no/such/folder/x"], 3, "no/such/folder: No such file or directory"),
        (["export", "--data-selector", "/Links/9/Hash", "set", "x"], 3, "does not match a node within"),
        (["export", "--data-selector", "{", "set", "x"], 2, "failed to parse json-selector"),
        (["export", "--car-export-merkle-proof", "set", "x"], 2, "needs --car"),
        (["export", "set", "-"], 2, "is a directory"),
        (["cat", "set"], 2, "is a directory"),
        (["cat", "set/none"], 3, "no entry 'none' in directory"),
        (["cat", "/"], 2, "give the name of an import or a CID"),
        (["find", "none"], 3, "there is no import 'none'"),
        (["stat", "none"], 3, "there is no import 'none'"),
        (["rename", "set", "a/b"], 2, "cannot be the name of an import"),
        (["generate-car", "set/file0", "set"], 4, "exists; remove it"),
        (["migrate-imports", "none"], 3, "none: No such file or directory"),
    ],
)
def test_what_fails_is_one_line_and_an_exit_code(
    carfs: Shell, tmp_path: Path, arguments: list[str], code: int, message: str
) -> None:
    tree_at(tmp_path / "set")
    asked(carfs, "import", "set")
    found, out, err = carfs("client", *arguments)
    assert (found, out) == (code, "")
    assert message in err.splitlines()[-1] and err.splitlines()[-1].startswith("carfs: ")
    assert {path.name for path in tmp_path.iterdir()} == {"set"}


def test_ctrl_c_leaves_nothing_of_an_export(carfs: Shell, agent: AgentProcess, tmp_path: Path) -> None:
    block = os.urandom(1 << 20)
    with (tmp_path / "big").open("wb") as file:
        for number in range(400):
            file.write(number.to_bytes(4, "big") + block[4:])
    asked(carfs, "import", "big")
    (tmp_path / "out").mkdir()
    process = carfs.begin("client", "export", "big", "out/x")
    until(lambda: list((tmp_path / "out").glob(".carfs-tmp-*/*")))
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == 130
    until(lambda: list((tmp_path / "out").iterdir()) == [] and asked(carfs, "info", "big")["Refs"] == 0)


def test_generate_car_packs_with_the_parameters_of_lotus_and_imports_nothing(
    carfs: Shell, tmp_path: Path
) -> None:
    (tmp_path / "x").write_bytes(bytes(3_000_000))
    assert carfs("client", "generate-car", "x", "x.car") == (0, "", "")
    root = asked(carfs, "import", "--profile", "lotus", "x")["Root"]
    assert f"Roots: {root}" in carfs("car", "inspect", "x.car")[1]
    code, out, _ = carfs("client", "generate-car", "--car", "--force", "--json", "x.car", "y.car")
    assert code == 0 and json.loads(out)["Size"] == (tmp_path / "y.car").stat().st_size


def test_imports_of_lotus_are_listed_in_the_words_of_its_log_and_imported_anew(
    carfs: Shell, tmp_path: Path
) -> None:
    (tmp_path / "data").write_bytes(bytes(2_000_000))
    stores = tmp_path / "stores"
    stores.mkdir()
    labels = {"source": "import", "filename": str(tmp_path / "data"), "root": "bafkqaaa"}
    (stores / "7").write_text(json.dumps({"Labels": labels}))
    code, out, _ = carfs("client", "migrate-imports", "stores")
    lines = out.splitlines()
    assert (code, lines[0]) == (0, "sanity checking imports")
    assert lines[1].startswith("import lacks carv2 path; import will not work; please reimport {")
    assert lines[2] == 'sanity check completed {"broken": 1, "total": 1}'
    assert carfs("client", "local")[1] == ""
    assert carfs("client", "migrate-imports", "--reimport", "stores")[1].splitlines()[3].startswith("Import ")
    assert [one["FilePath"] for one in asked(carfs, "local")] == [str(tmp_path / "data")]


def test_without_an_agent_each_command_says_so(tmp_path: Path) -> None:
    carfs = Shell(tmp_path / "none", tmp_path)
    (tmp_path / "x").write_text("x")
    for arguments in (
        ["import", "x"],
        ["import", "-"],
        ["local"],
        ["cat", "x"],
        ["export", "x", "y"],
        ["verify"],
    ):
        code, out, err = carfs("client", *arguments, stdin="")
        assert (code, out) == (6, "") and "start one with `carfs agent`" in err
