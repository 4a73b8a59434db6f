"""Who, what, when and why: a stream that blocks nobody, and a history that lasts."""

from __future__ import annotations

from pathlib import Path

import pytest
from trio.testing import wait_all_tasks_blocked

from agent.dagstore.actors import acting
from agent.dagstore.failures import ShardError
from agent.dagstore.records import Transition
from agent.dagstore.settings import DagstoreConfig
from agent.dagstore.traces import Traces
from tests.agent.cars import write_broken_car, write_car
from tests.agent.stores import dagstore_at, register
from tests.conftest import ExpectWarning

LINE = Transition("t", "before", "after", "Event", "why", "me")


def told(traces: Traces, count: int) -> None:
    for number in range(count):
        traces.tell(str(number), LINE, "")


async def test_a_reader_sees_everything_from_then_on_in_order() -> None:
    traces = Traces(buffer=10)
    told(traces, 2)
    reader = traces.subscribe()
    told(traces, 3)
    assert [(trace.number, trace.key) for trace in await reader.wait_next()] == [(3, "0"), (4, "1"), (5, "2")]
    assert [trace.number for trace in traces.recent()] == [1, 2, 3, 4, 5]


async def test_d7_a_reader_that_does_not_keep_up_loses_the_oldest_and_holds_up_nobody() -> None:
    traces = Traces(buffer=4)
    slow, quick = traces.subscribe(), traces.subscribe()
    seen = 0
    for _ in range(50):
        told(traces, 2)
        seen += len(await quick.wait_next())
    assert (seen, quick.lost) == (100, 0)
    assert [trace.number for trace in await slow.wait_next()] == [97, 98, 99, 100]
    assert slow.lost == 96


async def test_a_stream_ends_when_it_was_read_to_its_end() -> None:
    traces = Traces(buffer=4)
    reader = traces.subscribe()
    told(traces, 1)
    traces.close()
    assert len(await reader.wait_next()) == 1
    assert await reader.wait_next() == []
    assert await traces.subscribe().wait_next() == []


async def test_every_transition_is_told_with_who_and_why(
    tmp_path: Path, expect_warning: ExpectWarning
) -> None:
    expect_warning("bad: INITIALIZING -> ERRORED")
    async with dagstore_at(tmp_path) as dagstore:
        reader = dagstore.traces.subscribe()
        with acting("rpc: process 7 uid 0"):
            await register(dagstore, "good", write_car(tmp_path / "x.car"))
            with pytest.raises(ShardError):
                await register(dagstore, "bad", write_broken_car(tmp_path / "bad.car"))
        traces = [(one.key, one.op, one.error_class, one.by) for one in await reader.wait_next()]
        assert traces == [
            ("good", "Initialise", "", "rpc: process 7 uid 0"),
            ("good", "Indexed", "", "agent: indexing"),
            ("bad", "Initialise", "", "rpc: process 7 uid 0"),
            ("bad", "Failed", "corrupt", "agent: indexing"),
        ]
        failures = dagstore.traces.recent(failures_only=True)
        assert [(one.key, one.reason) for one in failures] == [("bad", dagstore.record("bad").error)]


async def test_d7_traces_that_nobody_reads_keep_no_shard_waiting(tmp_path: Path) -> None:
    settings = DagstoreConfig(trace_buffer=1)
    async with dagstore_at(tmp_path, settings=settings) as dagstore:
        reader = dagstore.traces.subscribe()
        for number in range(10):
            await register(dagstore, str(number), write_car(tmp_path / "x.car"))
        assert (len(await reader.wait_next()), reader.lost) == (1, 19)


async def test_the_history_is_paged_and_lasts(tmp_path: Path) -> None:
    async with dagstore_at(tmp_path) as dagstore:
        with acting("rpc: process 7 uid 0"):
            await register(dagstore, "x", write_car(tmp_path / "x.car"), lazy=True)
            await dagstore.initialise("x")
    async with dagstore_at(tmp_path) as dagstore:
        await wait_all_tasks_blocked()
        page = dagstore.history("x", limit=2)
        assert [(number, line.event) for number, line in page] == [(3, "Indexed"), (2, "Initialise")]
        ((number, line),) = dagstore.history("x", before=2)
        assert (number, line.event, line.reason, line.by) == (1, "Register", "lazy", "rpc: process 7 uid 0")
        with pytest.raises(ShardError, match="shard not found"):
            dagstore.history("none")
