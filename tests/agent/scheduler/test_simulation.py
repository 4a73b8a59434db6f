"""Random tasks on random workers whose limits change: nothing is promised twice, and everybody gets a turn."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from agent.scheduler.admission import Fit, Load
from agent.scheduler.deciding import decide
from agent.scheduler.order import DEFAULT_POLICY, Assigner, Policy, Queue
from agent.scheduler.requirement import Requirement
from agent.scheduler.tasks import BACKGROUND_PRIORITY, DEAL_PRIORITY, Phase, Running, Task, WorkerView
from tests.agent.scheduler.machines import MIB, task, worker

KINDS = ["index", "verify", "invert", "commp", "fetch"]
LONGEST_S = 50
FLOOD = 25


@dataclass
class World:
    """Workers whose tasks take memory as they please, up to what was reserved for them."""

    random: Random
    workers: list[WorkerView]
    policy: Policy = DEFAULT_POLICY
    now_s: int = 0
    count: int = 0
    running: dict[str, tuple[Task, str, int, int]] = field(default_factory=dict)
    """By task: where it runs, until when, and how much it uses."""
    began: dict[str, int] = field(default_factory=dict)
    came: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.queue = Queue(self.policy)

    def add(self, requirement: Requirement, kind: str = "index", priority: int = 0) -> str:
        self.count += 1
        one = task(f"t{self.count}", requirement, kind=kind, priority=priority, at=self.now_s)
        self.queue.add(one)
        self.came[one.id] = self.now_s
        return one.id

    def flood(self, count: int) -> None:
        for _ in range(count):
            most = self.random.randint(1, 700)
            requirement = Requirement(
                min_memory=self.random.randint(1, most) * MIB,
                max_memory=most * MIB,
                base_min_memory=self.random.choice([0, 0, 50]) * MIB,
                max_parallelism=self.random.choice([-1, 0, 1, 1, 3]),
                max_concurrent=self.random.choice([0, 0, 1, 2]),
                disk=self.random.randint(0, 100) * MIB,
            )
            priority = self.random.choice([BACKGROUND_PRIORITY, 0, DEAL_PRIORITY])
            self.add(requirement, self.random.choice(KINDS), priority)

    def views(self) -> list[WorkerView]:
        views = []
        for one in self.workers:
            here = [run for run in self.running.values() if run[1] == one.id]
            used = sum(run[3] for run in here)
            runs = tuple(Running(run[0], Phase.ACTIVE, run[3], 0.0) for run in here)
            views.append(replace(one, running=runs, memory_left=max(0, one.memory_left - used)))
        return views

    def step(self) -> None:
        """A second: tasks end and grow, and what can begins."""
        self.now_s += 1
        for id, (one, where, until, _) in list(self.running.items()):
            if until <= self.now_s:
                del self.running[id]
            else:
                used = self.random.randint(0, one.requirement.max_memory)
                self.running[id] = one, where, until, used
        views = self.views()
        decision = decide(self.queue, views, self.now_s, self.policy)
        again = decide(list(self.queue), list(reversed(views)), self.now_s, self.policy)
        assert decision.assigned == again.assigned  # whatever the order of the workers, and of the queue
        for id, where in decision.assigned:
            one = self.queue.remove(id)
            until = self.now_s + self.random.randint(1, LONGEST_S)
            self.running[id] = one, where, until, 0
            self.began[id] = self.now_s
        self.check(views, {id for id, _ in decision.assigned})

    def check(self, before: list[WorkerView], new: set[str]) -> None:
        for view in before:
            load = Load(view)
            fresh = [run[0] for id, run in self.running.items() if run[1] == view.id and id in new]
            is_squeezed = len(fresh) == 1 and not view.running and load.obstacle(fresh[0]) is not None
            if is_squeezed:
                assert fresh[0].requirement.min_memory <= view.memory_left
                continue
            for one in fresh:
                assert load.obstacle(one) is None
                load.assign(one)
            if fresh:
                assert load.unused + load.base_memory <= view.memory_left + view.swap_left
                assert load.min_memory + load.base_memory <= view.memory
                assert load.threads <= view.cpus
                assert load.disk <= view.disk_left


workers = st.lists(
    st.builds(
        lambda memory, cpus, swap: (memory, cpus, swap),
        st.integers(50, 1000), st.integers(1, 8), st.sampled_from([0, 0, 300]),
    ),
    min_size=1, max_size=3,
)  # fmt: skip
worlds = st.builds(
    lambda random, some, assigner: World(
        random,
        [worker(f"w{number}", memory=memory, cpus=cpus, swap=swap) for number, (memory, cpus, swap) in enumerate(some)],
        Policy(assigner=assigner),
    ),
    st.randoms(use_true_random=False), workers, st.sampled_from(list(Assigner)),
)  # fmt: skip


@settings(max_examples=25)
@given(worlds)
def test_what_is_promised_is_there_and_whatever_can_run_runs(world: World) -> None:
    world.flood(FLOOD)
    loads = [Load(view) for view in world.workers]
    possible = {
        one.id for one in world.queue if any(load.fit(one) in (Fit.WELL, Fit.SQUEEZED) for load in loads)
    }
    for _ in range(FLOOD * LONGEST_S):
        if possible <= set(world.began):
            break
        world.step()
    assert possible <= set(world.began)
    assert all(decision_says_why(world, one) for one in world.queue)


def decision_says_why(world: World, one: Task) -> bool:
    return bool(decide(world.queue, world.views(), world.now_s).waiting[one.id].reason)


@settings(max_examples=50)
@given(worlds, st.lists(st.tuples(st.integers(0, 2), st.integers(0, 1000)), min_size=20, max_size=20))
def test_limits_may_change_at_any_time(world: World, changes: list[tuple[int, int]]) -> None:
    """What was begun before may then be too much; nothing more is begun until there is room."""
    world.flood(FLOOD)
    for number, memory in changes:
        at = number % len(world.workers)
        one = world.workers[at]
        world.workers[at] = replace(one, memory=memory * MIB, memory_left=memory * MIB)
        world.step()


@settings(max_examples=25)
@given(st.randoms(use_true_random=False), st.integers(200, 1000), st.integers(1, 4))
def test_the_biggest_task_in_the_background_begins_within_a_bound_however_many_come(
    random: Random, memory: int, cpus: int
) -> None:
    """A stream of small tasks that somebody waits for keeps the worker full all the time."""
    policy = Policy(ageing_s=60, ageing_step_s=6, patience_s=10)
    world = World(random, [worker(memory=memory, cpus=cpus)], policy)
    big = Requirement(min_memory=memory * MIB, max_memory=memory * MIB)
    id = world.add(big, priority=BACKGROUND_PRIORITY)
    small = Requirement(min_memory=MIB, max_memory=memory // 10 * MIB)
    aged = (
        60 + 6
    )  # from then on, what comes is behind it; up to then, twice as many as can run may wait before it
    while id not in world.began:
        while len(world.queue) < 2 * cpus:
            world.add(small, random.choice(KINDS[:4]), DEAL_PRIORITY)
        world.step()
        assert all(world.came[one] < aged for one in world.began)
        assert (
            world.now_s <= aged + 3 * LONGEST_S + 1
        )  # what ran then, and the two rounds of what was before it
