"""When to try again by ourselves what has failed: a policy for each class of error.

Pure: the caller counts the attempts, owns the clock and brings the chance. Back-off is exponential, and half of each
delay is drawn by lot, so that a thousand shards of one disk do not all come back in the same second.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from agent.dagstore.failures import ErrorClass

_FACTOR = 2.0
_MAX_DOUBLINGS = 60  # beyond, 2.0 ** n would only lose itself


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how far apart: `first_s`, twice that, … up to `max_s`, each shortened by up to a half."""

    first_s: float
    max_s: float
    attempts: int  # after the first failure; then it waits for somebody who asks

    def delay_s(
        self, attempt: int, chance: Callable[[], float], after_s: float | None = None
    ) -> float | None:
        """Seconds to wait before retry number `attempt` (from 1); None: no more. `chance` gives numbers in [0, 1).

        `after_s`: when whoever failed has said that it may be tried again; sooner it is not, but for `max_s`.
        """
        if not 1 <= attempt <= self.attempts:
            return None
        longest = min(self.max_s, self.first_s * _FACTOR ** min(attempt - 1, _MAX_DOUBLINGS))
        delay_s = longest * (1 - chance() / 2)
        return delay_s if after_s is None else max(delay_s, min(after_s, self.max_s))


NEVER = RetryPolicy(first_s=0, max_s=0, attempts=0)

_DATA = RetryPolicy(first_s=5, max_s=600, attempts=10)
POLICIES: dict[ErrorClass, RetryPolicy] = {
    ErrorClass.GONE: _DATA,  # a disk is mounted, a server comes up
    ErrorClass.BUSY: RetryPolicy(first_s=1, max_s=60, attempts=20),  # memory, descriptors, "try later"
    ErrorClass.NO_SPACE: RetryPolicy(first_s=30, max_s=600, attempts=20),  # somebody makes room
    ErrorClass.DENIED: RetryPolicy(first_s=60, max_s=3600, attempts=5),  # a mode or a credential is put right
    # What only another file, another request or another program can put right:
    ErrorClass.CORRUPT: NEVER,
    ErrorClass.INVALID: NEVER,
    ErrorClass.NOT_FOUND: NEVER,
    ErrorClass.EXISTS: NEVER,
    ErrorClass.CANCELLED: NEVER,
    ErrorClass.BUG: NEVER,
}


@dataclass(frozen=True, slots=True)
class Retries:
    """The policies, with an operator's limits on top of them."""

    attempts: int | None = None  # at most; None: as each policy says; 0: never by ourselves
    max_s: float | None = None  # at most between two; None: likewise

    def policy(self, error_class: ErrorClass) -> RetryPolicy:
        """What holds for the class."""
        usual = POLICIES[error_class]
        return RetryPolicy(
            usual.first_s,
            usual.max_s if self.max_s is None else min(usual.max_s, self.max_s),
            usual.attempts if self.attempts is None else min(usual.attempts, self.attempts),
        )

    def delay_s(self, error_class: ErrorClass, attempt: int, chance: Callable[[], float]) -> float | None:
        """As `RetryPolicy.delay_s`, for the class."""
        return self.policy(error_class).delay_s(attempt, chance)
