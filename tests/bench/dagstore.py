"""The dagstore with very many shards: taking them in, listing them, starting with them, using them.

Beside what the agent does stands what SQLite alone does with the same rows and the same promise that they are on disk;
and while the agent works, another client asks it something small every few milliseconds and notes how long that takes.
"""

from __future__ import annotations

import json
import os
import select
import statistics
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from agent.catalogue import Catalogue
from agent.client import Client, _Connection
from agent.dagstore import index_files
from agent.dagstore.lifecycle import ShardState
from agent.dagstore.records import ShardRow, Transition
from tests.bench.data import Data
from tests.bench.processes import CARFS, resident_bytes, running
from tests.bench.table import Table, milliseconds, rate, seconds_text

TOGETHER = 1_000  # shards in one request
ONE_BY_ONE = (
    5_000  # shards that are also registered by calls of their own, and rows written in transactions likewise
)
GROUP = 256  # rows in one transaction, as the agent does it
ASKING_INTERVAL_S = 0.005
ACQUIRES = 500
AT_ONCE = 256
LINKS = 30_000  # names of one index file; file systems bound them
MIB = 1 << 20


def measure(data: Data) -> None:
    """Prints the table."""
    count = 1_000 if data.sizes.files < 10_000 else 100_000
    car = data.blocks(data.sizes.few_blocks, 2)
    table = Table(f"The dagstore with {count:,} shards", ("carfs", "SQLite alone", "asked meanwhile, p99"))
    table.begin()
    _registering(data, table, count, car)
    _restarting(data, table, count, car)


def _registering(data: Data, table: Table, count: int, car: Path) -> None:
    home, some = data.scratch("many"), min(count, ONE_BY_ONE)
    with agent_at(home) as client:
        with asking(client) as asked:
            one_s = _elapsed(lambda: _register(client, "one", some, car, _by_calls))
        alone_s = _rows_alone(data, some, 1)
        table.row("registered, one at a time", _rate(some, one_s), _rate(some, alone_s), asked.p99())
        with asking(client) as asked:
            batch_s = _elapsed(lambda: _register(client, "batch", some, car, _by_batches))
        group_s = _rows_alone(data, some, 16)
        table.row("registered in JSON-RPC batches", _rate(some, batch_s), _rate(some, group_s), asked.p99())
        with asking(client) as asked:
            many_s = _elapsed(lambda: _register(client, "many", count, car, _by_bulk))
        all_s = _rows_alone(data, count, GROUP)
        table.row("registered with RegisterShards", _rate(count, many_s), _rate(count, all_s), asked.p99())
        for method in ("Filecoin.DagstoreListShards", "Carfs.ListShards"):
            with asking(client) as asked:
                list_s = _elapsed(partial(client.call, method))
            table.row(f"listed with {method}", seconds_text(list_s), None, asked.p99())


def _restarting(data: Data, table: Table, count: int, car: Path) -> None:
    home = data.scratch("restarted")
    _fill(home, count, car)
    begun = time.perf_counter()
    with agent_at(home) as client:
        ready_s = time.perf_counter() - begun
        pid = client.call("Carfs.Status")["Pid"]
        table.row("started, until ready", seconds_text(ready_s))
        table.row("resident then, and without page cache", _memory(pid))
        with asking(client) as asked:
            all_s = _elapsed(lambda: _until_looked_at(pid))
        table.row("all data looked at after that", seconds_text(all_s), None, asked.p99())
        table.row("resident then, and without page cache", _memory(pid))
        with client.events() as stream:
            # Whoever does not read is cut, and the session with it.
            threading.Thread(target=lambda: deque(stream, maxlen=0), daemon=True).start()
            _acquiring(client, stream.session, table, count)


