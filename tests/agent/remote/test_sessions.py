"""Which words of a remote worker count, and when it is given up: no clock, no wire."""

from __future__ import annotations

import pytest

from agent.dagstore.failures import ErrorClass, ShardError
from agent.workers.remote.messages import Finished, Leaving, Progress, Report, Status
from agent.workers.remote.outgoing import Outgoing
from agent.workers.remote.sessions import MAX_WORKERS, Session, refusal
from tests.agent.remote.joining import hello, snapshot


def session() -> Session:
    return Session(hello(), "ticket", 5.0, 100.0)


def report(sequence: int, *messages: Progress | Finished | Leaving, ticket: str = "ticket") -> Report:
    return Report("s1", ticket, sequence, list(messages))


def test_a_worker_is_given_up_after_three_heartbeats_without_a_word() -> None:
    made = session()
    assert made.silence(114.9) == ""
    assert made.silence(115.0) == "nothing was heard of it for 15.0 s"
    made.take(report(1), 114.9)
    assert made.silence(129.8) == "" != made.silence(129.9)


def test_a_report_that_comes_twice_counts_once_and_shows_life_twice() -> None:
    made = session()
    made.assigned("a")
    done = Finished("a", "{}")
    assert made.take(report(1, done), 101.0) == (done,)
    assert made.take(report(1, done), 110.0) == ()
    assert made.lost_at_s == 125.0


def test_an_assignment_has_one_outcome_and_nothing_after_it() -> None:
    made = session()
    made.assigned("a")
    made.take(report(1, Finished("a", "1")), 101.0)
    assert made.take(report(2, Finished("a", "2"), Progress("a", 1, 2)), 102.0) == ()


def test_words_about_what_was_never_given_are_passed_over() -> None:
    assert session().take(report(1, Finished("never", "{}")), 101.0) == ()


@pytest.mark.parametrize("ticket", ["ticket", "another"])
def test_nothing_is_taken_from_a_join_that_is_over_or_was_another(ticket: str) -> None:
    made = session()
    made.assigned("a")
    if ticket == "ticket":
        assert made.end("silent") and not made.end("again")
    with pytest.raises(ShardError, match="this worker was given up") as raised:
        made.take(report(1, Finished("a", "{}"), ticket=ticket), 101.0)
    assert raised.value.error_class is ErrorClass.NOT_FOUND


def test_how_a_worker_is_stays_until_it_says_otherwise() -> None:
    made = session()
    status = Status(snapshot(5), 6, {"a": 7}, "")
    made.take(Report("s1", "ticket", 1, [], status), 101.0)
    made.take(report(2), 102.0)
    assert made.status == status


@pytest.mark.parametrize(("protocol", "who"), [(0, "worker"), (2, "agent")])
def test_another_protocol_is_refused_with_what_to_do(protocol: int, who: str) -> None:
    found = refusal(hello(protocol=protocol), "1.3", 0)
    assert found is not None and found.error_class is ErrorClass.INVALID
    assert f"the worker is carfs 1.2 with protocol {protocol}, the agent is carfs 1.3 with protocol 1" in str(
        found
    )
    assert str(found).endswith(f"install the newer carfs for the {who}, too")


def test_there_is_a_most_of_workers() -> None:
    assert refusal(hello(), "1.2", MAX_WORKERS - 1) is None
    found = refusal(hello(), "1.2", MAX_WORKERS)
    assert found is not None and found.error_class is ErrorClass.BUSY


def test_what_was_not_taken_is_said_again_under_the_same_number() -> None:
    out = Outgoing("s1", "ticket")
    out.put(Finished("a", "{}"))
    first = out.report(None)
    out.put(Finished("b", "{}"))
    assert out.report(None) == first
    out.taken()
    assert out.report(None) == Report("s1", "ticket", 2, [Finished("b", "{}")])
    out.taken()
    assert out.is_empty


def test_of_progress_the_last_is_said_in_its_place() -> None:
    out = Outgoing("s1", "ticket")
    for message in (Progress("a", 1, 9), Progress("b", 1, 9), Progress("a", 5, 9), Finished("b", "{}")):
        out.put(message)
    assert out.report(None).messages == [Progress("a", 5, 9), Progress("b", 1, 9), Finished("b", "{}")]


def test_long_results_go_one_by_one() -> None:
    out = Outgoing("s1", "ticket")
    for name in "abc":
        out.put(Finished(name, "x" * 2_000_000))
    sizes = []
    while not out.is_empty:
        sizes.append(len(out.report(None).messages))
        out.taken()
    assert sizes == [1, 1, 1]
