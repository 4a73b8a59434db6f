"""What is begun where: Lotus' cases, what waits and why, holding, and the defects of Lotus' scheduler."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent.scheduler.admission import Load, Obstacle
from agent.scheduler.deciding import decide
from agent.scheduler.order import Assigner, Policy, Queue
from agent.scheduler.tasks import BACKGROUND_PRIORITY, DEAL_PRIORITY, Task, Wait
from tests.agent.scheduler.machines import BY, MIB, Machines, needs, reason, running, task, worker

BIG = needs(600)  # one of these fits on a worker


def test_a_worker_without_the_room_gets_nothing() -> None:
    machines = Machines([worker("a", memory=100), worker("b", memory=1000)])
    assert machines.add(task("t1", BIG)).log == ["t1@b"]


def test_one_task_runs_and_leaves_room_when_it_has_ended() -> None:
    machines = Machines([worker()]).add(task("t1", BIG)).add(task("t2", BIG))
    assert machines.log == ["t1@w"]
    assert machines.end("t1").log == ["t1@w", "t2@w"]


def test_two_tasks_that_come_together_go_to_two_workers() -> None:
    assert Machines([worker("a"), worker("b")]).add(task("t1", BIG), task("t2", BIG)).log == ["t1@a", "t2@b"]


def test_two_tasks_that_come_one_by_one_go_to_two_workers() -> None:
    assert Machines([worker("a"), worker("b")]).add(task("t1", BIG)).add(task("t2", BIG)).log == [
        "t1@a",
        "t2@b",
    ]


@pytest.mark.parametrize(("first", "second"), [("index", "commp"), ("commp", "index")])
def test_kinds_keep_each_other_waiting(first: str, second: str) -> None:
    machines = Machines([worker()]).add(task("t1", BIG, kind=first)).add(task("t2", BIG, kind=second))
    assert machines.log == ["t1@w"]
    assert machines.end("t1").log == ["t1@w", "t2@w"]


def test_as_many_as_fit_run_at_once_and_one_more_each_time_one_ends() -> None:
    machines = Machines([worker()]).add(*(task(f"t{number}", needs(300)) for number in range(1, 7)))
    assert machines.log == ["t1@w", "t2@w", "t3@w"]
    assert machines.end("t2").log[3:] == ["t4@w"]
    assert machines.end("t1", "t4").log[4:] == ["t5@w", "t6@w"]


def test_of_those_that_wait_the_one_of_higher_priority_goes_first() -> None:
    machines = Machines([worker()]).add(task("t1", BIG))
    machines.add(task("t2", BIG)).add(task("t3", BIG, priority=DEAL_PRIORITY))
    assert machines.end("t1").log == ["t1@w", "t3@w"]
    assert machines.end("t3").log == ["t1@w", "t3@w", "t2@w"]


def test_a_worker_gets_only_what_it_can_do_and_may() -> None:
    indexing = worker("a", kinds=["index"])
    one = task("t1", needs(1), kind="commp")
    assert decide([one], [indexing, worker("b")], 0).assigned == (("t1", "b"),)
    assert decide([one], [indexing], 0).waiting["t1"] == Wait("no worker does commp", is_hopeless=True)
    disabled = replace(worker("b"), enabled=False)
    assert decide([one], [indexing, disabled], 0).waiting["t1"] == Wait(
        "every worker that could do commp is disabled", "b"
    )


def test_a_worker_that_has_said_that_it_cannot_is_not_asked_again() -> None:
    one = task("t1", needs(1), barred=["a"])
    assert decide([one], [worker("a"), worker("b")], 0).assigned == (("t1", "b"),)
    assert decide([one], [worker("a")], 0).waiting["t1"] == Wait(
        "every worker that does index has said that it cannot do this", is_hopeless=True
    )


def test_a_task_says_why_it_waits_on_the_worker_that_comes_nearest() -> None:
    busy = worker("a", left=100, running=[running(task("t0", needs(9)), 9)])
    decision = decide([task("t1", needs(512))], [busy, worker("b", left=310)], 0)
    assert decision.waiting["t1"] == Wait(f"needs 512 MiB, headroom 310 MiB under {BY}", "b")


def test_a_task_that_no_limit_lets_through_says_so_and_keeps_nobody_waiting() -> None:
    tasks = [task("t1", needs(2000), priority=DEAL_PRIORITY), task("t2", BIG)]
    decision = decide(tasks, [worker()], 1000)
    assert decision.assigned == (("t2", "w"),)
    assert decision.waiting["t1"] == Wait(
        f"needs at least 2 GiB, more than the 1 GiB that {BY} allows: raise that", is_hopeless=True
    )


def test_a_task_that_others_outside_leave_no_room_for_keeps_nobody_waiting() -> None:
    tasks = [task("t1", needs(500), priority=DEAL_PRIORITY), task("t2", needs(100))]
    decision = decide(tasks, [worker(left=400)], 1000)
    assert decision.assigned == (("t2", "w"),)
    assert not decision.waiting["t1"].is_hopeless


def test_a_task_whose_peak_fits_nowhere_runs_alone_with_less() -> None:
    squeezed = task("t1", needs(2000, least=500))
    assert decide([squeezed], [worker()], 0).assigned == (("t1", "w"),)
    other = running(task("t2", needs(100)), used=50)
    decision = decide([squeezed], [worker(left=974, running=[other])], 0)
    assert decision.assigned == ()
    assert reason(decision, "t1").startswith(
        "needs 2 GiB, more than there is, so waits until nothing else runs; "
    )
    decision = decide([squeezed, task("t3", needs(100))], [worker()], 0)
    assert decision.assigned == (("t1", "w"),)


def test_a_task_waits_for_a_worker_on_which_its_peak_fits_if_there_is_one() -> None:
    squeezed = task("t1", needs(2000, least=500))
    full = worker("b", memory=2048, left=100, running=[running(task("t2", needs(1948)), used=1948)])
    decision = decide([squeezed], [worker("a"), full], 0)
    assert decision.assigned == ()
    assert decision.waiting["t1"].worker == "b"


def test_smaller_ones_overtake_until_a_task_has_waited_too_long() -> None:
    machines = Machines([worker()]).add(task("t1", needs(500)), task("t2", needs(900)))
    machines.wait(29).add(task("t3", needs(100)))
    assert machines.log == ["t1@w", "t3@w"]
    machines.wait(1).add(task("t4", needs(100)))
    assert machines.log == ["t1@w", "t3@w"]
    assert machines.waiting["t4"].reason == "index shard-t2 has waited too long to be overtaken"
    assert machines.waiting["t2"].reason.startswith("needs at least 900 MiB of memory")
    assert machines.end("t1", "t3").log == ["t1@w", "t3@w", "t2@w", "t4@w"]


def test_only_the_worker_where_it_will_fit_first_is_held_for_a_task() -> None:
    busy = [running(task("t8", needs(600)), used=600)], [running(task("t9", needs(300)), used=300)]
    workers = [worker("a", left=424, running=busy[0]), worker("b", left=724, running=busy[1])]
    tasks = [task("t1", needs(800)), task("t2", needs(100), at=50), task("t3", needs(100), at=50)]
    assert decide(tasks, workers, 60).assigned == (("t2", "a"), ("t3", "a"))


def test_a_task_that_waits_for_its_turn_holds_nothing() -> None:
    one = running(task("t1", needs(1), kind="invert"))
    tasks = [task("t2", needs(1, at_once=1), kind="invert"), task("t3", needs(1))]
    assert decide(tasks, [worker(running=[one])], 1000).assigned == (("t3", "w"),)


def test_a_squeezed_task_gets_its_worker_to_itself_in_the_end() -> None:
    machines = Machines([worker()]).add(task("t1", needs(100))).add(task("t2", needs(2000, least=500)))
    machines.wait(31).add(task("t3", needs(100)))
    assert machines.log == ["t1@w"]
    assert machines.end("t1").log == ["t1@w", "t2@w"]


def test_who_works_in_the_background_gets_a_turn_however_much_others_want() -> None:
    machines = Machines([worker()]).add(task("t0", BIG))
    machines.add(task("t1", BIG, priority=BACKGROUND_PRIORITY))
    number = 1
    while "t1@w" not in machines.log:
        assert machines.now_s <= 660  # ageing_s, and a step of it
        number += 1
        machines.wait(10).add(task(f"t{number}", BIG, priority=DEAL_PRIORITY))
        machines.end(machines.log[-1].removesuffix("@w"))
    assert machines.now_s > 300


def test_spread_counts_tasks_where_utilization_counts_what_they_take() -> None:
    one_big, two_small = (
        running(task("t1", BIG)),
        [running(task("t2", needs(10))), running(task("t3", needs(10)))],
    )
    workers = [worker("a", running=[one_big]), worker("b", running=two_small)]
    new = [task("t4", needs(10))]
    assert decide(new, workers, 0).assigned == (("t4", "b"),)
    assert decide(new, workers, 0, Policy(assigner=Assigner.SPREAD)).assigned == (("t4", "a"),)


def test_equal_workers_are_taken_in_the_order_of_their_names() -> None:
    tasks = [task("t1", needs(1))]
    assert decide(tasks, [worker("b"), worker("a")], 0).assigned == (("t1", "a"),)


def test_reasons_hold_for_all_that_wait_and_for_no_one_else() -> None:
    queue = Queue(tasks=[task(f"t{number}", BIG) for number in range(1, 1001)])
    decision = decide(queue, [worker()], 0)
    queue.remove("t1")
    assert len(decision.waiting) == 999
    assert "t1" not in decision.waiting
    assert {wait.reason for wait in decision.waiting.values()} == {reason(decision, "t1000")}


def test_of_tasks_that_are_alike_only_the_first_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a decision costs the same however many wait."""
    looked_at: list[str] = []
    obstacle = Load.obstacle

    def counted(load: Load, one: Task) -> Obstacle | None:
        looked_at.append(one.id)
        return obstacle(load, one)

    monkeypatch.setattr(Load, "obstacle", counted)
    tasks = [task(f"t{number}", BIG, priority=number % 3) for number in range(1, 3001)]
    queue = Queue(tasks=tasks)
    assert decide(queue, [worker("a"), worker("b")], 1000).assigned == (("t2", "a"), ("t5", "b"))
    assert len(looked_at) < 10


