"""`carfs client retrieve` and its like against an agent that fetches from another one."""

from __future__ import annotations

import json
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.client import AgentError, Client
from tests.agent.imports.worlds import tree_at
from tests.agent.processes import AgentProcess, Shell, until
from tests.wires import free_port


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[AgentProcess, str]]:
    """An agent that serves over TCP, and the URL where."""
    path = tmp_path_factory.mktemp("provider") / "a"
    path.mkdir()
    port = free_port()
    (path / "config.toml").write_text(f'[gateway]\nlisten = ["127.0.0.1:{port}"]\n')
    with AgentProcess(path) as agent:
        yield agent, f"http://127.0.0.1:{port}"


@pytest.fixture
def carfs(tmp_path: Path) -> Iterator[Shell]:
    with AgentProcess(tmp_path / "client") as agent:
        yield Shell(agent.path, tmp_path)


@pytest.fixture
def root(provider: tuple[AgentProcess, str], tmp_path: Path) -> str:
    """Of a tree that the provider has."""
    tree_at(tmp_path / "set")
    return str(
        provider[0].client.call("Filecoin.ClientImport", [{"Path": str(tmp_path / "set")}])["Root"]["/"]
    )


def test_retrieve_fetches_what_is_elsewhere_and_writes_it(
    carfs: Shell, provider: tuple[AgentProcess, str], root: str, tmp_path: Path
) -> None:
    code, out, err = carfs("client", "retrieve", "--from", provider[1], root, "out")
    assert (code, err) == (0, "")
    assert out.startswith(f"Retrieved {root} to out: ")
    assert (tmp_path / "out/sub/file1").read_bytes() == (tmp_path / "set/sub/file1").read_bytes()
    (one,) = json.loads(carfs("client", "list-retrievals", "--json")[1])
    assert (one["Root"], one["State"], one["Source"]) == (root, "RetrievalStateDone", provider[1])
    assert 0.9 < one["Bytes"] / one["Total"] <= 1  # the links count what lies in their own CIDs too
    table = carfs("client", "list-retrievals")[1]
    assert root in table and "Done" in table
    assert carfs("client", "list-retrievals", "--active")[1] == ""
    assert carfs("client", "cat", f"{root}/file0") == (0, "\1" * 5000, "")  # no import and no shard has it
    assert carfs("client", "retrieve", root)[0] == 0  # nothing is fetched for that
    code, out, _ = carfs("client", "retrieve", "--car", root, "out.car")
    assert code == 0 and carfs("car", "verify", "out.car")[0] == 0
    assert carfs("client", "retrieve", root, "out")[0] == 4  # there is something
    assert carfs("client", "drop-retrieval", str(one["ID"])) == (0, f"Dropped retrieval {one['ID']}\n", "")
    assert not Path(one["CARPath"]).exists()
    assert carfs("client", "cat", f"{root}/file0")[0] == 3


def test_a_part_is_retrieved_alone(
    carfs: Shell, provider: tuple[AgentProcess, str], root: str, tmp_path: Path
) -> None:
    assert carfs("client", "retrieve", "--from", provider[1], f"ipfs://{root}/sub/file1", "one")[0] == 0
    assert (tmp_path / "one").read_bytes() == (tmp_path / "set/sub/file1").read_bytes()
    assert carfs("client", "cat", f"{root}/file0")[0] == 3
    code, _, err = carfs("client", "retrieve", "--from", provider[1], f"{root}/sub/none")
    assert code == 3 and "no entry 'none'" in err
    code, out, _ = carfs("client", "retrieve", "--range", "10:19", f"{root}/file0", "few")
    assert (code, (tmp_path / "few").read_bytes()) == (0, b"\1" * 10), out


def test_lotus_client_export_takes_what_a_deal_has_fetched(
    carfs: Shell, provider: tuple[AgentProcess, str], root: str, tmp_path: Path
) -> None:
    client = Client(tmp_path / "client" / "agent.sock")
    assert carfs("client", "retrieve", "--from", provider[1], f"{root}/sub", "sub")[0] == 0
    (one,) = json.loads(carfs("client", "list-retrievals", "--json")[1])
    ref = {"Root": {"/": root}, "DealID": one["ID"]}
    client.call("Filecoin.ClientExport", [{**ref, "Paths": ["sub/file1"]}, {"Path": str(tmp_path / "one")}])
    assert (tmp_path / "one").read_bytes() == (tmp_path / "set/sub/file1").read_bytes()
    with pytest.raises(AgentError):  # only that part was fetched
        client.call("Filecoin.ClientExport", [ref, {"Path": str(tmp_path / "whole")}])
    assert not (tmp_path / "whole").exists()


