"""A shard's life under random events: what holds after each of them, whatever came before."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, precondition, rule

from agent.dagstore.failures import ErrorClass, Failure
from agent.dagstore.lifecycle import (
    INDEXED_STATES,
    INDEXING_STATES,
    Acquire,
    Answer,
    CalledOff,
    CancelIndexing,
    Changed,
    Destroy,
    Effect,
    Event,
    Failed,
    FailedAgain,
    Forget,
    Grant,
    IllegalEvent,
    Indexed,
    Initialise,
    Life,
    Persist,
    Recover,
    Register,
    Release,
    Reported,
    Restarted,
    Returned,
    ScheduleRetry,
    ShardState,
    StartIndexing,
    Waiter,
    Withdraw,
    step,
)

FAILURES = st.sampled_from([Failure(ErrorClass.GONE, "gone"), Failure(ErrorClass.CORRUPT, "corrupt")])


class ShardLife(RuleBasedStateMachine):
    """The shell's part is played here: workers that run, waiters that wait, a disk with one record."""

    waiters: Bundle[Waiter] = Bundle("waiters")

    def __init__(self) -> None:
        super().__init__()
        self.life = Life()
        self.next_waiter = 1
        self.waiting: set[Waiter] = set()
        self.granted = 0
        self.running: set[int] = set()  # generations that a worker works on
        self.disk: tuple[ShardState, int, int] | None = (ShardState.NEW, 0, 0)

    def apply(self, event: Event) -> tuple[Effect, ...]:
        before = self.life
        try:
            self.life, effects = step(self.life, event)
        except IllegalEvent:
            assert self.life is before
            return ()
        for effect in effects:
            self.carry_out(effect)
        return effects

    def carry_out(self, effect: Effect) -> None:
        match effect:
            case Persist(_, state, _, _):
                self.disk = (state, self.life.generation, self.life.attempts)
            case Forget():
                self.disk = None
            case StartIndexing(generation):
                assert generation not in self.running
                self.running.add(generation)
            case CancelIndexing(generation):
                self.running.remove(generation)  # KeyError: nobody makes it
            case Grant(waiter):
                self.waiting.remove(waiter)  # KeyError: answered twice, or nobody asked
                self.granted += 1
            case Answer(waiter, _):
                self.waiting.remove(waiter)
            case ScheduleRetry(attempt, failure):
                assert (attempt, failure) == (self.life.attempts, self.life.failure)

    def new_waiter(self) -> Waiter:
        waiter = Waiter(self.next_waiter)
        self.next_waiter += 1
        self.waiting.add(waiter)
        return waiter

    def ask(self, event: type[Acquire | Initialise | Recover]) -> Waiter:
        waiter = self.new_waiter()
        before = self.life
        effects = self.apply(event(waiter))
        if self.life == before and not effects:
            self.waiting.discard(waiter)  # the event was refused, and the caller told so
        return waiter

    @rule(target=waiters)
    def initialise(self) -> Waiter:
        return self.ask(Initialise)

    @rule(target=waiters)
    def acquire(self) -> Waiter:
        return self.ask(Acquire)

    @rule(target=waiters)
    def recover(self) -> Waiter:
        return self.ask(Recover)

    @rule(waiter=consumes(waiters))
    def stop_waiting(self, waiter: Waiter) -> None:
        self.apply(Withdraw(waiter))
        self.waiting.discard(waiter)

    @rule()
    def what_nobody_wants_is_called_off(self) -> None:
        wanted = bool(self.waiting) or not self.life.on_demand
        effects = self.apply(CalledOff())
        assert not (wanted and effects)

    @rule(failure=FAILURES)
    def somebody_finds_it_bad(self, failure: Failure) -> None:
        self.apply(Reported(failure))

    @rule(failure=FAILURES)
    def a_retry_finds_it_no_better(self, failure: Failure) -> None:
        self.apply(FailedAgain(failure))

    @rule()
    def it_is_taken_in_lazily(self) -> None:
        self.apply(Register())

    @precondition(lambda self: self.granted > 0)
    @rule()
    def release(self) -> None:
        self.apply(Release())
        self.granted -= 1

    @precondition(lambda self: self.granted == 0)
    @rule()
    def release_too_often(self) -> None:
        before = self.life
        assert self.apply(Release()) == ()
        assert self.life == before

    @precondition(lambda self: self.running)
    @rule(data=st.data(), failure=st.none() | FAILURES)
    def worker_ends(self, data: st.DataObject, failure: Failure | None) -> None:
        generation = data.draw(st.sampled_from(sorted(self.running)))
        self.running.remove(generation)
        self.apply(Indexed(generation) if failure is None else Failed(generation, failure))

    @rule(generation=st.integers(0, 5))
    def late_worker_of_a_cancelled_task(self, generation: int) -> None:
        if generation not in self.running and generation < self.life.generation:
            before = self.life
            assert self.apply(Indexed(generation)) == ()
            assert self.life == before

    @rule(failure=FAILURES)
    def data_is_lost(self, failure: Failure) -> None:
        if self.life.state in INDEXED_STATES:
            self.apply(Failed(self.life.generation, failure))

    @rule()
    def data_comes_back(self) -> None:
        self.apply(Returned(self.life.generation))

    @rule()
    def data_changes(self) -> None:
        self.apply(Changed("size"))

    @rule()
    def destroy(self) -> None:
        refused = self.life.refs > 0
        self.apply(Destroy())
        assert self.life.state is not ShardState.DESTROYED or not refused

    @precondition(lambda self: self.disk is not None)
    @rule()
    def kill_and_restart(self) -> None:
        assert self.disk is not None
        state, generation, attempts = self.disk
        self.waiting.clear()
        self.running.clear()
        self.granted = 0
        self.life = Life(state, generation, failure=self.life.failure, attempts=attempts)
        self.apply(Restarted())

    @invariant()
    def references_are_those_granted(self) -> None:
        assert self.life.refs == self.granted >= 0

    @invariant()
    def whoever_waits_is_known_and_is_waiting_for_something(self) -> None:
        assert {*self.life.parked, *self.life.watchers} == self.waiting
        assert not self.waiting or self.life.state in INDEXING_STATES

    @invariant()
    def exactly_the_wanted_index_is_being_made(self) -> None:
        wanted = {self.life.generation} if self.life.state in INDEXING_STATES else set()
        assert self.running == wanted

    @invariant()
    def serving_means_references_and_available_means_none(self) -> None:
        if self.life.state in INDEXED_STATES:
            assert (self.life.state is ShardState.SERVING) == (self.life.refs > 0)

    @invariant()
    def the_disk_says_what_memory_says(self) -> None:
        if self.life.state is ShardState.DESTROYED:
            assert self.disk is None
        else:
            durable = ShardState.AVAILABLE if self.life.state is ShardState.SERVING else self.life.state
            assert self.disk == (durable, self.life.generation, self.life.attempts)

    @invariant()
    def errored_has_a_reason_and_nothing_else_has(self) -> None:
        assert (self.life.failure is not None) == (self.life.state is ShardState.ERRORED)


TestShardLife = ShardLife.TestCase
