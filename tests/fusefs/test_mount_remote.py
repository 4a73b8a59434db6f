"""A mount of shards that lie on a web server: what is read is fetched, verified and kept, and no more than that."""

from __future__ import annotations

import errno
import json
import os
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from agent.client import Client
from carlib.cid import Cid
from carlib.unixfs.builder import Builder
from tests.agent.mounts.servers import Web, web_server
from tests.agent.transients.big_cars import MIB, Sink, write_big_car
from tests.fusefs.mounts import Mounted, mounted, names_in, write_car
from tests.fusefs.test_mount_agent import eventually, running_agent

pytestmark = pytest.mark.fuse

CHUNK = 1 << 16
SMALL = b"a small file\n" * 10
OTHER = os.urandom(20_000)
LARGE = [os.urandom(256 << 10) for _ in range(24)]


@pytest.fixture(autouse=True)
def _private_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CARFS_MOUNTS_ALLOW_PRIVATE", "true")


def tree() -> tuple[Cid, list[tuple[Cid, bytes]]]:
    """A folder of three files."""
    sink = Sink()
    builder = Builder(sink)
    files = [
        (b"large", builder.file(LARGE)),
        (b"other", builder.file([OTHER])),
        (b"small", builder.file([SMALL])),
    ]
    root = builder.directory(files)
    builder.flush()
    return root.cid, sink.blocks


@contextmanager
def mounted_from(web: Web, name: str, *, query: str = "", deadline_s: float = 30.0) -> Iterator[Mounted]:
    """An agent and a mount with the shard `one` of what the server has under that name."""
    with running_agent():
        Client().call("Carfs.RegisterShard", {"Key": "one", "URL": web.url(name, query), "Wait": True})
        with mounted(web.folder.parent / "mnt", arguments=["--deadline", str(deadline_s)]) as mount:
            yield mount


