"""Which shards a call is about: by state, key, class of error; and which page of them. Pure.

Pages go by key: the last one of a page is where the next begins (`After`), whatever was registered or destroyed in
between, so that nothing is shown twice and nothing that stays is missed.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from fnmatch import translate
from itertools import islice
from typing import Annotated

import msgspec

from agent.dagstore.failures import ErrorClass, ShardError
from agent.dagstore.lifecycle import Life, ShardState
from agent.rpc.registry import Params

MAX_PAGE = 10_000
_STATES = {state.value.removeprefix("ShardState").lower(): state for state in ShardState}


class Filter(Params, frozen=True, kw_only=True):
    """Shards that fit all that is given; `States` with or without Lotus' prefix, `Glob` as in a shell."""

    states: tuple[str, ...] = ()
    error_classes: tuple[ErrorClass, ...] = ()
    prefix: str = ""
    glob: str = ""
    after: str = ""

    def chosen(self, lives: list[tuple[str, Life]]) -> Iterator[tuple[str, Life]]:
        """Those of the shards, which come sorted by key, that fit; raises ShardError(invalid) at once."""
        states = frozenset(map(_state, self.states))
        pattern = re.compile(translate(self.glob)) if self.glob else None
        begin = max(
            bisect_left(lives, self.prefix, key=_key),
            bisect_right(lives, self.after, key=_key) if self.after else 0,
        )
        return (
            (key, life)
            for key, life in _prefixed(lives, begin, self.prefix)
            if (not states or life.state in states)
            and (
                not self.error_classes
                or (life.failure is not None and life.failure.error_class in self.error_classes)
            )
            and (pattern is None or pattern.match(key))
        )


class Page(Filter, frozen=True, kw_only=True):
    """A filter, and how many at most; 0: all."""

    limit: Annotated[int, msgspec.Meta(ge=0, le=MAX_PAGE)] = 0

    def keys(self, lives: list[tuple[str, Life]]) -> list[str]:
        """The keys of the page; raises ShardError(invalid)."""
        return [key for key, _ in islice(self.chosen(lives), self.limit or None)]


class Counts(msgspec.Struct, frozen=True, rename="pascal"):
    """How many shards fit a filter, altogether and by state and class of error; those that are none are left out."""

    total: int
    refs: int
    states: dict[str, int]
    error_classes: dict[str, int]


def counted(chosen: Iterable[tuple[str, Life]]) -> Counts:
    """Counts what `Filter.chosen` gives."""
    total = refs = 0
    states: dict[str, int] = {}
    classes: dict[str, int] = {}
    for _, life in chosen:
        total += 1
        refs += life.refs
        states[life.state.value] = states.get(life.state.value, 0) + 1
        if life.failure is not None:
            name = life.failure.error_class.value
            classes[name] = classes.get(name, 0) + 1
    return Counts(total, refs, dict(sorted(states.items())), dict(sorted(classes.items())))


def _prefixed(lives: list[tuple[str, Life]], begin: int, prefix: str) -> Iterator[tuple[str, Life]]:
    for place in range(begin, len(lives)):
        if not lives[place][0].startswith(prefix):
            return
        yield lives[place]


def _key(entry: tuple[str, Life]) -> str:
    return entry[0]


def _state(name: str) -> ShardState:
    state = _STATES.get(name.removeprefix("ShardState").lower())
    if state is None or state is ShardState.DESTROYED:
        known = ", ".join(
            one.capitalize() for one, state in _STATES.items() if state is not ShardState.DESTROYED
        )
        raise ShardError(ErrorClass.INVALID, f"no such state: {name!r}; there is {known}")
    return state
