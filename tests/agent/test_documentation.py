"""docs/agent.md says what is: keys, variables and defaults, methods and levels, classes and codes."""

from __future__ import annotations

import re

import msgspec

from agent.config import Config
from agent.rpc.methods import METHODS
from agent.rpc.registry import CODES
from tests.fixtures import REPOSITORY

PAGE = (REPOSITORY / "docs" / "agent.md").read_text()


def test_every_key_is_there_with_its_variable_and_default() -> None:
    shown = re.findall(r"^\| `(\w+)\.(\w+)` \| `(\w+)` \| `(.+?)` \|", PAGE, re.MULTILINE)
    defaults = msgspec.to_builtins(Config())
    assert shown == [
        (section, key, f"CARFS_{section}_{key}".upper(), msgspec.json.encode(value).decode())
        for section, values in defaults.items()
        for key, value in values.items()
    ]


def test_every_method_is_there_with_its_level() -> None:
    shown = re.findall(
        r"^\| `((?:Filecoin|Carfs|rpc)\.\w+)` \| (read|write|sign|admin) \|", PAGE, re.MULTILINE
    )
    assert sorted(shown) == sorted((name, one.permission.name.lower()) for name, one in METHODS.items())


def test_every_class_is_there_with_its_code() -> None:
    shown = re.findall(r"^\| `([a-z-]+)` \| −(\d+) \|", PAGE, re.MULTILINE)
    assert sorted(shown) == sorted((one.value, str(-code)) for one, code in CODES.items())
