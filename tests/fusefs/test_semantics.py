"""The tables of docs/semantics.md say what the code does."""

from __future__ import annotations

import errno
import hashlib
import re
from collections.abc import Iterator

from carlib import names
from fusefs.agent_changes import ANSWER_S
from fusefs.catalogue import What
from fusefs.copying import FINISHING
from fusefs.errors import ERRNO_BY_CLASS
from fusefs.rendering import MOST_LEAVES
from fusefs.service import DEADLINE_S, SETTLE_S
from fusefs.views import VIEWS
from fusefs.waits import Waits
from tests.fixtures import REPOSITORY

PAGE = (REPOSITORY / "docs" / "semantics.md").read_text()


def rows(heading: str) -> Iterator[tuple[str, ...]]:
    """The cells of the first table below a heading."""
    below = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in below.splitlines() if line.startswith("|")]
    for line in lines[2:]:
        yield tuple(cell.strip() for cell in line.strip("|").split("|"))


def test_every_error_stands_in_the_row_of_its_errno() -> None:
    shown = {
        name: number
        for numbers, when in rows("Errors")
        for name in re.findall(r"\b[A-Z][a-z]+[A-Z]\w+", when)
        for number in [getattr(errno, numbers.split(",")[0])]
    } | {"Malformed": errno.EIO, "Truncated": errno.EIO, "Overdue": errno.ETIMEDOUT}
    real = {
        kind.__name__: number
        for kind, number in ERRNO_BY_CLASS.items()
        if kind.__name__ not in ("NoSuchName", "CarError", "MemoryError")
    }
    assert shown == real


def test_names_are_shown_as_the_page_says() -> None:
    table = [(stored.strip("`"), as_name.strip("`")) for stored, as_name in rows("Names")]
    stored_as = {"nothing": b"", "a NUL byte": b"\0"}
    for stored, as_name in table[:-1]:
        assert names.shown(stored_as.get(stored, stored.encode())) == as_name.encode()
    long = b"x" * 256
    assert names.shown(long) == b"x" * 190 + b"~" + hashlib.sha256(long).hexdigest().encode()


def test_the_tree_shows_every_view() -> None:
    shown = re.findall(r"^│   [├└]── ([\w.]+)", PAGE, re.MULTILINE)
    assert shown == [
        view.name.decode() for view in (*VIEWS[What.SHARD], VIEWS[What.IMPORT][-1], VIEWS[What.RETRIEVAL][-1])
    ]


def test_the_numbers_of_copies_are_those_of_the_code() -> None:
    flat = " ".join(PAGE.split())
    assert f"for `--settle` seconds ({SETTLE_S:g})" in flat
    assert f"no more than {ANSWER_S:g} s (EHOSTDOWN)" in flat
    assert f"one of more than {MOST_LEAVES:,} leaves" in flat
    assert f"hold up nobody; {FINISHING} are imported at once" in flat


async def test_the_numbers_of_waits_are_those_of_the_code() -> None:
    waits = Waits()
    assert f"(`--deadline`, {DEADLINE_S:g} s)" in PAGE
    flat = " ".join(PAGE.split())
    data, of_names = waits.data, waits.names
    assert (
        f"at most {data.per_lane} threads a shard and {data.threads.total_tokens} in all, "
        f"and {data.most_waiting} requests may wait for data" in flat
    )
    assert f"{of_names.threads.total_tokens} threads and {of_names.most_waiting} places" in flat
