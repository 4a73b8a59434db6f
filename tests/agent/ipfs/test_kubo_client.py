"""Kubo's JavaScript client, kubo-rpc-client, reads from the agent what it would read from a node."""

from __future__ import annotations

import json
import subprocess
from base64 import b64decode
from pathlib import Path

from carlib.cid import Cid
from tests.agent.imports.worlds import tree_at
from tests.agent.processes import AgentProcess, Shell
from tests.peers import program
from tests.wires import free_port

LOST = "bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy"


def test_kubo_rpc_client_reads(tmp_path: Path) -> None:
    modules = program("kubo_client").parent
    path = tmp_path / "a"
    path.mkdir()
    port = free_port()
    (path / "config.toml").write_text(f'[gateway]\nlisten = ["127.0.0.1:{port}"]\n')
    tree = tree_at(tmp_path / "set", size=600_000)
    with AgentProcess(path) as agent:
        carfs = Shell(agent.path, tmp_path)
        root = json.loads(carfs("client", "import", "--dense", "--json", str(tree))[1])["Root"]
        assert carfs("client", "export", "--car", root, "out.car")[0] == 0
        done = subprocess.run(
            ["node", Path(__file__).with_name("kubo_client.mjs"), modules, f"http://127.0.0.1:{port}"],
            input=json.dumps({"root": root, "file": "file0", "lost": LOST}),
            capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    data = (tree / "file0").read_bytes()
    assert b64decode(found["cat"]) == data and b64decode(found["part"]) == data[2:5]
    block = b64decode(found["block"])
    assert str(Cid.of(block, Cid.parse(root).codec)) == root and found["stat"] == len(block)
    assert b64decode(found["car"]) == (tmp_path / "out.car").read_bytes()
    assert [one[:3] for one in found["ls"]] == [
        ["file0", "file", 600_000], ["file2", "file", 600_000], ["link", "file", 0], ["sub", "dir", 0],
    ]  # fmt: skip
    assert len(set(found["refs"])) == len(found["refs"]) == 5
    assert found["version"] and "is not here" in found["lost"]
