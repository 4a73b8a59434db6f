"""`retrievals/` of a mount: DAGs fetched from another agent, begun by mkdir, dropped by rmdir."""

from __future__ import annotations

import errno
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.client import AgentError, Client
from tests.agent.imports.worlds import tree_at
from tests.agent.processes import AgentProcess
from tests.fusefs.importing import World, sh, world
from tests.fusefs.mounts import contents, names_in
from tests.fusefs.test_mount_agent import eventually
from tests.wires import Wire, free_port

pytestmark = pytest.mark.fuse

NOWHERE = "bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy"


def configure(path: Path, text: str) -> None:
    path.mkdir(parents=True, exist_ok=True)
    (path / "config.toml").write_text(text)


@pytest.fixture
def provider(tmp_path: Path) -> Iterator[AgentProcess]:
    """Another agent, which ours asks."""
    port = free_port()
    configure(tmp_path / "far", f'[gateway]\nlisten = ["127.0.0.1:{port}"]\n')
    configure(
        Path(os.environ["CARFS_PATH"]), f'[retrieval]\nattempts = 2\nsources = ["http://127.0.0.1:{port}"]\n'
    )
    with AgentProcess(tmp_path / "far") as far:
        yield far


class Gate(Wire):
    """Of what comes back it lets through no more than was allowed so far."""

    piece_bytes = 1 << 14

    def __init__(self, port: int) -> None:
        self._allowed = threading.Semaphore(0)
        self._is_open = False
        super().__init__(port)

    def allow(self, pieces: int) -> None:
        """More pieces, of 16 KiB or less."""
        self._allowed.release(pieces)

    def open(self) -> None:
        self._is_open = True
        self._allowed.release(1000)

    def close(self) -> None:
        self.open()
        super().close()

    def back(self, data: bytes) -> bytes:
        if not self._is_open:
            self._allowed.acquire()
        return data


@pytest.fixture
def gate(provider: AgentProcess) -> Iterator[Gate]:
    """Between our agent, which is not started yet, and the other one."""
    config = Path(os.environ["CARFS_PATH"]) / "config.toml"
    text = config.read_text()
    port = int(text.rpartition(":")[2].partition('"')[0])
    gate = Gate(port)
    config.write_text(text.replace(str(port), str(gate.port)) + "per_source = 2\nhedge_s = 0\n")
    yield gate
    gate.close()


@pytest.fixture
def root(provider: AgentProcess, tmp_path: Path) -> str:
    """Of a tree that the other one has."""
    tree_at(tmp_path / "set")
    return str(provider.client.call("Filecoin.ClientImport", [{"Path": str(tmp_path / "set")}])["Root"]["/"])


def document(here: World, name: str) -> Any:
    return json.loads((here.mount.path / "retrievals" / name / "retrieval.json").read_text())


def done(here: World, name: str) -> bool:
    return bool(document(here, name)["State"] == "RetrievalStateDone")


def test_mkdir_fetches_and_rmdir_drops(tmp_path: Path, root: str) -> None:
    with world(tmp_path) as here:
        shown = here.mount.path / "retrievals" / root
        sh(f"mkdir retrievals/{root} && test -e retrievals/{root}/retrieval.json", here.mount.path)
        eventually(lambda: done(here, root))
        assert sorted(names_in(shown)) == [
            "blocks", "data.car", "data.v2.car", "retrieval.json", "root", "roots"
        ]  # fmt: skip
        assert contents(shown / "root") == contents(tmp_path / "set")
        assert document(here, root)["Blocks"] == len(names_in(shown / "blocks"))
        assert os.getxattr(shown, "user.carfs.state") == b"RetrievalStateDone"
        assert os.getxattr(shown / "root" / "file0", "user.carfs.verified") == b"on-read"
        assert sh(f"carfs car verify {shown}/data.v2.car", tmp_path).returncode == 0
        assert json.loads((here.mount.path / ".carfs/status.json").read_text())["RetrievalsByState"] == {
            "RetrievalStateDone": 1
        }
        with (shown / "root" / "file0").open("rb") as file:
            with pytest.raises(OSError) as caught:
                shown.rmdir()
            assert caught.value.errno == errno.EBUSY
            with pytest.raises(AgentError):  # the lease of the mount keeps it from others, too
                Client().call("Carfs.RemoveRetrieval", {"Retrieval": root})
            assert file.read() == b"\1" * 5000
        car = Path(document(here, root)["CARPath"])
        sh(f"rmdir retrievals/{root}", here.mount.path)
        assert names_in(here.mount.path / "retrievals") == [] and not car.exists()


