"""Whether a worker has room: Lotus' rules in their order, then ours, and what is said of each."""

from __future__ import annotations

import pytest

from agent.scheduler import admission
from agent.scheduler.admission import Fit, Load, Rule
from agent.scheduler.requirement import Requirement
from agent.scheduler.tasks import Phase, Task, WorkerView
from tests.agent.scheduler.machines import BY, MIB, needs, running, task, worker


def why(one: Task, at: WorkerView) -> str | None:
    load = Load(at)
    obstacle = load.obstacle(one)
    return None if obstacle is None else load.reason(one, obstacle)


def test_what_fits_has_no_obstacle() -> None:
    assert why(task("t1", needs(512)), worker(memory=512)) is None


def test_a_task_waits_for_headroom_and_says_how_much_and_under_what() -> None:
    at = worker(memory=1024, left=310)
    assert why(task("t1", needs(512)), at) == f"needs 512 MiB, headroom 310 MiB under {BY}"


def test_what_is_reserved_and_not_yet_used_is_not_given_twice() -> None:
    one = running(task("t1", needs(400)), used=100)
    at = worker(memory=1024, left=800, running=[one])
    assert why(task("t2", needs(500)), at) is None
    assert why(task("t2", needs(501)), at) == (
        f"needs 501 MiB, headroom 800 MiB under {BY}, of which 300 MiB reserved for what runs"
    )


def test_a_task_that_uses_more_than_was_reserved_owes_nothing_and_gives_nothing() -> None:
    one = running(task("t1", needs(100)), used=400)
    assert why(task("t2", needs(624)), worker(memory=1024, left=624, running=[one])) is None


def test_as_many_of_a_kind_as_may_run_at_once() -> None:
    one = running(task("t1", needs(1), kind="invert"))
    two = task("t2", needs(1, at_once=1), kind="invert")
    assert why(two, worker(running=[one])) == "1 invert runs, as many as INVERT_MAX_CONCURRENT allows"
    assert why(task("t2", needs(1, at_once=1)), worker(running=[one])) is None


def test_threads_are_counted_against_cpus() -> None:
    one = running(task("t1", needs(1, threads=3)))
    at = worker(cpus=4, running=[one])
    assert why(task("t2", needs(1)), at) is None
    assert why(task("t2", needs(1, threads=2)), at) == "needs 2 of 4 CPUs, 1 free"
    assert why(task("t2", needs(1, threads=0)), at) is None


def test_who_wants_more_threads_than_there_are_cpus_gets_those_there_are() -> None:
    assert why(task("t1", needs(1, threads=8)), worker(cpus=2)) is None


def test_least_memory_is_counted_against_the_limit_and_peaks_against_limit_and_swap() -> None:
    one = running(task("t1", needs(900, least=600)))
    at = worker(memory=1000, swap=1000, left=1000, running=[one])
    assert why(task("t2", needs(1100, least=400)), at) is None
    assert why(task("t2", needs(1100, least=401)), at) == (
        "needs at least 401 MiB of memory, 400 MiB of 1000 MiB not reserved"
    )
    headroom = f"headroom 1000 MiB under {BY} and 1000 MiB of swap, of which 900 MiB reserved for what runs"
    assert why(task("t2", needs(1101, least=400)), at) == f"needs 1.1 GiB, {headroom}"


def test_least_memory_is_never_taken_from_swap() -> None:
    at = worker(memory=1000, left=100, swap=1000)
    assert why(task("t1", needs(1000, least=100)), at) is None
    assert why(task("t1", needs(1000, least=101)), at) == (
        f"needs at least 101 MiB, headroom 100 MiB under {BY} and 1000 MiB of swap"
    )


def test_processes_that_are_still_to_be_begun_are_counted() -> None:
    one = running(task("t1", needs(1)), phase=Phase.PREPARING)
    assert why(task("t2", needs(1)), worker(pids=10, running=[one])) is None
    assert why(task("t2", needs(1)), worker(pids=9, running=[one])) == (
        "needs 5 processes and threads, 4 left under pids.max"
    )
    assert why(task("t2", needs(1)), worker(pids=5, running=[running(one.task)])) is None
    assert why(task("t2", needs(1, threads=0), kind="fetch"), worker(pids=0)) is None


