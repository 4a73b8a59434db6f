"""Each finding from made-up facts: what is said, how bad it is, and nothing where all is well."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from agent.dagstore.failures import ErrorClass
from agent.dagstore.lifecycle import ShardState
from agent.dagstore.mounts import Fingerprint
from agent.dagstore.records import IndexFacts, ShardRow
from agent.dagstore.scrub.records import BadBlock, ScrubState
from agent.doctor.diagnosis import diagnose
from agent.doctor.findings import Facts, FileFacts, LeftOver, Live, Severity, ShardFacts

NOW_S = 1_800_000_000.0
INDEX = IndexFacts("a.1.idx", 500, Fingerprint(1000, 5, 7), 0x401, 2, 51, 900, 9, ())
ROW = ShardRow("a", "file:///srv/a.car", ShardState.AVAILABLE, False, "2027-01-15T07:00:00Z", 1, index=INDEX)
WELL = ShardFacts(ROW, ScrubState(), FileFacts(1000, 5, 7), FileFacts(500))
BAD = BadBlock(100, 50, "bafyx", "12", "block does not match", "2027-01-15T07:30:00Z", "r1")


def facts(shard: ShardFacts = WELL, **more: object) -> Facts:
    return Facts(Path("/c"), False, shards=(shard,), now_s=NOW_S, scrub_interval_s=86400.0, **more)  # type: ignore[arg-type]  # of a test


def shard(row: ShardRow = ROW, **more: object) -> ShardFacts:
    known = {"scrub": WELL.scrub, "data": WELL.data, "index": WELL.index} | more
    return ShardFacts(row, **known)  # type: ignore[arg-type]  # of a test


ERRORED = replace(
    ROW, state=ShardState.ERRORED, error="no such file", error_class=ErrorClass.GONE, attempts=5
)
OLD = LeftOver("index", Path("/c/x.idx"), 10, 7200.0)

CASES: list[tuple[Facts, str, Severity, str]] = [
    (facts(catalogue="database disk image is malformed"), "catalogue", Severity.ERROR, "malformed"),
    (facts(damaged_rows=(("b", "no"),)), "catalogue-row", Severity.ERROR, "'b' is damaged: no"),
    (facts(mode=0o40777), "permissions", Severity.WARNING, "mode 0777"),
    (facts(unwritable=(Path("/c/carfs.db"),), user=7), "permissions", Severity.ERROR, "uid 7"),
    (facts(silent=("/mnt/nas",)), "silent", Severity.ERROR, "/mnt/nas did not answer"),
    (facts(free_bytes=1 << 29, total_bytes=1 << 40), "disk-space", Severity.WARNING, "536870912 of"),
    (facts(free_bytes=1000, total_bytes=1 << 40), "disk-space", Severity.ERROR, "1000 of"),
    (facts(left_over=(OLD,)), "orphan-index", Severity.NOTE, "/c/x.idx"),
    (facts(live=Live(transient_bytes=9, transient_quota=5)), "transients-quota", Severity.WARNING, "quota of 5"),
    (facts(live=Live(inverted_missing=300)), "inverted-behind", Severity.NOTE, "300 shards"),
    (facts(live=Live(inverted_missing=3, inverted_problem="full")), "inverted-stale", Severity.WARNING, "CID: full"),
    (facts(live=Live(overdue=50, scheduled=100)), "scrub-backlog", Severity.WARNING, "50 of 100"),
    (facts(live=Live(open_breakers=("https://x",))), "origin-failing", Severity.WARNING, "https://x"),
    (facts(shard(data=FileFacts(error="ENOENT"))), "data-gone", Severity.ERROR, "is not at file:///srv/a.car"),
    (facts(shard(data=FileFacts(error="EACCES"))), "data-unreachable", Severity.ERROR, "EACCES"),
    (facts(shard(data=FileFacts(999, 5, 7))), "data-changed", Severity.WARNING, "size 1000 -> 999"),
    (facts(shard(index=FileFacts(error="ENOENT"))), "index-damaged", Severity.ERROR, "it is missing"),
    (facts(shard(index=FileFacts(499))), "index-damaged", Severity.ERROR, "499 bytes, 500 are due"),
    (facts(shard(index_problem="codec 0x1")), "index-damaged", Severity.ERROR, "codec 0x1"),
    (facts(shard(ERRORED)), "errored-stuck", Severity.ERROR, "tried 5 times): no such file"),
    (facts(shard(replace(ERRORED, attempts=0))), "errored", Severity.ERROR, "(gone): no such file"),
    (facts(shard(scrub=ScrubState(quarantined=(BAD,)))), "quarantine", Severity.ERROR, "offset 100: bafyx"),
    (facts(shard(scrub=ScrubState(quarantined=(replace(BAD, repaired="x"),)))), "repaired", Severity.NOTE, "1 block"),
    (facts(shard(scrub=ScrubState(order=("file:///old.car",)))), "stand-in", Severity.WARNING, "file:///old.car"),
    (facts(shard(replace(ROW, registered="2026-01-01T00:00:00Z"))), "unverified", Severity.NOTE, "days ago"),
]  # fmt: skip


@pytest.mark.parametrize(("made_up", "check", "severity", "words"), CASES)
def test_what_is_not_well_is_one_finding(made_up: Facts, check: str, severity: Severity, words: str) -> None:
    (finding,) = diagnose(made_up)
    assert (finding.check, finding.severity) == (check, severity)
    assert words in finding.what
    assert finding.advice


def test_where_all_is_well_there_is_nothing_to_say() -> None:
    assert diagnose(facts()) == []


def test_what_is_new_may_be_about_to_be_named_by_an_agent() -> None:
    new = LeftOver("index", Path("/c/x.idx"), 10, 5.0)
    assert diagnose(Facts(Path("/c"), True, left_over=(new,))) == []
    assert len(diagnose(Facts(Path("/c"), False, left_over=(new,)))) == 1


def test_the_worst_comes_first_and_damage_is_marked() -> None:
    found = diagnose(facts(shard(scrub=ScrubState(quarantined=(BAD,))), left_over=(OLD,), mode=0o40722))
    assert [one.severity for one in found] == [Severity.ERROR, Severity.WARNING, Severity.NOTE]
    assert [one.corrupt for one in found] == [True, False, False]
