"""The dagstore itself under random operations, cancels, failures and restarts: what holds whenever it is quiet.

Real catalogue, real files, real waiting; only the workers are puppets, which end when and as they are told to. Against
`test_lifecycle_model.py`, which knows the decisions alone, this finds what goes wrong in carrying them out.
"""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, closing, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

import hypothesis
import pytest
import trio
from hypothesis import strategies as st

from agent.catalogue import Catalogue
from agent.dagstore.dagstore import Dagstore
from agent.dagstore.failures import ErrorClass, Failure, ShardError
from agent.dagstore.lifecycle import INDEXING_STATES, ShardState
from agent.dagstore.settings import DagstoreConfig
from agent.workers import Needs, WorkerFailed
from tests.agent.stores import Roomy, dagstore_at, settled
from tests.agent.test_dagstore import descriptors

KEYS: Final = ("a", "b", "c")
OPERATIONS: Final = (
    *(
        "register",
        "lazy",
        "wait",
        "initialise",
        "acquire",
        "acquire",
        "release",
        "cancel",
        "end",
        "end",
        "end",
        "break",
    ),
    *("recover", "destroy", "report", "touch", "vanish", "return", "restart"),
)
SETTINGS: Final = DagstoreConfig(
    recover_on_start="never", retry_attempts=0, max_concurrent_index=2, breaker_failures=0
)


class Puppets(Roomy):
    """Workers that end when a test says so."""

    def __init__(self) -> None:
        self.running: dict[str, tuple[trio.Event, list[ErrorClass]]] = {}

    async def run(
        self,
        kind: str,
        params: dict[str, Any],
        progress: Callable[[int, int], None] | None = None,
        needs: Needs | None = None,
        *,
        subject: str = "",
        size_bytes: int = 0,
        priority: int = 0,
    ) -> dict[str, Any]:
        told, failures = self.running[params["out"]] = (trio.Event(), [])
        try:
            await told.wait()
        finally:
            del self.running[params["out"]]
        if failures:
            raise WorkerFailed(failures[0], "as told")
        try:
            found = Path(params["path"]).stat()
        except OSError as error:
            raise WorkerFailed(ErrorClass.GONE, str(error)) from error
        out = Path(params["out"])
        out.write_bytes(b"index")
        stamp = {
            "size": found.st_size,
            "mtime_ns": found.st_mtime_ns,
            "inode": found.st_ino,
            "device": found.st_dev,
        }
        facts = {"codec": 0x0401, "version": 1, "data_offset": 0, "data_size": 1, "blocks": 1, "roots": []}
        return {"name": out.name, "size": 5, "fingerprint": stamp, **facts}


@dataclass(eq=False)
class Asked:
    """A request that somebody waits for."""

    key: str
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    outcomes: list[str] = field(default_factory=list)


