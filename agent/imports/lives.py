"""Where each import is in its life, and the one place where an event is applied and made durable.

Decisions are `lifecycle.py`'s. What was there at the start comes from the catalogue (`table.py`) by way of
`opening.py`; `imports.py` and `making.py` apply events. Nothing here awaits, so all of it is atomic, and the catalogue
is written before memory changes: what a caller was told, and what an event stream said, is on disk.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from agent.dagstore.events import Hub, ImportKey
from agent.dagstore.failures import STOPPING, ErrorClass, Failure, ShardError
from agent.imports.lifecycle import NOTHING, step
from agent.imports.names import check_name, next_id
from agent.imports.records import ImportRow, life_of
from agent.imports.table import ImportStore
from agent.imports.transitions import Effect, Event, Forget, ImportState, Life, Persist, Publish

logger = logging.getLogger(__name__)


class Lives:
    """The lives of all imports, and the rows that go with them."""

    def __init__(self, store: ImportStore, hub: Hub, clock_ns: Callable[[], int]) -> None:
        self.store = store
        self._hub = hub
        self._clock_ns = clock_ns
        self._lives: dict[int, Life] = {}
        self._last = 0
        self._stopping = False
        self.carry_out: Callable[[int, Effect, ImportRow | None], None] = lambda _number, _effect, _row: None
        """Is told of each effect of an event, once that is on disk."""

    def __contains__(self, number: int) -> bool:
        return number in self._lives

    def get(self, number: int) -> Life | None:
        """None if there is none of that number."""
        return self._lives.get(number)

    def of(self, number: int) -> Life:
        """For what a caller asks for; raises ShardError(not-found | stopping)."""
        self.refuse_if_stopping()
        life = self._lives.get(number)
        if life is None:
            raise ShardError(ErrorClass.NOT_FOUND, f"there is no import {number}", key=str(number))
        return life

    def numbers(self) -> Sequence[int]:
        """Of all imports, oldest first."""
        return sorted(self._lives)

    def row(self, number: int) -> ImportRow:
        """As the catalogue has it; raises ShardError(not-found | corrupt)."""
        row = self.store.row(number)
        if row is None:
            raise ShardError(ErrorClass.NOT_FOUND, f"there is no import {number}", key=str(number))
        return row

    def counts(self) -> dict[str, int]:
        """How many are in which state; states without imports are left out."""
        counts = Counter(life.state for life in self._lives.values())
        return dict(sorted((state.value, count) for state, count in counts.items()))

    def apply(self, number: int, event: Event, **changes: Any) -> None:  # Any: as the field of ImportRow is
        """Applies an event, with `changes` to the row if it is written. Raises ShardError if that cannot be done, and
        then nothing has happened; IllegalEvent."""
        before = self._lives.get(number, NOTHING)
        life, effects = step(before, event)
        row: ImportRow | None = changes.pop("row", None)
        for effect in effects:
            match effect:
                case Persist(old, new, name, reason):
                    row = msgspec.structs.replace(row or self.row(number), **changes).with_life(life)
                    self.store.put(row)
                    level = (
                        logging.WARNING if new in (ImportState.STALE, ImportState.BROKEN) else logging.INFO
                    )
                    logger.log(
                        level, "import %s (%d): %s -> %s (%s) %s", row.name, number,
                        *(state.value.removeprefix("ImportState") for state in (old, new)), name, reason,
                    )  # fmt: skip
                case Forget():
                    row = self._forget(number, before)
        if life.state is ImportState.ABSENT:
            self._lives.pop(number, None)
        else:
            self._lives[number] = life
        for effect in effects:
            self.carry_out(number, effect, row)
        if any(isinstance(effect, Persist | Forget | Publish) for effect in effects):
            self.publish(number, row)

    def take_over(self, row: ImportRow) -> None:
        """An import that was there at the start."""
        self._lives[row.id] = life_of(row)
        self._last = max(self._last, row.id)

    def take_over_damaged(self, number: int) -> None:
        """One whose row cannot be read: it is counted, and can be removed."""
        failure = Failure(ErrorClass.CORRUPT, "its row in the catalogue is damaged")
        self._lives[number] = Life(ImportState.BROKEN, failure=failure)
        self._last = max(self._last, number)

    def publish(self, number: int, row: ImportRow | None = None) -> None:
        """Tells all who listen that it is not as it was."""
        try:
            name = (row or self.row(number)).name
        except ShardError:
            return
        self._hub.publish_other(ImportKey(number, name))

    def update(self, number: int, **changes: Any) -> None:  # Any: as the field of ImportRow is
        """Changes of the row that are no matter of its life."""
        row = msgspec.structs.replace(self.row(number), **changes)
        self.store.put(row)
        self.publish(number, row)

    def reserve(self) -> int:
        """A number that nobody has."""
        self._last = next_id(self._clock_ns(), self._last)
        return self._last

    def check_free(self, name: str) -> None:
        """Raises ShardError(invalid | exists) for a name that cannot be given."""
        check_name(name)
        other = self.store.find_name(name)
        if other is not None:
            raise ShardError(ErrorClass.EXISTS, f"an import with the name {name!r} exists already", key=name)

    def stop(self) -> None:
        """Refuses new requests."""
        self._stopping = True

    def refuse_if_stopping(self) -> None:
        if self._stopping:
            raise ShardError(STOPPING.error_class, STOPPING.message)

    def _forget(self, number: int, before: Life) -> ImportRow:
        row = self.row(number)
        try:
            self.store.delete(number)
        except ShardError:
            if before.state is not ImportState.IMPORTING:
                raise
            logger.exception("import %d cannot be forgotten now; the next start does it", number)
        logger.info("import %s (%d): removed", row.name, number)
        return row
