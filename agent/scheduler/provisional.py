"""Stands in for `deciding`, `seeing`, `table` and `estimating` until they are there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from agent.resources.facts import Snapshot
from agent.scheduler.requirement import Requirement
from agent.scheduler.tasks import Decision, Running, Task, Wait, WorkerView
from agent.workers.executor import Executor


@dataclass(frozen=True, slots=True)
class Policy:
    patience_s: float = 60.0


def view(
    executor: Executor, snapshot: Snapshot, running: tuple[Running, ...], enabled: bool, pressed: str
) -> WorkerView:
    memory = snapshot.memory
    unused = sum(max(0, one.task.requirement.max_memory - one.used_bytes) for one in running)
    return WorkerView(
        id=executor.id, name=executor.name, kinds=executor.kinds, enabled=enabled,
        memory=memory.limit or 0, memory_left=max(0, (memory.headroom or 0) - unused), memory_by="",
        swap=0, swap_left=0, cpus=(snapshot.cpus.limit or 1000) // 1000, pids_left=100, disk_left=executor.disk_left(),
        pressed=pressed, running=running,
    )  # fmt: skip


def requirement(kind: str, size_bytes: int) -> Requirement:
    return Requirement(64 << 20, 128 << 20, max_concurrent=1 if kind == "invert" else 0,
                       max_parallelism=0 if kind in ("invert", "fetch") else 1)  # fmt: skip


def decide(queue: Sequence[Task], workers: Sequence[WorkerView], now_s: float, policy: Policy) -> Decision:
    assigned, waiting = [], {}
    left = {one.id: one for one in workers}
    for task in sorted(queue, key=lambda one: (-one.priority, one.sequence)):
        need = task.requirement
        for worker in left.values():
            count = sum(one.task.kind == task.kind for one in worker.running)
            threads = sum(one.task.requirement.threads(worker.cpus) for one in worker.running)
            if (
                worker.enabled and not worker.pressed and task.kind in worker.kinds and worker.id not in task.barred
                and need.max_memory <= worker.memory_left and not (need.max_concurrent and count >= need.max_concurrent)
                and threads + need.threads(worker.cpus) <= worker.cpus
            ):  # fmt: skip
                assigned.append((task.id, worker.id))
                running = (*worker.running, Running(task, "preparing", 0, now_s))  # type: ignore[arg-type]
                left[worker.id] = replace(
                    worker, memory_left=worker.memory_left - need.max_memory, running=running
                )
                break
        else:
            waiting[task.id] = Wait(f"needs {need.max_memory >> 20} MiB")
    return Decision(tuple(assigned), waiting)
