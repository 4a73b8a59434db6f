"""docs/mounts.md says what is so."""

from __future__ import annotations

import re

import msgspec
import pytest

from agent.dagstore import mounts
from agent.dagstore.failures import ErrorClass, ShardError
from agent.dagstore.mounts import Fingerprint, answers
from agent.dagstore.mounts.config import MountsConfig
from tests.fixtures import REPOSITORY

PAGE = (REPOSITORY / "docs" / "mounts.md").read_text()


def test_every_scheme_is_there() -> None:
    assert set(re.findall(r"`(\w+)`", " ".join(re.findall(r"^\| (`[^|]*`) \| `\w+:", PAGE, re.M)))) == set(
        mounts.SCHEMES
    )


def test_every_key_is_there_with_its_default() -> None:
    rows = re.findall(r"^\| `mounts\.(\w+)` \| `CARFS_MOUNTS_(\w+)` \| `([^`]*)` \|", PAGE, re.M)
    fields = msgspec.structs.fields(MountsConfig)
    defaults = [(one.name, msgspec.json.encode(one.default).decode()) for one in fields]
    assert sorted((key, default) for key, _, default in rows) == sorted(defaults)
    assert all(variable == key.upper() for key, variable, _ in rows)


@pytest.mark.parametrize("error_class", ["gone", "denied", "busy"])
def test_the_statuses_of_each_class_are_those_in_the_table(error_class: str) -> None:
    (row,) = re.findall(rf"^\| ([^|]*) \| `{error_class}` \|", PAGE, re.M)
    listed = {int(number) for number in re.findall(r"\b\d{3}\b", row)}
    found = set()
    for status in range(400, 500):
        try:
            answers.body_of(status, {}, "it", 0.0, 0, 1, Fingerprint(1))
        except ShardError as error:
            if error.error_class is ErrorClass(error_class):
                found.add(status)
    assert listed == found
