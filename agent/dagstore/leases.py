"""Who holds which shards, imports and retrievals: sessions, and the leases that end with them.

A session is an open event stream. It holds a shard (or an import) or does not: acquiring twice is one lease, releasing
twice is one release, and the death of the client gives back all that it held, at once.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import trio

from agent.dagstore.dagstore import Dagstore
from agent.dagstore.failures import ErrorClass, ShardError
from agent.dagstore.records import ShardRecord

if TYPE_CHECKING:  # which is built on what is here
    from agent.imports.imports import Imports
    from agent.imports.records import ImportRecord
    from agent.retrievals.records import RetrievalRecord
    from agent.retrievals.retrievals import Retrievals


@dataclass(eq=False, slots=True)
class _Session:
    client: str
    held: set[str] = field(default_factory=set)
    imports: set[int] = field(default_factory=set)
    retrievals: set[int] = field(default_factory=set)
    waiting: set[trio.CancelScope] = field(default_factory=set)
    closed: bool = False


class Leases:
    """The sessions of all clients."""

    def __init__(
        self, dagstore: Dagstore, imports: Imports | None = None, retrievals: Retrievals | None = None
    ) -> None:
        self._dagstore = dagstore
        self._imports = imports
        self._retrievals = retrievals
        self._sessions: dict[str, _Session] = {}

    def open(self, client: str) -> str:
        """A new session's id, which is as hard to guess as a password; `client` is for people."""
        name = secrets.token_urlsafe(16)
        self._sessions[name] = _Session(client)
        return name

    def close(self, name: str) -> None:
        """Ends the session: its leases are given back and whoever waits in it is told so. Harmless if repeated."""
        session = self._sessions.pop(name, None)
        if session is None:
            return
        session.closed = True
        for scope in session.waiting:
            scope.cancel()
        for key in session.held:
            self._dagstore.release(key)
        if self._imports is not None:
            for number in session.imports:
                self._imports.release(number)
        if self._retrievals is not None:
            for number in session.retrievals:
                self._retrievals.release(number)

    async def acquire(self, name: str, key: str) -> ShardRecord:
        """Takes the lease, waiting for the index if need be; a cancelled or failed call holds nothing."""
        session = self._session(name)
        with trio.CancelScope() as scope:
            session.waiting.add(scope)
            try:
                record = await self._dagstore.acquire(key)
                if session.closed or key in session.held:
                    self._dagstore.release(key)
                else:
                    session.held.add(key)
            finally:
                session.waiting.discard(scope)
        if session.closed:
            raise _unknown(name)
        return record

    def release(self, name: str, key: str) -> bool:
        """Gives the lease back; False if there was none (any more)."""
        session = self._session(name)
        if key not in session.held:
            return False
        session.held.discard(key)
        self._dagstore.release(key)
        return True

    def acquire_import(self, name: str, number: int) -> ImportRecord:
        """Takes a lease on an import, which must be made."""
        session = self._session(name)
        if self._imports is None:
            raise ShardError(ErrorClass.INVALID, "this agent has no imports")
        if number in session.imports:
            return self._imports.record(number)
        record = self._imports.acquire(number)
        session.imports.add(number)
        return record

    def release_import(self, name: str, number: int) -> bool:
        """Gives it back; False if there was none (any more)."""
        session = self._session(name)
        if self._imports is None or number not in session.imports:
            return False
        session.imports.discard(number)
        self._imports.release(number)
        return True

    def acquire_retrieval(self, name: str, number: int) -> RetrievalRecord:
        """Takes a lease on a retrieval, whatever its state."""
        session = self._session(name)
        if self._retrievals is None:
            raise ShardError(ErrorClass.INVALID, "this agent has no retrievals")
        if number in session.retrievals:
            return self._retrievals.record(number)
        record = self._retrievals.acquire(number)
        session.retrievals.add(number)
        return record

    def release_retrieval(self, name: str, number: int) -> bool:
        """Gives it back; False if there was none (any more)."""
        session = self._session(name)
        if self._retrievals is None or number not in session.retrievals:
            return False
        session.retrievals.discard(number)
        self._retrievals.release(number)
        return True

    async def fetch_range(self, name: str, key: str, offset: int, length: int, *, again: bool) -> None:
        """Has bytes of a remote shard fetched for a session that holds it; see `Dagstore.fetch_range`."""
        self._refuse_unless_held(name, key)
        await self._dagstore.fetch_range(key, offset, length, again=again)

    async def want_ranges(self, name: str, key: str, ranges: Sequence[tuple[int, int]]) -> None:
        """Likewise, without waiting for them; see `Dagstore.want_ranges`."""
        self._refuse_unless_held(name, key)
        await self._dagstore.want_ranges(key, ranges)

    def _refuse_unless_held(self, name: str, key: str) -> None:
        if key not in self._session(name).held:
            raise ShardError(ErrorClass.DENIED, f"this session does not hold shard {key!r}", key=key)

    def held(self) -> list[tuple[str, int]]:
        """Each session's client and how many leases it holds, for status displays; the ids stay secret."""
        return [
            (session.client, len(session.held) + len(session.imports) + len(session.retrievals))
            for session in self._sessions.values()
        ]

    def _session(self, name: str) -> _Session:
        session = self._sessions.get(name)
        if session is None:
            raise _unknown(name)
        return session


def _unknown(name: str) -> ShardError:
    hint = "a session lives as long as its stream from /events"
    return ShardError(ErrorClass.NOT_FOUND, f"there is no session {name!r}; {hint}")
