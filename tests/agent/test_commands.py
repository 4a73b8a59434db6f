"""`carfs dagstore …` and `carfs status`: one call each, and exit codes as documented."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.cli.exits import EXIT_BY_RPC_CLASS
from agent.dagstore.failures import ErrorClass
from tests.agent.cars import write_broken_car, write_car
from tests.agent.processes import AgentProcess, Shell


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AgentProcess]:
    with AgentProcess(tmp_path_factory.mktemp("agent") / "a") as agent:
        yield agent


@pytest.fixture
def carfs(agent: AgentProcess, tmp_path: Path) -> Iterator[Shell]:
    yield Shell(agent.path, tmp_path)
    for key in agent.states():
        agent.client.call("Carfs.DestroyShard", [key])


def test_a_shard_from_registering_to_destroying(carfs: Shell, tmp_path: Path) -> None:
    write_car(tmp_path / "a b.car")
    assert carfs("dagstore", "register-shard", "x", "a b.car") == (0, "Registered shard x\n", "")
    assert carfs("dagstore", "register-shard", "--lazy", "y", str(tmp_path / "a b.car"))[0] == 0
    assert carfs("dagstore", "list-shards") == (0, "KEY  STATE      ERROR\nx    Available\ny    New\n", "")
    assert carfs("dagstore", "initialize-shard", "y") == (0, "", "")
    _code, out, _ = carfs("dagstore", "list-shards", "--json")
    assert [(one["Key"], one["State"], one["Blocks"]) for one in json.loads(out)] == [
        ("x", "ShardStateAvailable", 3),
        ("y", "ShardStateAvailable", 3),
    ]
    assert carfs("dagstore", "destroy-shard", "x") == (0, "Destroyed shard x\n", "")
    assert carfs("dagstore", "list-shards")[1].splitlines()[1:] == ["y    Available"]


def test_a_name_of_any_bytes_can_be_registered(carfs: Shell, tmp_path: Path) -> None:
    name = b"\xff%20 #?"
    write_car(Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)))
    code, out, _ = carfs("dagstore", "register-shard", "--json", "x", name)
    assert (code, json.loads(out)["URL"].rpartition("/")[2]) == (0, "%FF%2520%20%23%3F")


def test_no_shards_print_nothing(carfs: Shell) -> None:
    assert carfs("dagstore", "list-shards") == (0, "", "")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["register-shard", "x", "none.car"], 3, "none.car: No such file or directory"),
        (["register-shard", "x", "cut.car"], 5, "cut.car: offset"),
        (["register-shard", "x", "gopher://host/x"], 2, "no mount for the scheme 'gopher'"),
        (["register-shard", "", "ok.car"], 2, "a shard key has 1 to 1024 bytes"),
        (["register-shard", b"\xff", "ok.car"], 2, "a shard key must be Unicode text"),
        (["destroy-shard", "none"], 3, "shard not found: 'none'"),
        (["register-shard", "there", "ok.car"], 4, "exists already"),
        (["recover-shard", "there"], 4, "expected state ShardStateErrored, was: ShardStateAvailable"),
        (["initialize-shard", "there"], 4, "expected state ShardStateNew"),
        (["register-shard"], 2, "Missing argument 'KEY'"),
        (["register-shard", "x", ""], 2, "an empty path"),
        (["recover-shard"], 2, "give a KEY, or --all"),
        (["recover-shard", "--all", "x"], 2, "give a KEY, or --all"),
        (["initialize-all"], 2, "Missing option '--concurrency'"),
        (["initialize-all", "--concurrency", "-1"], 2, "-1 is not in the range x>=0"),
        (["list-shards", "--state", "none"], 2, "'none' is not one of"),
        (["history", "none"], 3, "shard not found: 'none'"),
        (["lookup-pieces", "no cid"], 2, "is not a CID"),
    ],
)
def test_what_fails_is_one_line_and_an_exit_code(
    carfs: Shell, agent: AgentProcess, tmp_path: Path, arguments: list[str | bytes], code: int, message: str
) -> None:
    agent.register("there", write_car(tmp_path / "ok.car"))
    write_broken_car(tmp_path / "cut.car")
    found, out, err = carfs("dagstore", *arguments)
    assert (found, out) == (code, "")
    assert message in err.splitlines()[-1]
    assert "Traceback" not in err


def test_an_errored_shard_shows_why_and_recovers(carfs: Shell, tmp_path: Path) -> None:
    assert carfs("dagstore", "register-shard", "x", "late.car")[0] == 3
    _, out, _ = carfs("dagstore", "list-shards")
    assert out.splitlines()[1] == f"x    Errored  {tmp_path}/late.car: No such file or directory"
    write_car(tmp_path / "late.car")
    assert carfs("dagstore", "recover-shard", "x") == (0, "", "")


def test_status_is_for_people_and_programs(carfs: Shell, agent: AgentProcess, tmp_path: Path) -> None:
    agent.register("x", write_car(tmp_path / "x.car"))
    _code, out, _ = carfs("status")
    lines = dict(line.split(maxsplit=1) for line in out.splitlines())
    assert lines["shards"] == "1 Available"
    assert lines["agent"].endswith(f"state in {agent.path}")
    assert json.loads(carfs("status", "--json")[1])["Pid"] == agent.process.pid


def test_without_an_agent_the_exit_code_says_so(tmp_path: Path) -> None:
    code, _, err = Shell(tmp_path / "none", tmp_path)("status")
    assert (code, err) == (
        6,
        f"carfs: no agent listens on {tmp_path}/none/agent.sock; start one with `carfs agent`\n",
    )


@pytest.mark.parametrize("command", [["agent"], ["status"], ["dagstore"], ["dagstore", "register-shard"]])
def test_help_has_an_example_and_is_quick_to_import(command: list[str], tmp_path: Path) -> None:
    code, out, _ = Shell(tmp_path, tmp_path)(*command, "--help")
    assert code == 0
    assert f"$ carfs {' '.join(command)}" in out


@pytest.mark.parametrize("key", ["/", "..", "-", "ü", "a\nb", "\x1b[31m", "k" * 300])
def test_any_text_can_be_a_key_and_none_steers_the_terminal(carfs: Shell, tmp_path: Path, key: str) -> None:
    write_car(tmp_path / "x.car")
    code, out, _ = carfs("dagstore", "register-shard", "--lazy", "--", key, "x.car")
    assert (code, out.count("\n"), "\x1b" in out) == (0, 1, False)
    assert "\x1b" not in carfs("dagstore", "list-shards")[1]
    code, _, error = carfs("dagstore", "register-shard", "--", key, "x.car")
    assert (code, error.count("\n"), "\x1b" in error) == (4, 1, False)


def test_every_class_of_error_has_its_exit_code() -> None:
    assert EXIT_BY_RPC_CLASS.keys() == set(ErrorClass)
