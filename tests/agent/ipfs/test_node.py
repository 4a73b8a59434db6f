"""Data from an IPFS node and into one, over HTTP, against a node of the tests' own that fails as told."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import trio

from agent.dagstore.failures import ErrorClass, ShardError
from agent.ipfs.settings import IpfsConfig
from agent.retrievals.records import Wanted
from agent.retrievals.settings import RetrievalConfig
from carlib.blockstore import MemoryBlocks, ReadOnlyBlockstore
from carlib.cid import Cid
from tests.agent.ipfs.nodes import FakeNode, fake_node
from tests.agent.retrievals.worlds import retrievals_at
from tests.carlib.nodes import put_directory, put_file, put_raw
from tests.conftest import ExpectWarning

STORE = MemoryBlocks()
LEAVES = [put_raw(STORE, bytes([number]) * 1000) for number in range(4)]
FILE = put_file(STORE, [(leaf, 1000) for leaf in LEAVES])
ROOT = put_directory(STORE, [(b"a", FILE), (b"b", LEAVES[0])])
CIDS = [ROOT, FILE, *LEAVES]
DAG = [(cid, STORE.get(cid)) for cid in CIDS]


async def retrieve(path: Path, wanted: Wanted, *sources: str, ipfs: IpfsConfig | None = None) -> Path:
    async with retrievals_at(path, ipfs=ipfs, config=RetrievalConfig(attempts=2)) as retrievals:
        with trio.fail_after(30):
            record = await retrievals.wait(retrievals.start(wanted, sources))
    return Path(record.car_path)


async def refused(path: Path, wanted: Wanted, *sources: str) -> ShardError:
    """Why it is not retrieved."""
    async with retrievals_at(path, config=RetrievalConfig(attempts=2)) as retrievals:
        with trio.fail_after(30), pytest.raises(ShardError) as caught:
            await retrievals.wait(retrievals.start(wanted, sources))
    return caught.value


async def test_a_dag_comes_from_the_node_and_is_verified(tmp_path: Path) -> None:
    with fake_node() as node:
        node.put(*DAG)
        car = await retrieve(tmp_path, Wanted(str(ROOT)), "ipfs", ipfs=IpfsConfig(address=node.name[5:]))
        assert held(car) == set(CIDS)
        assert [call.partition("?")[0] for call in node.calls] == ["dag/export"]
        assert all("offline=true" in call for call in node.calls)


async def test_online_mode_lets_the_node_look_elsewhere(tmp_path: Path) -> None:
    with fake_node() as node:
        node.put(*DAG)
        await retrieve(tmp_path, Wanted(str(ROOT)), node.name, ipfs=IpfsConfig(online_mode=True))
        assert not any("offline" in call for call in node.calls)


async def test_an_export_that_ends_too_early_is_no_dag(tmp_path: Path, expect_warning: ExpectWarning) -> None:
    expect_warning("failed|left")
    with fake_node() as node:
        node.put(*DAG)
        del node.blocks[LEAVES[2].raw]
        error = await refused(tmp_path, Wanted(str(ROOT)), node.name)
        assert error.error_class is ErrorClass.NOT_FOUND and "in whatever words" in str(error)
        node.put(*DAG)  # and the next try asks for what is missing alone
        node.calls.clear()
        await retrieve(tmp_path, Wanted(str(ROOT)), node.name)
        assert {call.partition("&")[0] for call in node.calls} == {
            f"block/get?arg={cid}" for cid in LEAVES[2:]
        }


async def test_a_node_that_lies_is_left(tmp_path: Path, expect_warning: ExpectWarning) -> None:
    expect_warning("failed|left")
    with fake_node() as node:
        node.put(*DAG)
        node.blocks[LEAVES[1].raw] = b"something else"
        assert (await refused(tmp_path, Wanted(str(ROOT)), node.name)).error_class is ErrorClass.CORRUPT


async def test_what_is_retrieved_goes_into_the_node_pinned_by_its_root(tmp_path: Path) -> None:
    with fake_node() as far, fake_node() as node:
        far.put(*DAG)
        await retrieve(tmp_path, Wanted(str(ROOT), to=node.name), far.name)
        assert node.blocks == {cid.raw: data for cid, data in DAG}
        assert node.pinned == {str(ROOT): True}
        node.blocks.clear()  # collected as garbage there: asked once more, it is put in once more
        await retrieve(tmp_path, Wanted(str(ROOT), to=node.name))
        assert node.blocks == {cid.raw: data for cid, data in DAG}


async def test_of_a_part_each_block_is_pinned_for_itself(tmp_path: Path) -> None:
    with fake_node() as far, fake_node() as node:
        far.put(*DAG)
        node.pinned[str(FILE)] = True  # by somebody else
        wanted = Wanted(str(ROOT), path="a", range="0:1500", to=node.name)
        await retrieve(tmp_path, wanted, far.name)
        part = [ROOT, FILE, *LEAVES[:2]]
        assert node.blocks == {cid.raw: STORE.get(cid) for cid in part}
        assert node.pinned == {str(cid): cid == FILE for cid in part}


async def test_the_configuration_says_where_retrievals_go_and_a_call_otherwise(tmp_path: Path) -> None:
    with fake_node() as far, fake_node() as node:
        far.put(*DAG)
        config = IpfsConfig(address=node.name[5:], use_for_retrieval=True)
        await retrieve(tmp_path, Wanted(str(FILE), to=""), far.name, ipfs=config)
        assert not node.blocks
        await retrieve(tmp_path, Wanted(str(ROOT)), far.name, ipfs=config)
        assert node.pinned == {str(ROOT): True}


def _pin_error(node: FakeNode) -> None:
    node.pin_error = "pin: it is full"


def _cut(node: FakeNode) -> None:
    node.cuts_answers = True


def _forbids(node: FakeNode) -> None:
    node.plain_error = (403, "403 - Forbidden")


def _breaks(node: FakeNode) -> None:
    node.plain_error = (502, "Bad Gateway")


def _is_none(node: FakeNode) -> None:
    node.plain_error = (404, "404 page not found")


@pytest.mark.parametrize(
    ("fail", "expected", "words"),
    [
        (_pin_error, ErrorClass.CORRUPT, "has not pinned .*pin: it is full"),
        (_cut, ErrorClass.BUSY, "ended too early"),
        (_forbids, ErrorClass.DENIED, "403 to version: 403 - Forbidden"),
        (_breaks, ErrorClass.BUSY, "502 to version: Bad Gateway"),
        (_is_none, ErrorClass.INVALID, "is it the API of an IPFS node"),
    ],
)
async def test_a_node_that_does_not_take_it_is_named_and_nothing_fetched_is_lost(
    fail: object, expected: ErrorClass, words: str, tmp_path: Path, expect_warning: ExpectWarning
) -> None:
    expect_warning("failed|left")
    assert callable(fail)
    with fake_node() as far, fake_node() as node:
        far.put(*DAG)
        fail(node)
        error = await refused(tmp_path, Wanted(str(ROOT), to=node.name), far.name)
        assert error.error_class is expected and re.search(words, str(error))
        node.pin_error, node.cuts_answers, node.plain_error = "", False, None
        far.calls.clear()
        await retrieve(tmp_path, Wanted(str(ROOT), to=node.name))
        assert node.pinned == {str(ROOT): True} and far.calls == []


async def test_a_node_that_is_not_there_is_said(tmp_path: Path, expect_warning: ExpectWarning) -> None:
    expect_warning("failed|left")
    with fake_node() as far, fake_node() as gone:
        far.put(*DAG)
        name = gone.name
        async with retrievals_at(tmp_path) as retrievals:
            with pytest.raises(ShardError, match="is no IPFS node"):
                retrievals.start(Wanted(str(ROOT), to="elsewhere"))
    with fake_node() as far:
        far.put(*DAG)
        error = await refused(tmp_path, Wanted(str(ROOT), to=name), far.name)
        assert error.error_class is ErrorClass.BUSY and "cannot be reached" in str(error)


def held(car: Path) -> set[Cid]:
    with ReadOnlyBlockstore.open(car) as store:
        return {cid for cid, _ in store.cids() if store.get(cid) is not None}
