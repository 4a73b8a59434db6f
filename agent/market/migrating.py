"""The one-time migration: every active deal of an existing piece store becomes a shard, lazily, in the words of Lotus'
log. It can be broken off and run again, and says it is complete only if nothing has failed (X-4)."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import trio

from agent.dagstore.dagstore import Dagstore
from agent.dagstore.failures import ErrorClass, ShardError, class_of_os_error
from agent.dagstore.registering import Registration
from agent.market import lotus
from agent.market.lotus import Found, Place
from carlib import durable

logger = logging.getLogger(__name__)

MARKER = ".shard-registration-complete"  # Lotus' own name, in the folder of the dagstore
MAX_EXPORT_BYTES = 1 << 30
_AT_ONCE = 500


class Migrated(msgspec.Struct, frozen=True, rename="pascal"):
    """What came of it. `Lines`: in the words of Lotus' log; `Failed`: pieces, or numbers of deals in the export."""

    complete: bool
    total: int
    registered: int
    already: int
    skipped: int
    pruned: int
    failed: tuple[str, ...]
    lines: tuple[str, ...]


@dataclass(slots=True)
class _Told:
    lines: list[str] = field(default_factory=list)

    def info(self, message: str, **facts: object) -> None:
        self._say(logging.INFO, message, facts)

    def warn(self, message: str, **facts: object) -> None:
        self._say(logging.WARNING, message, facts)

    def _say(self, level: int, message: str, facts: dict[str, object]) -> None:
        line = f"{message} {json.dumps(facts, default=str)}" if facts else message
        self.lines.append(line)
        logger.log(level, "%s", line)


@dataclass(frozen=True, slots=True)
class Migration:
    """What it takes. `folder`: of the dagstore; `pieces`: of the piece store in files, "" if there is none;
    `is_held`: whether a deal of ours is about a piece."""

    dagstore: Dagstore
    folder: Path
    pieces: Path | None
    is_held: Callable[[str], bool]

    async def run(self, export: Path, *, again: bool, prune: bool) -> Migrated:
        """Registers what `export` says; `again`: although it is complete; `prune`: and destroys the shards of pieces
        whose deals are gone. Raises ShardError for an export that cannot be read."""
        told = _Told()
        marker = self.folder / MARKER
        if not again and await trio.to_thread.run_sync(marker.exists):
            told.info("no shard migration necessary; already marked complete")
            return Migrated(True, 0, 0, 0, 0, 0, (), tuple(told.lines))
        deals = lotus.parse(await _read(export))
        told.info("registering shards for all active deals in sealing subsystem", count=len(deals))
        ready, failed, skipped = _sorted_out(deals, told)
        registered, already = await self._register(ready, failed, told)
        told.info("finished registering all shards", total=registered)
        pruned = await self._prune(set(ready), failed, told) if prune else 0
        if not failed:
            await trio.to_thread.run_sync(_mark, marker)
            told.info("successfully marked migration as complete")
            told.info("dagstore migration complete")
        else:
            told.warn("failed to register all shards; run it again when that is mended", failed=len(failed))
        return Migrated(
            not failed, len(ready), registered, already, skipped, pruned, tuple(failed), tuple(told.lines)
        )

    async def _register(
        self, ready: dict[str, list[Place]], failed: list[str], told: _Told
    ) -> tuple[int, int]:
        registered = already = 0
        pieces = list(ready)
        for start in range(0, len(pieces), _AT_ONCE):
            some = pieces[start : start + _AT_ONCE]
            placed = []
            for piece in some:
                try:
                    await self._note(piece, ready[piece])
                    placed.append(piece)
                except ShardError as error:
                    told.warn("failed to register shard", pieceCID=piece, error=str(error))
                    failed.append(piece)
            wanted = [Registration(piece, f"lotus://{piece}", lazy=True) for piece in placed]
            for piece, failure in zip(placed, await self.dagstore.register_all(wanted), strict=True):
                if failure is None:
                    registered += 1
                    told.info("registering deal in dagstore with lazy init", pieceCID=piece)
                elif failure.error_class is ErrorClass.EXISTS:
                    already += 1
                else:
                    told.warn("failed to register shard", pieceCID=piece, error=failure.message)
                    failed.append(piece)
        return registered, already

    async def _note(self, piece: str, places: list[Place]) -> None:
        """Where the piece lies, for `lotus:` mounts; what an operator has written there himself stays."""
        if not places or self.pieces is None:
            return
        note = self.pieces / f"{piece}.json"
        described = {
            "places": [
                {"file": one.file, "offset": one.placement.offset, "size": one.placement.size}
                for one in places
            ]
        } | ({"payload": places[0].payload} if places[0].payload is not None else {})

        def write() -> None:
            note.parent.mkdir(parents=True, exist_ok=True)
            if not note.exists():
                with durable.replacing(note) as file:
                    file.write(json.dumps(described).encode())

        try:
            await trio.to_thread.run_sync(write)
        except OSError as error:
            raise ShardError(class_of_os_error(error), f"{note}: {error.strerror}") from error

    async def _prune(self, ready: set[str], failed: list[str], told: _Told) -> int:
        pruned = 0
        for key in list(self.dagstore.list_keys()):
            if key in ready or self.is_held(key) or self.dagstore.record(key).url != f"lotus://{key}":
                continue
            try:
                await self.dagstore.destroy(key)
            except ShardError as error:
                told.warn("failed to destroy shard", pieceCID=key, error=str(error))
                failed.append(key)
            else:
                pruned += 1
                told.info("destroyed shard of a piece without deals", pieceCID=key)
        return pruned


def _sorted_out(deals: list[Found], told: _Told) -> tuple[dict[str, list[Place]], list[str], int]:
    """The pieces of ready deals, each once however many deals are about it, with where they lie."""
    ready: dict[str, list[Place]] = {}
    failed: list[str] = []
    skipped = 0
    for deal in deals:
        if deal.error:
            told.warn("failed to register shard", deal=deal.number, error=deal.error)
            failed.append(str(deal.number))
        elif not deal.is_ready:
            skipped += 1
            told.info("deal not ready; skipping", pieceCID=deal.piece, state=deal.state)
        else:
            ready.setdefault(deal.piece, []).extend([deal.place] if deal.place is not None else [])
    return ready, failed, skipped


async def _read(export: Path) -> bytes:
    def read() -> bytes:
        size = export.stat().st_size
        if size > MAX_EXPORT_BYTES:
            raise ShardError(
                ErrorClass.INVALID, f"{export} has {size} bytes; at most {MAX_EXPORT_BYTES} are read"
            )
        return export.read_bytes()

    try:
        return await trio.to_thread.run_sync(read)
    except OSError as error:
        raise ShardError(class_of_os_error(error), f"{export}: {error.strerror}") from error


def _mark(marker: Path) -> None:
    marker.touch()
    durable.sync_folder(marker.parent)