def test_s1_what_others_use_is_counted_once_however_many_tasks_run() -> None:
    """Host `a` is half full of others' memory and runs nothing; `b` is emptier, and runs three tasks."""
    three = [running(task(f"t{number}", needs(100)), used=100) for number in (1, 2, 3)]
    workers = [worker("a", left=512), worker("b", left=624, running=three)]
    assert decide([task("t4", needs(100))], workers, 0).assigned == (("t4", "b"),)


def test_s4_nothing_is_promised_to_a_worker_before_it_can_begin() -> None:
    machines = Machines([worker("a"), worker("b")]).add(*(task(f"t{number}", BIG) for number in range(1, 5)))
    assert machines.log == ["t1@a", "t2@b"]
    machines.workers[0] = replace(machines.workers[0], enabled=False)  # it goes bad; what waits is free to go
    assert machines.end("t2").end("t3").log == ["t1@a", "t2@b", "t3@b", "t4@b"]


def test_s5_a_cap_on_fetching_holds() -> None:
    tasks = [task(f"t{number}", needs(1, threads=0, at_once=2), kind="fetch") for number in range(1, 5)]
    decision = decide(tasks, [worker()], 0)
    assert decision.assigned == (("t1", "w"), ("t2", "w"))
    assert reason(decision, "t3") == "2 fetch run, as many as FETCH_MAX_CONCURRENT allows"


def test_what_others_keep_from_a_task_while_nothing_of_ours_runs_is_said_with_what_to_do() -> None:
    at = replace(worker(memory=64, left=0), kept_free=32 * MIB)
    wait = decide([task("t1", needs(48, least=32))], [at], 0.0).waiting["t1"]
    headroom = f"needs at least 32 MiB, headroom 0 B under {BY}, besides 32 MiB that are kept free"
    remedy = "no task runs that would give any back: raise that, or end what else uses it"
    assert wait == Wait(f"{headroom}; {remedy}", "w", is_stuck=True)


def test_a_full_disk_is_no_limit_to_raise() -> None:
    one = task("t1", replace(needs(10), disk=5 * MIB))
    assert reason(decide([one], [worker(disk=1)], 0.0), "t1").endswith("give any back: make room there")
