"""Looking at data: a disk that does not answer holds up its own shards and nobody else's."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from agent.dagstore import mounts
from agent.dagstore.failures import ErrorClass, ShardError
from agent.dagstore.inspection import Inspector
from agent.dagstore.mounts import BytesMount, Fingerprint
from agent.dagstore.mounts.environment import Environment
from agent.dagstore.mounts.threads import THREADS, TIMEOUT_S
from agent.dagstore.records import IndexFacts

FACTS = IndexFacts("none.idx", 1, Fingerprint(1, 1, 1, 1), 0x0401, 1, 0, 1, 1, ())


@dataclass(frozen=True)
class DeadMount(BytesMount):
    """Answers when the disk is back."""

    back: threading.Event = field(default_factory=threading.Event)

    async def look(self, environment: Environment) -> Fingerprint:
        await environment.threads.run("dead:/disk", self.back.wait)
        return FACTS.fingerprint


@contextmanager
def dead_disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    back = threading.Event()
    monkeypatch.setitem(mounts.SCHEMES, "dead", lambda _url: DeadMount(b"", back))
    try:
        yield back
    finally:
        back.set()


async def class_of(inspector: Inspector, url: str) -> ErrorClass:
    with pytest.raises(ShardError, match="did not answer") as raised:
        await inspector.difference(url, FACTS)
    return raised.value.error_class


async def test_more_shards_on_a_dead_disk_than_there_are_threads_harm_nobody_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    autojump_clock.autojump_threshold = 0.02
    (tmp_path / "x.car").touch()
    inspector = Inspector(tmp_path)
    with dead_disk(monkeypatch) as back:
        async with trio.open_nursery() as nursery:
            for number in range(THREADS + 1):
                nursery.start_soon(class_of, inspector, f"dead:/disk/{number}")
        assert "the data changed" in await inspector.difference(f"file://{tmp_path}/x.car", FACTS)
        started = trio.current_time()
        assert await class_of(inspector, "dead:/disk/one-more") is ErrorClass.GONE
        assert trio.current_time() - started < TIMEOUT_S
        back.set()
        with trio.fail_after(3600):
            while True:
                try:
                    assert await inspector.difference("dead:/disk/0", FACTS) == "its index file is missing"
                    break
                except ShardError:
                    await trio.sleep(0.1)
