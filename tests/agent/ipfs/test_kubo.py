"""Kubo itself: data held in it become deals' and imports', and retrievals go into it; and its client reads from us."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from carlib.blockstore import ReadOnlyBlockstore
from tests.agent.imports.worlds import tree_at
from tests.agent.processes import AgentProcess, Shell
from tests.peers import Kubo
from tests.wires import free_port


@pytest.fixture
def kubo(tmp_path: Path) -> Kubo:
    return Kubo(tmp_path / "kubo")


@pytest.fixture
def served(tmp_path: Path) -> str:
    """Where the agent's gateway listens."""
    return f"127.0.0.1:{free_port()}"


@pytest.fixture
def carfs(tmp_path: Path, kubo: Kubo, served: str) -> Iterator[Shell]:
    """An agent with the node beside it, and a gateway."""
    path = tmp_path / "a"
    path.mkdir()
    with kubo.daemon() as address:
        config = f'[ipfs]\naddress = "{address}"\n[gateway]\nlisten = ["{served}"]\n'
        (path / "config.toml").write_text(config)
        with AgentProcess(path) as agent:
            yield Shell(agent.path, tmp_path)


def test_what_the_node_holds_is_retrieved_verified(carfs: Shell, kubo: Kubo, tmp_path: Path) -> None:
    tree = tree_at(tmp_path / "set", files=5, size=600_000)
    root = kubo.add(tree, "-r")
    assert carfs("client", "retrieve", "--from", "ipfs", root, "out")[::2] == (0, "")
    assert (tmp_path / "out/file4").read_bytes() == (tree / "file4").read_bytes()
    assert carfs("client", "retrieve", "--from", "ipfs", "--range", "10:19", f"{root}/file4", "few")[::2] == (
        0,
        "",
    )
    code, _, err = carfs(
        "client", "retrieve", "--from", "ipfs", "bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy"
    )
    assert code == 3 and "refuses" in err


def test_an_import_is_made_of_what_the_node_holds(carfs: Shell, kubo: Kubo, tmp_path: Path) -> None:
    tree = tree_at(tmp_path / "set")
    root = kubo.add(tree, "-r", "--cid-version=1")
    code, out, err = carfs("client", "import", "--from", "ipfs", "--name", "held", root)
    assert (code, err) == (0, "") and root in out
    assert carfs("client", "cat", "held/sub/file1")[1].encode() == (tree / "sub/file1").read_bytes()
    assert carfs("client", "list-retrievals")[1] == ""
    assert carfs("client", "import", "--from", "ipfs", f"{root}/sub")[0] == 2
    assert carfs("client", "import", "--from", "ipfs", "--dense", root)[0] == 2


def test_what_is_retrieved_goes_into_the_node_and_is_pinned_there(
    carfs: Shell, kubo: Kubo, tmp_path: Path
) -> None:
    tree = tree_at(tmp_path / "set", files=5, size=600_000)
    found = json.loads(carfs("client", "import", "--dense", "--json", str(tree))[1])
    root = found["Root"]
    assert carfs("client", "retrieve", "--to", "ipfs", root)[0] == 0
    assert root in kubo("pin", "ls", "--type=recursive", "--quiet").split()
    kubo("get", "--output", tmp_path / "back", root)
    assert (tmp_path / "back/sub/file1").read_bytes() == (tree / "sub/file1").read_bytes()
    part = json.loads(carfs("client", "ls", "--json", f"{root}/sub")[1].splitlines()[0])["CID"]
    assert carfs("client", "retrieve", "--to", "ipfs", "--range", "0:9", part)[0] == 0


def test_a_part_in_the_node_is_pinned_block_by_block(carfs: Shell, kubo: Kubo, tmp_path: Path) -> None:
    tree = tree_at(tmp_path / "set", files=5, size=3_000_000)
    root = json.loads(carfs("client", "import", "--dense", "--json", str(tree))[1])["Root"]
    assert carfs("client", "retrieve", "--to", "ipfs", "--range", "0:9", f"{root}/file0")[::2] == (0, "")
    direct = kubo("pin", "ls", "--type=direct", "--quiet").split()
    assert root in direct and len(direct) == 3  # directory, file, its first leaf
    assert root not in kubo("pin", "ls", "--type=recursive", "--quiet").split()


def test_a_deal_is_about_what_the_node_holds(carfs: Shell, kubo: Kubo, tmp_path: Path) -> None:
    root = kubo.add(tree_at(tmp_path / "set"), "-r", "--cid-version=1")
    provider = tmp_path / "provider"
    provider.mkdir()
    port = free_port()
    (provider / "config.toml").write_text(
        f'[rpc]\nlisten = ["127.0.0.1:{port}"]\n[market]\naccept = true\nsector_size = 65536\n'
    )
    with AgentProcess(provider) as agent:
        token = agent.client.call("Filecoin.AuthNew", [["read", "sign"]])
        (tmp_path / "token").write_bytes(base64.b64decode(token))
        code, out, err = carfs(
            "deal", "propose", "--provider", f"http://127.0.0.1:{port}", "--token-file", "token",
            "--from", "ipfs", "--wait", root,
        )  # fmt: skip
        assert code == 0, err
        assert out.endswith("Active\n")
        (deal,) = agent.client.call("Carfs.ListDeals")
        assert deal["Root"] == root


def test_kubo_s_own_client_reads_from_us(carfs: Shell, kubo: Kubo, served: str, tmp_path: Path) -> None:
    tree = tree_at(tmp_path / "set", files=5, size=600_000)
    root = json.loads(carfs("client", "import", "--dense", "--json", str(tree))[1])["Root"]
    api = f"/ip4/127.0.0.1/tcp/{served.rpartition(':')[2]}"
    assert kubo.at(api, "cat", f"{root}/file4") == (tree / "file4").read_bytes()
    assert (
        kubo.at(api, "cat", "--offset=10", "--length=5", f"{root}/file4")
        == (tree / "file4").read_bytes()[10:15]
    )
    names = [line.split()[-1] for line in kubo.at(api, "ls", root).decode().splitlines()]
    assert names == ["file0", "file2", "file4", "link", "sub/"]
    ours = set(kubo.at(api, "refs", "-r", root).decode().split())
    (tmp_path / "out.car").write_bytes(kubo.at(api, "dag", "export", "--progress=false", root))
    assert carfs("car", "verify", "--depth", "full", "--complete", "out.car")[0] == 0
    with ReadOnlyBlockstore.open(tmp_path / "out.car") as store:
        assert {str(cid) for cid, _ in store.cids()} == ours | {root}
    block = kubo.at(api, "block", "get", root)
    assert kubo.at(api, "block", "stat", root).decode().split() == ["Key:", root, "Size:", str(len(block))]
