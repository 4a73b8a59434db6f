"""The catalogue keeps what it was given, in the order of keys, through a close and a kill."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from agent.catalogue import _MIGRATIONS, APPLICATION_ID, Catalogue
from agent.dagstore.failures import ErrorClass, ShardError
from agent.dagstore.lifecycle import ShardState
from agent.dagstore.mounts import Fingerprint
from agent.dagstore.records import (
    HISTORY_KEPT,
    HISTORY_SHOWN,
    IndexFacts,
    ShardRow,
    Transition,
    life_of,
)
from agent.dagstore.scrub.records import ScrubState
from agent.scheduler.jobs import Estimate

FACTS = IndexFacts(
    name="x.1.idx",
    size=70,
    fingerprint=Fingerprint(size=2**62, mtime_ns=-5, inode=2**64 - 1, device=7),
    codec=0x0401,
    version=2,
    data_offset=51,
    data_size=507,
    blocks=3,
    roots=("bafkqaaa",),
)
ERRORED = ShardRow(
    "b/é\0", "file:///b%FF", ShardState.ERRORED, False, "2026-01-01T00:00:00Z", 2, "gone", ErrorClass.GONE
)
INDEXED = ShardRow("a", "file:///a", ShardState.AVAILABLE, True, "2026-01-02T00:00:00Z", 1, index=FACTS)


def line(number: int) -> Transition:
    return Transition(f"t{number}", "before", "after", "Event", "why")


def test_what_was_put_is_there_after_reopening(tmp_path: Path) -> None:
    with closing(Catalogue.open(tmp_path / "db")) as catalogue:
        catalogue.put(ERRORED, line(1))
        catalogue.put(INDEXED, line(2))
    with closing(Catalogue.open(tmp_path / "db")) as catalogue:
        assert catalogue.shards() == [INDEXED, ERRORED]
        assert catalogue.history("a") == (line(2),)


def test_a_shard_is_replaced_by_key_and_its_history_goes_on(tmp_path: Path) -> None:
    with closing(Catalogue.open(tmp_path / "db")) as catalogue:
        catalogue.put(ShardRow("a", "file:///old", ShardState.NEW, False, "t"), line(1))
        catalogue.put(INDEXED, line(2))
        assert catalogue.shards() == [INDEXED]
        assert catalogue.history("a") == (line(1), line(2))


def test_as_many_transitions_are_kept_as_were_asked_for(tmp_path: Path) -> None:
    with closing(Catalogue.open(tmp_path / "db", history_kept=20)) as catalogue:
        for number in range(25):
            catalogue.put(INDEXED, line(number))
        pages = [catalogue.history_page("a", before=None, limit=15)]
        pages.append(catalogue.history_page("a", before=pages[0][-1][0], limit=15))
        assert pages[0] + pages[1] == [(number + 1, line(number)) for number in reversed(range(5, 25))]
        assert catalogue.history_page("a", before=pages[1][-1][0], limit=15) == []


def test_a_record_shows_the_end_of_the_history(tmp_path: Path) -> None:
    with closing(Catalogue.open(tmp_path / "db")) as catalogue:
        for number in range(HISTORY_KEPT + 5):
            catalogue.put(INDEXED, line(number))
        shown = range(HISTORY_KEPT + 5 - HISTORY_SHOWN, HISTORY_KEPT + 5)
        assert catalogue.history("a") == tuple(map(line, shown))


def test_several_shards_are_put_together_or_not_at_all(tmp_path: Path) -> None:
    with closing(Catalogue.open(tmp_path / "db")) as catalogue:
        catalogue.put_all([(INDEXED, line(1)), (ERRORED, line(2))])
        assert catalogue.shards() == [INDEXED, ERRORED]
        (pages,) = catalogue._connection.execute("PRAGMA page_count").fetchone()
        catalogue._connection.execute(f"PRAGMA max_page_count = {pages}")
        big = ShardRow("big", "file:///" + "x" * 100_000, ShardState.NEW, False, "t")
        with pytest.raises(ShardError):
            catalogue.put_all([(msgspec.structs.replace(INDEXED, key="c"), line(1)), (big, line(1))])
        assert catalogue.shards() == [INDEXED, ERRORED]


def test_what_a_start_needs_is_there_without_the_rest(tmp_path: Path) -> None:
    with closing(Catalogue.open(tmp_path / "db")) as catalogue:
        catalogue.put_all([(INDEXED, line(1)), (ERRORED, line(2))])
        assert list(catalogue.lives()) == [("a", life_of(INDEXED)), ("b/é\0", life_of(ERRORED))]
        assert list(catalogue.index_names()) == ["x.1.idx"]
        assert (catalogue.row("a"), catalogue.row("none")) == (INDEXED, None)


@pytest.mark.parametrize("change", ["state = 'ShardStateOdd'", "error_class = 'odd'"])
def test_a_life_that_makes_no_sense_is_named(tmp_path: Path, change: str) -> None:
    with closing(Catalogue.open(tmp_path / "db")) as catalogue:
        catalogue.put(INDEXED, line(1))
        catalogue._connection.execute(f"UPDATE shards SET {change}")
        with pytest.raises(ShardError, match=r"the row of shard 'a' is damaged"):
            list(catalogue.lives())


def test_a_deleted_shard_leaves_no_history(tmp_path: Path) -> None:
    with closing(Catalogue.open(tmp_path / "db")) as catalogue:
        catalogue.put(INDEXED, line(1))
        catalogue.delete("a")
        catalogue.delete("never there")
        assert (catalogue.shards(), catalogue.history("a")) == ([], ())


def test_a_commit_is_on_disk_before_it_returns(tmp_path: Path) -> None:
    with closing(Catalogue.open(tmp_path / "db")) as catalogue:
        (mode,) = catalogue._connection.execute("PRAGMA synchronous").fetchone()
        (journal,) = catalogue._connection.execute("PRAGMA journal_mode").fetchone()
        assert (mode, journal) == (2, "wal")


def test_a_schema_from_the_future_is_refused_and_left_alone(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "db")) as connection:
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute("PRAGMA user_version = 99")
    before = (tmp_path / "db").read_bytes()
    with pytest.raises(ShardError, match=r"db: its schema is version 99; .* use a newer carfs"):
        Catalogue.open(tmp_path / "db")
    assert (tmp_path / "db").read_bytes() == before


@pytest.mark.parametrize(
    "statement", ["CREATE TABLE t (x)", "PRAGMA user_version = 1", "PRAGMA application_id = 7"]
)
def test_somebody_elses_database_is_refused_and_left_alone(tmp_path: Path, statement: str) -> None:
    with closing(sqlite3.connect(tmp_path / "db")) as connection:
        connection.execute(statement)
        connection.commit()
    before = (tmp_path / "db").read_bytes()
    with pytest.raises(ShardError, match=r"db: not a catalogue of carfs") as raised:
        Catalogue.open(tmp_path / "db")
    assert raised.value.error_class is ErrorClass.INVALID
    assert (tmp_path / "db").read_bytes() == before


@pytest.mark.parametrize("change", ["state = 'ShardStateOdd'", "index_facts = x'00'", "error_class = 'odd'"])
def test_a_row_that_makes_no_sense_is_named(tmp_path: Path, change: str) -> None:
    with closing(Catalogue.open(tmp_path / "db")) as catalogue:
        catalogue.put(INDEXED, line(1))
        catalogue._connection.execute(f"UPDATE shards SET {change}")
        with pytest.raises(ShardError, match=r"the row of shard '.*' is damaged") as raised:
            catalogue.shards()
        assert raised.value.error_class is ErrorClass.CORRUPT


@pytest.mark.parametrize(
    ("content", "error_class"),
    [(b"not a database at all " * 100, ErrorClass.CORRUPT), (None, ErrorClass.DENIED)],
)
def test_a_database_that_cannot_be_opened_says_which_and_why(
    tmp_path: Path, content: bytes | None, error_class: ErrorClass
) -> None:
    path = tmp_path / "no such directory" / "db" if content is None else tmp_path / "db"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ShardError, match=str(path)) as raised:
        Catalogue.open(path)
    assert raised.value.error_class is error_class


def test_a_full_disk_changes_nothing(tmp_path: Path) -> None:
    with closing(Catalogue.open(tmp_path / "db")) as catalogue:
        catalogue.put(INDEXED, line(1))
        (pages,) = catalogue._connection.execute("PRAGMA page_count").fetchone()
        catalogue._connection.execute(f"PRAGMA max_page_count = {pages}")
        big = ShardRow("big", "file:///" + "x" * 100_000, ShardState.NEW, False, "t")
        with pytest.raises(ShardError, match=r"/db: database or disk is full; make room") as raised:
            catalogue.put(big, line(1))
        assert raised.value.error_class is ErrorClass.NO_SPACE
        assert catalogue.shards() == [INDEXED]


def test_every_field_of_a_row_is_kept(tmp_path: Path) -> None:
    row = msgspec.structs.replace(
        INDEXED,
        replicas=("https://b/x", "s3://c/x"),
        existing_transient=os.fsdecode(b"/copies/\xff"),
        attempts=3,
        quarantined="block 7 of 9",
    )
    with closing(Catalogue.open(tmp_path / "db")) as catalogue:
        catalogue.put(row, Transition("t", "a", "b", "Event", "why", by="rpc: process 1 uid 0"))
    with closing(Catalogue.open(tmp_path / "db")) as catalogue:
        assert catalogue.shards() == [row]
        assert catalogue.history("a")[0].by == "rpc: process 1 uid 0"


def test_what_tasks_were_seen_to_take_is_kept(tmp_path: Path) -> None:
    with closing(Catalogue.open(tmp_path / "db")) as catalogue:
        assert catalogue.estimates() == []
        for peak in (1, 2):
            catalogue.put_estimate(Estimate("index", "8M", peak, tasks=peak, size_bytes=7))
        catalogue.put_estimate(Estimate("index", "2K", 9, tasks=1))
    with closing(Catalogue.open(tmp_path / "db")) as catalogue:
        assert catalogue.estimates() == [Estimate("index", "2K", 9, 1), Estimate("index", "8M", 2, 2, 7)]


def test_a_database_of_the_first_schema_is_brought_up_to_date(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "db")) as connection:
        connection.executescript(f"BEGIN; {_MIGRATIONS[0]}; PRAGMA user_version = 1; COMMIT;")
        values = ("a", "file:///a", "ShardStateAvailable", 1, INDEXED.registered, 1, "", None)
        connection.execute(
            "INSERT INTO shards VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", (*values, msgspec.json.encode(FACTS))
        )
        old = b'{"At":"t","Before":"a","After":"b","Event":"E","Reason":"r"}'
        connection.execute("INSERT INTO transitions VALUES ('a', 1, ?)", (old,))
        connection.commit()
    with closing(Catalogue.open(tmp_path / "db")) as catalogue:
        assert catalogue.shards() == [INDEXED]
        assert catalogue.history("a") == (Transition("t", "a", "b", "E", "r"),)


def test_what_is_known_of_verifications_goes_with_its_shard(tmp_path: Path) -> None:
    with closing(Catalogue.open(tmp_path / "db")) as catalogue:
        for key in ("a", "b", "c"):
            catalogue.put(msgspec.structs.replace(INDEXED, key=key), line(1))
        away = ScrubState(order=("file:///x", "file:///y"))
        catalogue.put_scrub("b", away)
        catalogue.put_scrub("c", ScrubState())
        catalogue.put_scrub("none", away)
        page = catalogue.scrub_page("a", 2)
        assert [(key, url, state) for key, url, _, state in page] == [
            ("b", INDEXED.url, away),
            ("c", INDEXED.url, ScrubState()),
        ]
        assert list(catalogue.scrubs_with_findings()) == [("b", away)]
        catalogue.delete("b")
        assert (catalogue.scrub("b"), list(catalogue.scrubs_with_findings())) == (ScrubState(), [])
