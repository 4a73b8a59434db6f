"""The picture of a shard's life is the table, drawn."""

from __future__ import annotations

import re

from agent.dagstore import diagram
from agent.dagstore.transitions import TRANSITIONS
from tests.fixtures import REPOSITORY

PAGE = REPOSITORY / "docs" / "dagstore-states.md"


def test_the_page_is_what_the_tables_give() -> None:
    hint = "run `python -m agent.dagstore.diagram > docs/dagstore-states.md`"
    assert PAGE.read_text() == diagram.page(), hint


def test_every_transition_is_an_arrow() -> None:
    arrows = re.findall(
        r"^    (\w+) --> (\w+|\[\*\]): (.*)$", diagram.page().partition("# States of an origin")[0], re.M
    )
    drawn = {(before, event) for before, _, names in arrows for event in names.split(", ")}
    assert drawn == {(state.name, event.__name__) for state, event in TRANSITIONS}
