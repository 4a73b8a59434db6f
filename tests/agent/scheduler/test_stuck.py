"""Tasks that wait for what does not come by itself are told of in the log, once."""

from __future__ import annotations

from agent.scheduler.deciding import decide
from agent.scheduler.order import Queue
from agent.scheduler.stuck import Stuck
from agent.scheduler.tasks import WorkerView
from tests.agent.scheduler.machines import BY, needs, running, task, worker


def news(stuck: Stuck, queue: Queue, at: WorkerView, now_s: float) -> list[str]:
    return stuck.news(queue, decide(queue, [at], now_s).waiting, now_s)


def test_a_task_that_can_never_fit_is_told_of_once_with_what_to_raise() -> None:
    queue = Queue(tasks=[task("t1", needs(48, least=100)), task("t2", needs(48, least=100))])
    stuck, at = Stuck(patience_s=30), worker(memory=64)
    assert news(stuck, queue, at, 29.0) == []
    assert news(stuck, queue, at, 30.0) == [
        f"index of shard-t1 (and 1 more of them) cannot begin: needs at least 100 MiB, more than the 64 MiB that {BY}"
        " allows: raise that"
    ]
    assert news(stuck, queue, at, 31.0) == []


def test_it_is_news_again_after_one_of_its_kind_has_begun() -> None:
    queue = Queue(tasks=[task("t1", needs(48))])
    stuck, at = Stuck(patience_s=30), worker(memory=64, left=0)
    assert len(news(stuck, queue, at, 30.0)) == 1
    stuck.begun(task("t0", needs(48), kind="verify"))
    assert news(stuck, queue, at, 31.0) == []
    stuck.begun(task("t0", needs(48)))
    assert len(news(stuck, queue, at, 32.0)) == 1


def test_who_waits_for_other_tasks_is_no_news() -> None:
    queue = Queue(tasks=[task("t1", needs(48))])
    at = worker(memory=64, left=0, running=[running(task("t0", needs(48)), 40)])
    assert news(Stuck(patience_s=30), queue, at, 99.0) == []
