"""A circuit breaker for each origin of data: a host or a disk that fails again and again is left alone for a while.

    CLOSED ──failures in a row──► OPEN ──its time is up──► HALF_OPEN ──success──► CLOSED
                                   ▲                           │
                                   └──────────failure──────────┘  (and open for twice as long)

Pure: callers bring the clock. Only what concerns the whole origin counts (`Failure.origin_failed`): that one file of a
folder is missing says nothing about the others, and is a success of the folder, which has answered.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass, replace


class BreakerState(enum.Enum):
    """The states; the value is for people."""

    CLOSED = "closed"  # all go through
    OPEN = "open"  # none goes through
    HALF_OPEN = "half-open"  # one goes through, and shows how it is


@dataclass(frozen=True, slots=True)
class Asked:
    """Somebody wants to go through."""


@dataclass(frozen=True, slots=True)
class Succeeded:
    """The origin has answered."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The origin has failed as a whole, and not for the last time that is allowed."""


@dataclass(frozen=True, slots=True)
class FailedOnceTooOften:
    """Likewise, and that was one too many (what `Failed` becomes at the limit)."""


@dataclass(frozen=True, slots=True)
class TimeIsUp:
    """Somebody wants to go through, and the pause is over (what `Asked` becomes then)."""


Event = Asked | Succeeded | Failed | FailedOnceTooOften | TimeIsUp

_S = BreakerState
TRANSITIONS: dict[tuple[BreakerState, type[Event]], BreakerState] = {
    (_S.CLOSED, Asked): _S.CLOSED,
    (_S.CLOSED, Succeeded): _S.CLOSED,
    (_S.CLOSED, Failed): _S.CLOSED,
    (_S.CLOSED, FailedOnceTooOften): _S.OPEN,
    (_S.OPEN, Asked): _S.OPEN,
    (_S.OPEN, TimeIsUp): _S.HALF_OPEN,
    (_S.OPEN, Succeeded): _S.CLOSED,  # by somebody who went through before it opened
    (_S.OPEN, Failed): _S.OPEN,  # likewise
    (_S.OPEN, FailedOnceTooOften): _S.OPEN,
    (_S.HALF_OPEN, Asked): _S.HALF_OPEN,
    (_S.HALF_OPEN, TimeIsUp): _S.HALF_OPEN,  # whoever went to look has not come back
    (_S.HALF_OPEN, Succeeded): _S.CLOSED,
    (_S.HALF_OPEN, Failed): _S.OPEN,
    (_S.HALF_OPEN, FailedOnceTooOften): _S.OPEN,
}


@dataclass(frozen=True, slots=True)
class Limits:
    """When it opens, and for how long."""

    failures: int = 5  # in a row; 0: it never opens
    pause_s: float = 10.0  # twice that after the next failure, and so on
    max_pause_s: float = 300.0


@dataclass(frozen=True, slots=True)
class Breaker:
    """Where one origin is."""

    state: BreakerState = BreakerState.CLOSED
    failures: int = 0  # in a row
    pause_s: float = 0.0  # the current or last one
    until_s: float = 0.0  # when the next may go through, by the callers' clock
    failed_at_s: float = -math.inf  # when it failed last


HEALTHY = Breaker()


def ask(breaker: Breaker, limits: Limits, now_s: float) -> tuple[Breaker, float]:
    """The breaker afterwards, and how many seconds to wait before asking again; 0: go through, and report."""
    if breaker.state is BreakerState.CLOSED:
        return breaker, 0.0
    is_over = now_s >= breaker.until_s
    after = replace(breaker, state=TRANSITIONS[breaker.state, TimeIsUp if is_over else Asked])
    if is_over:
        return replace(after, until_s=now_s + breaker.pause_s), 0.0
    return after, breaker.until_s - now_s


def succeeded(breaker: Breaker) -> Breaker:
    """The breaker after the origin has answered."""
    return Breaker(TRANSITIONS[breaker.state, Succeeded])


def failed(breaker: Breaker, limits: Limits, now_s: float, begun_s: float | None = None) -> Breaker:
    """The breaker after the origin has failed; what was begun before it failed last is part of that failure, so that
    sixteen requests that a server drops at once are not sixteen in a row."""
    if begun_s is not None and begun_s < breaker.failed_at_s and breaker.state is not BreakerState.HALF_OPEN:
        return breaker
    count = breaker.failures + 1
    event = FailedOnceTooOften if limits.failures and count >= limits.failures else Failed
    after = replace(breaker, state=TRANSITIONS[breaker.state, event], failures=count, failed_at_s=now_s)
    opens = after.state is BreakerState.OPEN and breaker.state is not BreakerState.OPEN
    if not opens:
        return after
    pause_s = min(limits.max_pause_s, breaker.pause_s * 2 or limits.pause_s)
    return replace(after, pause_s=pause_s, until_s=now_s + pause_s)


class Breakers:
    """The breakers of all origins; a healthy origin takes no room."""

    def __init__(self, limits: Limits = Limits()) -> None:
        self._limits = limits
        self._breakers: dict[str, Breaker] = {}

    def ask(self, origin: str, now_s: float) -> float:
        """0: go through, and report how it was; else how many seconds the origin is to be left alone."""
        breaker, wait_s = ask(self[origin], self._limits, now_s)
        self._keep(origin, breaker)
        return wait_s

    def succeeded(self, origin: str) -> None:
        """The origin has answered, if only to say that it does not have this one."""
        self._keep(origin, succeeded(self[origin]))

    def failed(self, origin: str, now_s: float, begun_s: float | None = None) -> None:
        """The origin has failed as a whole; `begun_s`: when whoever found that out went there."""
        self._keep(origin, failed(self[origin], self._limits, now_s, begun_s))

    def __getitem__(self, origin: str) -> Breaker:
        return self._breakers.get(origin, HEALTHY)

    def unhealthy(self) -> dict[str, Breaker]:
        """The origins that have failed since they last answered, for status displays."""
        return dict(self._breakers)

    def _keep(self, origin: str, breaker: Breaker) -> None:
        if breaker == HEALTHY:
            self._breakers.pop(origin, None)
        else:
            self._breakers[origin] = breaker
