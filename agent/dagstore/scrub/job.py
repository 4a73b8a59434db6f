"""A verification that runs, and those who watch it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass, field

import trio

from agent.dagstore.scrub.records import Depth, ScrubEvent

SCHEDULED = "schedule"
"""Who asked for a run that nobody asked for."""


@dataclass(eq=False, slots=True)
class Job:
    """A verification that runs now; `log` grows by one for each thing found, `now` is how far it is."""

    key: str
    depth: Depth
    sample: int
    by: str
    now: ScrubEvent
    log: list[ScrubEvent] = field(default_factory=list)
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    changed: trio.Event = field(default_factory=trio.Event)
    ended: bool = False
    watchers: int = 0

    def tell(self, event: ScrubEvent) -> None:
        if event.event == "progress":
            self.now = event
        else:
            self.log.append(event)
        self.changed.set()
        self.changed = trio.Event()

    @property
    def _is_told(self) -> bool:
        """Whether it is known what came of it: nothing comes after that."""
        return bool(self.log) and self.log[-1].event in ("verdict", "error")

    @property
    def is_in_no_hurry(self) -> bool:
        """Whether the schedule alone wants this."""
        return self.by == SCHEDULED and self.watchers <= 1

    async def watched(self) -> AsyncGenerator[ScrubEvent, None]:
        """What was found, and how far it is; a job that nobody watches any more is called off."""
        seen, self.watchers = 0, self.watchers + 1
        shown: ScrubEvent | None = None
        try:
            while True:
                while seen < len(self.log):
                    seen += 1
                    yield self.log[seen - 1]
                if self.ended:
                    return
                if self.now is not shown and not self._is_told:
                    shown = self.now
                    yield shown
                elif seen == len(self.log):
                    await self.changed.wait()
        finally:
            self.watchers -= 1
            if not self.watchers:
                self.scope.cancel()
