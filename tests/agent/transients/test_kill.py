"""An agent that is killed in the middle of a fetch: the next one goes on, and asks for nothing that came through."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from agent.dagstore.chunk_map import MapDamaged, MapReader
from tests.agent.cars import write_car
from tests.agent.mounts.servers import Web, web_server
from tests.agent.processes import AgentProcess, until
from tests.agent.transients.remote import CHUNK

PRIVATE = {"CARFS_MOUNTS_ALLOW_PRIVATE": "true"}


def present(home: Path) -> set[int]:
    """The chunks that are there, as a reader in another process sees them."""
    try:
        (path,) = home.glob("dagstore/transients/*.map")
        reader = MapReader(path)
    except (ValueError, MapDamaged, FileNotFoundError):
        return set()
    chunks = {chunk for chunk in range(reader.head.chunks) if reader.holds(chunk * CHUNK, 1)}
    reader.close()
    return chunks


def asked_for(web: Web, after: int) -> Counter[int]:
    """The chunks of the requests behind the first `after` ones, those of looks apart."""
    chunks: Counter[int] = Counter()
    for request in web.requests()[after:]:
        first, _, last = request["fields"].get("range", "bytes=0-0").removeprefix("bytes=").partition("-")
        if int(last) - int(first) >= 1024:
            chunks.update(range(int(first) // CHUNK, int(last) // CHUNK + 1))
    return chunks


def test_m10_a_killed_agent_has_lost_nothing_that_was_fetched(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with web_server(tmp_path) as web:
        car = write_car(web.folder / "x.car", blocks=200_000)  # small blocks: all of it is read
        agent = AgentProcess(home, environ=PRIVATE)
        with agent:
            url = web.url("x.car", "slow=20")
            agent.client.call("Carfs.RegisterShard", {"Key": "one", "URL": url})
            until(lambda: len(present(home)) > 40)
            agent.kill()
        kept = present(home)
        until(lambda: kept <= set(asked_for(web, 0)))  # it notes those that were cut off a little later
        before = len(web.requests())
        assert 40 < len(kept) < car.stat().st_size // CHUNK
        with AgentProcess(home, environ=PRIVATE) as agent:
            until(lambda: agent.states() == {"one": "Available"})
            assert agent.client.call("Carfs.ShardInfo", ["one"])["Blocks"] == 200_000
        again = asked_for(web, before)
        assert not set(again) & kept
        assert set(again) | kept == set(range(-(-car.stat().st_size // CHUNK)))
