"""Storage deals between two agents: proposed from the command line, fetched, packed, served, ended."""

from __future__ import annotations

import base64
import json
import os
import socket
import stat
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from agent.client import AgentError
from carlib.piece.commitment import commit_file
from tests.agent.imports.worlds import tree_at
from tests.agent.processes import AgentProcess, Shell, until
from tests.fixtures import REPOSITORY
from tests.wires import free_port


@dataclass
class Provider:
    """An agent that takes deals, and how others get at it."""

    path: Path
    agent: AgentProcess
    url: str
    token: Path

    @property
    def shell(self) -> Shell:
        return Shell(self.path, self.path)

    def call(self, method: str, params: Any = None) -> Any:
        return self.agent.client.call(method, params)

    def state(self, number: int) -> str:
        return str(self.call("Carfs.GetDeal", {"Deal": number})["State"].removeprefix("StorageDeal"))

    def sectors(self) -> list[str]:
        folder = self.path / "sectors" / "unsealed"
        return sorted(one.name for one in folder.iterdir()) if folder.exists() else []

    def restart(self) -> None:
        self.agent.kill()
        self.agent.__exit__()
        self.agent = AgentProcess(self.path).wait_ready()


def provider_at(path: Path, market: str = "", *, sector_size: int = 1 << 20) -> Provider:
    port = free_port()
    path.mkdir(exist_ok=True)
    (path / "config.toml").write_text(
        f'[rpc]\nlisten = ["127.0.0.1:{port}"]\n[retrieval]\nattempts = 2\n'
        f"[market]\naccept = true\nsector_size = {sector_size}\nsealing_poll_s = 0.1\n{market}"
    )
    agent = AgentProcess(path).wait_ready()
    token = path / "token"
    token.write_bytes(base64.b64decode(agent.client.call("Filecoin.AuthNew", [["read", "write", "sign"]])))
    return Provider(path, agent, f"http://127.0.0.1:{port}", token)


@pytest.fixture
def provider(tmp_path: Path) -> Iterator[Provider]:
    made = provider_at(tmp_path / "provider")
    yield made
    made.agent.__exit__()


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Shell]:
    path = tmp_path / "client"
    path.mkdir()
    (path / "config.toml").write_text(f'[gateway]\nlisten = ["127.0.0.1:{free_port()}"]\n')
    with AgentProcess(path):
        yield Shell(path, tmp_path)


def proposed(client: Shell, provider: Provider, what: str, *more: str) -> Any:
    code, out, err = client(
        "deal",
        "propose",
        "--provider",
        provider.url,
        "--token-file",
        str(provider.token),
        "--json",
        *more,
        what,
    )
    assert (code, err) == (0, "")
    return json.loads(out)


