"""The migration of deals into shards: once, lazily, again after a failure, and in Lotus' words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from agent.dagstore.events import Hub
from agent.dagstore.failures import ErrorClass, ShardError
from agent.market import lotus
from agent.market.lotus import STATES
from agent.market.migrating import MARKER, Migrated, Migration
from carlib.piece.commitment import commit
from tests.agent.stores import dagstore_at
from tests.conftest import ExpectWarning

PIECES = [str(commit(bytes([number]) * 100).v1) for number in range(4)]
FOUR: list[dict[str, Any]] = [
    {"PieceCID": {"/": PIECES[0]}, "State": STATES.index("AwaitingPreCommit")},
    {"Ref": {"PieceCid": {"/": PIECES[1]}}, "State": "StorageDealActive"},
    {"Proposal": {"PieceCID": {"/": PIECES[2]}}, "State": STATES.index("Publishing")},
    {"PieceCID": PIECES[3], "State": "StorageDealExpired"},
]


async def migrated(
    path: Path, deals: Any, *, again: bool = False, prune: bool = False, held: str = ""
) -> tuple[Migrated, dict[str, str]]:
    (path / "deals.json").write_text(json.dumps(deals))
    async with dagstore_at(path, hub=Hub(buffer=100)) as dagstore:
        migration = Migration(dagstore, path, path / "pieces", lambda piece: piece == held)
        found = await migration.run(path / "deals.json", again=again, prune=prune)
        return found, {key: dagstore.record(key).state for key in dagstore.list_keys()}


async def test_two_of_four_are_registered_and_a_second_run_does_nothing(tmp_path: Path) -> None:
    found, shards = await migrated(tmp_path, FOUR)
    assert shards == dict.fromkeys(sorted(PIECES[:2]), "ShardStateNew")
    assert (found.complete, found.total, found.registered, found.skipped) == (True, 2, 2, 2)
    assert found.lines[0] == 'registering shards for all active deals in sealing subsystem {"count": 4}'
    assert [line.split(" {")[0] for line in found.lines[1:]] == [
        "deal not ready; skipping", "deal not ready; skipping", "registering deal in dagstore with lazy init",
        "registering deal in dagstore with lazy init", "finished registering all shards",
        "successfully marked migration as complete", "dagstore migration complete",
    ]  # fmt: skip
    assert (tmp_path / MARKER).exists()
    found, shards = await migrated(tmp_path, FOUR)
    assert found.lines == ("no shard migration necessary; already marked complete",)
    found, shards = await migrated(tmp_path, FOUR, again=True)
    assert (found.registered, found.already, len(shards)) == (0, 2, 2)


async def test_x4_failures_are_told_and_it_is_complete_only_without_them(
    tmp_path: Path, expect_warning: ExpectWarning
) -> None:
    expect_warning("failed to register")
    found, shards = await migrated(tmp_path, [*FOUR, {"State": 7}, {"PieceCID": "nonsense", "State": 7}, 5])
    assert (found.complete, found.failed, len(shards)) == (False, ("5", "6", "7"), 2)
    assert not (tmp_path / MARKER).exists()
    found, _ = await migrated(tmp_path, FOUR)
    assert (found.complete, found.already) == (True, 2)
    assert (tmp_path / MARKER).exists()


async def test_x4_two_deals_about_one_piece_are_one_shard_without_a_warning(tmp_path: Path) -> None:
    found, shards = await migrated(tmp_path, [FOUR[0], FOUR[0], {**FOUR[0], "State": 7}])
    assert (found.complete, found.total, len(shards)) == (True, 1, 1)
    assert not [line for line in found.lines if "failed" in line]


async def test_x4_shards_of_pieces_without_deals_are_pruned_if_that_is_wanted(tmp_path: Path) -> None:
    await migrated(tmp_path, [{"PieceCID": piece, "State": 7} for piece in PIECES])
    found, shards = await migrated(tmp_path, FOUR[:1], again=True, prune=True, held=PIECES[2])
    assert (found.pruned, sorted(shards)) == (2, sorted([PIECES[0], PIECES[2]]))


async def test_where_pieces_lie_is_written_down_once(tmp_path: Path) -> None:
    where = {"SectorFile": "/srv/unsealed/s-t01000-7", "Offset": 128, "Length": 128, "PayloadSize": 100}
    await migrated(
        tmp_path, [{**FOUR[0], **where}, {**FOUR[0], **where, "SectorFile": "/srv/copy", "Offset": 0}]
    )
    note = tmp_path / "pieces" / f"{PIECES[0]}.json"
    assert json.loads(note.read_text()) == {
        "places": [
            {"file": "/srv/unsealed/s-t01000-7", "offset": 128, "size": 128},
            {"file": "/srv/copy", "offset": 0, "size": 128},
        ],
        "payload": 100,
    }
    note.write_text("mine")
    await migrated(tmp_path, [{**FOUR[0], **where}], again=True)
    assert note.read_text() == "mine"


def test_exports_are_taken_as_they_are_printed() -> None:
    for text in (
        json.dumps(FOUR),
        "\n".join(map(json.dumps, FOUR)),
        json.dumps({"jsonrpc": "2.0", "result": FOUR}),
    ):
        assert [one.piece for one in lotus.parse(text.encode())] == PIECES
    assert lotus.parse(b"") == []
    with pytest.raises(ShardError, match="line 1 is no JSON") as caught:
        lotus.parse(b"ProposalCid  DealId  State\n")
    assert caught.value.error_class is ErrorClass.INVALID
