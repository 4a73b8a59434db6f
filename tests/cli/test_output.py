"""Tables, sizes and progress as text."""

from __future__ import annotations

import pytest

from agent.cli import status
from agent.cli.output import emit_json, emit_table, size_text
from agent.cli.progress import line_text, progress


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (100 * 1024, "100 KiB"),
        (2**31, "2.0 GiB"),
    ],
)
def test_sizes_are_short(size_bytes: int, text: str) -> None:
    assert size_text(size_bytes) == text


def test_tables_are_plain_columns_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    emit_table(["key", "state"], [["a", "Available"], ["long-key", "Errored"]])
    assert capsys.readouterr().out == "KEY       STATE\na         Available\nlong-key  Errored\n"


def test_json_keeps_text_readable(capsys: pytest.CaptureFixture[str]) -> None:
    emit_json({"name": "ä"})
    assert capsys.readouterr().out == '{\n  "name": "ä"\n}\n'


def test_a_line_of_progress_shows_share_rate_and_rest() -> None:
    text = line_text("indexing a.car", 2**30, 4 * 2**30, 2.0)
    assert text == "indexing a.car: 1.0 GiB of 4.0 GiB (25 %), 512 MiB/s, 6 s left"
    assert line_text("packing", 2**20, 0, 1.0) == "packing: 1.0 MiB, 1.0 MiB/s"
    assert line_text("reindexing", 3, 7, 1.0, "shards") == "reindexing: 3 of 7 shards"
    assert line_text("reindexing", 3, 0, 1.0, "shards") == "reindexing: 3 shards"


@pytest.mark.parametrize("quiet", [True, False])
def test_short_work_prints_nothing_where_there_is_no_terminal(
    quiet: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    with progress("packing", quiet=quiet) as step:
        step(1, 2)
    assert capsys.readouterr() == ("", "")


def test_the_status_of_thousands_is_ten_lines_and_their_number() -> None:
    lines = [f"indexing  {number}" for number in range(5000)]
    assert status._some("indexing", lines) == [*lines[:10], "indexing  and 4990 more (--json has all)"]
    assert status._some("indexing", lines[:11]) == lines[:11]