def test_what_others_begin_and_drop_comes_and_goes(tmp_path: Path, root: str) -> None:
    with world(tmp_path) as here:
        folder = here.mount.path / "retrievals"
        assert names_in(folder) == []
        Client().call("Carfs.StartRetrieval", {"Root": root, "Path": "sub/file1", "Wait": True})
        eventually(lambda: names_in(folder) == [root])
        assert (folder / root / "root" / "sub" / "file1").read_bytes() == b"\2" * 5000
        with pytest.raises(OSError) as caught:  # the directory says it is there, and its block is not
            (folder / root / "root" / "file0").read_bytes()
        assert caught.value.errno == errno.EIO
        Client().call("Carfs.StartRetrieval", {"Root": root, "Wait": True})
        eventually(lambda: document(here, root)["Generation"] == 2)
        assert contents(folder / root / "root") == contents(tmp_path / "set")
        eventually(lambda: not _refused(root))
        eventually(lambda: names_in(folder) == [])
        assert not (folder / root).exists()


def _refused(root: str) -> bool:
    """Whether it cannot be dropped yet: the mount gives its lease back some seconds after the last read."""
    try:
        Client().call("Carfs.RemoveRetrieval", {"Retrieval": root})
    except AgentError as error:
        assert error.error_class == "busy"
        return True
    return False


def test_what_cannot_be_had_says_why_and_is_dropped(tmp_path: Path, provider: AgentProcess) -> None:
    with world(tmp_path) as here:
        folder = here.mount.path / "retrievals"
        (folder / NOWHERE).mkdir()
        eventually(lambda: document(here, NOWHERE)["State"] == "RetrievalStateFailed")
        assert NOWHERE in document(here, NOWHERE)["Error"]
        assert names_in(folder / NOWHERE) == ["retrieval.json"]
        with pytest.raises(FileExistsError):
            (folder / NOWHERE).mkdir()
        (folder / NOWHERE).rmdir()
        assert names_in(folder) == []


def test_names_that_are_none_and_other_ways_to_make_them_are_refused(tmp_path: Path, root: str) -> None:
    with world(tmp_path) as here:
        folder = here.mount.path / "retrievals"
        for name in ("nonsense", "a b", "ü"):
            with pytest.raises(OSError) as caught:
                (folder / name).mkdir()
            assert caught.value.errno == errno.EINVAL
        for attempt in (
            lambda: (folder / root).touch(),
            lambda: (folder / root).symlink_to("/etc"),
            lambda: (folder / "other").write_text("x"),
        ):
            with pytest.raises(OSError) as caught:
                attempt()
            assert caught.value.errno == errno.EROFS
        with pytest.raises(FileNotFoundError):
            (folder / root).rmdir()


def test_an_open_file_reads_on_while_the_agent_restarts(tmp_path: Path, root: str) -> None:
    with world(tmp_path) as here:
        shown = here.mount.path / "retrievals" / root
        shown.mkdir()
        eventually(lambda: done(here, root))
        with (shown / "root" / "file0").open("rb", buffering=0) as file:
            assert file.read(10) == b"\1" * 10
            here.agent.kill()
            here.agent.wait()
            assert file.read() == b"\1" * 4990
        assert contents(shown / "root") == contents(tmp_path / "set")


def test_what_has_come_is_read_and_what_has_not_is_waited_for(
    tmp_path: Path, provider: AgentProcess, gate: Gate
) -> None:
    folder = tmp_path / "album"
    (folder / "sub").mkdir(parents=True)
    big = b"".join(bytes([number]) * (1 << 20) for number in range(8))
    (folder / "big").write_bytes(big)
    (folder / "sub" / "last").write_bytes(b"last\n" * 10000)
    root = str(provider.client.call("Filecoin.ClientImport", [{"Path": str(folder)}])["Root"]["/"])
    with world(tmp_path) as here:
        shown = here.mount.path / "retrievals" / root
        gate.allow(120)  # some 2 MiB
        shown.mkdir()
        assert names_in(shown / "root") == ["big", "sub"]  # waits for the root alone
        inside = os.open(shown / "root", os.O_RDONLY)
        with (shown / "root" / "big").open("rb", buffering=0) as file:
            assert file.read(4096) == big[:4096]
        assert sorted(names_in(shown)) == ["blocks", "retrieval.json", "root", "roots"]
        assert document(here, root)["State"] == "RetrievalStateFetching"
        some = names_in(shown / "blocks")
        assert 0 < len(some) < 12
        assert all((shown / "blocks" / name).read_bytes() for name in some)
        assert not (shown / "blocks" / NOWHERE).exists()
        read: list[bytes] = []
        reader = threading.Thread(target=lambda: read.append((shown / "root" / "sub" / "last").read_bytes()))
        reader.start()
        reader.join(1)
        assert reader.is_alive() and not read
        gate.open()
        reader.join(30)
        assert read == [b"last\n" * 10000]
        assert (shown / "root" / "big").read_bytes() == big
        eventually(lambda: done(here, root))
        with os.scandir(inside) as entries:  # who is inside stays there
            assert sorted(entry.name for entry in entries) == ["big", "sub"]
        os.close(inside)
        assert "data.car" in names_in(shown)
        assert contents(shown / "root") == contents(folder)


