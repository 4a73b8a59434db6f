"""The monitor with a clock and a kernel of the test's own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from agent.resources.changes import differs
from agent.resources.facts import Bound, Mode, Snapshot
from agent.resources.monitor import GAP_S, RETRY_S, Monitor, next_reading_s, open_monitor
from agent.resources.watches.source import CannotWatch, Description, Source
from agent.resources.watches.watched import Watched
from tests.agent.resources.snapshots import MIB, limited_to, memory_fact, snapshot_of


@dataclass
class Machine:
    """What there is to read; says when it was."""

    now: Snapshot = field(default_factory=lambda: limited_to(512))
    error: Exception | None = None
    read_at: list[float] = field(default_factory=list)

    def read(self) -> Snapshot:
        self.read_at.append(round(trio.current_time(), 6))
        if self.error is not None:
            raise self.error
        return self.now


@dataclass
class FakeSource:
    """A source whose events the test sends."""

    opened: list[Watched] = field(default_factory=list)
    is_open: bool = False
    error: Exception | None = None  # of `open`
    text: str = "what a test sends"

    def __post_init__(self) -> None:
        self._send, self._receive = trio.open_memory_channel[Exception | None](1000)

    def source(self) -> Source:
        return Source("fake", lambda places: places.limit_files, self.open)

    def open(self, places: Watched) -> FakeSource:
        self.opened.append(places)
        if self.error is not None:
            raise self.error
        self.is_open = True
        return self

    def send(self, what: Exception | None = None) -> None:
        self._send.send_nowait(what)

    async def wait(self) -> None:
        what = await self._receive.receive()
        if what is not None:
            raise what

    def close(self) -> None:
        self.is_open = False


def description(monitor: Monitor) -> Description:
    return monitor.watched()[1]


async def settled(monitor: Monitor) -> None:
    """Past the reading that follows the opening of a source."""
    await trio.sleep(3 * GAP_S)


async def test_w9_a_limit_that_changes_is_seen_at_once(autojump_clock: MockClock) -> None:
    machine, events = Machine(), FakeSource()
    async with open_monitor(machine.read, interval_s=1, sources=[events.source()]) as monitor:
        await settled(monitor)
        changes = monitor.changes()
        machine.now = limited_to(256)
        began = trio.current_time()
        events.send()
        assert await anext(changes) == limited_to(256) == monitor.snapshot()
        assert trio.current_time() == began


async def test_w9_a_limit_that_no_event_tells_of_is_seen_by_the_timer(autojump_clock: MockClock) -> None:
    machine = Machine()
    async with open_monitor(machine.read, interval_s=1, sources=[]) as monitor:
        changes = monitor.changes()
        machine.now = limited_to(256)
        assert await anext(changes) == limited_to(256)
        assert machine.read_at == [0, 1]


async def test_a_burst_of_events_is_read_at_once_and_then_every_gap(autojump_clock: MockClock) -> None:
    machine, events = Machine(), FakeSource()
    async with open_monitor(machine.read, interval_s=1, sources=[events.source()]) as monitor:
        await trio.sleep(0.5)
        machine.read_at.clear()
        for _ in range(90):
            events.send()
        await trio.sleep(0.12)
        assert machine.read_at == [0.5, 0.55, 0.6]
        assert monitor.statistics().wakes == {"fake": 4}


@pytest.mark.parametrize(
    ("took_s", "interval_s", "woken_s", "timer_s"),
    [
        (0.001, 1.0, GAP_S, 1.0),
        (0.04, 1.0, 0.4, 1.0),  # slow files get ten times the time that they took
        (5.0, 1.0, 1.0, 1.0),  # but the timer is kept
        (0.001, 0.01, 0.01, 0.01),
    ],
)
def test_readings_have_a_gap_that_grows_with_what_they_take(
    took_s: float, interval_s: float, woken_s: float, timer_s: float
) -> None:
    assert next_reading_s(10, took_s, interval_s, is_woken=True) == 10 + woken_s
    assert next_reading_s(10, took_s, interval_s, is_woken=False) == 10 + timer_s


async def test_what_happened_before_a_source_was_open_is_read(autojump_clock: MockClock) -> None:
    machine, events = Machine(), FakeSource()
    async with open_monitor(machine.read, interval_s=1, sources=[events.source()]):
        await trio.sleep(0.9)
        assert machine.read_at == [0, GAP_S]


async def test_fresh_reads_now_and_tells_subscribers(autojump_clock: MockClock) -> None:
    machine = Machine()
    async with open_monitor(machine.read, interval_s=1, sources=[]) as monitor:
        heard: list[Snapshot] = []
        unsubscribe = monitor.subscribe(heard.append)
        machine.now = limited_to(100)
        assert monitor.snapshot() == limited_to(512)
        assert monitor.fresh() == monitor.snapshot() == limited_to(100)
        assert heard == [limited_to(100)]
        unsubscribe()
        unsubscribe()
        machine.now = limited_to(50)
        monitor.fresh()
        assert heard == [limited_to(100)]


async def test_subscribers_hear_only_news_but_the_snapshot_is_the_latest(autojump_clock: MockClock) -> None:
    machine = Machine()
    async with open_monitor(machine.read, interval_s=1, sources=[]) as monitor:
        heard: list[Snapshot] = []
        monitor.subscribe(heard.append)
        for used in (1, 5, 8, 9):  # a step is 8 MiB of 512
            machine.now = limited_to(512, used)
            assert monitor.fresh() is monitor.snapshot() is machine.now
        assert heard == [limited_to(512, 9)]


async def test_a_subscriber_that_fails_does_not_keep_news_from_others(
    autojump_clock: MockClock, expect_warning: Callable[[str], None]
) -> None:
    expect_warning("a subscriber failed")
    machine = Machine()

    def fail(_: Snapshot) -> None:
        raise ValueError("no")

    async with open_monitor(machine.read, interval_s=1, sources=[]) as monitor:
        heard: list[Snapshot] = []
        monitor.subscribe(fail)
        monitor.subscribe(heard.append)
        machine.now = limited_to(1)
        await trio.sleep(1.5)
        assert heard == [limited_to(1)]


async def test_who_is_slow_to_iterate_gets_the_newest(autojump_clock: MockClock) -> None:
    machine = Machine()
    async with open_monitor(machine.read, interval_s=1, sources=[]) as monitor:
        changes = monitor.changes()
        for limit in (400, 300, 200):
            machine.now = limited_to(limit)
            monitor.fresh()
        assert await anext(changes) == limited_to(200)
        with trio.move_on_after(10) as scope:
            await anext(changes)
        assert scope.cancelled_caught, "there was one piece of news"


async def test_a_source_is_opened_anew_when_its_files_are_others(autojump_clock: MockClock) -> None:
    machine, events = Machine(), FakeSource()
    async with open_monitor(machine.read, interval_s=1, sources=[events.source()]) as monitor:
        await settled(monitor)
        machine.now = snapshot_of(memory_fact(512 * MIB, directory="/sys/fs/cgroup/b"))
        await trio.sleep(5)
        assert [one.limit_files for one in events.opened] == [
            ("/sys/fs/cgroup/a/memory.max",),
            ("/sys/fs/cgroup/b/memory.max",),
        ]
        assert events.is_open
    assert not events.is_open


async def test_a_source_that_fails_is_off_and_the_timer_goes_on(
    autojump_clock: MockClock, expect_warning: Callable[[str], None]
) -> None:
    expect_warning("source 'fake' of changed limits is off")
    machine, events = Machine(), FakeSource()
    async with open_monitor(machine.read, interval_s=1, sources=[events.source()]) as monitor:
        await settled(monitor)
        events.send(KeyError("a bug"))
        await trio.sleep(2 * RETRY_S)
        assert description(monitor) == Description("fake", False, "failed: KeyError('a bug')")
        assert (len(events.opened), events.is_open) == (1, False)
        machine.now = limited_to(256)
        await trio.sleep(1)
        assert monitor.snapshot() == limited_to(256)


@pytest.mark.parametrize("error", [CannotWatch("not here"), PermissionError(13, "Permission denied")])
async def test_a_source_that_cannot_be_opened_says_why_and_tries_again(
    autojump_clock: MockClock, error: Exception
) -> None:
    machine, events = Machine(), FakeSource(error=error)
    async with open_monitor(machine.read, interval_s=1, sources=[events.source()]) as monitor:
        await trio.sleep(RETRY_S / 2)
        assert description(monitor) == Description("fake", False, str(error))
        events.error = None
        await trio.sleep(RETRY_S)
        assert description(monitor) == Description("fake", True, "what a test sends")
        assert len(events.opened) == 2


async def test_a_source_whose_group_goes_has_the_limits_read_at_once(autojump_clock: MockClock) -> None:
    machine, events = Machine(), FakeSource()
    async with open_monitor(machine.read, interval_s=10, sources=[events.source()]) as monitor:
        await settled(monitor)
        machine.now = snapshot_of(memory_fact(512 * MIB, directory="/sys/fs/cgroup/b"))
        events.send(CannotWatch("the group is gone"))
        await settled(monitor)
        assert monitor.snapshot() == machine.now
        assert description(monitor).is_active, "on the files of the new group"


async def test_limits_that_cannot_be_read_stay_as_they_were_and_are_logged_once(
    autojump_clock: MockClock, expect_warning: Callable[[str], None], caplog: pytest.LogCaptureFixture
) -> None:
    expect_warning("limits cannot be read")
    machine = Machine()
    async with open_monitor(machine.read, interval_s=1, sources=[]) as monitor:
        machine.error = ValueError("a bug")
        await trio.sleep(10.5)
        assert monitor.fresh() == limited_to(512)
        assert (monitor.statistics().failures, len(caplog.records)) == (11, 1)
        machine.error, machine.now = None, limited_to(256)
        await trio.sleep(1)
        assert monitor.snapshot() == limited_to(256)


async def test_a_cancelled_monitor_leaves_no_task_and_no_watch() -> None:
    events = FakeSource()
    before = trio.lowlevel.current_statistics().tasks_living
    with trio.CancelScope() as scope:
        async with open_monitor(Machine().read, sources=[events.source()]):
            await wait_all_tasks_blocked()
            assert events.is_open
            scope.cancel()
            await trio.sleep_forever()
    assert not events.is_open
    assert trio.lowlevel.current_statistics().tasks_living == before


def test_news_is_a_limit_its_place_pressure_and_a_step_of_headroom() -> None:
    old = limited_to(512, 100, full_10s=3)
    elsewhere = snapshot_of(memory_fact(512 * MIB, 100 * MIB, directory="/sys/fs/cgroup/b"), full_10s=3)
    news = {
        "limit": limited_to(511, 100, full_10s=3),
        "place": elsewhere,
        "no limit": snapshot_of(full_10s=3),
        "mode": replace(old, mode=Mode.V1),
        "pressure": limited_to(512, 100, full_10s=10),
        "more than a step less": limited_to(512, 109, full_10s=3),
        "more than a step more": limited_to(512, 91, full_10s=3),
        "pids": replace(old, pids=Bound(limit=100)),
    }
    assert [name for name, new in news.items() if not differs(old, new, 10)] == []
    assert [name for name, new in news.items() if not differs(new, old, 10)] == []


def test_no_news_is_less_than_a_step_and_pressure_on_the_same_side() -> None:
    old = limited_to(512, 100, full_10s=3)
    same = [old, limited_to(512, 108, full_10s=3), limited_to(512, 92, full_10s=9.9)]
    assert [differs(old, new, 10) for new in same] == [False, False, False]
    assert not differs(limited_to(512, full_10s=3), limited_to(512), 10), "no PSI is no pressure"
    assert not differs(limited_to(512, full_10s=0), limited_to(512, full_10s=90), 0), "0 is never"


def test_the_last_of_the_headroom_is_news() -> None:
    assert differs(limited_to(512, 511), limited_to(512, 512), 10)
    assert differs(limited_to(512, 512), limited_to(512, 511), 10)
