"""Visits to the places that data comes from, so that one which fails again and again is left alone for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import trio

from agent.dagstore import mounts
from agent.dagstore.breaker import Breaker, Breakers, Limits
from agent.dagstore.failures import ErrorClass, Failure, ShardError, is_origin_failure

# An origin that says one of these has answered, and says something about one object only.
_ANSWERS = frozenset({ErrorClass.GONE, ErrorClass.DENIED, ErrorClass.CORRUPT, ErrorClass.INVALID})


def is_of_origin(error: ShardError) -> bool:
    """Whether the origin has failed and not this one object: it says so, or a server says that it is overloaded."""
    return is_origin_failure(error) or isinstance(error, mounts.TryLater)


def failure_of(error: ShardError) -> Failure:
    """What a mount has met, with whose fault it is."""
    return replace(error.failure, origin_failed=is_of_origin(error))


class Visit:
    """One visit; tell it how it came out, unless it was cut short."""

    def __init__(self) -> None:
        self.has_answered: bool | None = None

    def came_out(self, failure: Failure | None) -> None:
        """What the visit found out: nothing wrong, or this."""
        if failure is None or (failure.error_class in _ANSWERS and not failure.origin_failed):
            self.has_answered = True
        elif failure.origin_failed:
            self.has_answered = False


class Origins:
    """All origins, by `Mount.origin`."""

    def __init__(self, limits: Limits) -> None:
        self._breakers = Breakers(limits)

    @contextmanager
    def visited(self, url: str, *, begun_s: float | None = None) -> Iterator[Visit]:
        """For the time of a visit to the origin of `url`; raises ShardError(busy) if it is to be left alone, and
        lets through what the block raises. `begun_s`: of the first attempt, if this is another: they count once."""
        origin, now_s = mounts.parse(url).origin, trio.current_time()
        begun_s = now_s if begun_s is None else begun_s
        wait_s = self._breakers.ask(origin, now_s)
        if wait_s > 0:
            count = self._breakers[origin].failures
            message = f"{origin} has failed {count} times in a row and is left alone for {wait_s:.0f} s"
            error = ShardError(ErrorClass.BUSY, message)
            error.failure = replace(error.failure, after_s=wait_s)
            raise error
        visit = Visit()
        try:
            yield visit
        except ShardError as error:
            visit.came_out(failure_of(error))
            raise
        finally:
            if visit.has_answered:
                self._breakers.succeeded(origin)
            elif visit.has_answered is False:
                self._breakers.failed(origin, trio.current_time(), begun_s)

    def unhealthy(self) -> dict[str, Breaker]:
        """The origins that have failed since they last answered."""
        return self._breakers.unhealthy()