def test_one_that_is_called_off_shows_what_had_come_and_fails_for_the_rest(
    tmp_path: Path, provider: AgentProcess, gate: Gate
) -> None:
    (tmp_path / "big").write_bytes(b"".join(bytes([number]) * (1 << 20) for number in range(8)))
    root = str(provider.client.call("Filecoin.ClientImport", [{"Path": str(tmp_path / "big")}])["Root"]["/"])
    with world(tmp_path) as here:
        shown = here.mount.path / "retrievals" / root
        gate.allow(120)
        shown.mkdir()
        with (shown / "root").open("rb", buffering=0) as file:
            assert file.read(10) == bytes(10)
            Client().call("Carfs.CancelRetrieval", {"Retrieval": root})
            assert file.read(10) == bytes(10)
            file.seek(7 << 20)
            with pytest.raises(OSError) as caught:
                file.read(10)
            assert caught.value.errno == errno.EIO
        eventually(lambda: document(here, root)["State"] == "RetrievalStateCancelled")
        with (shown / "root").open("rb", buffering=0) as file:
            assert file.read(10) == bytes(10)
        gate.open()
        Client().call("Carfs.StartRetrieval", {"Root": root, "Wait": True})
        eventually(lambda: done(here, root))
        assert (shown / "root").read_bytes() == (tmp_path / "big").read_bytes()


def test_ipfs_shows_roots_of_imports_and_retrievals(tmp_path: Path, root: str) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "file").write_text("own")
    with world(tmp_path) as here:
        ipfs = here.mount.path / "ipfs"
        assert not (ipfs / root).exists()  # nothing is fetched that nobody has allowed
        assert names_in(here.mount.path / "retrievals") == []
        own = Client().call("Filecoin.ClientImport", [{"Path": str(tmp_path / "own")}])["Root"]["/"]
        eventually((ipfs / own).exists)
        assert (ipfs / own / "file").read_text() == "own"
        Client().call("Carfs.StartRetrieval", {"Root": root, "Wait": True})
        eventually((ipfs / root).exists)
        assert contents(ipfs / root) == contents(tmp_path / "set")
        eventually(lambda: not _refused(root))
        eventually(lambda: not (ipfs / root).exists())
        assert (ipfs / own / "file").read_text() == "own"


def test_ipfs_fetches_on_demand_what_is_read_and_no_more(
    tmp_path: Path, provider: AgentProcess, root: str
) -> None:
    config = Path(os.environ["CARFS_PATH"]) / "config.toml"
    config.write_text(config.read_text() + "on_demand = true\nmax_concurrent = 1\n")
    big = b"".join(bytes([number]) * (1 << 20) for number in range(40))
    (tmp_path / "big").write_bytes(big)
    other = provider.client.call("Filecoin.ClientImport", [{"Path": str(tmp_path / "big")}])["Root"]["/"]
    with world(tmp_path) as here:
        ipfs = here.mount.path / "ipfs"
        assert (ipfs / root / "sub" / "file1").read_bytes() == b"\2" * 5000
        assert contents(ipfs / root) == contents(tmp_path / "set")
        with (ipfs / other).open("rb", buffering=0) as file:
            file.seek(39 << 20)
            assert file.read(10) == bytes([39]) * 10
        assert document(here, other)["Bytes"] < 10 << 20
        assert document(here, other)["Lazy"]
        assert not (ipfs / NOWHERE).exists()
        assert sorted(names_in(here.mount.path / "retrievals")) == sorted([root, other])
        assert names_in(ipfs) == []
        (here.mount.path / "retrievals" / NOWHERE).mkdir()  # those on demand take no turn from others
        eventually(lambda: document(here, NOWHERE)["State"] == "RetrievalStateFailed")
