"""`carfs dagstore …` with Lotus' words, colours and exit codes, `carfs auth …` and `carfs rpc …`; with a real agent."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.cli.dagstore import indexing
from agent.cli.main import main
from agent.client import AgentError, AgentUnreachable, Client
from tests.agent.cars import write_broken_car, write_car
from tests.agent.processes import AgentProcess, Shell

GREEN, RED, YELLOW, RESET = "\x1b[32m", "\x1b[31m", "\x1b[33m", "\x1b[0m"


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AgentProcess]:
    config = tmp_path_factory.mktemp("config") / "config.toml"
    config.write_text('[rpc]\nlisten = ["127.0.0.1:0", "[::1]:0"]\n[dagstore]\nretry_attempts = 1\n')
    with AgentProcess(tmp_path_factory.mktemp("agent") / "a", "--config", str(config)) as agent:
        yield agent


@pytest.fixture
def carfs(agent: AgentProcess, tmp_path: Path) -> Iterator[Shell]:
    yield Shell(agent.path, tmp_path)
    for key in agent.states():
        agent.client.call("Carfs.DestroyShard", [key])


@pytest.fixture
def three(agent: AgentProcess, carfs: Shell, tmp_path: Path) -> None:
    """`a` Available, `b` New, `c` Errored."""
    write_car(tmp_path / "x.car")
    carfs("dagstore", "register-shard", "a", "x.car")
    carfs("dagstore", "register-shard", "--lazy", "b", "x.car")
    write_broken_car(tmp_path / "cut.car")
    carfs("dagstore", "register-shard", "c", "cut.car")


@pytest.mark.usefixtures("three")
def test_r3_lists_can_be_filtered_paged_counted_and_coloured(carfs: Shell) -> None:
    _, out, _ = carfs("dagstore", "list-shards", "--state", "available", "--state", "New")
    assert [line.split() for line in out.splitlines()] == [
        ["KEY", "STATE", "ERROR"],
        ["a", "Available"],
        ["b", "New"],
    ]
    assert carfs("dagstore", "list-shards", "--limit", "1", "--after", "a")[1].splitlines()[1].split() == [
        "b",
        "New",
    ]
    assert (
        carfs("dagstore", "list-shards", "--glob", "[ac]", "--error-class", "corrupt")[1]
        .splitlines()[1]
        .startswith("c ")
    )
    assert carfs("dagstore", "list-shards", "--prefix", "z") == (0, "", "")
    counted = json.loads(carfs("dagstore", "list-shards", "--count", "--json")[1])
    assert (counted["Total"], counted["ErrorClasses"]) == (3, {"corrupt": 1})
    assert "all                 3" in carfs("dagstore", "list-shards", "--count")[1]
    _, out, _ = carfs("dagstore", "list-shards", "--color")
    _heading, a, b, c = out.splitlines()
    assert f"{GREEN}Available{RESET}" in a
    assert f"{YELLOW}New      {RESET}" in b
    assert f"{RED}Errored  {RESET}" in c
    assert "\x1b" not in carfs("dagstore", "list-shards")[1]


@pytest.mark.usefixtures("three")
def test_a_long_list_has_sizes_leases_times_and_urls(carfs: Shell, tmp_path: Path) -> None:
    heading, a, *_ = carfs("dagstore", "list-shards", "--long")[1].splitlines()
    assert heading.split() == [
        "KEY",
        "STATE",
        "REFS",
        "SIZE",
        "BLOCKS",
        "REGISTERED",
        "SINCE",
        "CLASS",
        "URL",
        "ERROR",
    ]
    assert f"file://{tmp_path}/x.car" in a
    assert a.split()[:3] == ["a", "Available", "0"]


@pytest.mark.usefixtures("three")
def test_initialize_all_says_what_lotus_says(carfs: Shell) -> None:
    carfs("dagstore", "register-shard", "--lazy", "d", "none.car")
    code, out, _ = carfs("dagstore", "initialize-all", "--concurrency", "1")
    first, second, third, fourth = out.splitlines()
    assert (code, first, second, third) == (1, "(1/2) b STARTING", "(1/2) b SUCCESS", "(2/2) d STARTING")
    assert fourth.startswith("(2/2) d ERROR ")
    assert carfs("dagstore", "initialize-all", "--concurrency", "0") == (0, "", "")


@pytest.mark.usefixtures("three")
def test_initialize_all_as_json_is_a_line_for_each_event_and_colours_are_on_demand(carfs: Shell) -> None:
    code, out, _ = carfs("dagstore", "initialize-all", "--concurrency", "0", "--json")
    assert (code, [json.loads(line)["Event"] for line in out.splitlines()]) == (0, ["start", "end"])
    carfs("dagstore", "register-shard", "--lazy", "e", "x.car")
    assert carfs("dagstore", "initialize-all", "--concurrency", "0", "--color")[1].endswith(
        f"{GREEN}SUCCESS{RESET}\n"
    )


def test_ctrl_c_aborts_initialize_all_and_leaves_the_rest(
    carfs: Shell, agent: AgentProcess, big_car: Path
) -> None:
    for key in "abc":
        agent.client.call("Carfs.RegisterShard", {"Key": key, "URL": str(big_car), "Lazy": True})
    running = carfs.begin("dagstore", "initialize-all", "--concurrency", "1")
    assert running.stdout is not None
    assert running.stdout.readline() == "(1/3) a STARTING\n"
    running.send_signal(signal.SIGINT)
    _, errors = running.communicate(timeout=60)
    assert (running.returncode, errors) == (130, "carfs: aborted\n")
    assert agent.states() == {"a": "Initializing", "b": "New", "c": "New"}


@pytest.mark.usefixtures("three")
def test_all_errored_shards_are_recovered_at_once(carfs: Shell, tmp_path: Path) -> None:
    write_car(tmp_path / "cut.car")
    assert carfs("dagstore", "recover-shard", "--all", "--error-class", "gone") == (0, "", "")
    code, out, _ = carfs("dagstore", "recover-shard", "--all", "--concurrency", "0")
    assert (code, out) == (0, "(1/1) c STARTING\n(1/1) c SUCCESS\n")


def test_commands_about_one_shard_say_as_json_what_became_of_it(carfs: Shell, tmp_path: Path) -> None:
    write_broken_car(tmp_path / "x.car")
    carfs("dagstore", "register-shard", "--lazy", "a", "x.car")
    assert carfs("dagstore", "initialize-shard", "a", "--json")[:2] == (5, "")
    write_car(tmp_path / "x.car")
    assert json.loads(carfs("dagstore", "recover-shard", "a", "--json")[1])["State"] == "ShardStateAvailable"
    carfs("dagstore", "register-shard", "--lazy", "b", "x.car")
    assert json.loads(carfs("dagstore", "initialize-shard", "b", "--json")[1])["Blocks"] == 3
    assert json.loads(carfs("dagstore", "destroy-shard", "b", "--json")[1]) == {"Key": "b"}


def test_many_are_registered_from_a_list(carfs: Shell, agent: AgentProcess, tmp_path: Path) -> None:
    write_car(tmp_path / "a b.car")
    lines = 'one a b.car\n\n{"Key": "two", "URL": "a b.car", "Lazy": true}\none a b.car\n'
    code, out, _ = carfs("dagstore", "register-shards", "--lazy", "-", stdin=lines)
    assert (code, out) == (
        1,
        "one ERROR a shard with the key 'one' exists already\nRegistered 2 shards, refused 1\n",
    )
    assert agent.states() == {"one": "New", "two": "New"}
    code, _, err = carfs("dagstore", "register-shards", "-", stdin="alone\n")
    assert (code, err) == (2, "carfs: line 1: neither 'KEY URL' nor an object with Key and URL: 'alone'\n")


def test_replicas_and_a_copy_of_ones_own_are_kept(carfs: Shell, tmp_path: Path) -> None:
    write_car(tmp_path / "x.car")
    options = ["--replica", "x.car", "--existing-transient", "x.car", "--json"]
    code, out, _ = carfs("dagstore", "register-shard", "a", "x.car", *options)
    record = json.loads(out)
    assert (code, record["Replicas"], record["ExistingTransient"]) == (
        0,
        [f"file://{tmp_path}/x.car"],
        f"{tmp_path}/x.car",
    )


@pytest.mark.usefixtures("three")
def test_history_says_when_what_and_by_whom(carfs: Shell) -> None:
    heading, last, *_, first = carfs("dagstore", "history", "a")[1].splitlines()
    assert heading.split() == ["NUMBER", "AT", "STATE", "EVENT", "BY", "REASON"]
    assert "-> Available" in last
    assert "rpc: process" in first
    lines = json.loads(carfs("dagstore", "history", "a", "--json", "--limit", "1")[1])
    assert [one["After"] for one in lines] == ["ShardStateAvailable"]


@pytest.mark.usefixtures("three")
def test_failures_can_be_watched_from_before(carfs: Shell) -> None:
    watching = carfs.begin("dagstore", "watch", "--failures", "--recent", "--json")
    assert watching.stdout is not None
    found = json.loads(watching.stdout.readline())
    watching.send_signal(signal.SIGINT)
    watching.communicate(timeout=60)
    assert (found["After"], found["ErrorClass"], watching.returncode) == ("ShardStateErrored", "corrupt", 130)


def test_a_stream_that_is_cut_short_is_no_end(agent: AgentProcess, tmp_path: Path) -> None:
    with AgentProcess(tmp_path / "b") as mortal:
        stream = mortal.client.stream("Carfs.WatchShards")
        car = write_car(tmp_path / "x.car")
        mortal.register("a", car)
        values = mortal.client.stream("Carfs.WatchShards", {"Recent": True})
        assert next(values)["Key"] == "a"
        mortal.kill()
        with pytest.raises(AgentUnreachable, match="broke off"):
            for _ in values:
                pass
        with pytest.raises(AgentUnreachable):
            next(stream)


@pytest.mark.usefixtures("three")
def test_tokens_are_made_shown_verified_and_ended(carfs: Shell, agent: AgentProcess) -> None:
    code, token, _ = carfs("auth", "create-token", "--perm", "write")
    assert (code, token.count(".")) == (0, 2)
    assert carfs("auth", "verify", token.strip()) == (0, "read write\n", "")
    code, out, _ = carfs("auth", "api-info", "--perm", "read")
    (port, _other) = [one.rpartition(":")[2] for one in agent.client.call("Carfs.Addresses")["Listen"]]
    variable, _, info = out.strip().partition("=")
    assert (code, variable, info.partition(":")[2]) == (
        0,
        "MINER_API_INFO",
        f"/ip4/127.0.0.1/tcp/{port}/http",
    )
    assert carfs("auth", "revoke-all") == (0, "", "")
    code, _, err = carfs("auth", "verify", token.strip())
    assert (code, err) == (4, "carfs: JWT verification failed: Signature verification failed\n")
    assert (agent.path / "token-secret").stat().st_mode & 0o777 == 0o600


def test_api_info_without_tcp_says_what_to_do(tmp_path: Path) -> None:
    with AgentProcess(tmp_path / "b"):
        code, _, err = Shell(tmp_path / "b", tmp_path)("auth", "api-info", "--perm", "read")
    assert code == 4
    assert "set rpc.listen in config.toml" in err


def test_any_method_can_be_called_and_the_schema_printed(carfs: Shell) -> None:
    assert json.loads(carfs("rpc", "call", "Filecoin.Version")[1])["APIVersion"] == 66816
    assert carfs("rpc", "stream", "Carfs.WalkShards", '{"Prefix": "a"}') == (0, "", "")
    assert json.loads(carfs("rpc", "schema")[1])["openrpc"] == "1.3.2"
    assert carfs("rpc", "call", "F.none") == (3, "", "carfs: method 'F.none' not found\n")
    assert carfs("rpc", "call", "Filecoin.Version", "{")[0] == 2
    assert carfs("rpc", "stream", "Filecoin.Version") == (2, "", "carfs: Filecoin.Version gives no stream\n")
    assert "not supported in this mode" in carfs("rpc", "call", "Carfs.WalkShards")[2]


def test_gc_with_nothing_to_collect_says_so(carfs: Shell) -> None:
    assert carfs("dagstore", "gc") == (0, "no shards collected\n", "")


def test_a_client_asks_for_streams_only_where_there_are_some(agent: AgentProcess) -> None:
    with pytest.raises(AgentError, match=r"Filecoin\.Version gives no stream"):
        list(Client(agent.path / "agent.sock").stream("Filecoin.Version"))


@pytest.mark.parametrize("sealed", [True, False])
def test_r1_the_flag_of_the_command_is_what_the_agent_is_asked(
    sealed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lotus reads a flag of another name, so that sealed shards are never included."""
    asked: list[object] = []

    def stream(method: str, params: object) -> Iterator[object]:
        asked.append((method, params))
        return iter(())

    monkeypatch.setattr(indexing, "stream", stream)
    flags = ["--include-sealed"] if sealed else []
    assert main(["dagstore", "initialize-all", "--concurrency", "0", *flags]) == 0
    assert asked == [("Filecoin.DagstoreInitializeAll", {"MaxConcurrency": 0, "IncludeSealed": sealed})]
