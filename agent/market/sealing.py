"""Sealing, behind one interface: what is done with a piece once its data are here and verified.

Two implementations: sectors that stay unsealed on this machine (`LocalSealing`), and an operator's program
(`CommandSealing`, docs/deals.md). Each call is bounded in time and in number, and unsealing has a throttle of its own,
so that pieces that are being unsealed hold up nobody who adds or asks. Nothing unseals by itself: not a read, not an
`ls`.
"""

from __future__ import annotations

import json
import logging
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import msgspec
import trio

from agent.dagstore.failures import ErrorClass, ShardError, class_of_os_error
from agent.dagstore.indexer import Workers
from agent.market import packing
from agent.market.packing import Sector
from agent.market.records import DealRow, Placed
from agent.market.settings import MarketConfig
from agent.market.table import DealStore
from agent.market.transitions import Event
from agent.scheduler.tasks import DEAL_PRIORITY
from agent.workers import WorkerFailed

logger = logging.getLogger(__name__)

Packed = Callable[[Placed, int, Sector | None], None]
"""Writes down where a piece lies, the size of its CAR, and the sector of ours that it is in, at once."""
MINER = 1000  # in the names of sectors' files, as Lotus has them


class Sealing(Protocol):
    """Everything raises ShardError."""

    async def add_piece(self, deal: DealRow, packed: Packed) -> None:
        """Takes the staged CAR of a deal into a sector, and calls `packed` once it is there, on disk."""

    async def progress(self, deal: DealRow) -> Event | None:
        """What has become of the deal's sector since, from the state that the deal is in; None: nothing yet."""

    async def is_unsealed(self, deal: DealRow) -> bool:
        """Whether the piece can be read where it is said to lie."""

    async def unseal(self, deal: DealRow) -> Placed:
        """Has the piece unsealed, which may take hours; where it lies then."""

    async def release(self, placed: Placed, *, is_last: bool) -> None:
        """No deal needs the piece any more; `is_last`: nor any other piece of its sector."""


class LocalSealing:
    """Unsealed sectors in files of ours, in Lotus' layout: `unsealed/s-t01000-N`, several pieces in one."""

    def __init__(self, store: DealStore, workers: Workers, folder: Path, sector_size: int) -> None:
        self._store = store
        self._workers = workers
        self._folder = folder / "unsealed"
        self._sector_size = sector_size
        self._lock = trio.Lock()  # a piece is at the end of its sector until the next one is begun

    async def add_piece(self, deal: DealRow, packed: Packed) -> None:
        size = deal.proposal.piece_size
        if size > self._sector_size:
            message = f"a piece of {size} padded bytes does not go into sectors of {self._sector_size}"
            raise ShardError(ErrorClass.INVALID, message)
        async with self._lock:
            sector, placement = packing.room(self._store.sectors(), size, self._sector_size)
            file = self._folder / f"s-t0{MINER}-{sector.number}"
            try:
                self._folder.mkdir(parents=True, exist_ok=True)
                found = await self._workers.run(
                    "addpiece",
                    {"path": deal.car, "piece": deal.proposal.piece_cid, "file": str(file),
                     "offset": placement.offset, "size": placement.size},
                    subject=f"deal {deal.id}", size_bytes=size, priority=DEAL_PRIORITY,
                )  # fmt: skip
            except OSError as error:
                raise ShardError(class_of_os_error(error), f"{self._folder}: {error.strerror}") from error
            except WorkerFailed as error:
                raise ShardError(error.error_class, str(error)) from error
            packed(Placed(sector.number, str(file), placement.offset, size), found["payload"], sector)

    async def progress(self, deal: DealRow) -> Event | None:
        """Nobody seals them: each step is done at once."""
        await trio.lowlevel.checkpoint()
        return NEXT.get(deal.state.value)

    async def is_unsealed(self, deal: DealRow) -> bool:
        file, placed = Path(deal.placed.file if deal.placed else ""), deal.placed
        return placed is not None and await trio.to_thread.run_sync(
            _reaches, file, placed.offset + placed.size
        )

    async def unseal(self, deal: DealRow) -> Placed:
        if deal.placed is None or not await self.is_unsealed(deal):
            raise ShardError(ErrorClass.GONE, f"no sectors found to unseal from for deal {deal.id}")
        return deal.placed

    async def release(self, placed: Placed, *, is_last: bool) -> None:
        if not is_last:
            return
        async with self._lock:
            self._store.drop_sector(placed.sector)
            await trio.to_thread.run_sync(lambda: Path(placed.file).unlink(missing_ok=True))