def _acquiring(client: Client, session: str, table: Table, count: int) -> None:
    def acquire(number: int) -> float:
        params = {"Session": session, "Key": _key("x", number)}
        return _elapsed(lambda: client.call("Carfs.AcquireShard", params))

    step = max(1, count // ACQUIRES)
    took = sorted(acquire(number) for number in range(0, count, step))
    middle, worst = took[len(took) // 2], took[len(took) * 99 // 100]
    table.row("acquired and answered, median and p99", f"{middle * 1e3:.1f} ms, {worst * 1e3:.1f} ms")
    with asking(client) as asked, ThreadPoolExecutor(AT_ONCE) as threads:
        begun = time.perf_counter()
        took = sorted(threads.map(acquire, range(1, AT_ONCE + 1)))
        all_s = time.perf_counter() - begun
    table.row(f"{AT_ONCE} acquires at once, all of them", milliseconds(all_s), None, asked.p99())


# What is asked for


def _key(kind: str, number: int) -> str:
    """As long as a piece CID, which is the usual key."""
    return f"baga6ea4seaqao7s73y24kcutaosvacpdjgfe5pw76ooefnyqw4ynr3d2y{kind}{number:06}"


def _register(
    client: Client, kind: str, count: int, car: Path, by: Callable[[Client, list[dict[str, Any]]], None]
) -> None:
    for first in range(0, count, TOGETHER):
        numbers = range(first, min(first + TOGETHER, count))
        by(client, [{"Key": _key(kind, number), "URL": str(car), "Lazy": True} for number in numbers])


def _by_calls(client: Client, shards: list[dict[str, Any]]) -> None:
    with _connected(client) as ask:
        for shard in shards:
            ask({"jsonrpc": "2.0", "id": 1, "method": "Carfs.RegisterShard", "params": shard})


def _by_batches(client: Client, shards: list[dict[str, Any]]) -> None:
    calls = [{"jsonrpc": "2.0", "id": 1, "method": "Carfs.RegisterShard", "params": one} for one in shards]
    with _connected(client) as ask:
        assert all("result" in answer for answer in ask(calls))


def _by_bulk(client: Client, shards: list[dict[str, Any]]) -> None:
    assert client.call("Carfs.RegisterShards", {"Shards": shards})["Registered"] == len(shards)


@contextmanager
def _connected(client: Client) -> Iterator[Callable[[Any], Any]]:
    """Asks over one connection."""
    connection = _Connection(client.path, 60)

    def ask(request: Any) -> Any:
        connection.request("POST", "/rpc/v0", json.dumps(request), {"Content-Type": "application/json"})
        return json.loads(connection.getresponse().read())

    with closing(connection):
        yield ask


class Asked:
    """How long small questions took."""

    def __init__(self) -> None:
        self.took_s: list[float] = []

    def p99(self) -> str | None:
        return milliseconds(statistics.quantiles(self.took_s, n=100)[98]) if len(self.took_s) > 1 else None


@contextmanager
def asking(client: Client) -> Iterator[Asked]:
    """Asks for the version, again and again, for the time of the block; in a process of its own, since ours is busy."""
    asked = Asked()
    command = [sys.executable, "-c", f"from tests.bench.dagstore import ask_on; ask_on({str(client.path)!r})"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None and process.stdout is not None
        process.stdout.readline()  # it has begun
        yield asked
        process.stdin.close()
        asked.took_s = [float(line) for line in process.stdout]


def ask_on(socket: str) -> None:
    """Asks until standard input ends; prints how many seconds each answer took."""
    request = {"jsonrpc": "2.0", "id": 1, "method": "Filecoin.Version"}
    with _connected(Client(Path(socket))) as ask:
        print("begun", flush=True)
        took = []
        while not select.select([sys.stdin], [], [], ASKING_INTERVAL_S)[0]:
            took.append(_elapsed(partial(ask, request)))
    print(*took, sep="\n", flush=True)


# The agent, and what it is compared with


@contextmanager
def agent_at(home: Path) -> Iterator[Client]:
    """An agent with its state at `home`, once it answers."""
    client = Client(home / "agent.sock", timeout_s=300)

    def answers() -> bool:
        try:
            return bool(client.call("Filecoin.Version"))
        except Exception:  # not yet
            return False

    with running([CARFS, "agent"], answers, os.environ | {"CARFS_PATH": str(home)}):
        yield client


def _rows_alone(data: Data, count: int, together: int) -> float:
    """Seconds for as many rows and lines of history, `together` in a transaction, with nothing around SQLite."""
    path = data.scratch("alone.db")
    with closing(Catalogue.open(path)) as catalogue:  # for the schema and the pragmas
        connection = catalogue._connection
        row = (None, "file:///x", "ShardStateNew", 1, "2026-01-01T00:00:00.000000Z", 0, "", None, None)
        values = [(_key("x", number), *row[1:]) for number in range(count)]
        begun = time.perf_counter()
        for first in range(0, count, together):
            some = values[first : first + together]
            connection.execute("BEGIN IMMEDIATE")
            columns = "key, url, state, lazy, registered, generation, error, error_class, index_facts"
            connection.executemany(f"INSERT INTO shards ({columns}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", some)
            lines = [(key, b"x" * 150) for key, *_ in some]
            connection.executemany("INSERT INTO transitions VALUES (?, 1, ?)", lines)
            connection.execute("COMMIT")
        return time.perf_counter() - begun


def _fill(home: Path, count: int, car: Path) -> None:
    """A catalogue of indexed shards, all of one CAR, each with an index file of its own."""
    with agent_at(home) as client:
        registered = {"Key": "model", "URL": str(car), "Wait": True}
        client.call("Carfs.RegisterShard", registered)
    with closing(Catalogue.open(home / "carfs.db")) as catalogue:
        model = catalogue.row("model")
        assert model is not None and model.index is not None
        folder = home / "dagstore" / "index"
        source = folder / model.index.name
        for first in range(0, count, TOGETHER):
            changes = []
            for number in range(first, min(first + TOGETHER, count)):
                key = _key("x", number)
                name = index_files.file_name(key, 1, model.registered)
                if number % LINKS == LINKS - 1:
                    (folder / name).write_bytes(source.read_bytes())
                    source = folder / name
                else:
                    os.link(source, folder / name)
                changes.append((_row(key, model, name), _line(model)))
            catalogue.put_all(changes)


def _row(key: str, model: ShardRow, name: str) -> ShardRow:
    assert model.index is not None
    facts = msgspec.structs.replace(model.index, name=name)
    return ShardRow(key, model.url, ShardState.AVAILABLE, False, model.registered, 1, index=facts)


def _line(model: ShardRow) -> Transition:
    return Transition(model.registered, "ShardStateInitializing", "ShardStateAvailable", "Indexed", "")


def _until_looked_at(pid: int) -> None:
    """Waits until the agent has nothing more to do by itself: no CPU time for a while."""
    quiet, before = 0, _cpu_ticks(pid)
    while quiet < 5:
        time.sleep(0.2)
        now = _cpu_ticks(pid)
        quiet = quiet + 1 if now - before <= 4 else 0
        before = now


def _cpu_ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def _memory(pid: int) -> str:
    everything, own = resident_bytes(pid)
    return f"{everything / MIB:.0f} MiB, {own / MIB:.0f} MiB"


def _elapsed(run: Callable[[], object]) -> float:
    begun = time.perf_counter()
    run()
    return time.perf_counter() - begun


def _rate(count: int, seconds: float) -> str | None:
    return rate(count, seconds, "shards")
