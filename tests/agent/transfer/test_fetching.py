"""Fetching from sources that break off, lie, lack what they said they had, are slow, and come back."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.dagstore.failures import ErrorClass, ShardError
from agent.dagstore.mounts.mount import TryLater
from agent.network.link import AlwaysUp
from agent.transfer.arriving import Arriving, Lied
from agent.transfer.events import Arrived, Event, Paused, Resumed, SourceLeft
from agent.transfer.fetching import Fetched, Rules, fetch
from agent.transfer.units import Block, Order, Slice, Subtree, plan
from agent.transfer.wants import Wants
from carlib import unixfs
from carlib.blockstore import ReadOnlyBlockstore
from carlib.cid import Cid
from carlib.header import V1Header
from carlib.pack import pack
from carlib.traversal import ByteRange, Request, Scope
from tests.agent.transfer.worlds import Scripted, Step, Store, car_of, cut_after, dag
from tests.conftest import ExpectWarning

QUICK = Rules(attempts=3, hedge_s=0, longest_wait_s=0.06)


def leaf(number: int) -> bytes:
    return number.to_bytes(4, "big") * 100


class Link:
    """One that a test takes down."""

    def __init__(self) -> None:
        self._up, self._down = trio.Event(), trio.Event()
        self._up.set()

    def set(self, up: bool) -> None:
        event = self._up if up else self._down
        if up:
            self._down = trio.Event()
        else:
            self._up = trio.Event()
        event.set()

    def is_up(self, host: str = "") -> bool:
        return self._up.is_set()

    async def wait_up(self, host: str = "") -> None:
        await self._up.wait()

    async def wait_down(self, host: str = "") -> None:
        await self._down.wait()


async def run(
    root: Cid, *sources: Scripted, sink: Store | None = None, order: Order | None = None, rules: Rules = QUICK,
    events: list[Event] | None = None, first: Scripted | None = None,
) -> tuple[Store, Fetched]:  # fmt: skip
    sink = Store() if sink is None else sink
    told = [] if events is None else events
    with trio.fail_after(60):
        fetched = await fetch(
            order or Order(root), sources, sink, link=AlwaysUp(), told=told.append, rules=rules, first=first
        )
    return sink, fetched


async def test_one_request_gets_all_that_is_below_a_root() -> None:
    store = Store()
    root = dag(store, 3, 4, leaf=leaf)
    source = Scripted(store)
    events: list[Event] = []
    sink, fetched = await run(root, source, events=events)
    assert sink.blocks == store.blocks
    assert source.asked == [Request(root)]
    assert (fetched.blocks, fetched.wasted_bytes) == (len(store.blocks), 0)
    assert fetched.bytes == sum(map(len, store.blocks.values()))
    assert sum(event.blocks for event in events if isinstance(event, Arrived)) == fetched.blocks


@given(st.integers(1, 30_000), st.booleans())
@settings(max_examples=40)
def test_whatever_breaks_off_is_gone_on_with_and_nothing_comes_twice(cut: int, parts: bool) -> None:
    async def main() -> None:
        store = Store()
        root = dag(store, 3, 4, leaf=leaf)
        source = Scripted(store, gives_parts=parts)
        cut_after(source, max(cut, 700))  # a block at least: what never gets on is given up
        sink, fetched = await run(root, source)
        assert sink.blocks == store.blocks
        assert fetched.wasted_bytes == 0

    trio.run(main)


async def test_what_is_here_is_not_asked_for_again() -> None:
    store = Store()
    root = dag(store, 2, 5, leaf=leaf)
    whole = dict(store.blocks)
    leaves = [raw for raw, data in whole.items() if Cid(raw).codec == 0x55]
    sink = Store({raw: data for raw, data in whole.items() if raw not in leaves[3:5]})
    source = Scripted(store)
    _, fetched = await run(root, source, sink=sink)
    assert sorted(str(asked) for asked in source.asked) == sorted(str(Cid(raw)) for raw in leaves[3:5])
    assert fetched.blocks == 2
    assert (await run(root, Scripted(Store()), sink=sink))[1].blocks == 0


async def test_a_source_that_lies_is_named_and_left_for_good(expect_warning: ExpectWarning) -> None:
    expect_warning("liar is left: liar gave wrong data for block")
    store = Store()
    root = dag(store, 2, 5, leaf=leaf)
    liar = Scripted(store, name="liar")

    def script(_number: int, data: bytes) -> list[Step]:
        return [data[:-1] + bytes([data[-1] ^ 1])]

    liar.script = script
    liar.raw_script = lambda _number, data: data[:-1] + bytes([data[-1] ^ 1])
    events: list[Event] = []
    inner = Store({raw: data for raw, data in store.blocks.items() if Cid(raw).codec != 0x55})
    sink, fetched = await run(root, liar, Scripted(store, name="honest"), sink=inner, events=events)
    assert sink.blocks == store.blocks
    (left,) = (event for event in events if isinstance(event, SourceLeft))
    assert (left.source, left.lied) == ("liar", True)
    assert "wrong data for block" in left.reason
    assert fetched.by_source["honest"] > 0


async def test_only_a_liar_is_an_error_that_names_it(expect_warning: ExpectWarning) -> None:
    expect_warning("wrong data")
    store = Store()
    root = dag(store, 1, 2, leaf=leaf)
    liar = Scripted(store, name="liar")

    def script(_number: int, data: bytes) -> list[Step]:
        return [data[:-1] + bytes([data[-1] ^ 1])]

    liar.script = script
    with pytest.raises(ShardError, match="liar gave wrong data for block bafk") as caught:
        await run(root, liar)
    assert caught.value.error_class is ErrorClass.CORRUPT


async def test_two_that_have_a_half_each_give_the_whole() -> None:
    store = Store()
    root = dag(store, 2, 6, leaf=leaf)
    inner = {raw: data for raw, data in store.blocks.items() if Cid(raw).codec != 0x55}
    leaves = [(raw, data) for raw, data in store.blocks.items() if Cid(raw).codec == 0x55]
    halves = [Store({**inner, **dict(leaves[number::2])}) for number in range(2)]
    sink, _ = await run(root, *(Scripted(half, name=str(number)) for number, half in enumerate(halves)))
    assert sink.blocks == store.blocks


async def test_the_others_are_asked_for_what_the_first_has_not_and_for_nothing_else() -> None:
    store = Store()
    root = dag(store, 2, 6, leaf=leaf)
    leaves = [raw for raw in store.blocks if Cid(raw).codec == 0x55]
    near, far = Scripted(store, name="near"), Scripted(store, name="far")
    sink, fetched = await run(root, far, near, first=near)
    assert sink.blocks == store.blocks and far.asked == []
    lacks = Store({raw: data for raw, data in store.blocks.items() if raw not in leaves[::3]})
    near = Scripted(lacks, name="near")
    sink, fetched = await run(root, far, near, first=near)
    assert sink.blocks == store.blocks
    assert fetched.by_source == {
        "near": sum(map(len, lacks.blocks.values())),
        "far": sum(len(store.blocks[raw]) for raw in leaves[::3]),
    }


async def test_nobody_waits_for_a_first_that_fails() -> None:
    store = Store()
    root = dag(store, 2, 6, leaf=leaf)
    near, far = Scripted(store, name="near", script=lambda _number, _car: [TryLater("down")]), Scripted(store)
    rules = Rules(attempts=3, hedge_s=0, longest_wait_s=600)
    sink, _ = await run(root, near, far, first=near, rules=rules)
    assert sink.blocks == store.blocks


async def test_what_nobody_has_is_said() -> None:
    store = Store()
    root = dag(store, 2, 3, leaf=leaf)
    lost = next(raw for raw in store.blocks if Cid(raw).codec == 0x55)
    del store.blocks[lost]
    with pytest.raises(ShardError) as caught:
        await run(root, Scripted(store, name="a"), Scripted(store, name="b"))
    assert caught.value.error_class is ErrorClass.NOT_FOUND
    with pytest.raises(ShardError, match="there is no source to ask for"):
        await run(root)


async def test_what_cannot_be_reached_is_given_up_after_some_attempts() -> None:
    store = Store()
    root = dag(store, 1, 3, leaf=leaf)
    dead = Scripted(store, name="dead")

    def script(_number: int, _data: bytes) -> list[Step]:
        return [TryLater("dead does not answer")]

    dead.script = script
    with pytest.raises(ShardError, match="dead does not answer"):
        await run(root, dead)
    assert QUICK.attempts <= len(dead.asked) <= QUICK.attempts * QUICK.per_source
    sink, _ = await run(root, dead, Scripted(store, name="alive"))
    assert sink.blocks == store.blocks


async def test_a_link_that_is_down_uses_up_no_attempt() -> None:
    store = Store()
    root = dag(store, 3, 4, leaf=leaf)
    link, events = Link(), list[Event]()
    source = Scripted(store)
    cuts = 0

    async def cut() -> None:
        nonlocal cuts
        if cuts < 10:
            cuts += 1
            link.set(False)
            await trio.sleep_forever()

    def script(_number: int, data: bytes) -> list[Step]:
        first, second, *rest = source.plain(data)
        return [first, second, cut, *rest]

    source.script = script
    sink = Store()
    async with trio.open_nursery() as nursery:

        async def back() -> None:
            while True:
                await link.wait_down()
                await trio.sleep(0.01)
                link.set(True)

        nursery.start_soon(back)
        fetched = await fetch(Order(root), [source], sink, link=link, told=events.append, rules=QUICK)
        nursery.cancel_scope.cancel()
    assert sink.blocks == store.blocks
    assert cuts > QUICK.attempts
    assert fetched.wasted_bytes == 0
    kinds = [type(event) for event in events]
    assert kinds.count(Paused) == kinds.count(Resumed) > 0


async def test_a_source_without_a_way_to_it_does_not_hold_up_the_others() -> None:
    store = Store()
    root = dag(store, 2, 5, leaf=leaf)

    class OneWay(Link):
        def is_up(self, host: str = "") -> bool:
            return host != "far"

        async def wait_up(self, host: str = "") -> None:
            if host == "far":
                await trio.sleep_forever()

    sources = [Scripted(store, name="far", host="far"), Scripted(store, name="near", host="near")]
    sink = Store()
    with trio.fail_after(60):
        fetched = await fetch(
            Order(root), sources, sink, link=OneWay(), told=lambda _event: None, rules=QUICK
        )
    assert sink.blocks == store.blocks
    assert set(fetched.by_source) == {"near"}


async def test_a_source_that_answers_and_gives_nothing_is_not_asked_for_ever() -> None:
    store = Store()
    root = dag(store, 1, 2, leaf=leaf)
    empty = Scripted(store)
    empty.script = lambda _number, data: [data[: len(V1Header((root,)).encode())]]
    with pytest.raises(ShardError) as caught:
        await run(root, empty, order=Order(root, scope=Scope.BLOCK))
    assert caught.value.error_class is ErrorClass.NOT_FOUND
    assert len(empty.asked) < 10


async def test_a_slow_one_is_helped_out() -> None:
    store = Store()
    root = dag(store, 0, 1, leaf=leaf)
    slow, quick = Scripted(store, name="slow"), Scripted(store, name="quick")

    async def raw(cid: Cid, begin: bytes = b"") -> bytes:
        await trio.sleep_forever()
        raise AssertionError

    slow.raw = raw  # type: ignore[method-assign]
    sink, fetched = await run(root, slow, quick, rules=Rules(hedge_s=0.05))
    assert sink.blocks == store.blocks
    assert fetched.by_source == {"quick": len(leaf(0))}


async def test_blocks_that_nobody_asked_for_are_dropped_and_too_many_of_them_are_a_lie() -> None:
    store, other = Store(), Store()
    root = dag(store, 1, 2, leaf=leaf)
    junk = dag(other, 1, 200, leaf=lambda number: leaf(number + 1000))
    sink = Store()
    arriving = Arriving(sink, {root.raw}, 1 << 20, "x")
    arriving.feed(car_of(other, Request(junk)))
    with pytest.raises(Lied, match="nobody asked for"):
        arriving.take()
    assert not sink.blocks


async def test_a_block_that_is_too_big_is_refused() -> None:
    data = bytes(5000)
    store = Store()
    store.put(Cid.of(data), data)
    with pytest.raises(ShardError, match="5000 bytes"):
        await run(Cid.of(data), Scripted(store), rules=Rules(max_block_bytes=4999))


async def test_what_is_waited_for_comes_first_and_lazily_nothing_else_comes() -> None:
    store = Store()
    root = dag(store, 2, 6, leaf=leaf)
    leaves = [Cid(raw) for raw in store.blocks if Cid(raw).codec == 0x55]
    sink, wants, source = Store(), Wants(), Scripted(store)
    async with trio.open_nursery() as nursery:

        async def lazily() -> None:
            await fetch(
                Order(root), [source], sink, link=AlwaysUp(), told=lambda _event: None, wants=wants, lazy=True
            )

        nursery.start_soon(lazily)
        with trio.fail_after(30):
            await wants.wait_all([leaves[7]])
            await wants.wait_all([leaves[7]])
            with pytest.raises(ShardError, match="is not here"):
                await wants.wait_all([leaves[3], Cid.of(b"nobody has this")])
        assert set(sink.blocks) == {leaves[7].raw, leaves[3].raw}
        nursery.cancel_scope.cancel()
    wants.end()
    with pytest.raises(ShardError, match="has ended"):
        await wants.wait_all([leaves[8]])


def packed(folder: Path, size: int) -> tuple[Store, Cid]:
    source = folder / "tree"
    source.mkdir()
    (source / "big").write_bytes(os.urandom(size))
    (source / "small").write_bytes(b"small")
    root = pack(source, folder / "tree.car").root
    with ReadOnlyBlockstore.open(folder / "tree.car") as store:
        return Store({cid.raw: store.get(cid) for cid, _ in store.cids()}), root


def test_a_file_that_is_here_in_part_is_asked_for_by_ranges(tmp_path: Path) -> None:
    store, root = packed(tmp_path, 5 << 20)
    big = unixfs.resolve(store, root, (b"big",))
    leaves = [raw for raw, data in store.blocks.items() if len(data) == 1 << 20]
    lacking = {leaves[1], leaves[2], leaves[4]}
    sink = Store({raw: data for raw, data in store.blocks.items() if raw not in lacking})
    mib = 1 << 20
    assert plan(sink, Order(root)) == [Slice(big, mib, 3 * mib - 1), Slice(big, 4 * mib, 5 * mib - 1)]
    assert plan(Store(), Order(root)) == [Subtree(root)]
    assert plan(Store(), Order(root), shared=True) == [Block(root)]
    assert plan(store, Order(root)) == []


async def test_a_file_in_pieces_comes_by_ranges_with_next_to_nothing_twice(tmp_path: Path) -> None:
    store, root = packed(tmp_path, 40 << 20)
    sources = [Scripted(store, name=name, piece_bytes=1 << 18) for name in "ab"]
    sink, fetched = await run(root, *sources)
    assert sink.blocks == store.blocks
    assert fetched.wasted_bytes < fetched.bytes // 100
    assert set(fetched.by_source) == {"a", "b"}


@pytest.mark.parametrize("parts", [True, False])
async def test_parts_of_a_dag(tmp_path: Path, parts: bool) -> None:
    store, root = packed(tmp_path, 5 << 20)
    for order, count in (
        (Order(root, (b"small",)), 2),
        (Order(root, (b"big",), Scope.BLOCK), 2),
        (Order(root, (b"big",), Scope.ENTITY, ByteRange(0, 10)), 3),
        (Order(root, (), Scope.ENTITY), 1),
        (Order(root, selector="Links/1/Hash"), 2),
    ):
        sink, _ = await run(root, Scripted(store, gives_parts=parts), order=order)
        assert len(sink.blocks) == count, order
        assert plan(sink, order) == []
