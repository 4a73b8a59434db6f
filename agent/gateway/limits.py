"""How many requests are answered at once, in all and for one client."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


class TooMany(Exception):
    """One more than may be; `after_s` is when to come again."""

    def __init__(self, message: str, after_s: int) -> None:
        super().__init__(message)
        self.after_s = after_s


@dataclass(slots=True)
class InFlight:
    """What is being answered."""

    most: int  # 0: no limit, as below
    most_of_one: int
    after_s: int
    count: int = 0
    of: Counter[str] = field(default_factory=Counter)

    @contextmanager
    def one(self, client: str) -> Iterator[None]:
        """One more, for the time of the block; raises TooMany."""
        if self.most and self.count >= self.most:
            raise TooMany(f"{self.count} requests are being answered; come again", self.after_s)
        if self.most_of_one and self.of[client] >= self.most_of_one:
            raise TooMany(f"{self.of[client]} of your requests are being answered", self.after_s)
        self.count += 1
        self.of[client] += 1
        try:
            yield
        finally:
            self.count -= 1
            self.of[client] -= 1
            if not self.of[client]:
                del self.of[client]
