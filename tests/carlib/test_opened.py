"""Stores that are kept open: shared, few, and never closed while somebody reads."""

from __future__ import annotations

import random
import threading

import pytest

from carlib.opened import OpenStores


class Store:
    """Notes that it was closed; reading it afterwards is an error."""

    def __init__(self, key: str) -> None:
        self.key = key
        self.closed = False

    def read(self) -> str:
        assert not self.closed
        return self.key

    def close(self) -> None:
        assert not self.closed
        self.closed = True


def test_a_store_is_opened_once_and_shared() -> None:
    stores = OpenStores(Store, most=2)
    with stores.use("a") as one, stores.use("a") as other:
        assert one is other
    with stores.use("a") as again:
        assert again is one


def test_the_longest_unused_is_closed_when_there_are_too_many() -> None:
    stores = OpenStores(Store, most=2)
    seen = {}
    for key in ("a", "b", "a", "c"):
        with stores.use(key) as seen[key]:
            pass
    assert [key for key, store in seen.items() if store.closed] == ["b"]


def test_i9_what_somebody_reads_is_never_closed_under_him() -> None:
    """I-9: a blockstore that the cache evicted was closed under its readers."""
    stores = OpenStores(Store, most=1)
    with stores.use("a") as a:
        for key in "bcde":
            with stores.use(key) as other:
                other.read()
        stores.drop("a")
        with stores.use("a") as anew:
            assert anew is not a
        stores.close()
        a.read()
    assert a.closed
    assert anew.closed


def test_i9_many_readers_in_threads() -> None:
    stores = OpenStores(Store, most=3)
    failures: list[BaseException] = []

    def read(seed: int) -> None:
        chance = random.Random(seed)
        try:
            for _ in range(500):
                key = chance.choice("abcdefghij")
                with stores.use(key) as store:
                    assert store.read() == key
                if chance.random() < 0.05:
                    stores.drop(key)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(stores) <= 3


def test_what_cannot_be_opened_is_tried_again_when_it_is_next_used() -> None:
    there = False

    def make(key: str) -> Store:
        if not there:
            raise FileNotFoundError(key)
        return Store(key)

    stores = OpenStores(make, most=2)
    with pytest.raises(FileNotFoundError), stores.use("a"):
        pass
    assert len(stores) == 0
    there = True
    with stores.use("a") as store:
        assert store.read() == "a"


def test_closed_stores_open_nothing() -> None:
    stores = OpenStores(Store, most=2)
    with stores.use("a") as store:
        pass
    stores.close()
    assert store.closed
    with pytest.raises(ValueError, match="were closed"), stores.use("a"):
        pass