def test_what_is_here_is_taken_from_here_if_so_wanted(
    carfs: Shell, provider: tuple[AgentProcess, str], root: str
) -> None:
    assert carfs("client", "import", "--profile", "lotus", "set")[0] == 0
    asked = ("client", "retrieve", "--from", provider[1], root)

    def source() -> str:
        (one,) = json.loads(carfs("client", "list-retrievals", "--json")[1])
        assert carfs("client", "drop-retrieval", str(one["ID"]))[0] == 0
        return str(one["Source"])

    assert carfs(*asked, "--no-allow-local")[0] == 0
    assert source() == provider[1]
    assert carfs(*asked)[0] == 0
    as_configured = source()
    assert carfs(*asked, "--allow-local")[0] == 0
    assert source() == as_configured != provider[1]


@pytest.mark.parametrize("is_local", [True, False])
def test_the_configuration_says_whether_what_is_here_is_taken_from_here(
    provider: tuple[AgentProcess, str], root: str, tmp_path: Path, is_local: bool
) -> None:
    path = tmp_path / "configured"
    path.mkdir()
    (path / "config.toml").write_text(f"[retrieval]\nallow_local = {str(is_local).lower()}\n")
    with AgentProcess(path) as agent:
        carfs = Shell(agent.path, tmp_path)
        assert carfs("client", "import", "--profile", "lotus", "set")[0] == 0
        assert carfs("client", "retrieve", "--from", provider[1], root)[0] == 0
        (one,) = json.loads(carfs("client", "list-retrievals", "--json")[1])
        assert (one["Source"] == provider[1]) is not is_local


def test_who_has_it_elsewhere_is_asked_if_so_wanted(
    provider: tuple[AgentProcess, str], root: str, tmp_path: Path
) -> None:
    path = tmp_path / "asking"
    path.mkdir()
    (path / "config.toml").write_text(
        f'[retrieval]\nsources = ["http://127.0.0.1:1", "{provider[1]}", "{provider[1]}/piece/x.car"]\n'
    )
    with AgentProcess(path) as agent:
        carfs = Shell(agent.path, tmp_path)
        code, out, err = carfs("client", "find", root)
        assert (code, out) == (3, "")
        code, out, err = carfs("client", "find", "--elsewhere", root)
        assert (code, out) == (0, f"RETRIEVAL {provider[1]}\n")
        assert "http://127.0.0.1:1: " in err and "only when it is fetched" in err
        nowhere = "bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy"
        code, out, err = carfs("client", "find", "--elsewhere", nowhere)
        assert (code, out) == (3, "") and "it has it not" in err and "Traceback" not in err
        call = agent.client.call
        refused, offer, _ = call("Filecoin.ClientFindData", [{"/": root}, None])
        assert (offer["Err"], offer["Root"], offer["Miner"]) == ("", {"/": root}, provider[1])
        assert refused["Err"]
        offer = call("Filecoin.ClientMinerQueryOffer", [provider[1], {"/": root}, None])
        assert (offer["Err"], offer["MinerPeer"]["Address"]) == ("", provider[1])
        with pytest.raises(AgentError, match="is no source"):
            call("Filecoin.ClientMinerQueryOffer", ["t01000", {"/": root}, None])


def test_one_that_nobody_has_fails_and_one_is_called_off(
    carfs: Shell, provider: tuple[AgentProcess, str]
) -> None:
    nowhere = "bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy"
    code, _, err = carfs("client", "retrieve", "--from", provider[1], nowhere)
    assert code != 0 and nowhere in err and "Traceback" not in err
    assert "Failed" in carfs("client", "list-retrievals")[1]
    assert carfs("client", "cancel-retrieval", "7")[0] == 3
    code, _, err = carfs("client", "drop-retrieval", "7", nowhere)
    assert code == 3 and json.loads(carfs("client", "list-retrievals", "--json")[1]) == []
    assert carfs("client", "retrieve", "nonsense")[0] == 2
    assert carfs("client", "retrieve", "--car", nowhere)[0] == 2


def test_who_interrupts_it_is_told_that_the_agent_goes_on(carfs: Shell) -> None:
    nowhere = "bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy"
    with socket.socket() as dead:  # takes connections and says nothing
        dead.bind(("127.0.0.1", 0))
        dead.listen(8)
        waiting = carfs.begin(
            "client", "retrieve", "--from", f"http://127.0.0.1:{dead.getsockname()[1]}", nowhere
        )
        until(lambda: "Fetching" in carfs("client", "list-retrievals", "--active")[1])
        waiting.send_signal(signal.SIGINT)
        _, err = waiting.communicate(timeout=30)
        assert waiting.returncode == 130
        assert "cancel-retrieval" in err and "Traceback" not in err
        assert "Fetching" in carfs("client", "list-retrievals")[1]
        assert carfs("client", "cancel-retrieval", nowhere) == (0, f"Cancelled retrieval {nowhere}\n", "")
        assert "Cancelled" in carfs("client", "list-retrievals")[1]
