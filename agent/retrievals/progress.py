"""How far a retrieval is: what has come, how fast lately, how long it may still take. Pure."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Final

WINDOW_S: Final = 10.0


@dataclass(slots=True)
class Progress:
    """Of one run; times are those of a clock that only goes on."""

    total: int | None = None  # bytes that there will be, if somebody says so
    bytes: int = 0
    blocks: int = 0
    wasted: int = 0
    source: str = ""
    _marks: deque[tuple[float, int]] = field(default_factory=deque)

    def add(self, now_s: float, source: str, blocks: int, size: int, wasted: int) -> None:
        self.blocks += blocks
        self.bytes += size
        self.wasted += wasted
        if blocks:
            self.source = source
        self._marks.append((now_s, self.bytes))
        while len(self._marks) > 2 and now_s - self._marks[0][0] > WINDOW_S:
            self._marks.popleft()

    def rate(self, now_s: float) -> float:
        """Bytes a second in the last ten seconds."""
        if not self._marks:
            return 0.0
        began_s, before = self._marks[0]
        return (self.bytes - before) / max(now_s - began_s, 0.5)

    def eta_s(self, now_s: float, before: int = 0) -> float | None:
        """Seconds until all is here, as it goes now, with the bytes of runs `before`; None if nobody knows."""
        rate = self.rate(now_s)
        if self.total is None or rate <= 0:
            return None
        return max(0.0, (self.total - before - self.bytes) / rate)
