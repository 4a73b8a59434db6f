"""`carfs worker run` as a process of its own: it works, is killed, is stopped, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
from dataclasses import asdict
from pathlib import Path

import msgspec
import pytest
import trio

from agent.dagstore.mounts import Fingerprint
from agent.workers.failures import WorkerFailed
from agent.workers.messages import Params
from carlib import indexing
from tests.agent.cars import write_broken_car, write_car
from tests.agent.groups.parents import why_no_v1
from tests.agent.remote.joining import eventually
from tests.agent.remote.programs import Agent, Program, agent_at, program
from tests.agent.test_workers import is_running
from tests.agent.transients.remote import RemoteMount, Server, opened
from tests.conftest import ExpectWarning

MIB = 1 << 20
V1 = Path("/sys/fs/cgroup/memory")


class Indexing:
    """The index of a big CAR, being made at the remote worker."""

    def __init__(self, agent: Agent, path: Path) -> None:
        self._agent, self._path = agent, path
        self.scope = trio.CancelScope()
        self.result: Params | None = None
        self.done = 0
        self.is_over = False

    async def __call__(self) -> None:
        with self.scope:
            self.result = await self._agent.here.scheduler.run(
                "index",
                self._agent.index(self._path),
                self._report,
                subject="big",
                size_bytes=self._path.stat().st_size,
            )
        self.is_over = True

    def _report(self, done: int, _total: int) -> None:
        self.done = done

    async def wait_begun(self, far: Program) -> list[int]:
        """The processes that make it."""
        await eventually(lambda: self.done and far.children())
        return far.children()


async def test_an_index_is_made_there_and_is_the_same(tmp_path: Path) -> None:
    car = write_car(tmp_path / "x.car")
    async with agent_at(tmp_path / "state") as agent:
        here = await agent.here.run("index", agent.index(car))
        made = agent.out.read_bytes()
        agent.out.unlink()
        with program(tmp_path / "log", agent.socket) as far:
            await agent.joined()
            agent.enable_local(False)
            assert await agent.here.run("index", agent.index(car)) == here
            assert (agent.out.read_bytes(), agent.leftovers()) == (made, [])
            assert "index: finished" in far.log()


async def test_what_it_lacks_of_remote_data_is_fetched_by_the_agent(tmp_path: Path) -> None:
    car = write_car(tmp_path / "x.car", blocks=20_000)
    indexing.build(car, tmp_path / "expected")
    (tmp_path / "transients").mkdir()
    mount = RemoteMount(Server(car.read_bytes()))
    async with (
        agent_at(tmp_path / "state") as agent,
        opened(tmp_path / "transients", mount) as (_, transient),
    ):
        with program(tmp_path / "log", agent.socket):
            await agent.joined()
            agent.enable_local(False)
            access, fingerprint = (
                msgspec.to_builtins(transient.access),
                asdict(Fingerprint(transient.access.size)),
            )
            params = {**agent.index(car), "access": access, "fingerprint": fingerprint}
            del params["path"]
            assert (await agent.here.run("index", params, needs=transient))["blocks"] == 20_000
        assert agent.out.read_bytes() == (tmp_path / "expected").read_bytes()
        assert set(mount.server.given.values()) <= {1}


async def test_disabling_a_worker_is_told_to_it(tmp_path: Path) -> None:
    async with agent_at(tmp_path / "state") as agent:
        with program(tmp_path / "log", agent.socket) as far:
            executor = await agent.joined()
            agent.here.scheduler.set_enabled(executor.id, False)
            await eventually(lambda: "the agent gives nothing new: disabled there" in far.log())
            agent.here.scheduler.set_enabled(executor.id, True)
            await eventually(lambda: "the agent gives tasks again" in far.log())


async def test_a_task_that_fails_there_fails_as_it_would_here(tmp_path: Path) -> None:
    car = tmp_path / "x.car"
    write_broken_car(car)
    async with agent_at(tmp_path / "state") as agent:
        with pytest.raises(WorkerFailed) as here:
            await agent.here.run("index", agent.index(car))
        with program(tmp_path / "log", agent.socket):
            await agent.joined()
            agent.enable_local(False)
            with pytest.raises(WorkerFailed) as there:
                await agent.here.run("index", agent.index(car))
        assert (str(there.value), there.value.error_class) == (str(here.value), here.value.error_class)
        assert agent.leftovers() == []


async def test_what_is_called_off_here_is_killed_there(tmp_path: Path, big_car: Path) -> None:
    async with agent_at(tmp_path / "state") as agent, trio.open_nursery() as nursery:
        with program(tmp_path / "log", agent.socket) as far:
            await agent.joined()
            agent.enable_local(False)
            big = Indexing(agent, big_car)
            nursery.start_soon(big)
            pids = await big.wait_begun(far)
            big.scope.cancel()
            await eventually(lambda: big.is_over)
            assert [pid for pid in pids if is_running(pid)] == []
            assert (agent.leftovers(), agent.out.exists()) == ([], False)


async def test_a_worker_that_is_killed_loses_nothing_and_the_agents_own_does_its_task(
    tmp_path: Path, big_car: Path, expect_warning: ExpectWarning
) -> None:
    expect_warning("task index of big: worker far: its connection ended; it is begun anew")
    async with agent_at(tmp_path / "state") as agent, trio.open_nursery() as nursery:
        with program(tmp_path / "log", agent.socket) as far:
            await agent.joined()
            agent.enable_local(False)
            big = Indexing(agent, big_car)
            nursery.start_soon(big)
            pids = await big.wait_begun(far)
            far.kill()
            agent.enable_local(True)
            await eventually(lambda: big.is_over)
            assert big.result is not None and big.result["blocks"] == 4_000_000
            assert agent.remote.workers() == ()
            await eventually(lambda: not any(map(is_running, pids)))  # they notice that their pipe is closed
        assert agent.leftovers() == []


async def test_a_worker_that_stood_still_finds_itself_given_up_and_joins_again(
    tmp_path: Path, big_car: Path, expect_warning: ExpectWarning
) -> None:
    """As a virtual machine that was paused: what it had is done by another one, and it spoils nothing."""
    expect_warning("worker far: nothing was heard of it for .*; it is begun anew")
    async with agent_at(tmp_path / "state") as agent, trio.open_nursery() as nursery:
        with program(tmp_path / "log", agent.socket) as far:
            executor = await agent.joined()
            agent.enable_local(False)
            big = Indexing(agent, big_car)
            nursery.start_soon(big)
            pids = await big.wait_begun(far)
            for pid in (far.process.pid, *pids):
                os.kill(pid, signal.SIGSTOP)
            agent.enable_local(True)
            await eventually(lambda: big.is_over)
            inode = agent.out.stat().st_ino
            for pid in (*pids, far.process.pid):
                os.kill(pid, signal.SIGCONT)
            again = await agent.joined()
            assert again is not executor and again.id == executor.id
            await eventually(lambda: not any(map(is_running, pids)))
            assert "joining again as soon as that works" in far.log()
        assert (agent.out.stat().st_ino, agent.leftovers()) == (inode, [])


async def test_sigterm_lets_it_leave_and_it_says_so(tmp_path: Path) -> None:
    async with agent_at(tmp_path / "state") as agent:
        with program(tmp_path / "log", agent.socket) as far:
            await agent.joined()
            far.process.terminate()
            assert await far.ended() == 0
            await eventually(lambda: agent.remote.workers() == ())
            assert far.log().splitlines()[-1].endswith(": left")


async def test_a_second_ctrl_c_does_not_wait_for_what_runs(
    tmp_path: Path, big_car: Path, expect_warning: ExpectWarning
) -> None:
    expect_warning("it is begun anew")
    async with agent_at(tmp_path / "state") as agent, trio.open_nursery() as nursery:
        with program(tmp_path / "log", agent.socket, "--grace", "1000") as far:
            await agent.joined()
            agent.enable_local(False)
            big = Indexing(agent, big_car)
            nursery.start_soon(big)
            pids = await big.wait_begun(far)
            far.process.send_signal(signal.SIGINT)
            await eventually(lambda: "1 tasks have 1000 s to end" in far.log())
            far.process.send_signal(signal.SIGINT)
            assert await far.ended() == 0
            assert [pid for pid in pids if is_running(pid)] == []
        nursery.cancel_scope.cancel()


async def test_over_tcp_it_comes_with_a_token(tmp_path: Path) -> None:
    car = write_car(tmp_path / "x.car")
    async with agent_at(tmp_path / "state") as agent:
        token = tmp_path / "token"
        token.write_text(agent.tokens.issue(["admin"]) + "\n")
        with program(tmp_path / "log", f"127.0.0.1:{agent.port}", "--token-file", str(token)) as far:
            await agent.joined()
            agent.enable_local(False)
            assert (await agent.here.run("index", agent.index(car)))["blocks"] == 3
            agent.tokens.rotate()
            assert await far.ended() == 4
            assert "refuses this worker: JWT verification failed" in far.log()


@pytest.mark.parametrize(
    ("allow", "said"),
    [
        (["read"], "missing permission to invoke 'Carfs.WorkerJoin' (need 'admin')"),
        ([], "JWT verification failed"),
    ],
)
async def test_a_wrong_token_is_refused_with_the_reason(allow: list[str], said: str, tmp_path: Path) -> None:
    async with agent_at(tmp_path / "state") as agent:
        token = agent.tokens.issue(allow) if allow else "nonsense"
        with program(tmp_path / "log", f"http://127.0.0.1:{agent.port}", CARFS_TOKEN=token) as far:
            assert await far.ended() == 4
            assert said in far.log().splitlines()[-1]
        assert agent.remote.workers() == ()


async def test_without_an_agent_once_means_once(tmp_path: Path) -> None:
    with program(tmp_path / "log", tmp_path / "none.sock", "--once") as far:
        assert await far.ended() == 6
        assert "none.sock" in far.log()


@pytest.mark.privileged
async def test_data_that_are_not_seen_there_are_worked_on_here(
    tmp_path: Path, expect_warning: ExpectWarning
) -> None:
    expect_warning(r"worker far: .*x\.car: No such file or directory")
    data = tmp_path / "data"
    data.mkdir()
    car = write_car(data / "x.car")
    hidden = ["unshare", "-m", "sh", "-c", f'mount -t tmpfs none {data} && exec "$@"', "sh"]
    async with agent_at(tmp_path / "state") as agent, trio.open_nursery() as nursery:
        with program(tmp_path / "log", agent.socket, before=hidden):
            executor = await agent.joined()
            agent.enable_local(False)
            big = Indexing(agent, car)
            nursery.start_soon(big)
            await eventually(lambda: executor.note)
            assert [view.note for view in agent.here.scheduler.workers()] == ["", executor.note]
            agent.enable_local(True)
            await eventually(lambda: big.is_over)
            assert big.result is not None and agent.leftovers() == []


@pytest.mark.privileged
async def test_a_worker_that_does_not_see_the_state_is_given_nothing(
    tmp_path: Path, expect_warning: ExpectWarning
) -> None:
    expect_warning("worker far can do nothing: cannot read .*worker-proof: No such file")
    async with agent_at(tmp_path / "state") as agent:
        token = agent.tokens.issue(["admin"])
        hidden = ["unshare", "-m", "sh", "-c", f'mount -t tmpfs none {agent.path} && exec "$@"', "sh"]
        with program(tmp_path / "log", f"127.0.0.1:{agent.port}", before=hidden, CARFS_TOKEN=token):
            await eventually(lambda: [one for one in agent.remote.workers() if "worker-proof" in one.note])
            assert agent.remote.workers()[0].kinds == frozenset()


@pytest.mark.privileged
async def test_a_worker_in_another_cgroup_is_seen_with_the_limit_of_that(tmp_path: Path) -> None:
    if why_not := why_no_v1():
        pytest.skip(why_not)
    group = V1 / f"carfs-test-remote-{os.getpid()}"
    group.mkdir()
    try:
        (group / "memory.limit_in_bytes").write_text(str(256 * MIB))
        enter = ["sh", "-c", f'echo $$ > {group}/cgroup.procs && exec "$@"', "sh"]
        car = write_car(tmp_path / "x.car")
        async with agent_at(tmp_path / "state") as agent:
            with program(tmp_path / "log", agent.socket, before=enter):
                found = (await agent.joined()).snapshot().memory
                assert found.limit == 256 * MIB and found.limit_by is not None
                assert found.limit_by.level.endswith(group.name)
                agent.enable_local(False)
                assert (await agent.here.run("index", agent.index(car)))["blocks"] == 3
                own, far = agent.here.scheduler.workers()
                assert (own.memory > 256 * MIB, far.memory, far.name) == (True, 256 * MIB, "far")
    finally:
        await eventually(lambda: not (group / "cgroup.procs").read_text())
        for child in [path for path in group.iterdir() if path.is_dir()]:
            child.rmdir()
        group.rmdir()
