"""The agent as a process: start, stop, signals, sessions of clients that die, and answers under load."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from agent.client import AgentError, AgentUnreachable, Client
from tests.agent.cars import write_car
from tests.agent.processes import AgentProcess, until
from tests.fixtures import REPOSITORY


def test_ready_means_that_it_answers_and_stopping_is_said(tmp_path: Path) -> None:
    with AgentProcess(tmp_path / "a") as agent:
        assert agent.client.call("Filecoin.Version")["BlockDelay"] == 0
        agent.process.send_signal(signal.SIGTERM)
        assert agent.notification() == "STOPPING=1"
    assert agent.process.returncode == 0


def test_a_terminal_that_goes_away_stops_it_in_order_unless_nohup_said_otherwise(tmp_path: Path) -> None:
    with AgentProcess(tmp_path / "a") as agent:
        agent.process.send_signal(signal.SIGHUP)
        assert agent.process.wait(10) == 0
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # what nohup does; a child inherits it
    try:
        agent = AgentProcess(tmp_path / "a")
    finally:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
    with agent:
        agent.process.send_signal(signal.SIGHUP)
        assert agent.states() == {}


def test_without_standard_descriptors_its_files_do_not_take_their_place(tmp_path: Path) -> None:
    """A worker's stderr is the agent's: it must never be the catalogue."""
    command = f"exec {sys.executable} -m agent.cli.main agent <&- >&- 2>&-"
    environ = {**os.environ, "CARFS_PATH": str(tmp_path / "a"), "PYTHONPATH": str(REPOSITORY)}
    process = subprocess.Popen(["bash", "-c", command], env=environ)
    client = Client(tmp_path / "a" / "agent.sock")
    until(lambda: process.poll() is not None or answers(client))
    descriptors = [str(Path(f"/proc/{process.pid}/fd/{number}").readlink()) for number in range(3)]
    client.call("Carfs.Shutdown")
    assert process.wait(10) == 0
    assert descriptors == ["/dev/null"] * 3


def answers(client: Client) -> bool:
    try:
        return bool(client.call("Filecoin.Version"))
    except AgentUnreachable:
        return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_stops_in_order_in_the_middle_of_indexing(
    tmp_path: Path, big_car: Path, number: signal.Signals
) -> None:
    with AgentProcess(tmp_path / "a") as agent:
        agent.register("big", big_car, wait=False)
        until(lambda: any(one["Done"] for one in agent.client.call("Carfs.Status")["Indexing"]))
        (worker,) = agent.workers()
        started = time.monotonic()
        agent.process.send_signal(number)
        assert agent.process.wait(10) == 0
        assert time.monotonic() - started < 2
        assert not Path(f"/proc/{worker}").exists()
        assert not agent.client.path.exists()
    with AgentProcess(tmp_path / "a") as agent:
        assert agent.states() == {"big": "Initializing"}


def test_whoever_waits_when_it_stops_is_told(tmp_path: Path, big_car: Path) -> None:
    errors: list[AgentError] = []

    def register() -> None:
        try:
            agent.register("big", big_car)
        except AgentError as error:
            errors.append(error)

    with AgentProcess(tmp_path / "a") as agent:
        thread = threading.Thread(target=register)
        thread.start()
        until(lambda: agent.states() == {"big": "Initializing"})
    thread.join()
    assert [error.error_class for error in errors] == ["busy"]


def test_an_rpc_stops_it(tmp_path: Path) -> None:
    with AgentProcess(tmp_path / "a") as agent:
        agent.client.call("Carfs.Shutdown")
        assert agent.process.wait(10) == 0


def test_a_second_agent_is_refused_and_the_first_goes_on(tmp_path: Path) -> None:
    with AgentProcess(tmp_path / "a") as agent:
        second = subprocess.run(
            [sys.executable, "-m", "agent.cli.main", "agent"],
            cwd=REPOSITORY,
            env={**os.environ, "CARFS_PATH": str(agent.path)},
            capture_output=True,
            text=True,
            timeout=30,
        )
        assert second.returncode == 4
        assert second.stderr.startswith(
            f"carfs: another agent (process {agent.process.pid}) uses {agent.path};"
        )
        assert agent.states() == {}


def test_the_socket_of_a_killed_agent_is_taken_over(tmp_path: Path) -> None:
    with AgentProcess(tmp_path / "a") as agent:
        agent.kill()
        assert agent.client.path.exists()
        with pytest.raises(AgentUnreachable, match="no agent listens on"):
            agent.client.call("Carfs.Status")
    with AgentProcess(tmp_path / "a") as agent:
        assert agent.client.call("Carfs.Status")["Pid"] == agent.process.pid


@pytest.mark.parametrize("name", ["moved", "../a/./agent.sock"])
def test_a_relative_socket_is_below_the_state_directory(tmp_path: Path, name: str) -> None:
    with AgentProcess(tmp_path / "a", environ={"CARFS_RPC_SOCKET": name}) as agent:
        assert agent.states() == {}
        assert (tmp_path / "a" / name).is_socket()


def test_a_file_where_the_link_to_the_socket_belongs_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "agent.sock").write_text("mine")
    agent = AgentProcess(tmp_path / "a", environ={"CARFS_RPC_SOCKET": f"{tmp_path}/s"})
    assert agent.process.wait(30) == 1
    agent.__exit__()
    assert "agent.sock is there and is not a socket" in agent.log()
    assert (tmp_path / "a" / "agent.sock").read_text() == "mine"


def test_config_moves_the_socket_and_clients_find_it(tmp_path: Path) -> None:
    config = tmp_path / "my.toml"
    config.write_text(f"[rpc]\nsocket = '{tmp_path}/moved'\nsocket_mode = '0600'\n[workers]\ncount = 1")
    with AgentProcess(tmp_path / "a", "--config", str(config)) as agent:
        assert (tmp_path / "moved").stat().st_mode & 0o777 == 0o600
        status = Client(agent.path / "agent.sock").call("Carfs.Status")
        assert status["Workers"]["Limit"] == 1
    with AgentProcess(tmp_path / "a") as agent:
        assert agent.states() == {}
        assert not (agent.path / "agent.sock").is_symlink()


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"CARFS_LOG_LEVEL": "loud"}, "carfs: cannot start: the environment variable CARFS_LOG_LEVEL='loud'"),
        ({"CARFS_RPC_SOCKET": "/tmp/" + "x" * 110}, "bytes and the system allows 107: set rpc.socket"),
    ],
)
def test_what_keeps_it_from_starting_is_one_line(
    tmp_path: Path, variables: dict[str, str], message: str
) -> None:
    agent = AgentProcess(tmp_path / "a", environ=variables)
    assert agent.process.wait(30) == 1
    agent.__exit__()
    last = agent.log().splitlines()[-1]
    assert last.startswith("carfs: cannot start:")
    assert message in last
    assert "Traceback" not in agent.log()


def test_the_log_level_is_configured(tmp_path: Path) -> None:
    for level in ("debug", "error"):
        with AgentProcess(tmp_path / level, environ={"CARFS_LOG_LEVEL": level}) as agent:
            agent.register("x", write_car(tmp_path / "x.car"))
        assert ("shard x: NEW -> INITIALIZING" in agent.log()) == (level == "debug")
        assert ("ready:" in agent.log()) == (level == "debug")


def test_sigusr1_shows_what_every_task_does(tmp_path: Path) -> None:
    with AgentProcess(tmp_path / "a") as agent:
        agent.process.send_signal(signal.SIGUSR1)
        # "Current thread" heads the stacks only if the kernel gives the signal to a thread that runs Python just then.
        until(lambda: "task agent.service.run" in agent.log() and "(most recent call first)" in agent.log())
        assert agent.states() == {}
    assert "_stop_on_signal" in agent.log()


def test_an_idle_agent_is_small(tmp_path: Path) -> None:
    with AgentProcess(tmp_path / "a") as agent:
        agent.register("x", write_car(tmp_path / "x.car"))
        assert agent.resident_bytes() < 80_000_000


def test_idle_workers_go_after_the_configured_time(tmp_path: Path) -> None:
    with AgentProcess(tmp_path / "a", environ={"CARFS_WORKERS_IDLE_TIMEOUT_S": "0.2"}) as agent:
        agent.register("x", write_car(tmp_path / "x.car"))
        assert agent.workers()
        until(lambda: agent.workers() == [])


def test_it_answers_while_it_indexes(tmp_path: Path, big_car: Path) -> None:
    """Heavy work is never done in the event loop: an RPC takes milliseconds while all workers are busy."""
    with AgentProcess(tmp_path / "a") as agent:
        for number in range(3):
            agent.register(str(number), big_car, wait=False)
        until(lambda: any(one["Done"] for one in agent.client.call("Carfs.Status")["Indexing"]))
        took = []
        for _ in range(30):
            started = time.monotonic()
            assert "Initializing" in agent.states().values()
            took.append(time.monotonic() - started)
        assert sorted(took)[len(took) // 2] < 0.25


# Sessions


def test_a_stream_begins_with_all_shards_and_goes_on_with_what_changes(tmp_path: Path) -> None:
    with AgentProcess(tmp_path / "a") as agent:
        agent.register("x", write_car(tmp_path / "x.car"))
        with agent.client.events() as stream:
            events = iter(stream)
            snapshot = [next(events), next(events)]
            assert [event["event"] for event in snapshot] == ["shard", "ready"]
            assert snapshot[0]["shard"] == agent.client.call("Carfs.ShardInfo", ["x"])
            agent.register("y", tmp_path / "x.car")
            seen = next(event for event in events if event["shard"]["State"] == "ShardStateAvailable")
            assert seen["shard"]["Key"] == "y"
            agent.client.call("Carfs.DestroyShard", ["y"])
            removed = next(event for event in events if event["event"] != "shard")
            assert removed == {"event": "shard-removed", "key": "y"}


LEASE_AND_WAIT = """
import sys
from pathlib import Path
from agent.client import Client
client = Client(Path(sys.argv[1]))
stream = client.events()
client.call("Carfs.AcquireShard", {"Session": stream.session, "Key": "x"})
print("leased", flush=True)
sys.stdin.read()
"""


def test_a_client_that_is_killed_loses_its_leases_at_once(tmp_path: Path) -> None:
    with AgentProcess(tmp_path / "a") as agent:
        agent.register("x", write_car(tmp_path / "x.car"))
        holder = subprocess.Popen(
            [sys.executable, "-c", LEASE_AND_WAIT, str(agent.client.path)],
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert holder.stdin is not None and holder.stdout is not None
        with holder.stdin, holder.stdout:
            assert holder.stdout.readline() == b"leased\n"
            assert agent.refs("x") == 1
            with pytest.raises(AgentError) as raised:
                agent.client.call("Carfs.DestroyShard", ["x"])
            assert raised.value.error_class == "busy"
            holder.kill()
            holder.wait()
        started = time.monotonic()
        until(lambda: agent.refs("x") == 0)
        assert time.monotonic() - started < 1
        agent.client.call("Carfs.DestroyShard", ["x"])


def test_a_stream_that_is_closed_ends_its_session(tmp_path: Path) -> None:
    with AgentProcess(tmp_path / "a") as agent:
        agent.register("x", write_car(tmp_path / "x.car"))
        with agent.client.events() as stream:
            lease = {"Session": stream.session, "Key": "x"}
            assert agent.client.call("Carfs.AcquireShard", lease)["Refs"] == 1
            assert agent.client.call("Carfs.ReleaseShard", lease) is True
            assert agent.client.call("Carfs.ReleaseShard", lease) is False
            agent.client.call("Carfs.AcquireShard", lease)
        until(lambda: agent.refs("x") == 0)
        with pytest.raises(AgentError, match="there is no session"):
            agent.client.call("Carfs.AcquireShard", lease)


def test_d7_a_reader_that_does_not_read_is_cut_and_delays_nobody(tmp_path: Path) -> None:
    """D-7: one unread channel stopped the store."""
    with AgentProcess(tmp_path / "a", environ={"CARFS_RPC_EVENT_BUFFER": "8"}) as agent:
        write_car(tmp_path / "x.car")
        with socket.socket(socket.AF_UNIX) as stuck:
            stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            stuck.connect(str(agent.client.path))
            stuck.sendall(b"GET /events HTTP/1.1\r\nhost: x\r\n\r\n")
            until(lambda: len(agent.client.call("Carfs.Status")["Clients"]) == 1)
            number = 0
            while agent.client.call("Carfs.Status")["Clients"]:
                params = {"Key": str(number), "URL": str(tmp_path / "x.car"), "Lazy": True}
                agent.client.call("Carfs.RegisterShard", params)
                number += 1
                assert number < 5000
        assert len(agent.states()) == number


def test_the_end_of_the_agent_ends_the_stream_in_order_and_its_death_does_not(tmp_path: Path) -> None:
    with AgentProcess(tmp_path / "a") as agent:
        stream = agent.client.events()
        agent.process.send_signal(signal.SIGTERM)
        assert [event["event"] for event in stream] == ["ready"]
        stream.close()
    with AgentProcess(tmp_path / "a") as agent, agent.client.events() as stream:
        events = iter(stream)
        next(events)
        agent.kill()
        with pytest.raises(AgentUnreachable):
            next(events)


def test_a_stream_can_be_closed_from_another_thread(tmp_path: Path) -> None:
    with AgentProcess(tmp_path / "a") as agent:
        stream = agent.client.events()
        events = iter(stream)
        next(events)
        timer = threading.Timer(0.05, stream.close)
        timer.start()
        assert list(events) == []
        timer.join()
