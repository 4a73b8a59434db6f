"""What is done with one import for somebody who waits: verifying, repairing, relinking, freezing, exporting."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import trio

from agent.dagstore.failures import ErrorClass, ShardError, class_of_os_error
from agent.imports import sources
from agent.imports.imports import Imports
from agent.imports.looking import Looks
from agent.imports.records import Facts, ImportRecord, ImportRow, Kind
from agent.imports.tasks import Found, Progress
from agent.scheduler.tasks import DEAL_PRIORITY


class Remade(msgspec.Struct, frozen=True, rename="pascal"):
    """What a repair, a relink or a freeze has done."""

    record: ImportRecord
    relinked: int = 0  # blocks, or files, that are elsewhere now
    gone: int = 0  # blocks that are nowhere
    refreshed: int = 0  # files that are known as they are now
    cloned: int = 0  # files that share their blocks with the user's
    reason: str = ""  # why none were, and all was copied


class Jobs:
    """Everything raises ShardError: busy while another one is under way."""

    def __init__(self, imports: Imports, looks: Looks) -> None:
        self._imports = imports
        self._looks = looks

    async def verify(self, number: int, *, deep: bool, progress: Progress | None = None) -> Found:
        """Looks at all files and reads those that seem changed; to `deep`, everything."""
        with self._imports.job(number, "verify") as row:
            (found,) = await self._looks.at(
                [row], "deep" if deep else "suspects", progress=progress, priority=DEAL_PRIORITY
            )
        return found

    async def repair(
        self,
        number: int,
        *,
        deep: bool = False,
        also: tuple[Path, ...] = (),
        progress: Progress | None = None,
    ) -> Remade:
        """Finds blocks that moved within their files or into those in `also`, and links them anew."""
        more = {"deep": deep, "also": [str(path) for path in also]}
        return await self._remade(number, "check-import", "repair", progress, more)

    async def relink(
        self, number: int, path: Path, *, deep: bool = False, progress: Progress | None = None
    ) -> Remade:
        """The source is at another path now."""
        row = self._imports.row(number)
        more = {"old": row.filename, "new": str(path), "new_folder": row.folder, "deep": deep}
        return await self._remade(number, "check-import", "relink", progress, more, filename=str(path))

    async def freeze(self, number: int, *, progress: Progress | None = None) -> Remade:
        """Makes it independent of the user's files."""
        clones = str(self._imports.places.clones(number))
        return await self._remade(number, "dense", "freeze", progress, {"clones": clones})

    async def export(self, number: int, what: str, **more: object) -> dict[str, Any]:  # Any: JSON
        """`size`, `piece` or `car` (with `out`) of the DAG below the root; see `workers.densifying`."""
        self._imports.record(number)
        return await self._imports.tasks.export(
            what, self._imports.row(number), priority=DEAL_PRIORITY, **more
        )

    async def generate(self, source: Path, out: Path, *, is_car: bool, profile: str) -> None:
        """Packs a source that is no import into a CARv1 of all its blocks at `out` (C-3, C-9)."""
        found = await trio.to_thread.run_sync(sources.look, source, abandon_on_cancel=True)
        number = self._imports.reserve()
        staged = self._imports.places.staged(number)
        try:
            await trio.to_thread.run_sync(lambda: staged.mkdir(parents=True))
            await self._imports.tasks.generate(found, out, staged, is_car=is_car, profile=profile)
        except OSError as error:
            raise ShardError(class_of_os_error(error), f"{error.filename}: {error.strerror}") from error
        finally:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(self._imports.places.discard_staged, number)

    async def _remade(
        self, number: int, kind: str, what: str, progress: Progress | None, more: dict[str, object],
        **changes: Any,  # Any: as the field of ImportRow is
    ) -> Remade:  # fmt: skip
        with self._imports.job(number, what) as row:
            if row.kind is not Kind.REF:
                raise ShardError(ErrorClass.INVALID, f"import {row.name!r} refers to no files")
            async with self._staged(row):
                facts, done = await self._imports.tasks.remake(
                    kind, what, row, progress, priority=DEAL_PRIORITY, **more
                )
            self._remember(number, facts, what, changes)
            row = self._imports.row(number)
            await self._looks.at([row], "start", priority=DEAL_PRIORITY)
        return Remade(
            self._imports.record(number),
            relinked=done.get("relinked", 0),
            gone=done.get("gone", 0),
            refreshed=done.get("refreshed", 0),
            cloned=done.get("clones", 0),
            reason=done.get("reason", ""),
        )

    def _remember(self, number: int, facts: Facts, what: str, changes: dict[str, Any]) -> None:
        if what == "freeze" and not facts.files:
            changes = {**changes, "kind": Kind.DENSE, "folder": ""}
        self._imports.remade(number, facts, what, **changes)

    @asynccontextmanager
    async def _staged(self, row: ImportRow) -> AsyncIterator[None]:
        """A folder for what is on its way."""
        places = self._imports.places
        try:
            await trio.to_thread.run_sync(lambda: places.staged(row.id).mkdir(parents=True, exist_ok=True))
            yield
        except OSError as error:
            raise ShardError(class_of_os_error(error), f"{error.filename}: {error.strerror}") from error
        finally:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(places.discard_staged, row.id)
