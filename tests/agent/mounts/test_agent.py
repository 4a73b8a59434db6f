"""An agent with shards on every remote mount: indexed, and still there after a restart."""

from __future__ import annotations

from pathlib import Path

import obstore
import pytest

from tests.agent.cars import write_car
from tests.agent.mounts.servers import s3_server, web_server
from tests.agent.mounts.test_lotus import sector_in
from tests.agent.processes import AgentProcess

pytest.importorskip("agent.dagstore.transients", reason="nothing keeps what is read from remote mounts")

BLOCKS = 10_000


def test_shards_of_every_mount_are_indexed_and_survive_a_restart(tmp_path: Path) -> None:
    for name in ("web", "s3", "agent"):
        (tmp_path / name).mkdir()
    (tmp_path / "agent" / "pieces").mkdir()
    with web_server(tmp_path / "web") as web, s3_server(tmp_path / "s3") as s3:
        data = write_car(web.folder / "x.car", blocks=BLOCKS).read_bytes()
        obstore.put(s3.store(), "x.car", data)
        piece = sector_in(tmp_path / "agent" / "pieces", data).piece
        environ = {
            "CARFS_MOUNTS_ALLOW_PRIVATE": "true",
            "CARFS_MOUNTS_S3_ENDPOINT": s3.endpoint,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
        }
        urls = {
            "http": web.url("x.car"),
            "without ranges": web.url("x.car", "norange"),
            "s3": s3.url("x.car"),
            "v1": f"lotus://{piece.v1}",
            "v2": f"lotus://{piece.v2}",
        }
        with AgentProcess(tmp_path / "agent", environ=environ) as agent:
            for key, url in urls.items():
                params = {"Key": key, "URL": url, "Wait": True}
                record = agent.client.call("Carfs.RegisterShard", params)
                assert (record["Blocks"], record["Size"], record["URL"]) == (BLOCKS, len(data), url)
        with AgentProcess(tmp_path / "agent", environ=environ) as agent:
            assert agent.states() == dict.fromkeys(urls, "Available")
