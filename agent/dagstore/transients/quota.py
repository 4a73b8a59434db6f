"""How much transients may take on disk, and which of them go when there is no room: pure.

    0 ─────────── low ─────────── high ──── max
                   ▲               │ one more reservation would cross it:
                   └── evict ──────┘ those longest unused, down to `low`; what does not fit into `max` is refused

Bytes are reserved before they are fetched, so that all fetches together never cross `max`, however many there are.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from agent.dagstore.failures import ErrorClass, ShardError


@dataclass(frozen=True, slots=True)
class Limits:
    """The room for transients; 0 bytes: as much as the disk has."""

    max_bytes: int = 0
    high: float = 0.9  # of max_bytes: from here on room is made
    low: float = 0.7  # of max_bytes: so much is left when it was made

    def __post_init__(self) -> None:
        """Raises ValueError."""
        if self.max_bytes < 0:
            raise ValueError(f"the most bytes of transients cannot be {self.max_bytes}")
        if not 0 < self.low < self.high <= 1:
            hint = "they are parts of the most bytes, 0 < low < high <= 1"
            raise ValueError(f"watermarks low {self.low} and high {self.high}: {hint}")


@dataclass(frozen=True, slots=True)
class Idle:
    """A transient that nobody uses, and what removing it frees."""

    name: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Decision:
    """Remove `evict` in this order, and there is room; or `refused`: there would be none even then."""

    evict: tuple[str, ...] = ()
    refused: bool = False


def decide(limits: Limits, used: int, wanted: int, idle: Iterable[Idle]) -> Decision:
    """What to do about `wanted` more bytes where `used` are on disk or reserved; `idle`: the longest unused first."""
    if not limits.max_bytes or used + wanted <= limits.high * limits.max_bytes:
        return Decision()
    left, evict = used + wanted, []
    for one in idle:
        if left <= limits.low * limits.max_bytes:
            break
        if one.size_bytes:
            evict.append(one.name)
            left -= one.size_bytes
    return Decision(tuple(evict)) if left <= limits.max_bytes else Decision(refused=True)


class Account:
    """Bytes that are on disk and bytes that are reserved."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.used = 0
        self.reserved = 0

    @property
    def total(self) -> int:
        return self.used + self.reserved

    def refusal(self, wanted: int) -> ShardError:
        """What to tell whoever cannot have `wanted` bytes."""
        hint = "release shards that are in use, or allow more"
        return ShardError(
            ErrorClass.NO_SPACE,
            f"no room for {wanted} more bytes of transients: {self.total} of {self.limits.max_bytes} are taken by"
            f" shards in use; {hint}",
        )
