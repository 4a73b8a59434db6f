"""The table of errors that docs/semantics.md shows is the one that the mount answers by."""

from __future__ import annotations

import errno
import re

from fusefs import errors
from tests.fixtures import REPOSITORY

PAGE = (REPOSITORY / "docs" / "semantics.md").read_text()


def shown() -> dict[str, set[str]]:
    """What → errnos, of the table under "Errors"."""
    section = PAGE.split("## Errors")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (?!what|---)(.+?) \| (.+?) \|$", section, re.MULTILINE)
    return {what: set(re.findall(r"\bE[A-Z]{2,}\b", names)) for what, names in rows}


def test_every_errno_of_the_code_is_shown_and_no_other() -> None:
    answered = {errno.errorcode[number] for number in errors.ERRNO_BY_CLASS.values()}
    passed_on = {errno.errorcode[number] for number in errors._PASSED_ON}
    kinds = {"EISDIR", "ENOTDIR", "EINVAL"}
    named = {name.replace("ENOTSUP", "EOPNOTSUPP") for name in answered | passed_on | kinds}
    assert set.union(*shown().values()) == named


def test_errors_are_shown_as_the_code_maps_them() -> None:
    rows = shown()
    for words, error in (
        ("no such name", errors.NoSuchName()),
        ("more than 255 bytes", errors.NameTooLong()),
        ("destroyed or made anew", errors.StaleNode()),
        ("extended attribute", errors.NoSuchFact()),
        ("within the mount's deadline", errors.Overdue()),
        ("the shard cannot be read", errors.ShardBroken()),
        ("needs the agent", errors.AgentAway()),
    ):
        (row,) = (names for what, names in rows.items() if words in what)
        assert row == {errno.errorcode[errors.errno_of(error) or 0]}
