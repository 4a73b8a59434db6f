"""News reach all subscribers, in order, and nobody waits for a slow one."""

from __future__ import annotations

import trio
from trio.testing import wait_all_tasks_blocked

from agent.dagstore.events import Hub


def never() -> None:
    raise AssertionError("cut for no reason")


async def test_each_subscriber_sees_each_key_once_in_order_of_first_change() -> None:
    hub = Hub(buffer=10)
    one, two = hub.subscribe(never), hub.subscribe(never)
    for key in ("b", "a", "b"):
        hub.publish(key)
    assert await one.wait_changed() == ["b", "a"]
    hub.publish("c")
    assert await one.wait_changed() == ["c"]
    assert await two.wait_changed() == ["b", "a", "c"]


async def test_a_subscriber_waits_for_news() -> None:
    hub = Hub(buffer=10)
    subscription = hub.subscribe(never)
    seen: list[list[str]] = []

    async def read() -> None:
        seen.append(await subscription.wait_changed())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await wait_all_tasks_blocked()
        assert seen == []
        hub.publish("a")
    assert seen == [["a"]]


async def test_d7_a_subscriber_that_falls_behind_is_cut_and_the_others_go_on() -> None:
    """D-7: one unread channel stopped all deliveries."""
    hub = Hub(buffer=3)
    cuts: list[str] = []
    stuck, reading = hub.subscribe(lambda: cuts.append("stuck")), hub.subscribe(never)
    for number in range(10):
        hub.publish(str(number))
        assert await reading.wait_changed() == [str(number)]
    assert cuts == ["stuck"]
    assert await stuck.wait_changed() == []
    assert hub.subscriber_count() == 1


async def test_any_number_of_changes_to_one_shard_cuts_nobody() -> None:
    hub = Hub(buffer=1)
    subscription = hub.subscribe(never)
    for _ in range(1000):
        hub.publish("a")
    assert await subscription.wait_changed() == ["a"]


async def test_closing_ends_all_subscriptions_also_those_to_come() -> None:
    hub = Hub(buffer=1)
    before = hub.subscribe(never)
    hub.close()
    after = hub.subscribe(never)
    assert await before.wait_changed() == []
    assert await after.wait_changed() == []


async def test_who_unsubscribed_costs_nothing() -> None:
    hub = Hub(buffer=1)
    hub.unsubscribe(hub.subscribe(never))
    hub.publish("a")
    hub.publish("b")
    assert hub.subscriber_count() == 0
