"""The tables of features and defects name tests that exist, and every command and flag of go-car's tool is there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import click
import pytest

from agent.cli.car import ALIASES, car
from agent.cli.command import CommandWithActions
from tests.fixtures import REPOSITORY

FEATURES = REPOSITORY / "docs" / "car-features.md"
DEFECTS = REPOSITORY / "docs" / "defects.md"
NUMBERS = {"D": 14, "M": 10, "I": 10, "X": 7, "R": 3, "W": 14, "S": 5, "C": 11}
"""How many of each kind the reference has."""
_TEST = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")

TOOL = {
    "compile": "-o -f --output",
    "concat": "-o -f --output --version",
    "create": "-f -o --file --output --no-wrap --version",
    "debug": "-o -f --output",
    "detach-index": "",
    "detach-index list": "",
    "extract": "-f -i --file --input -o --output -v --verbose",
    "filter": "--cid-file --append --inverse --version",
    "get-block": "",
    "get-dag": "-s --selector --strict --version",
    "index": "-c --codec --version",
    "index create": "-c --codec",
    "inspect": "--full",
    "list": "-v --verbose --unixfs --unixfs-blocks",
    "put-block": "-c --codec --cid --version --set-root",
    "root": "",
    "verify": "",
}
"""The flags of go-car's commands, as its binary lists them."""
SHORT = {"c": "create", "x": "extract", "f": "filter", "gb": "get-block", "gd": "get-dag", "i": "index", "l": "list",
         "ls": "list", "pb": "put-block", "v": "verify"}  # fmt: skip


def rows(page: Path) -> list[list[str]]:
    """The cells of every row of the page's tables, headings left out."""
    lines = [line for line in page.read_text().splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    rules = [number for number, row in enumerate(cells) if set("".join(row)) <= {"-"}]
    return [row for number, row in enumerate(cells) if number not in rules and number + 1 not in rules]


def command(name: str) -> click.Command:
    first, _, action = name.partition(" ")
    found = car.get_command(click.Context(car), first)
    if action:
        assert isinstance(found, CommandWithActions)
        return found.actions[action]
    assert found is not None
    return found


@pytest.mark.parametrize("row", rows(FEATURES) + rows(DEFECTS), ids=lambda row: row[0])
def test_every_feature_and_defect_names_tests_that_exist(row: list[str]) -> None:
    named = _TEST.findall(row[-1])
    assert named or "–" in row[-2:]
    for path, name in named:
        tree = ast.parse((REPOSITORY / path).read_text())
        assert name in {
            node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        }


def test_every_defect_is_there() -> None:
    due = [f"{kind}-{number}" for kind, count in NUMBERS.items() for number in range(1, count + 1)]
    assert [row[0] for row in rows(DEFECTS)] == due


@pytest.mark.parametrize("name", TOOL)
def test_every_command_and_flag_of_go_cars_tool_is_there(name: str) -> None:
    known = {flag for param in command(name).params for flag in (*param.opts, *param.secondary_opts)}
    assert set(TOOL[name].split()) <= known


def test_short_names_are_those_of_go_cars_tool() -> None:
    assert ALIASES == SHORT
