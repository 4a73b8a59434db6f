"""How full a worker is: each byte counted once, in the bars and in the choice."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent.scheduler.utilisation import Share, shares
from tests.agent.scheduler.machines import MIB, needs, running, task, worker


def test_s3_used_is_others_and_tasks_each_counted_once_and_the_ratio_is_of_the_same() -> None:
    one = running(task("t1", needs(400, least=250, base=24)), used=300)
    at = worker(memory=1000, left=500, swap=1000, cpus=4, running=[one])
    cpu, ram, vmem = shares(at)
    assert cpu == Share("CPU", 4, 0, 1, 0)
    assert ram == Share("RAM", 1000 * MIB, 200 * MIB, 300 * MIB, 24 * MIB)
    assert vmem == Share("VMEM", 2000 * MIB, 200 * MIB, 300 * MIB, 124 * MIB)
    assert (cpu.ratio, ram.used, ram.ratio) == (0.25, 500 * MIB, 0.524)


sizes = st.integers(0, 4096)


@given(
    sizes, sizes, sizes, st.integers(0, 8), st.lists(st.tuples(sizes, sizes, st.integers(-1, 9)), max_size=5)
)
def test_s3_parts_are_never_negative_and_never_more_than_the_whole(
    memory: int, left: int, swap: int, cpus: int, tasks: list[tuple[int, int, int]]
) -> None:
    runs = [
        running(task(f"t{number}", needs(most, threads=threads)), used=used)
        for number, (most, used, threads) in enumerate(tasks)
    ]
    for share in shares(worker(memory=memory, left=left, swap=swap, cpus=cpus, running=runs)):
        assert min(share.others, share.tasks, share.reserved) >= 0
        assert share.used + share.reserved <= share.total
        assert 0 <= share.ratio <= 1


def test_s1_tasks_add_what_they_take_and_not_what_others_use() -> None:
    runs = [running(task(f"t{number}", needs(100)), used=100) for number in range(3)]
    _, idle, _ = shares(worker(memory=1000, left=500))
    _, busy, _ = shares(worker(memory=1000, left=200, running=runs))
    assert (idle.ratio, busy.ratio) == (0.5, 0.8)