def fetched(web: Web) -> Counter[int]:
    """How often each chunk was asked for; looks and probes apart."""
    chunks: Counter[int] = Counter()
    for request in web.requests():
        first, _, last = request["fields"].get("range", "bytes=0-0").removeprefix("bytes=").partition("-")
        if int(last) - int(first) >= 1024:
            chunks.update(range(int(first) // CHUNK, int(last) // CHUNK + 1))
    return chunks


def sent(web: Web) -> int:
    return sum(request["sent"] for request in web.requests())


def test_one_small_file_of_a_gibibyte_costs_a_few_chunks(tmp_path: Path) -> None:
    root, blocks = tree()
    with web_server(tmp_path) as web:
        car = write_big_car(web.folder / "big.car", root, blocks, size=1 << 30)
        assert car.stat().st_size > 1 << 30
        with mounted_from(web, "big.car") as mount:
            folder = mount.path / "shards" / "one" / "root"
            assert (folder / "small").read_bytes() == SMALL
            assert names_in(folder) == ["large", "other", "small"]
            eventually(lambda: sent(web) > 0)
            assert sent(web) < 18 * CHUNK
            assert set(fetched(web).values()) == {1}
            record = json.loads((mount.path / "shards" / "one" / "shard.json").read_text())
            assert record["Access"]["Kind"] == "transient"


def test_twenty_readers_at_once_fetch_each_chunk_once(tmp_path: Path) -> None:
    root, blocks = tree()
    expected = b"".join(LARGE)
    with web_server(tmp_path) as web:
        write_big_car(web.folder / "big.car", root, blocks, size=64 * MIB)
        with mounted_from(web, "big.car") as mount:
            path = mount.path / "shards" / "one" / "root" / "large"

            def read(number: int) -> bool:
                with path.open("rb", buffering=0) as file:
                    start = number % 5 * MIB
                    return os.pread(file.fileno(), MIB, start) == expected[start : start + MIB] and (
                        number % 2 == 1 or file.read() == expected
                    )

            with ThreadPoolExecutor(20) as threads:
                assert all(threads.map(read, range(20)))
            counts = fetched(web)
            assert set(counts.values()) == {1}
            assert len(counts) * CHUNK < sent(web) + CHUNK


def test_a_carv1_is_browsed_and_its_payload_is_what_the_server_has(tmp_path: Path) -> None:
    root, blocks = tree()
    with web_server(tmp_path) as web:
        car = write_big_car(web.folder / "one.car", root, blocks, size=16 * MIB, version=1)
        with mounted_from(web, "one.car") as mount:
            shard = mount.path / "shards" / "one"
            assert (shard / "root" / "other").read_bytes() == OTHER
            assert (shard / "data.car").read_bytes() == car.read_bytes()
            assert set(fetched(web).values()) == {1}


def damage(data: bytes) -> None:
    """Spoils the other file in the transient, as a bad disk would."""
    (path,) = Path(os.environ["CARFS_PATH"]).glob("dagstore/transients/*.data")
    with path.open("r+b") as file:
        content = file.read()
        file.seek(content.index(data[:100]) + 50)
        file.write(b"damage")


def test_a_block_that_went_bad_on_this_machine_is_fetched_once_more(tmp_path: Path) -> None:
    root, blocks = tree()
    with web_server(tmp_path) as web:
        write_big_car(web.folder / "big.car", root, blocks, size=16 * MIB)
        with mounted_from(web, "big.car") as mount:
            folder = mount.path / "shards" / "one" / "root"
            assert (folder / "small").read_bytes() == SMALL  # which lies beside it
            damage(OTHER)
            assert (folder / "other").read_bytes() == OTHER
            assert sorted(set(fetched(web).values())) == [1, 2]


def test_a_header_that_went_bad_on_this_machine_is_fetched_once_more(tmp_path: Path) -> None:
    root, blocks = tree()
    with web_server(tmp_path) as web:
        write_big_car(web.folder / "big.car", root, blocks, size=16 * MIB)
        with mounted_from(web, "big.car") as mount:
            (path,) = Path(os.environ["CARFS_PATH"]).glob("dagstore/transients/*.data")
            with path.open("r+b") as file:
                file.write(b"\xff" * 100)
            assert (mount.path / "shards" / "one" / "root" / "small").read_bytes() == SMALL


def test_a_block_that_is_bad_on_the_server_is_never_handed_out(tmp_path: Path) -> None:
    root, blocks = tree()
    blocks = [(cid, bytes(20_000) if data == OTHER else data) for cid, data in blocks]
    with web_server(tmp_path) as web:
        write_big_car(web.folder / "big.car", root, blocks, size=16 * MIB)
        with mounted_from(web, "big.car") as mount:
            folder = mount.path / "shards" / "one" / "root"
            for _ in range(3):
                with pytest.raises(OSError) as raised:
                    (folder / "other").read_bytes()
                assert raised.value.errno == errno.EIO
            assert (folder / "small").read_bytes() == SMALL
            assert max(fetched(web).values()) == 2
            eventually(lambda: "does not match its CID" in mount.log())


def error_of(read: Callable[[], object]) -> int | None:
    try:
        read()
    except OSError as error:
        return error.errno
    return None


def stop_server(web: Web, number: signal.Signals) -> None:
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if str(web.log).encode() in entry.read_bytes().split(b"\0"):
                os.kill(int(entry.parent.name), number)
        except (FileNotFoundError, ProcessLookupError):
            continue


def test_when_the_server_is_gone_what_was_read_stays_and_the_rest_is_eio(tmp_path: Path) -> None:
    root, blocks = tree()
    with web_server(tmp_path) as web:
        write_big_car(web.folder / "big.car", root, blocks, size=16 * MIB)
        with mounted_from(web, "big.car") as mount:
            folder = mount.path / "shards" / "one" / "root"
            assert (folder / "small").read_bytes() == SMALL
            stop_server(web, signal.SIGKILL)
            assert error_of(lambda: (folder / "large").read_bytes()) == errno.EIO
            assert (folder / "small").read_bytes() == SMALL
            assert names_in(folder) == ["large", "other", "small"]
            eventually(lambda: "/large: shard one: http://127.0.0.1:" in mount.log())


def test_a_dag_of_a_remote_shard_is_reached_by_its_cid_alone(tmp_path: Path) -> None:
    root, blocks = tree()
    with web_server(tmp_path) as web:
        write_big_car(web.folder / "big.car", root, blocks, size=64 * MIB)
        with mounted_from(web, "big.car") as mount:
            folder = mount.path / "ipfs" / str(root)
            assert (folder / "small").read_bytes() == SMALL
            assert names_in(folder) == ["large", "other", "small"]
            assert sent(web) < 20 * CHUNK
            assert (folder / "large").read_bytes() == b"".join(LARGE)
            with (folder / "large").open("rb", buffering=0) as file:
                assert os.pread(file.fileno(), 5000, 3 * MIB + 7) == b"".join(LARGE)[3 * MIB + 7 :][:5000]
            assert set(fetched(web).values()) == {1}


def test_a_dag_of_which_a_part_lies_here_reads_as_one(tmp_path: Path) -> None:
    root, blocks = tree()
    large = [(cid, data) for cid, data in blocks if data in LARGE]
    with web_server(tmp_path) as web:
        write_big_car(web.folder / "big.car", root, blocks, size=16 * MIB)
        with mounted_from(web, "big.car") as mount:
            here = write_car(tmp_path / "here.car", large[::2], [])
            Client().call("Carfs.RegisterShard", {"Key": "here", "URL": str(here), "Wait": True})
            eventually((mount.path / "shards" / "here").exists)
            eventually(lambda: len(Client().call("Carfs.LookupCid", {"Cid": str(large[0][0])})) == 2)
            assert (mount.path / "ipfs" / str(root) / "large").read_bytes() == b"".join(LARGE)
            assert set(fetched(web).values()) == {1}
            stop_server(web, signal.SIGKILL)
            for cid, data in large[::2]:
                assert (mount.path / "ipfs" / str(cid)).read_bytes() == data


def test_a_listing_by_cid_never_waits_for_a_server_that_hangs(tmp_path: Path) -> None:
    """What is here it shows, and asks for the rest."""
    root, blocks = tree()
    with web_server(tmp_path) as web:
        write_big_car(web.folder / "big.car", root, blocks, size=16 * MIB)
        with mounted_from(web, "big.car", deadline_s=30.0) as mount:
            folder = mount.path / "ipfs" / str(root)
            assert (folder / "small").read_bytes() == SMALL
            stop_server(web, signal.SIGSTOP)
            reader = threading.Thread(target=lambda: error_of((folder / "large").read_bytes))
            reader.start()
            for _ in range(20):
                assert names_in(folder) == ["large", "other", "small"]
            assert reader.is_alive()  # all of that while it waited
            stop_server(web, signal.SIGCONT)
            reader.join()


def test_a_server_that_hangs_ends_in_an_error_and_holds_up_no_listing(tmp_path: Path) -> None:
    root, blocks = tree()
    with web_server(tmp_path) as web:
        write_big_car(web.folder / "big.car", root, blocks, size=16 * MIB)
        local = write_car(tmp_path / "local.car", [(Cid.of(b"here"), b"here")], [Cid.of(b"here")])
        with mounted_from(web, "big.car", deadline_s=3.0) as mount:
            Client().call("Carfs.RegisterShard", {"Key": "local", "URL": str(local), "Wait": True})
            shards = mount.path / "shards"
            eventually((shards / "local" / "root").exists)
            assert (shards / "one" / "root" / "small").read_bytes() == SMALL
            stop_server(web, signal.SIGSTOP)
            ends: list[int | None] = []
            large = shards / "one" / "root" / "large"
            reader = threading.Thread(target=lambda: ends.append(error_of(large.read_bytes)))
            reader.start()
            for _ in range(20):
                assert names_in(shards) == ["local", "one"]
                assert (shards / "local" / "root").read_bytes() == b"here"
                assert names_in(shards / "one" / "root") == ["large", "other", "small"]
            assert ends == []  # all of that while it waited
            reader.join()
            assert ends in ([errno.EIO], [errno.ETIMEDOUT])
            stop_server(web, signal.SIGCONT)


def test_while_the_agent_is_away_what_is_here_is_read_and_afterwards_the_rest_too(tmp_path: Path) -> None:
    root, blocks = tree()
    with web_server(tmp_path) as web:
        write_big_car(web.folder / "big.car", root, blocks, size=16 * MIB)
        with running_agent() as agent:
            Client().call("Carfs.RegisterShard", {"Key": "one", "URL": web.url("big.car"), "Wait": True})
            with mounted(tmp_path / "mnt") as mount:
                folder = mount.path / "shards" / "one" / "root"
                assert (folder / "small").read_bytes() == SMALL
                with (folder / "large").open("rb", buffering=0) as large:
                    agent.kill()
                    agent.wait(20)
                    assert error_of(lambda: os.pread(large.fileno(), 10, 3 * MIB)) == errno.EHOSTDOWN
                    assert (folder / "small").read_bytes() == SMALL
                    with running_agent():
                        eventually(lambda: error_of(lambda: os.pread(large.fileno(), 10, 3 * MIB)) is None)
                        assert (folder / "large").read_bytes() == b"".join(LARGE)
