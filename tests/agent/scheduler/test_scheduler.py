"""The scheduler: each task is begun once there is room, ends in exactly one way, and whoever asked hears of it."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from agent.dagstore.failures import ErrorClass, ShardError
from agent.scheduler.jobs import ASSIGNED, RUNNING
from agent.scheduler.scheduler import ATTEMPTS, OUTGROWN_ATTEMPTS, Settings
from agent.scheduler.tasks import BACKGROUND_PRIORITY, DEAL_PRIORITY
from agent.workers import Done, WorkerBarred, WorkerDied, WorkerFailed, WorkerLost
from tests.agent.machines import Learned, Machine, machine
from tests.agent.scheduler.puppets import PARAMS, Puppet, staged
from tests.conftest import ExpectWarning

MIB = 1 << 20
ONE_CPU = machine(cpus=1)
KILLED = WorkerDied("killed", -9)
OUTGREW = WorkerDied("it was killed by SIGKILL, which outgrew", -9, out_of_memory=True)


async def test_a_task_gives_its_result_and_leaves_nothing() -> None:
    async with staged() as stage:
        await stage.begin("a")
        await stage.end("a", Done({"blocks": 3}, 0))
        assert stage.outcomes == {"a": {"blocks": 3}}
        assert stage.scheduler.jobs() == ()


async def test_what_fails_fails_whoever_asked_and_nobody_else() -> None:
    async with staged() as stage:
        await stage.begin("a")
        await stage.begin("b")
        failed = WorkerFailed(ErrorClass.CORRUPT, "no CAR")
        await stage.end("a", failed)
        await stage.end("b")
        assert stage.outcomes == {"a": failed, "b": {"done": True}}


async def test_a_kind_that_is_none_is_refused_at_once() -> None:
    async with staged() as stage:
        with pytest.raises(WorkerFailed, match="there is no task of the kind 'dig'"):
            await stage.scheduler.run("dig", PARAMS)


async def test_jobs_are_shown_with_progress_place_and_reason() -> None:
    async with staged(on=Machine(ONE_CPU)) as stage:
        for subject in "abc":
            await stage.begin(subject)
        shown = {job.task.subject: job for job in stage.scheduler.jobs()}
        assert (shown["a"].run_wait, shown["a"].done, shown["a"].total, shown["a"].worker) == (
            RUNNING,
            1,
            2,
            "local",
        )
        assert [shown[subject].run_wait for subject in "bc"] == [ASSIGNED, ASSIGNED + 1]
        assert stage.reason("b") == "needs 1 of 1 CPUs, 0 free"
        counts = stage.scheduler.counts()
        assert (counts.busy, counts.waiting, counts.limit) == (1, 2, 1)


async def test_who_is_waited_for_goes_first_and_what_is_in_the_background_last() -> None:
    async with staged(on=Machine(ONE_CPU)) as stage:
        await stage.begin("first")
        for subject, priority in (("usual", 0), ("back", BACKGROUND_PRIORITY), ("deal", DEAL_PRIORITY)):
            await stage.begin(subject, priority=priority)
        for subject in ("first", "deal", "usual", "back"):
            await stage.end(subject)
        assert stage.puppet.begun == ["first", "deal", "usual", "back"]


async def test_whom_somebody_comes_to_wait_for_is_hurried() -> None:
    async with staged(on=Machine(ONE_CPU)) as stage:
        for subject in "abc":
            await stage.begin(subject)
        stage.scheduler.hurry("index", "c", DEAL_PRIORITY)
        await stage.end("a")
        assert stage.puppet.begun == ["a", "c"]


async def test_invert_waits_for_no_cpu_and_no_process() -> None:
    """A new shard is found at once although others index for hours."""
    async with staged(Settings(limit=1), on=Machine(ONE_CPU)) as stage:
        for subject in "ab":
            await stage.begin(subject)
        await stage.begin("segment", "invert")
        await stage.begin("another", "invert")
        assert stage.puppet.begun == ["a", "segment"]


async def test_no_more_processes_than_configured_and_the_reason_names_the_key() -> None:
    async with staged(Settings(limit=1)) as stage:
        for subject in "ab":
            await stage.begin(subject)
        assert stage.puppet.begun == ["a"]
        assert stage.reason("b") == "needs a process, 1 of 1 that workers.count allows are busy"
        await stage.end("a")
        assert stage.puppet.begun == ["a", "b"]


async def test_limits_that_shrink_and_grow_while_tasks_wait_count_at_once(mock_clock: MockClock) -> None:
    async with staged() as stage:
        await stage.begin("a", size_bytes=MIB)
        stage.machine.now = machine(memory=200 * MIB, used=180 * MIB)
        await stage.begin("b", size_bytes=MIB)
        assert stage.puppet.begun == ["a"]
        assert stage.reason("b").startswith("needs 56 MiB, headroom 0 B under host MemTotal")
        stage.machine.now = machine()
        stage.scheduler.poke()  # as the monitor does
        await wait_all_tasks_blocked()
        assert stage.puppet.begun == ["a", "b"]


async def test_what_others_give_back_is_noticed_without_an_event(autojump_clock: MockClock) -> None:
    async with staged(on=Machine(machine(memory=200 * MIB, used=200 * MIB))) as stage:
        stage.ask("a", size_bytes=MIB)
        await trio.sleep(5)
        assert stage.puppet.begun == []
        stage.machine.now = machine()
        await trio.sleep(1.1)
        assert stage.puppet.begun == ["a"]


async def test_what_idle_processes_hold_is_free_for_the_task_that_gets_one_of_them() -> None:
    async with staged(on=Machine(machine(memory=200 * MIB, used=150 * MIB))) as stage:
        stage.puppet.idles, stage.puppet.each_idle = 1, 40 * MIB
        await stage.begin("a", size_bytes=MIB)  # 48 and 8 MiB; 18 are left without what is idle
        assert (stage.puppet.begun, stage.puppet.idles) == (["a"], 1)


async def test_idle_processes_beyond_those_that_begin_end_when_what_they_hold_is_reserved() -> None:
    async with staged(on=Machine(machine(memory=300 * MIB, used=200 * MIB))) as stage:
        stage.puppet.idles, stage.puppet.each_idle = 4, 40 * MIB
        await stage.begin("a", size_bytes=64 * MIB)  # 96 and 8 MiB; 68 are left
        assert (stage.puppet.begun, stage.puppet.idles) == (["a"], 4)  # one of them is its own
        stage.puppet.idles, stage.puppet.used["a"] = 3, 40 * MIB
        stage.machine.now = machine(memory=300 * MIB, used=260 * MIB)
        stage.scheduler.poke()  # as the monitor does
        await wait_all_tasks_blocked()
        assert stage.puppet.idles == 1


async def test_idle_processes_end_when_the_limit_falls_and_nothing_is_left_without_what_they_hold() -> None:
    async with staged(on=Machine(machine(memory=300 * MIB, used=200 * MIB))) as stage:
        stage.puppet.idles, stage.puppet.each_idle = 2, 40 * MIB
        stage.machine.now = machine(memory=200 * MIB, used=200 * MIB)
        stage.scheduler.poke()
        await wait_all_tasks_blocked()
        assert stage.puppet.idles == 0


# Ends before the end


async def test_a_cancelled_waiter_takes_its_task_with_it() -> None:
    async with staged(on=Machine(ONE_CPU)) as stage:
        await stage.begin("a")
        with trio.move_on_after(0):
            await stage.scheduler.run("index", PARAMS, subject="b")
        assert [job.task.subject for job in stage.scheduler.jobs()] == ["a"]
        await stage.end("a")
        assert stage.puppet.begun == ["a"]


async def test_cancelling_what_runs_makes_room_for_the_next() -> None:
    async with staged(on=Machine(ONE_CPU)) as stage:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: stage.scheduler.run("index", PARAMS, subject="a"))
            await wait_all_tasks_blocked()
            await stage.begin("b")
            nursery.cancel_scope.cancel()
        await wait_all_tasks_blocked()
        assert (stage.puppet.cancelled, stage.puppet.begun) == (["a"], ["a", "b"])


async def test_an_aborted_task_fails_as_cancelled_and_is_not_tried_again() -> None:
    async with staged() as stage:
        await stage.begin("a")
        stage.scheduler.abort(stage.id_of("a"))
        await wait_all_tasks_blocked()
        error = stage.outcomes["a"]
        assert isinstance(error, WorkerFailed)
        assert (error.error_class, str(error)) == (ErrorClass.CANCELLED, "task index of a was aborted")
        assert (stage.puppet.cancelled, stage.scheduler.jobs()) == (["a"], ())


async def test_a_task_is_taken_out_of_the_queue_but_not_while_it_runs() -> None:
    async with staged(on=Machine(ONE_CPU)) as stage:
        for subject in "ab":
            await stage.begin(subject)
        with pytest.raises(ShardError, match="is running; abort it"):
            stage.scheduler.remove(stage.id_of("a"))
        stage.scheduler.remove(stage.id_of("b"))
        await wait_all_tasks_blocked()
        assert str(stage.outcomes["b"]) == "task index of b was taken out of the queue"
        with pytest.raises(ShardError, match="there is no task 'x'"):
            stage.scheduler.remove("x")


async def test_a_disabled_worker_gets_nothing_new_and_what_runs_goes_on() -> None:
    async with staged() as stage:
        await stage.begin("a")
        stage.scheduler.set_enabled("local", False)
        await stage.begin("b")
        await stage.end("a")
        assert (stage.outcomes, stage.puppet.begun) == ({"a": {"done": True}}, ["a"])
        stage.scheduler.set_enabled("local", True)
        await wait_all_tasks_blocked()
        assert stage.puppet.begun == ["a", "b"]
        with pytest.raises(ShardError, match="there is no worker 'x'"):
            stage.scheduler.set_enabled("x", True)


# Killed workers lose nothing


async def test_what_was_killed_is_tried_once_more(expect_warning: ExpectWarning) -> None:
    expect_warning("killed; trying once more$")
    async with staged() as stage:
        await stage.begin("a")
        await stage.end("a", KILLED)
        await stage.end("a")
        assert (stage.outcomes, stage.puppet.begun) == ({"a": {"done": True}}, ["a"] * ATTEMPTS)


async def test_what_is_killed_each_time_fails_as_busy(expect_warning: ExpectWarning) -> None:
    expect_warning("trying once more$")
    async with staged() as stage:
        await stage.begin("a")
        for _ in range(ATTEMPTS):
            await stage.end("a", KILLED)
        error = stage.outcomes["a"]
        assert isinstance(error, WorkerDied)
        assert (error.error_class, error.returncode) == (ErrorClass.BUSY, -9)


async def test_what_crashes_by_itself_is_not_tried_again() -> None:
    async with staged() as stage:
        await stage.begin("a")
        await stage.end("a", WorkerDied("crashed", -11))
        assert (str(stage.outcomes["a"]), stage.puppet.begun) == ("crashed", ["a"])


async def test_what_outgrew_its_limit_is_tried_with_more_and_others_like_it_get_more(
    expect_warning: ExpectWarning,
) -> None:
    expect_warning("trying once more, with more memory")
    async with staged() as stage:
        await stage.begin("a", size_bytes=MIB)
        before = stage.puppet.act("a").memory_limit
        await stage.end("a", OUTGREW)
        again = stage.puppet.act("a")
        assert again.memory_limit >= 1.5 * before
        await stage.begin("b", size_bytes=MIB)
        assert stage.puppet.act("b").memory_limit >= 1.5 * before
        assert [one.kind for one in stage.learned.kept.values()] == ["index"]


async def test_what_outgrows_whatever_it_gets_is_given_up_and_the_worker_is_not_blamed(
    expect_warning: ExpectWarning,
) -> None:
    expect_warning("with more memory")
    async with staged() as stage:
        for number in range(2):
            await stage.begin(str(number), size_bytes=MIB)
            limits = []
            for _ in range(OUTGROWN_ATTEMPTS):
                limits.append(stage.puppet.act(str(number)).memory_limit)
                await stage.end(str(number), OUTGREW)
            assert limits == sorted(set(limits))
            assert limits[-1] >= 3 * limits[0]
            error = stage.outcomes[str(number)]
            assert isinstance(error, WorkerDied)
            assert error.out_of_memory
        assert stage.scheduler.workers()[0].pressed == ""


# A crash loop


async def test_a_crash_loop_backs_off_is_said_and_ends_by_itself(
    autojump_clock: MockClock, expect_warning: ExpectWarning
) -> None:
    expect_warning("processes of worker local die one after the other, 5 by now; it gets nothing new for 5 s")
    async with staged() as stage:
        for number in range(5):
            await stage.begin(str(number))
            await stage.end(str(number), WorkerDied("crashed", -11))
        for subject in ("a", "b"):
            await stage.begin(subject)
        assert stage.puppet.begun == list("01234")
        assert stage.reason("a") == "5 processes in a row have died; nothing new for 5 s"
        await trio.sleep(6)
        assert stage.puppet.begun == [*"01234", "a"]  # one shows how it is
        await stage.end("a")
        assert stage.puppet.begun == [*"01234", "a", "b"]
        assert stage.scheduler.workers()[0].pressed == ""


async def test_a_crash_loop_that_goes_on_backs_off_for_longer(
    autojump_clock: MockClock, expect_warning: ExpectWarning
) -> None:
    expect_warning("it gets nothing new for 5 s")
    expect_warning("it gets nothing new for 10 s")
    async with staged() as stage:
        for number in range(5):
            await stage.begin(str(number))
            await stage.end(str(number), WorkerDied("crashed", -11))
        stage.ask("a")
        await trio.sleep(6)
        await stage.end("a", WorkerDied("crashed", -11))
        stage.ask("b")
        await trio.sleep(8)
        assert "b" not in stage.puppet.begun
        await trio.sleep(4)
        assert "b" in stage.puppet.begun


async def test_tasks_that_are_done_in_between_are_no_loop() -> None:
    async with staged() as stage:
        for number in range(20):
            await stage.begin(str(number))
            await stage.end(str(number), WorkerDied("crashed", -11) if number % 2 else None)
        assert stage.scheduler.workers()[0].pressed == ""


# Learning


async def test_what_was_learned_is_kept_and_holds_after_a_restart() -> None:
    learned = Learned()
    async with staged(learned=learned) as stage:
        for number in range(4):
            await stage.begin(str(number), size_bytes=MIB)
            await stage.end(str(number), Done({}, 400 * MIB))
        await stage.begin("a", size_bytes=MIB)
        before = stage.puppet.act("a").task.requirement
    (kept,) = learned.kept.values()
    assert (kept.kind, kept.size_class, kept.peak_bytes, kept.tasks) == ("index", "8M", 400 * MIB, 4)
    async with staged(learned=learned) as stage:
        await stage.begin("a", size_bytes=MIB)
        assert stage.puppet.act("a").task.requirement == before
        assert before.max_memory >= 400 * MIB


async def test_what_waits_needs_what_was_learned_meanwhile() -> None:
    async with staged(on=Machine(ONE_CPU)) as stage:
        for subject in "ab":
            await stage.begin(subject, size_bytes=MIB)
        await stage.end("a", Done({}, 300 * MIB))
        assert stage.puppet.act("b").task.requirement.max_memory >= 300 * MIB


# Other workers


async def test_another_worker_gets_tasks_while_it_is_connected() -> None:
    other = Puppet(Machine(ONE_CPU), "other")
    async with staged(on=Machine(ONE_CPU)) as stage:
        with stage.scheduler.join(other):
            for subject in "ab":
                await stage.begin(subject)
            assert (stage.puppet.begun, other.begun) in ((["a"], ["b"]), (["b"], ["a"]))
            assert [view.id for view in stage.scheduler.workers()] == ["local", "other"]
            await stage.begin("c", "fetch")  # the agent's own work asks the agent's own worker alone
            assert "c" not in other.begun


async def test_what_a_worker_that_leaves_had_is_begun_anew_elsewhere(expect_warning: ExpectWarning) -> None:
    expect_warning("task index of .: its worker went away; it is begun anew")
    other = Puppet(Machine(), "other")
    async with staged() as stage:
        stage.scheduler.set_enabled("local", False)
        with stage.scheduler.join(other):
            await stage.begin("a")
            assert other.begun == ["a"]
            stage.scheduler.set_enabled("local", True)
        await wait_all_tasks_blocked()
        assert (other.cancelled, stage.puppet.begun) == (["a"], ["a"])
        await stage.end("a")
        assert stage.outcomes == {"a": {"done": True}}


async def test_a_worker_that_says_that_it_is_lost_gets_nothing_more(expect_warning: ExpectWarning) -> None:
    expect_warning("task index of a: no heartbeat; it is begun anew")
    other = Puppet(Machine(), "other")
    async with staged() as stage:
        stage.scheduler.set_enabled("local", False)
        with stage.scheduler.join(other):
            await stage.begin("a")
            other.act("a").end(WorkerLost("no heartbeat"))
            await wait_all_tasks_blocked()
            assert (other.begun, stage.reason("a")) == (["a"], "every worker that could do index is disabled")


async def test_a_worker_that_cannot_do_a_task_is_not_asked_again() -> None:
    other = Puppet(Machine(), "other")
    async with staged() as stage:
        stage.scheduler.set_enabled("local", False)
        with stage.scheduler.join(other):
            await stage.begin("a")
            other.act("a").end(WorkerBarred("it does not see /srv/a.car"))
            await wait_all_tasks_blocked()
            assert other.begun == ["a"]
            stage.scheduler.set_enabled("local", True)
            await wait_all_tasks_blocked()
            assert stage.puppet.begun == ["a"]


# Work inside the agent


async def test_work_inside_the_agent_waits_for_its_turn_and_is_shown() -> None:
    async with staged() as stage:
        stage.scheduler.set_enabled("local", False)
        entered = []

        async def fetch() -> None:
            async with stage.scheduler.admitted("fetch", subject="far", size_bytes=MIB) as admission:
                entered.append(stage.scheduler.jobs()[0].phase)
                admission.begin()
                admission.report(5, 10)
                entered.append(stage.scheduler.jobs()[0].phase)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(fetch)
            await wait_all_tasks_blocked()
            assert entered == []
            stage.scheduler.set_enabled("local", True)
        assert entered == ["preparing", "active"]
        assert stage.scheduler.jobs() == ()


async def test_work_inside_the_agent_can_be_aborted() -> None:
    async with staged() as stage:
        with pytest.raises(WorkerFailed, match="task fetch of far was aborted"):
            async with stage.scheduler.admitted("fetch", subject="far"):
                stage.scheduler.abort(stage.id_of("far"))
                await trio.sleep_forever()


# Many


async def test_ten_thousand_that_wait_cost_others_no_turns() -> None:
    """What comes and ends in one turn of the loop is decided on once, and an end begins one task."""
    async with staged(on=Machine(ONE_CPU)) as stage:
        for number in range(10_000):
            stage.ask(str(number))
        await wait_all_tasks_blocked()
        assert stage.scheduler.passes <= 3
        before = stage.scheduler.passes
        for _ in range(10):
            stage.puppet.acts[0].end()
            await wait_all_tasks_blocked()
        assert stage.scheduler.passes - before <= 20
        assert len(stage.puppet.begun) == 11
        assert len(stage.scheduler.jobs()) == 9990