class Machine:
    """The dagstore, those who ask, and what they hold."""

    def __init__(self, folder: Path, nursery: trio.Nursery) -> None:
        self.folder = folder
        self.nursery = nursery
        self.puppets = Puppets()
        self.asked: list[Asked] = []
        self.held: Counter[str] = Counter()
        self.dagstore: Dagstore
        self._stack = AsyncExitStack()

    async def open(self) -> None:
        self.puppets = Puppets()
        opened = dagstore_at(self.folder, workers=self.puppets, settings=SETTINGS)
        self.dagstore = await self._stack.enter_async_context(opened)

    async def close(self) -> None:
        await self._stack.aclose()
        await self.quiet()
        assert all(len(one.outcomes) == 1 for one in self.asked), "somebody got no answer"
        self.asked.clear()
        self.held.clear()

    async def quiet(self) -> None:
        """Until nothing happens any more but for what a puppet or a cancel would begin."""
        await settled(self.dagstore)

    def path(self, key: str) -> Path:
        return self.folder / f"{key}.car"

    async def do(self, operation: str, key: str) -> None:
        """One operation; what the dagstore refuses changes nothing."""
        path, dagstore = self.path(key), self.dagstore
        match operation:
            case "register" | "lazy" | "wait":
                ask = partial(
                    dagstore.register, key, str(path), lazy=operation == "lazy", wait=operation == "wait"
                )
                self.ask(key, ask)
            case "initialise":
                self.ask(key, partial(dagstore.initialise, key))
            case "recover":
                self.ask(key, partial(dagstore.recover, key))
            case "destroy":
                self.ask(key, partial(dagstore.destroy, key))
            case "acquire":
                self.ask(key, partial(self.acquire, key))
            case "release" if self.held[key]:
                self.held[key] -= 1
                dagstore.release(key)
            case "cancel":
                for one in [one for one in self.asked if one.key == key][-1:]:
                    one.scope.cancel()
            case "end" | "break":
                for told, failures in list(self.puppets.running.values())[:1]:
                    failures += [ErrorClass.CORRUPT] if operation == "break" else []
                    told.set()
            case "report":
                with suppress(ShardError):
                    dagstore.fail(key, Failure(ErrorClass.CORRUPT, "reported"), quarantined="all of it")
            case "touch" if path.exists():
                os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))
            case "vanish" if path.exists():
                path.rename(path.with_suffix(".away"))
            case "return" if not path.exists():
                path.with_suffix(".away").rename(path)
            case "restart":
                await self.close()
                await self.open()

    def ask(self, key: str, request: Callable[[], Awaitable[None]]) -> None:
        one = Asked(key)
        self.asked.append(one)
        self.nursery.start_soon(self._answered, one, request)

    async def _answered(self, one: Asked, request: Callable[[], Awaitable[None]]) -> None:
        with one.scope:
            try:
                await request()
                one.outcomes.append("done")
            except ShardError as error:
                one.outcomes.append(error.error_class.value)
        if one.scope.cancelled_caught:
            one.outcomes.append("cancelled")

    async def acquire(self, key: str) -> None:
        await self.dagstore.acquire(key)
        self.held[key] += 1

    # What holds

    def check(self) -> None:
        assert all(len(one.outcomes) <= 1 for one in self.asked), "somebody was answered twice"
        self.asked = [one for one in self.asked if not one.outcomes]
        with closing(Catalogue.open(self.folder / "carfs.db")) as catalogue:
            rows = {row.key: row for row in catalogue.shards()}
        lives = dict(self.dagstore.lives())
        assert rows.keys() == lives.keys()
        for key, life in lives.items():
            row = rows[key]
            durable = ShardState.AVAILABLE if life.state is ShardState.SERVING else life.state
            assert (row.state, row.generation, row.attempts) == (durable, life.generation, life.attempts)
            assert (row.error_class is not None) == (life.state is ShardState.ERRORED)
            assert life.refs == self.held[key] >= 0
            waiting = sum(one.key == key for one in self.asked)
            assert len(life.parked) + len(life.watchers) == waiting
            assert not waiting or life.state in INDEXING_STATES
            if row.index is not None:
                assert (self.folder / "index" / row.index.name).read_bytes() == b"index"
        assert {one.key for one in self.asked} <= lives.keys()
        unfinished = sum(life.state in INDEXING_STATES for life in lives.values())
        assert len(self.puppets.running) == min(unfinished, 2)
        assert len(self.dagstore.indexing()) == unfinished


STEPS: Final = st.lists(
    st.tuples(st.sampled_from(OPERATIONS), st.sampled_from(KEYS)), min_size=20, max_size=60
)


@pytest.mark.slow
@hypothesis.settings(max_examples=40, suppress_health_check=list(hypothesis.HealthCheck))
@hypothesis.given(STEPS)
async def test_whatever_is_done_everybody_is_answered_once_and_disk_and_memory_agree(
    caplog: pytest.LogCaptureFixture, steps: list[tuple[str, str]]
) -> None:
    caplog.set_level("CRITICAL", "agent.dagstore.steps")  # most of these failures are meant
    before = descriptors()
    with tempfile.TemporaryDirectory() as folder:
        async with trio.open_nursery() as nursery:
            machine = Machine(Path(folder), nursery)
            for key in KEYS:
                machine.path(key).write_bytes(b"data")
            await machine.open()
            for operation, key in steps:
                await machine.do(operation, key)
                await machine.quiet()
                machine.check()
            await machine.close()
    assert descriptors() == before
