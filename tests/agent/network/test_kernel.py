"""The link as the kernel tells of it: in a namespace whose interface comes and goes, and under a transfer."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Any

import pytest

from tests.agent.processes import AgentProcess
from tests.agent.processes import until as until_true
from tests.fixtures import REPOSITORY
from tests.network.hosts import Host, Hosts, hosts, why_none
from tests.network.link import Conditions

pytestmark = [
    pytest.mark.privileged,
    pytest.mark.skipif(bool(why_none()), reason=why_none()),
]

WATCH = """
import json, sys, trio
from agent.network.kernel import open_link
from agent.network.state import announced

async def main(host):
    async with open_link() as link:
        while not link.network.is_known:
            await trio.sleep(0.01)
        while True:
            urls = announced(("0.0.0.0:80",), link.network, "http")
            print(json.dumps([link.is_up(host), link.is_up("a.example"), link.is_up("127.0.0.1"), urls]), flush=True)
            changed = link._changed
            await changed.wait()

trio.run(main, sys.argv[1])
"""
WAIT = """
import sys, trio
from agent.network.kernel import open_link

async def main(host):
    async with open_link() as link:
        while not link.network.is_known:
            await trio.sleep(0.01)
        print(link.is_up(host), flush=True)
        while True:
            await (link.wait_down if link.is_up(host) else link.wait_up)(host)
            print(link.is_up(host), flush=True)

trio.run(main, sys.argv[1])
"""


def ip(host: Host, *command: str) -> None:
    subprocess.run(host.command(["ip", *command]), check=True)


@contextmanager
def told(both: Hosts, program: str) -> Iterator[IO[str]]:
    """What a program on the near host prints of the far one."""
    command = both.near.command([sys.executable, "-c", program, both.far.address])
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY) as process:
        try:
            assert process.stdout is not None
            yield process.stdout
        finally:
            process.kill()


def until(lines: IO[str], is_so: Callable[[Any], bool]) -> Any:
    for line in lines:
        if is_so(found := json.loads(line)):
            return found
    raise AssertionError("it ended")


def interface(host: Host) -> str:
    found = json.loads(subprocess.check_output(host.command(["ip", "-j", "addr"])))
    (name,) = (one["ifname"] for one in found if host.address in str(one["addr_info"]))
    return str(name)


def test_interfaces_addresses_and_routes_are_followed() -> None:
    with hosts() as both, told(both, WATCH) as lines:
        ours = [f"http://{both.near.address}:80"]
        assert json.loads(lines.readline()) == [True, True, True, ours]
        name = interface(both.near)
        ip(both.near, "addr", "add", "192.0.2.9/24", "dev", name)
        until(lines, lambda now: "http://192.0.2.9:80" in now[3])
        ip(both.near, "addr", "del", "192.0.2.9/24", "dev", name)
        until(lines, lambda now: now[3] == ours)
        ip(both.near, "link", "set", name, "down")
        assert until(lines, lambda now: not now[0])[1:] == [False, True, []]
        ip(both.near, "link", "set", name, "up")
        until(lines, lambda now: now == [True, True, True, ours])


def test_who_waits_is_woken() -> None:
    with hosts() as both, told(both, WAIT) as lines:
        assert lines.readline() == "True\n"
        name = interface(both.near)
        for state, shown in [("down", "False"), ("up", "True")] * 3:
            ip(both.near, "link", "set", name, state)
            assert lines.readline() == f"{shown}\n"


def test_a_transfer_rests_while_the_link_is_down_and_goes_on_by_itself(tmp_path: Path) -> None:
    data = random.Random(7).randbytes(6_000_000)
    (tmp_path / "data").write_bytes(data)
    for name, config in [
        ("far", '[gateway]\nlisten = ["0.0.0.0:8480"]\n'),
        ("near", "[retrieval]\nattempts = 1\nhedge_s = 0\n"),  # the first failure would be the last one
    ]:
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.toml").write_text(config)
    with (
        hosts(Conditions(delay_ms=5, rate_kbit=16_000)) as both,
        AgentProcess(tmp_path / "far", prefix=both.far.command([])) as far,
        AgentProcess(tmp_path / "near", prefix=both.near.command([])) as near,
    ):
        assert far.client.call("Carfs.Network")["Announced"] == [f"http://{both.far.address}:8480"]
        until_true(lambda: near.client.call("Carfs.Network")["Known"])
        root = far.client.call("Filecoin.ClientImport", [{"Path": str(tmp_path / "data")}])["Root"]["/"]
        asked = {"Root": root, "From": [f"http://{both.far.address}:8480"]}
        which = {"Retrieval": near.client.call("Carfs.StartRetrieval", asked)["ID"]}

        def now() -> Any:
            return near.client.call("Carfs.GetRetrieval", which)

        def has_more(size: int) -> bool:
            return bool(now()["Bytes"] > size)

        name = interface(both.near)
        for part in (0, 2_000_000):
            until_true(partial(has_more, part))
            ip(both.near, "link", "set", name, "down")
            until_true(lambda: now()["State"] == "RetrievalStatePaused")
            assert not near.client.call("Carfs.Network")["Up"]
            rested = now()["Bytes"]
            time.sleep(2)  # time for attempts, if any were made
            assert (now()["State"], now()["Bytes"]) == ("RetrievalStatePaused", rested)
            ip(both.near, "link", "set", name, "up")
            until_true(lambda: now()["State"] == "RetrievalStateFetching")
        record = near.client.call("Carfs.WaitRetrieval", which)
        assert record["State"] == "RetrievalStateDone"
        assert record["Wasted"] < len(data) / 100
        ref = {"Root": root, "DAGs": [], "Paths": [], "MerkleProof": False, "Range": "", "Version": 1}
        near.client.call("Carfs.Export", {"Ref": ref, "Path": str(tmp_path / "out")})
        assert (tmp_path / "out").read_bytes() == data