class CommandSealing:
    """An operator's program: `PROGRAM VERB` gets JSON on standard input and answers with JSON."""

    def __init__(self, config: MarketConfig) -> None:
        self._command = config.sealing_command
        self._timeout_s = config.sealing_timeout_s
        self._calls = trio.CapacityLimiter(config.max_concurrent_sealing)
        self._unseals = trio.CapacityLimiter(config.max_concurrent_unseals)

    async def add_piece(self, deal: DealRow, packed: Packed) -> None:
        asked = {**_about(deal), "Path": deal.car}
        async with self._calls:
            found = await self._ask("add-piece", asked, _Added)
        packed(
            Placed(found.sector, found.file, found.offset, deal.proposal.piece_size), found.payload_size, None
        )

    async def progress(self, deal: DealRow) -> Event | None:
        async with self._calls:
            found = await self._ask("state", _about(deal), _StateOf)
        if found.state == "Failed":
            raise ShardError(ErrorClass.GONE, f"sealing failed: {found.error or 'no reason is given'}")
        if found.state not in REACHED:
            known = ", ".join(REACHED)
            raise ShardError(
                ErrorClass.INVALID, f"{self._command[0]} state: {found.state!r}; there is {known}"
            )
        return NEXT.get(deal.state.value) if deal.state.value in REACHED[found.state] else None

    async def is_unsealed(self, deal: DealRow) -> bool:
        async with self._calls:
            return bool((await self._ask("is-unsealed", _about(deal), _Unsealed)).unsealed)

    async def unseal(self, deal: DealRow) -> Placed:
        async with self._unseals:
            found = await self._ask("unseal", _about(deal), _Where)
        sector = deal.placed.sector if deal.placed else 0
        return Placed(sector, found.file, found.offset, deal.proposal.piece_size)

    async def release(self, placed: Placed, *, is_last: bool) -> None:
        asked = {"Sector": placed.sector, "Offset": placed.offset, "Size": placed.size, "IsLast": is_last}
        async with self._calls:
            await self._ask("release", asked, _Nothing)

    async def _ask(
        self, verb: str, asked: dict[str, Any], kind: type[Any]
    ) -> Any:  # Any: JSON, and one of those below
        name = f"{self._command[0]} {verb}"
        try:
            with trio.fail_after(self._timeout_s):
                done = await trio.run_process(
                    [*self._command, verb], stdin=json.dumps(asked).encode(),
                    capture_stdout=True, capture_stderr=True, check=False,
                )  # fmt: skip
        except trio.TooSlowError:
            message = f"{name} did not answer in {self._timeout_s:g} s (market.sealing_timeout_s)"
            raise ShardError(ErrorClass.BUSY, message) from None
        except (OSError, subprocess.SubprocessError) as error:
            raise ShardError(ErrorClass.BUSY, f"{name} cannot be run: {error}") from error
        if done.returncode != 0:
            said = (done.stderr or b"").decode(errors="replace").strip().splitlines()
            message = f"{name} failed ({done.returncode}){': ' + said[-1][:500] if said else ''}"
            raise ShardError(ErrorClass.BUSY, message)
        try:
            return msgspec.json.decode(done.stdout or b"{}", type=kind)
        except msgspec.DecodeError as error:
            raise ShardError(ErrorClass.INVALID, f"{name} answers what is none: {error}") from error


NEXT = {
    "StorageDealAwaitingPreCommit": Event.PRECOMMITTED,
    "StorageDealSealing": Event.SEALED,
    "StorageDealFinalizing": Event.ACTIVATE,
}
REACHED = {
    "AwaitingPreCommit": frozenset[str](),
    "Sealing": frozenset({"StorageDealAwaitingPreCommit"}),
    "Finalizing": frozenset({"StorageDealAwaitingPreCommit", "StorageDealSealing"}),
    "Active": frozenset(NEXT),
}
"""From what the program says to the deal's states that are behind it."""


class _Added(msgspec.Struct, rename="pascal"):
    sector: int
    file: str
    offset: int
    payload_size: int


class _Where(msgspec.Struct, rename="pascal"):
    file: str
    offset: int


class _StateOf(msgspec.Struct, rename="pascal"):
    state: str
    error: str = ""


class _Unsealed(msgspec.Struct, rename="pascal"):
    unsealed: bool


class _Nothing(msgspec.Struct):
    pass


def _about(deal: DealRow) -> dict[str, Any]:
    about: dict[str, Any] = {
        "DealID": deal.id,
        "PieceCID": deal.proposal.piece_cid,
        "PieceSize": deal.proposal.piece_size,
        "Root": deal.proposal.root,
    }
    if deal.placed is not None:
        about |= {"Sector": deal.placed.sector, "Offset": deal.placed.offset, "File": deal.placed.file}
    return about


def _reaches(file: Path, end: int) -> bool:
    try:
        return file.stat().st_size >= end
    except OSError:
        return False
