"""Which shards a call is about: by state, key, class of error; and which page of them. Pure.

Pages go by key: the last one of a page is where the next begins (`After`), whatever was registered or destroyed in
between, so that nothing is shown twice and nothing that stays is missed.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from fnmatch import translate
from itertools import islice
from typing import Annotated

import msgspec

from agent.dagstore.failures import ErrorClass, ShardError
from agent.dagstore.lifecycle import Life, ShardState
from agent.rpc.registry import Params

MAX_PAGE = 10_000
LifeOf = Callable[[str], Life | None]
_STATES = {state.value.removeprefix("ShardState").lower(): state for state in ShardState}


class Filter(Params, frozen=True, kw_only=True):
    """Shards that fit all that is given; `States` with or without Lotus' prefix, `Glob` as in a shell."""

    states: tuple[str, ...] = ()
    error_classes: tuple[ErrorClass, ...] = ()
    prefix: str = ""
    glob: str = ""
    after: str = ""

    def chosen(self, keys: Sequence[str], life_of: LifeOf) -> Iterator[tuple[str, Life]]:
        """Those of the shards that fit, looked at as they are asked for; `keys` are sorted. Raises ShardError(invalid)
        at once."""
        states = frozenset(map(_state, self.states))
        pattern = re.compile(translate(self.glob)) if self.glob else None
        begin = max(bisect_left(keys, self.prefix), bisect_right(keys, self.after) if self.after else 0)
        return (
            (key, life)
            for key in _prefixed(keys, begin, self.prefix)
            if (pattern is None or pattern.match(key))
            and (life := life_of(key)) is not None
            and (not states or life.state in states)
            and (
                not self.error_classes
                or (life.failure is not None and life.failure.error_class in self.error_classes)
            )
        )


class Page(Filter, frozen=True, kw_only=True):
    """A filter, and how many at most; 0: all."""

    limit: Annotated[int, msgspec.Meta(ge=0, le=MAX_PAGE)] = 0

    def page(self, keys: Sequence[str], life_of: LifeOf) -> Iterator[tuple[str, Life]]:
        """What `chosen` gives, up to the limit."""
        return islice(self.chosen(keys, life_of), self.limit or None)


class Counts(msgspec.Struct, frozen=True, rename="pascal"):
    """How many shards fit a filter, altogether and by state and class of error; those that are none are left out."""

    total: int
    refs: int
    states: dict[str, int]
    error_classes: dict[str, int]


class Tally:
    """Counts as it is given shards."""

    def __init__(self) -> None:
        self._refs = 0
        self._states: Counter[str] = Counter()
        self._classes: Counter[str] = Counter()

    def add(self, life: Life) -> None:
        self._refs += life.refs
        self._states[life.state.value] += 1
        if life.failure is not None:
            self._classes[life.failure.error_class.value] += 1

    def counts(self) -> Counts:
        total = self._states.total()
        return Counts(
            total, self._refs, dict(sorted(self._states.items())), dict(sorted(self._classes.items()))
        )


def _prefixed(keys: Sequence[str], begin: int, prefix: str) -> Iterator[str]:
    for place in range(begin, len(keys)):
        if not keys[place].startswith(prefix):
            return
        yield keys[place]


def _state(name: str) -> ShardState:
    state = _STATES.get(name.removeprefix("ShardState").lower())
    if state is None or state is ShardState.DESTROYED:
        known = ", ".join(
            one.capitalize() for one, state in _STATES.items() if state is not ShardState.DESTROYED
        )
        raise ShardError(ErrorClass.INVALID, f"no such state: {name!r}; there is {known}")
    return state