def test_a_deal_from_an_import_to_a_shard_that_is_read_and_back_to_nothing(
    client: Shell, provider: Provider, tmp_path: Path
) -> None:
    tree_at(tmp_path / "set")
    assert client("client", "import", "set")[0] == 0
    deal = proposed(client, provider, "set", "--wait")
    assert (deal["State"], deal["Label"], deal["Sector"], deal["Offset"]) == (
        "StorageDealActive",
        "set",
        1,
        0,
    )
    root, piece, number = deal["Root"], deal["PieceCID"], deal["ID"]
    assert client("client", "export", "--car", "set", "set.car")[0] == 0
    assert str(commit_file(tmp_path / "set.car").v1) == piece
    assert deal["PayloadSize"] == (tmp_path / "set.car").stat().st_size
    shard = provider.call("Carfs.ShardInfo", [piece])
    assert (shard["State"], shard["URL"]) == ("ShardStateAvailable", f"lotus://{piece}")
    assert provider.shell("client", "cat", f"{root}/sub/file1") == (0, "\2" * 5000, "")
    assert provider.shell("dagstore", "verify", piece)[0] == 0
    assert provider.sectors() == ["s-t01000-1"]
    assert (provider.path / "sectors/unsealed/s-t01000-1").stat().st_size == deal["PieceSize"]
    until(lambda: not list((provider.path / "staging").glob("deal-*")))
    until(lambda: provider.call("Carfs.ListRetrievals", {}) == [])
    assert piece in provider.shell("deal", "list")[1]
    assert f"Root:     {root}" in provider.shell("deal", "show", str(number))[1]
    assert provider.shell("deal", "unseal", "--check", str(number))[1].startswith(
        f"Deal {number} is unsealed: "
    )
    # a second deal about the same piece shares it, and the first does not take it away
    other = proposed(client, provider, "set", "--wait")
    assert (other["Sector"], other["Offset"], other["ID"] != number) == (1, 0, True)
    assert provider.shell("deal", "end", str(number)) == (0, f"Ended: deal {number}\n", "")
    assert provider.shell("client", "cat", f"{root}/file0")[0] == 0
    assert provider.shell("deal", "end", str(other["ID"]))[0] == 0
    until(lambda: provider.call("Carfs.ListShards", {}) == [])
    until(lambda: provider.sectors() == [])
    assert {one["State"] for one in provider.call("Carfs.ListDeals", {})} == {"StorageDealExpired"}
    assert provider.shell("deal", "end", str(number))[0] == 4


def test_pieces_share_sectors_and_every_one_is_read_after_a_kill(
    client: Shell, provider: Provider, tmp_path: Path
) -> None:
    for number in range(3):
        (tmp_path / f"file{number}").write_bytes(bytes([number]) * 200_000)
        assert client("client", "import", f"file{number}")[0] == 0
    deals = [proposed(client, provider, f"file{number}", "--wait") for number in range(3)]
    assert [(one["Sector"], one["Offset"]) for one in deals] == [(1, 0), (1, 262144), (1, 524288)]
    provider.restart()
    for number, deal in enumerate(deals):
        assert provider.state(deal["ID"]) == "Active"
        assert provider.shell("client", "cat", deal["Root"]) == (0, chr(number) * 200_000, "")
    provider.shell("deal", "end", str(deals[0]["ID"]))
    until(lambda: len(provider.call("Carfs.ListShards", {})) == 2)
    assert provider.sectors() == ["s-t01000-1"]  # others are in it
    assert provider.shell("client", "cat", deals[1]["Root"])[0] == 0


