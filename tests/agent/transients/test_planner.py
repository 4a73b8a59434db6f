"""What to fetch next: each case by hand, then any order of events by a model."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from agent.dagstore.chunk_map import MapHead, is_set
from agent.dagstore.failures import ErrorClass, Failure
from agent.dagstore.transients import planner as planning
from agent.dagstore.transients.planner import RENEW_AGAIN_S, Answer, Planner, Request, Waiter

CHUNK = 1 << 16
GONE = Failure(ErrorClass.GONE, "the server is gone")


def planner_of(chunks: int, *, short: int = 0) -> Planner:
    """Nothing is there yet; the last chunk lacks `short` bytes."""
    head = MapHead(chunks * CHUNK - short, CHUNK, bytes(32), bytes(16))
    return Planner(head, bytearray(head.half_bytes))


def span(request: Request | None) -> tuple[int, int]:
    assert request is not None
    return request.first, request.stop


def test_neighbours_are_fetched_in_one_request_and_nothing_else() -> None:
    planner = planner_of(1000)
    assert not planner.ask(Waiter(1), 10 * CHUNK + 5, 2 * CHUNK)
    assert span(planner.take()) == (10, 13)
    assert planner.take() is None


def test_a_second_waiter_for_a_chunk_on_its_way_asks_for_the_rest_alone() -> None:
    planner = planner_of(1000)
    planner.ask(Waiter(1), 0, 4 * CHUNK)
    first = planner.take()
    planner.ask(Waiter(2), 2 * CHUNK, 4 * CHUNK)
    assert span(first) == (0, 4)
    assert span(planner.take()) == (4, 6 + planning._FIRST_AHEAD)  # it goes on where the other did
    assert first is not None
    assert planner.arrived(first, 4) == [Answer(Waiter(1))]


def test_a_long_way_is_taken_in_several_requests_that_go_side_by_side() -> None:
    planner = planner_of(1000)
    planner.ask(Waiter(1), 0, 100 * CHUNK)
    assert [span(planner.take()), span(planner.take())] == [(0, 64), (64, 100)]


def test_what_is_there_is_not_asked_for() -> None:
    planner = planner_of(10)
    planner.ask(Waiter(1), 3 * CHUNK, 1)
    request = planner.take()
    assert request is not None
    planner.arrived(request, 4)
    planner.ended(request)
    assert planner.ask(Waiter(2), 3 * CHUNK, CHUNK)
    assert planner.idle


def test_the_last_chunk_may_be_short() -> None:
    planner = planner_of(2, short=CHUNK - 1)
    planner.ask(Waiter(1), 0, CHUNK + 1)
    assert span(planner.take()) == (0, 2)


def test_m2_a_waiter_that_goes_hurts_no_other() -> None:
    planner = planner_of(10)
    planner.ask(Waiter(1), 0, CHUNK)
    request = planner.take()
    planner.ask(Waiter(2), 0, CHUNK)
    planner.withdraw(Waiter(1))
    assert request is not None
    assert planner.arrived(request, 1) == [Answer(Waiter(2))]


def test_what_nobody_wants_any_more_is_not_begun() -> None:
    planner = planner_of(10)
    planner.ask(Waiter(1), 0, CHUNK)
    planner.withdraw(Waiter(1))
    assert not planner.has_work
    assert planner.idle


def test_m1_a_failed_fetch_is_begun_anew_for_the_next_who_asks() -> None:
    planner = planner_of(10)
    planner.ask(Waiter(1), 0, CHUNK)
    request = planner.take()
    assert request is not None
    assert planner.failed(request, GONE) == [Answer(Waiter(1), GONE)]
    assert not planner.has_work
    planner.ask(Waiter(2), 0, CHUNK)
    assert span(planner.take()) == (0, 1)


def test_m10_a_request_that_got_somewhere_goes_on_from_there() -> None:
    planner = planner_of(10)
    planner.ask(Waiter(1), 0, 8 * CHUNK)
    request = planner.take()
    assert request is not None
    assert planner.arrived(request, 3) == []
    assert planner.failed(request, GONE) == []
    assert span(planner.take()) == (3, 8)


def test_a_reader_that_goes_on_is_read_ahead_of_and_one_that_jumps_is_not() -> None:
    planner = planner_of(10_000)
    for number, chunk in enumerate((5, 900, 70, 4000)):
        planner.ask(Waiter(number), chunk * CHUNK, CHUNK)
        assert span(planner.take()) == (chunk, chunk + 1)
    reached, windows = 4001, []
    for number in range(10, 18):
        planner.ask(Waiter(number), reached * CHUNK, CHUNK)
        first = reached
        while planner.has_work:
            _, reached = span(planner.take())
        windows.append(reached - first - 1)
    assert windows == [4, 8, 16, 32, 64, 128, 128, 128]


def test_a_block_is_fetched_once_more_and_not_for_ever() -> None:
    planner = planner_of(10)
    planner.ask(Waiter(1), 0, 2 * CHUNK)
    request = planner.take()
    assert request is not None
    planner.arrived(request, 2)
    assert planner.renew(0, 2 * CHUNK, 100.0) == [(0, 2)]
    assert not planner.ask(Waiter(2), 0, 2 * CHUNK)
    request = planner.take()
    assert request is not None
    planner.arrived(request, 2)
    assert planner.renew(0, 2 * CHUNK, 99.0 + RENEW_AGAIN_S) == []
    assert planner.renew(0, CHUNK, 100.0 + RENEW_AGAIN_S) == [(0, 1)]


def test_completion_fetches_all_of_the_rest_and_lets_others_go_first() -> None:
    planner = planner_of(100)
    planner.finish(Waiter(1))
    first = planner.take()
    planner.ask(Waiter(2), 90 * CHUNK, CHUNK)
    assert span(first) == (0, 64)
    second, third = planner.take(), planner.take()
    assert (span(second), span(third)) == ((90, 100), (64, 90))
    assert first is not None and second is not None and third is not None
    assert planner.arrived(first, 64) == []
    assert planner.arrived(second, 100) == [Answer(Waiter(2))]
    assert planner.arrived(third, 90) == [Answer(Waiter(1))]
    assert planner.complete


def test_data_that_comes_whole_or_not_at_all_is_asked_for_once() -> None:
    head = MapHead(100 * CHUNK, CHUNK, bytes(32), bytes(16), whole=True)
    planner = Planner(head, bytearray(head.half_bytes))
    planner.ask(Waiter(1), 50 * CHUNK, 1)
    request = planner.take()
    planner.ask(Waiter(2), 10 * CHUNK, 1)
    assert span(request) == (0, 100)
    assert not planner.has_work
    assert request is not None
    assert planner.arrived(request, 20) == [Answer(Waiter(2))]
    assert planner.failed(request, GONE) == [Answer(Waiter(1), GONE)]
    planner.ask(Waiter(3), 50 * CHUNK, 1)
    again = planner.take()
    assert again is not None
    assert (span(again), planner.lacking(again)) == ((0, 100), list(range(20, 100)))
    assert planner.arrived(again, 100) == [Answer(Waiter(3))]
    planner.ended(again)
    assert planner.complete
    assert planner.idle


class AnyOrder(RuleBasedStateMachine):
    """The shell's part is played here: a server, requests on their way, and a data file with what came of them."""

    CHUNKS = 200

    def __init__(self) -> None:
        super().__init__()
        self.planner = planner_of(self.CHUNKS, short=7)
        self.file: set[int] = set()  # chunks with the right bytes
        self.given: dict[int, int] = {}  # how often the server gave each
        self.dropped: dict[int, int] = {}
        self.broken_off: dict[int, int] = {}
        self.requests: list[tuple[Request, int]] = []
        self.waiting: dict[Waiter, range] = {}
        self.next_waiter = 1

    def new_waiter(self, chunks: range) -> Waiter:
        waiter = Waiter(self.next_waiter)
        self.next_waiter += 1
        self.waiting[waiter] = chunks
        return waiter

    def answer(self, answers: list[Answer]) -> None:
        for answer in answers:
            chunks = self.waiting.pop(answer.waiter)  # KeyError: answered twice, or nobody asked
            if answer.failure is None:
                assert set(chunks) <= self.file

    @rule(first=st.integers(0, CHUNKS - 1), count=st.integers(0, 90), skip=st.integers(0, CHUNK - 1))
    def ask(self, first: int, count: int, skip: int) -> None:
        offset, length = first * CHUNK + skip, count * CHUNK
        planner = self.planner
        touched = range(*planner.head.range_of(offset, min(length, planner.head.size - offset)))
        waiter = self.new_waiter(touched)
        if planner.ask(waiter, offset, length):
            self.answer([Answer(waiter)])

    @rule()
    def ask_for_all(self) -> None:
        waiter = self.new_waiter(range(self.CHUNKS))
        if self.planner.finish(waiter):
            self.answer([Answer(waiter)])

    @rule(first=st.integers(0, CHUNKS + 10), count=st.integers(1, 20))
    def hint(self, first: int, count: int) -> None:
        self.planner.hint([(first * CHUNK, count * CHUNK)])

    @rule()
    def take(self) -> None:
        request = self.planner.take()
        if request is None:
            assert not self.planner.has_work
            return
        assert not set(range(request.first, request.stop)) & self.file, "fetched twice"
        for other, position in self.requests:
            assert not set(range(position, other.stop)) & set(range(request.first, request.stop))
        self.requests.append((request, request.first))

    @precondition(lambda self: self.requests)
    @rule(data=st.data())
    def some_arrive(self, data: st.DataObject) -> None:
        number = data.draw(st.integers(0, len(self.requests) - 1))
        request, position = self.requests[number]
        stop = data.draw(st.integers(position, request.stop))
        for chunk in range(position, stop):
            self.file.add(chunk)
            self.given[chunk] = self.given.get(chunk, 0) + 1
        self.requests[number] = (request, stop)
        self.answer(self.planner.arrived(request, stop))
        if stop == request.stop:
            del self.requests[number]
            self.planner.ended(request)

    @precondition(lambda self: self.requests)
    @rule(data=st.data(), may_resume=st.booleans())
    def one_breaks_off(self, data: st.DataObject, may_resume: bool) -> None:
        request, position = self.requests.pop(data.draw(st.integers(0, len(self.requests) - 1)))
        waited = {
            waiter
            for waiter, chunks in self.waiting.items()
            if set(chunks) & set(range(position, request.stop))
        }
        answers = self.planner.failed(request, GONE, may_resume=may_resume)
        if not may_resume:
            assert waited <= {answer.waiter for answer in answers}
        self.answer(answers)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def one_goes(self, data: st.DataObject) -> None:
        waiter = data.draw(st.sampled_from(sorted(self.waiting)))
        del self.waiting[waiter]
        self.planner.withdraw(waiter)

    @rule(first=st.integers(0, CHUNKS - 1), count=st.integers(1, 5))
    def renew(self, first: int, count: int) -> None:
        for start, stop in self.planner.renew(first * CHUNK, count * CHUNK, 0.0):
            for chunk in range(start, stop):
                self.file.remove(chunk)  # KeyError: it was not there
                self.dropped[chunk] = self.dropped.get(chunk, 0) + 1
                # Whoever waits for other chunks still had this one when it asked; the source looks again.
                for waiter, chunks in list(self.waiting.items()):
                    self.waiting[waiter] = range(0) if chunk in chunks else chunks

    @rule()
    def kill_and_start_again(self) -> None:
        head, present = self.planner.head, bytearray(self.planner.present)
        self.requests.clear()
        self.waiting.clear()
        self.planner = Planner(head, present)

    @invariant()
    def what_is_said_to_be_there_is_there(self) -> None:
        present = {chunk for chunk in range(self.CHUNKS) if is_set(self.planner.present, chunk)}
        assert present == self.file
        assert self.planner.complete == (len(present) == self.CHUNKS)

    @invariant()
    def each_byte_was_given_once_unless_it_was_dropped(self) -> None:
        assert all(count <= 1 + self.dropped.get(chunk, 0) for chunk, count in self.given.items())

    @invariant()
    def whoever_waits_is_being_worked_for(self) -> None:
        waits = any(set(chunks) - self.file for chunks in self.waiting.values())
        assert not waits or self.requests or self.planner.has_work


TestAnyOrder = AnyOrder.TestCase
