"""`docs/dagstore-states.md`, drawn from the tables: `python -m agent.dagstore.diagram > docs/dagstore-states.md`."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Any

from agent.dagstore import breaker, transitions
from agent.dagstore.transitions import ShardState

Table = Mapping[Any, Enum]  # Any: pairs of a state and a class of events, which differ from table to table

_INTRODUCTION = """\
# States of a shard

Drawn from the tables in `agent/dagstore/transitions.py` and `breaker.py` by `python -m agent.dagstore.diagram`; a test
says so if this page and the tables differ. Whatever is not an arrow here cannot happen: the request is refused, and
nothing changes.
"""
_BREAKER = """
# States of an origin

Data that comes from one host, bucket or folder fails together, so that an origin which fails as a whole again and again
is left alone for a while.
"""


def page() -> str:
    """The whole page."""
    lines = [
        _INTRODUCTION,
        *_diagram(transitions.TRANSITIONS, ShardState.NEW),
        "",
        *_events(transitions.TRANSITIONS),
        _BREAKER,
        *_diagram(breaker.TRANSITIONS, breaker.BreakerState.CLOSED),
        "",
        *_events(breaker.TRANSITIONS),
    ]
    return "\n".join(lines) + "\n"


def _diagram(table: Table, first: Enum) -> Iterator[str]:
    """Mermaid; events that lead from one state to the same other share an arrow."""
    arrows: dict[tuple[str, str], list[str]] = {}
    for (before, event), after in table.items():
        arrows.setdefault((before.name, after.name), []).append(event.__name__)
    yield from ("```mermaid", "stateDiagram-v2", f"    [*] --> {first.name}")
    for (before_name, after_name), names in arrows.items():
        end = "[*]" if after_name == "DESTROYED" else after_name
        yield f"    {before_name} --> {end}: {', '.join(names)}"
    yield "```"


def _events(table: Table) -> Iterator[str]:
    """A row for each event, with the first sentence of what its class says of itself."""
    yield from ("| event | means |", "|---|---|")
    for event in dict.fromkeys(event for _, event in table):
        means = " ".join((inspect.getdoc(event) or "").split())
        yield f"| `{event.__name__}` | {means} |"


if __name__ == "__main__":
    print(page(), end="")
