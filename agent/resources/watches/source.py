"""What a source of events is to the monitor: it opens a watch, waits on it, and closes it.

A watch only says that something *may* have changed. What it is, the reader of limits finds out: an event is never
parsed, so there is one parser of limits and none that disagrees with it.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Protocol

from agent.resources.watches.watched import Watched


class CannotWatch(Exception):
    """This source cannot say anything here; the text says why. Nothing is wrong: the timer is there for that."""


class Watch(Protocol):
    """An open watch."""

    text: str  # what it waits for, for people

    async def wait(self) -> None:
        """Returns after an event, which it has taken; raises CannotWatch or OSError if none will come any more."""

    def close(self) -> None:
        """Gives back every descriptor."""


@dataclass(frozen=True, slots=True)
class Source:
    """One way to hear of changes. It is opened anew when what concerns it is another."""

    name: str
    concern: Callable[[Watched], Hashable]
    open: Callable[[Watched], Watch]  # raises CannotWatch, OSError


@dataclass(frozen=True, slots=True)
class Description:
    """Whether a source is active, for `carfs resources --explain`."""

    source: str
    is_active: bool
    text: str  # what it waits for, or why it cannot
