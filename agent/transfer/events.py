"""What whoever began a fetch is told of it, as it happens."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Arrived:
    """Blocks that are kept now, and bytes that came for nothing."""

    source: str
    blocks: int
    bytes: int
    wasted_bytes: int


@dataclass(frozen=True, slots=True)
class SourceLeft:
    """A source is not asked any more."""

    source: str
    reason: str
    lied: bool


@dataclass(frozen=True, slots=True)
class Paused:
    """There is no way to a source; it is waited for."""

    source: str


@dataclass(frozen=True, slots=True)
class Resumed:
    """There is one again."""

    source: str


Event = Arrived | SourceLeft | Paused | Resumed
