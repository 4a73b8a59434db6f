"""Looks at imports that are made: whether the files that they refer to are as they were, and what is to be done if not.

A look costs little and says which files may have changed: the import is stale at once. Then these are read, in the
background and once for each way that they look: what was only touched is known as it is now, and the rest is named.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import msgspec
import trio

from agent.dagstore.failures import ErrorClass, Failure, ShardError
from agent.dagstore.mounts import Fingerprint
from agent.imports.imports import Imports
from agent.imports.records import ImportRow, Kind
from agent.imports.tasks import Found, Progress
from agent.imports.transitions import FoundBroken, FoundFine, FoundStale, ImportState
from agent.scheduler.tasks import BACKGROUND_PRIORITY, DEAL_PRIORITY

logger = logging.getLogger(__name__)

TOGETHER = 200  # imports in one task


class Looks:
    """Get one from `open_imports`, which has it run."""

    def __init__(self, nursery: trio.Nursery, imports: Imports) -> None:
        self._nursery = nursery
        self._imports = imports
        self._under_way: set[int] = set()
        self._known: dict[int, str] = {}  # how suspicious files looked when they were read
        imports.suspected = self.soon

    def soon(self, number: int) -> None:
        """Somebody is going to read it; never waits."""
        if number not in self._under_way and self._is_made(number):
            self._under_way.add(number)
            self._nursery.start_soon(self._once, number)

    async def at(
        self, rows: Sequence[ImportRow], depth: str, *, seconds: float = 0, progress: Progress | None = None,
        priority: int = BACKGROUND_PRIORITY,
    ) -> list[Found]:  # fmt: skip
        """Looks at imports that are made, and takes down what was found; raises ShardError."""
        generations = {row.id: row.generation for row in rows}
        found = await self._imports.tasks.check(
            rows, depth, seconds=seconds, progress=progress, priority=priority
        )
        for number, one in enumerate(found, 1):
            self._take_down(one, generations[one.id])
            if number % 16 == 0:
                await trio.lowlevel.checkpoint()
        return found

    async def forever(self) -> None:
        """Looks at all, as often as the configuration says."""
        interval_s = self._imports.settings.look_interval_s
        while interval_s:
            await trio.sleep(interval_s)
            await self.all()

    async def all(self) -> None:
        """One look at all imports, some at once."""
        numbers = [number for number in self._imports.numbers() if self._is_made(number)]
        for start in range(0, len(numbers), TOGETHER):
            rows = self._rows(numbers[start : start + TOGETHER])
            if not rows:
                continue
            try:
                found = await self.at(rows, "look")
            except ShardError as error:
                logger.warning("imports could not be looked at: %s", error)
                return
            for one in found:
                await self._follow_up(one)

    async def _once(self, number: int) -> None:
        try:
            for row in self._rows([number]):
                (found,) = await self.at([row], "look", priority=DEAL_PRIORITY)
                await self._follow_up(found)
        except ShardError as error:
            logger.info("import %d could not be looked at: %s", number, error)
        finally:
            self._under_way.discard(number)

    async def _follow_up(self, look: Found) -> None:
        """Reads what looks changed, unless it was read when it looked as now."""
        number = look.id
        if not look.count or look.broken or self._known.get(number) == look.signature:
            return
        for row in self._rows([number]):
            try:
                (found,) = await self.at([row], "suspects")
            except ShardError as error:
                logger.info("changed files of import %s could not be read: %s", row.name, error)
                return
            self._known[number] = look.signature
            if not found.count and found.touched and not found.broken:
                await self._refresh(row)

    async def _refresh(self, row: ImportRow) -> None:
        """Has files that were only touched known as they are now."""
        if self._imports.has_job(row.id):
            return
        try:
            with self._imports.job(row.id, "refresh"):
                staged = self._imports.places.staged(row.id)
                await trio.to_thread.run_sync(lambda: staged.mkdir(exist_ok=True))
                facts, _ = await self._imports.tasks.remake(
                    "check-import", "repair", row, None, priority=BACKGROUND_PRIORITY, deep=False, also=[]
                )
                self._imports.remade(row.id, facts, "files that were touched are as they were")
                await trio.to_thread.run_sync(self._imports.places.discard_staged, row.id)
        except (ShardError, OSError) as error:
            logger.info("import %s stays as it is: %s", row.name, error)

    def _take_down(self, found: Found, generation: int) -> None:
        number = found.id
        life = self._imports.life(number)
        if life is None or found.is_unknown or life.state is ImportState.IMPORTING:
            return
        try:
            self._note_files(found, number)
            if found.broken:
                failure = Failure(ErrorClass(found.broken_class), found.broken)
                self._imports.apply(number, FoundBroken(generation, failure))
            elif found.count:
                self._imports.apply(number, FoundStale(generation, found.files, found.count))
            else:
                self._imports.apply(number, FoundFine(generation))
        except ShardError as error:
            logger.warning("what was found of import %d cannot be written down: %s", number, error)

    def _note_files(self, found: Found, number: int) -> None:
        """What the CAR is like, if that is not what we know."""
        if found.broken or (found.fingerprint is None and not found.is_dense):
            return
        row = self._imports.row(number)
        if row.facts is None:
            return
        facts = row.facts
        if found.fingerprint is not None:
            facts = msgspec.structs.replace(
                facts, fingerprint=msgspec.convert(found.fingerprint, Fingerprint)
            )
        kind = Kind.DENSE if found.is_dense else row.kind
        self._imports.update(number, facts=facts, kind=kind)

    def _rows(self, numbers: Sequence[int]) -> list[ImportRow]:
        """The rows of those that can be looked at."""
        rows = []
        for number in numbers:
            try:
                row = self._imports.row(number)
            except ShardError:
                continue
            if row.facts is not None and not self._imports.has_job(number):
                rows.append(row)
        return rows

    def _is_made(self, number: int) -> bool:
        life = self._imports.life(number)
        return life is not None and life.state is not ImportState.IMPORTING
