"""Random lives of an inverted index against a dictionary of sets: additions, removals, restarts, damage, merges."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.dagstore.inverted import index
from tests.agent.inverted.indices import Shards, assert_answers, inverted_at, multihash, settled
from tests.agent.stores import LocalWorkers

KEYS = st.sampled_from(["a", "b", "c", "d", "e"])
MULTIHASHES = st.one_of(
    st.integers(0, 12).map(lambda number: multihash(number.to_bytes(32, "big"))),
    st.integers(0, 5).map(lambda number: multihash(bytes([number, 0]), 0x13)),
)
ALL = [multihash(number.to_bytes(32, "big")) for number in range(13)]
Step = tuple[str, str, list[bytes]]
STEPS: st.SearchStrategy[Step] = st.one_of(
    st.tuples(st.just("add"), KEYS, st.lists(MULTIHASHES, max_size=20)),
    st.tuples(st.sampled_from(["remove", "settle", "hold", "rebuild"]), KEYS, st.just([])),
)
DAMAGE = st.sampled_from(["none", "manifest gone", "segment gone", "segment cut", "leftovers"])


async def live(folder: Path, runs: list[tuple[list[Step], str]]) -> None:
    shards = Shards(folder)
    inverted_folder = folder / "inverted"
    for steps, damage in runs:
        workers = LocalWorkers()
        async with inverted_at(shards, inverted_folder, workers) as inverted:
            for what, key, multihashes in steps:
                match what:
                    case "add":
                        inverted.add(shards.put(key, multihashes))
                    case "remove" if key in shards.indices:
                        shards.drop(key)
                        inverted.remove(key)
                    case "hold":
                        workers.hold()
                    case "settle" | "rebuild":
                        workers.gate.set()
                        await (inverted.rebuild() if what == "rebuild" else settled(inverted))
                        assert_answers(inverted, shards, ALL)
                for raw in ALL:  # what is found is never wrong, whatever is under way
                    assert set(inverted.lookup(raw)) <= shards.expected(raw)
        spoil(inverted_folder, damage)
    async with inverted_at(shards, inverted_folder) as inverted:
        await settled(inverted)
        assert_answers(inverted, shards, ALL)
        assert await inverted.check() == []


def spoil(folder: Path, damage: str) -> None:
    folder.mkdir(exist_ok=True)
    segments = sorted(folder.glob("*.segment"))
    match damage:
        case "manifest gone":
            (folder / "manifest").unlink(missing_ok=True)
        case "segment gone" if segments:
            segments[-1].unlink()
        case "segment cut" if segments:
            segments[0].write_bytes(segments[0].read_bytes()[:-7])
        case "leftovers":
            (folder / ".carfs-tmp-1").write_bytes(b"x")
            (folder / "000000099999.segment").write_bytes(b"x")


@pytest.fixture(scope="module")
def _quiet() -> Iterator[None]:
    """Some lives have damage, which is warned of, and some have none: no warning can be announced."""
    logger = logging.getLogger(index.__name__)
    logger.disabled = True
    yield
    logger.disabled = False


@pytest.mark.usefixtures("_quiet")
@settings(max_examples=50)
@given(runs=st.lists(st.tuples(st.lists(STEPS, max_size=12), DAMAGE), max_size=4))
def test_it_answers_as_a_dictionary_of_sets_does(
    runs: list[tuple[list[Step], str]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    trio.run(partial(live, tmp_path_factory.mktemp("life"), runs))
