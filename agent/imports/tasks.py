"""What workers do for imports: how each task is asked for, and what comes back as values and as our errors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from agent.dagstore.failures import ErrorClass, ShardError
from agent.dagstore.indexer import Workers
from agent.imports import sources
from agent.imports.lotus import LotusImports
from agent.imports.places import Places
from agent.imports.records import Facts, ImportRow
from agent.scheduler.tasks import BACKGROUND_PRIORITY
from agent.workers import WorkerFailed
from agent.workers.messages import Params

Progress = Callable[[int, int], None]


class Block(msgspec.Struct, frozen=True, rename="pascal"):
    """A piece of a user's file that is no longer the block that it was."""

    path: str
    offset: int
    size: int
    cid: str = msgspec.field(name="Cid")


class Found(msgspec.Struct, frozen=True):
    """What was found out about one import; see `workers.checking.Found`."""

    id: int
    size: int = 0
    is_unknown: bool = False
    is_dense: bool = False
    broken: str = ""
    broken_class: str = ""
    files: tuple[str, ...] = ()
    count: int = 0
    signature: str = ""
    touched: int = 0
    changed_blocks: int = 0
    blocks: tuple[dict[str, str | int], ...] = ()
    read_bytes: int = 0
    fingerprint: dict[str, int | str] | None = None


class Tasks:
    """Asks workers. Everything raises ShardError."""

    def __init__(self, workers: Workers, places: Places) -> None:
        self._workers = workers
        self._places = places

    async def make(
        self, row: ImportRow, source: str, size: int, progress: Progress, *, priority: int, is_stream: bool,
        share: Sequence[str],
    ) -> Facts:  # fmt: skip
        """Makes the import from what is at `source`; is complete on disk, or has left nothing but what is staged."""
        params: Params = {
            "kind": row.kind.value,
            "path": source,
            "staging": str(self._places.staged(row.id)),
            "out": str(self._places.car(row.id)),
            "index": str(self._places.index(row.id)),
            "folder": row.folder,
            "profile": row.profile,
            "hidden": row.hidden,
            "preserve": row.preserve,
            "owned": row.owns_car,
            "stream": is_stream,
            "share": list(share),
        }
        given = await self._run("import", params, row, size, progress, priority=priority)
        return msgspec.convert(given, Facts)

    async def check(
        self, rows: Sequence[ImportRow], depth: str, *, seconds: float = 0, progress: Progress | None = None,
        priority: int = BACKGROUND_PRIORITY,
    ) -> list[Found]:  # fmt: skip
        """Whether these imports, which are made, are as they were."""
        params: Params = {
            "what": "check", "imports": [self.described(row) for row in rows], "depth": depth, "seconds": seconds,
        }  # fmt: skip
        size = sum(row.facts.size for row in rows if row.facts is not None) if depth == "deep" else 0
        subject = rows[0].name if len(rows) == 1 else f"{len(rows)} imports"
        try:
            given = await self._workers.run(
                "check-import", params, progress, subject=subject, size_bytes=size, priority=priority
            )
        except WorkerFailed as error:
            raise ShardError(error.error_class, str(error)) from error
        return msgspec.convert(given["imports"], list[Found])

    async def remake(
        self,
        kind: str,
        what: str,
        row: ImportRow,
        progress: Progress | None,
        *,
        priority: int,
        **more: object,
    ) -> tuple[Facts, Params]:
        """Repairs, relinks or freezes; the facts of the import as it is then, and what else the task gives."""
        params = {
            "what": what,
            **self.described(row),
            "out": str(self._places.car(row.id)),
            "staging": str(self._places.staged(row.id)),
            "profile": row.profile,
            **more,
        }
        size = row.facts.size if row.facts is not None else 0
        given = await self._run(kind, params, row, size, progress, priority=priority)
        return msgspec.convert(given["facts"], Facts), given

    async def export(self, what: str, row: ImportRow, *, priority: int, **more: object) -> Params:
        """`size`, `piece` or `car` of the DAG below the root."""
        assert row.facts is not None
        params = {"what": what, **self.described(row), "root": row.facts.root, **more}
        return await self._run("dense", params, row, row.facts.size, None, priority=priority)

    async def generate(
        self, found: sources.Found, out: Path, staged: Path, *, is_car: bool, profile: str
    ) -> None:
        """Packs what is no import into a CARv1 at `out`."""
        params: Params = {
            "what": "generate", "path": str(found.path), "is_car": is_car, "out": str(out), "staging": str(staged),
            "profile": profile,
        }  # fmt: skip
        try:
            await self._workers.run("dense", params, subject=str(found.path), size_bytes=found.size)
        except WorkerFailed as error:
            raise ShardError(error.error_class, str(error)) from error

    async def check_lotus(self, path: str) -> LotusImports:
        """The imports of a Lotus node; see `imports.lotus`."""
        try:
            given = await self._workers.run("check-import", {"what": "lotus", "path": path}, subject=path)
        except WorkerFailed as error:
            raise ShardError(error.error_class, str(error)) from error
        return msgspec.convert(given, LotusImports)

    def described(self, row: ImportRow) -> Params:
        """IMPORT, as workers are told of it."""
        facts = row.facts
        if facts is None:
            raise ShardError(ErrorClass.BUSY, f"import {row.name!r} is not made yet")
        return {
            "id": row.id,
            "kind": row.kind.value,
            "car": row.car_path,
            "index": str(self._places.directory / facts.index) if facts.index else "",
            "folder": row.folder,
            "fingerprint": msgspec.to_builtins(facts.fingerprint),
        }

    async def _run(
        self,
        kind: str,
        params: Params,
        row: ImportRow,
        size: int,
        progress: Progress | None,
        *,
        priority: int,
    ) -> Params:
        try:
            return await self._workers.run(
                kind, params, progress, subject=row.name, size_bytes=size, priority=priority
            )
        except WorkerFailed as error:
            raise ShardError(error.error_class, str(error)) from error