def test_a_kill_at_any_time_loses_no_deal(client: Shell, provider: Provider, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(os.urandom(700_000))
    assert client("client", "import", "file")[0] == 0
    deal = proposed(client, provider, "file")
    for _ in range(6):
        provider.restart()
    provider.call("Carfs.WaitDeal", {"Deal": deal["ID"]})
    assert provider.state(deal["ID"]) == "Active"
    assert provider.sectors() == ["s-t01000-1"]
    assert provider.shell("dagstore", "verify", deal["PieceCID"])[0] == 0


def test_an_offline_deal_waits_for_its_car(client: Shell, provider: Provider, tmp_path: Path) -> None:
    tree_at(tmp_path / "set")
    client("client", "import", "set")
    client("client", "export", "--car", "set", "set.car")
    deal = str(proposed(client, provider, "set", "--offline", "--wait")["ID"])
    assert provider.state(int(deal)) == "WaitingForData"
    (tmp_path / "other.car").write_bytes((tmp_path / "set.car").read_bytes()[:-1] + b"x")
    shell = Shell(provider.path, tmp_path)
    assert shell("deal", "import", deal, "other.car")[0] == 0
    code, _, err = shell("deal", "wait", deal)
    assert code == 5 and "the data are the piece" in err
    assert provider.state(int(deal)) == "Error" and provider.sectors() == []
    assert shell("deal", "import", deal, "set.car")[0] == 4
    until(lambda: shell("deal", "retry", deal)[0] == 0)
    until(lambda: provider.state(int(deal)) == "WaitingForData")
    assert shell("deal", "import", deal, "set.car")[0] == 0
    assert shell("deal", "wait", deal) == (0, f"Deal {deal}: Active\n", "")
    assert (tmp_path / "set.car").exists()
    assert (
        shell("client", "cat", f"{json.loads(shell('deal', 'show', '--json', deal)[1])['Root']}/file0")[0]
        == 0
    )


def test_what_makes_no_deal_is_refused_or_fails_and_says_why(
    client: Shell, provider: Provider, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(b"x" * 5000)
    client("client", "import", "file")
    ask = ("deal", "propose", "--provider", provider.url)
    code, _, err = client(*ask, "file")
    assert code == 4 and "401" in err
    code, _, err = client("deal", "propose", "--provider", "http://127.0.0.1:9", "file")
    assert code == 6 and "127.0.0.1:9" in err
    assert client(*ask, "--token-file", str(provider.token), "--ends-at", "tomorrow", "file")[0] != 0
    gone = proposed(client, provider, "file", "--source", "http://127.0.0.1:9")["ID"]
    with pytest.raises(AgentError) as caught:
        provider.call("Carfs.WaitDeal", {"Deal": gone})
    assert "127.0.0.1:9" in str(caught.value)
    assert provider.state(gone) == "Error"
    (tmp_path / "big").write_bytes(bytes(2_000_000))
    client("client", "import", "big")
    big = proposed(client, provider, "big")["ID"]
    until(lambda: provider.state(big) == "ProposalRejected")
    twice = [proposed(client, provider, "file", "--uuid", "one")["ID"] for _ in range(2)]
    assert twice[0] == twice[1]


def test_a_provider_takes_deals_only_if_it_says_so(client: Shell, tmp_path: Path) -> None:
    made = provider_at(tmp_path / "shy", "")
    try:
        config = made.path / "config.toml"
        config.write_text(config.read_text().replace("accept = true", "accept = false"))
        made.restart()
        (tmp_path / "file").write_bytes(b"x" * 5000)
        client("client", "import", "file")
        code, _, err = client(
            "deal", "propose", "--provider", made.url, "--token-file", str(made.token), "file"
        )
        assert code == 4 and "market.accept" in err
    finally:
        made.agent.__exit__()


HOOK = """#!{python}
import json, sys
from pathlib import Path
home, verb, asked = Path({home!r}), sys.argv[1], json.load(sys.stdin)
with (home / "asked").open("a") as log:
    log.write(verb + "\\n")
sector = home / "sealed-7"
if verb == "add-piece":
    sys.path.insert(0, {repository!r})
    from carlib.piece.fr32 import Padder
    data, padder = Path(asked["Path"]).read_bytes(), Padder()
    padded = padder.feed(data) + padder.finish()
    sector.write_bytes(padded + bytes(asked["PieceSize"] - len(padded)))
    print(json.dumps({{"Sector": 7, "File": str(sector), "Offset": 0, "PayloadSize": len(data)}}))
elif verb == "state":
    print((home / "state").read_text())
elif verb == "is-unsealed":
    print(json.dumps({{"Unsealed": sector.exists()}}))
elif verb == "unseal":
    (home / "copy").rename(sector)
    print(json.dumps({{"File": str(sector), "Offset": 0}}))
elif verb == "release":
    sector.unlink(missing_ok=True)
    print("{{}}")
"""


def test_sealing_is_left_to_a_program(client: Shell, tmp_path: Path) -> None:
    home = tmp_path / "sealer"
    home.mkdir()
    hook = home / "seal"
    hook.write_text(HOOK.format(python=sys.executable, home=str(home), repository=str(REPOSITORY)))
    hook.chmod(hook.stat().st_mode | stat.S_IXUSR)
    (home / "state").write_text('{"State": "AwaitingPreCommit"}')
    made = provider_at(tmp_path / "provider", f'sealing_command = ["{hook}"]\n')
    try:
        (tmp_path / "file").write_bytes(b"x" * 5000)
        client("client", "import", "file")
        deal = proposed(client, made, "file")
        number, piece = deal["ID"], deal["PieceCID"]
        until(lambda: made.state(number) == "AwaitingPreCommit")
        until(lambda: (home / "asked").read_text().count("state") > 2)
        assert made.call("Carfs.ShardInfo", [piece])["State"] == "ShardStateAvailable"
        (home / "state").write_text('{"State": "Sealing"}')
        until(lambda: made.state(number) == "Sealing")
        (home / "state").write_text('{"State": "Active"}')
        until(lambda: made.state(number) == "Active")
        assert made.shell("client", "cat", deal["Root"]) == (0, "x" * 5000, "")
        (home / "sealed-7").rename(
            home / "copy"
        )  # sealed now: nothing reads it, and nothing unseals by itself
        assert made.shell("deal", "unseal", "--check", str(number))[1] == f"Deal {number} is not unsealed\n"
        assert "unseal" not in (home / "asked").read_text().split()
        assert made.shell("deal", "unseal", str(number))[0] == 0
        assert made.shell("client", "cat", deal["Root"]) == (0, "x" * 5000, "")
        # one whose sealing fails takes its shard with it
        (home / "state").write_text('{"State": "Failed", "Error": "the sector is lost"}')
        (tmp_path / "other").write_bytes(b"y" * 5000)
        client("client", "import", "other")
        lost = proposed(client, made, "other")
        until(lambda: made.state(lost["ID"]) == "Error")
        assert "the sector is lost" in made.call("Carfs.GetDeal", {"Deal": lost["ID"]})["Error"]
        until(lambda: [one["Key"] for one in made.call("Carfs.ListShards", {})] == [piece])
    finally:
        made.agent.__exit__()


def test_sectors_are_as_big_as_configured(client: Shell, tmp_path: Path) -> None:
    """The first one that the default of these tests, of a MiB, would have room for ends a sector of a quarter."""
    made = provider_at(tmp_path / "small", sector_size=262144)
    try:
        for number in range(2):
            (tmp_path / f"file{number}").write_bytes(bytes([number]) * 200_000)
            assert client("client", "import", f"file{number}")[0] == 0
        deals = [proposed(client, made, f"file{number}", "--wait") for number in range(2)]
    finally:
        made.agent.__exit__()
    assert [(one["Sector"], one["Offset"]) for one in deals] == [(1, 0), (2, 0)]


def test_what_was_fetched_stays_beside_the_sector_if_so_configured(client: Shell, tmp_path: Path) -> None:
    made = provider_at(tmp_path / "keeping", "keep_staged = true\n")
    try:
        (tmp_path / "file").write_bytes(b"x" * 5000)
        assert client("client", "import", "file")[0] == 0
        deal = proposed(client, made, "file", "--wait")
        (staged,) = (made.path / "staging").glob("deal-*")
        assert str(commit_file(staged).v1) == deal["PieceCID"]
    finally:
        made.agent.__exit__()


def test_so_many_deals_are_worked_on_at_once(client: Shell, tmp_path: Path) -> None:
    """The first one waits for a source that never answers, and takes the only turn."""
    made = provider_at(tmp_path / "one", "max_concurrent = 1\n")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        try:
            for number in range(2):
                (tmp_path / f"file{number}").write_bytes(bytes([number]) * 5000)
                assert client("client", "import", f"file{number}")[0] == 0
            source = f"http://127.0.0.1:{silent.getsockname()[1]}"
            stuck = proposed(client, made, "file0", "--source", source)
            until(lambda: made.call("Carfs.ListRetrievals", {}))
            waiting = proposed(client, made, "file1")
            time.sleep(0.5)
            fetched = [one["Root"] for one in made.call("Carfs.ListRetrievals", {})]
            assert fetched == [stuck["Root"]]  # nothing is fetched for the other
            assert made.shell("deal", "end", str(stuck["ID"]))[0] == 0
            until(lambda: made.state(waiting["ID"]) == "Active")
        finally:
            made.agent.__exit__()