def test_disk_that_is_reserved_is_not_given_twice() -> None:
    one = running(task("t1", needs(1, disk=60)))
    at = worker(disk=100, running=[one])
    assert why(task("t2", needs(1, disk=40)), at) is None
    assert why(task("t2", needs(1, disk=41)), at) == "needs 41 MiB of disk, 40 MiB left where results go"


def test_under_pressure_nothing_new_begins() -> None:
    assert why(task("t1", needs(1)), worker(pressed="all wait for memory")) == "all wait for memory"


def test_w8_less_than_nothing_left_is_nothing() -> None:
    one = running(task("t1", needs(4096, threads=64, disk=4096)), phase=Phase.PREPARING)
    at = worker(memory=512, left=0, cpus=2, pids=1, disk=1, running=[one])
    load = Load(at)
    assert load.free == 0
    for requirement in (needs(1), needs(1, threads=0), needs(1, disk=1), needs(1, base=1)):
        obstacle = load.obstacle(task("t2", requirement))
        assert obstacle is not None and obstacle.left == 0


def test_s2_shared_memory_is_charged_once_and_held_while_any_task_of_the_kind_runs() -> None:
    at = worker(memory=400)
    first = task("t1", needs(100, base=200))
    assert Load(at).base_of(first) == 200 * MIB
    load = Load(worker(memory=400, running=[running(first)]))
    assert load.base_of(task("t2", needs(100, base=200))) == 0
    assert load.obstacle(task("t2", needs(100, base=200))) is None
    assert load.obstacle(task("t3", needs(101), kind="verify")) is not None  # 200 are held
    load.assign(task("t2", needs(100, base=200)))
    assert load.base_memory == 200 * MIB


@pytest.mark.parametrize(
    ("requirement", "fit"),
    [
        (needs(500), Fit.WELL),
        (needs(501, least=500), Fit.SQUEEZED),
        (needs(501), Fit.NOT_NOW),
        (needs(1001), Fit.NEVER),
        (needs(1, base=1000), Fit.NEVER),
        (needs(1, disk=11), Fit.NOT_NOW),
    ],
)
def test_how_a_task_would_fit_if_nothing_else_of_ours_ran(requirement: Requirement, fit: Fit) -> None:
    one = running(task("t1", needs(400)), used=300)
    at = worker(memory=1000, left=200, disk=10, running=[one])
    assert Load(at).fit(task("t2", requirement)) is fit


def test_a_task_may_take_what_was_reserved_or_what_there_is() -> None:
    at = worker(memory=1000, left=300)
    assert admission.memory_limit(task("t1", needs(200)), at) == 200 * MIB
    assert admission.memory_limit(task("t1", needs(900, least=100, base=20)), at) == 280 * MIB
    assert admission.memory_limit(task("t1", needs(900, least=400)), at) == 400 * MIB


def test_rules_are_asked_in_the_order_in_which_they_stand() -> None:
    """Each requirement breaks one rule more than the one before it; the first that is broken is said."""
    first = running(task("t1", needs(100, least=60, disk=8, threads=4)), phase=Phase.PREPARING)
    at = worker(memory=150, left=120, swap=1, cpus=4, pids=13, disk=8, pressed="pressed", running=[first])
    load = Load(at)
    found = [
        load.obstacle(task("t2", requirement))
        for requirement in (
            needs(1, threads=0),
            needs(1, threads=0, disk=1),
            needs(1, threads=4, disk=1),
            needs(22, least=1, threads=4, disk=1),
            needs(91, threads=4, disk=1),
            needs(91, threads=4, disk=1, at_once=1),
        )
    ]
    rules = [None if one is None else one.rule for one in found]
    assert rules == [Rule.PRESSURE, Rule.DISK, Rule.THREADS, Rule.HEADROOM, Rule.LEAST_RESERVED, Rule.TURN]


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (512 * MIB, "512 MiB"), (3 << 29, "1.5 GiB")],
)
def test_sizes_are_for_people(size_bytes: int, text: str) -> None:
    assert admission.size(size_bytes) == text
