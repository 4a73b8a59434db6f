"""What an agent has of one kind, such as shards or imports: the records as its events keep them, and leases on what is
open.

The agent may be away: what it said last stands, and what was readable then is opened without a lease, which follows
when the agent does (`greet`).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from agent.client import AgentError, AgentUnreachable, Client
from agent.dagstore.access import Fetch
from fusefs import import_records, retrieval_records
from fusefs.catalogue import Change, ShardRecord
from fusefs.errors import AgentAway, ShardBroken, StaleNode

logger = logging.getLogger(__name__)

Json = Any  # any value that JSON can carry
Changed = Callable[[Change], None]
_GONE: Final = frozenset({"not-found", "gone"})


@dataclass(frozen=True, slots=True)
class Kind:
    """How the agent is asked about one kind."""

    word: str
    acquire: str
    release: str
    named: Callable[[str], dict[str, Json]]
    parse: Callable[[Mapping[str, Json]], ShardRecord]


SHARDS: Final = Kind(
    "shard", "Carfs.AcquireShard", "Carfs.ReleaseShard", lambda key: {"Key": key}, ShardRecord.parse
)
IMPORTS: Final = Kind(
    "import", "Carfs.AcquireImport", "Carfs.ReleaseImport", lambda key: {"Import": int(key)}, import_records.parse
)  # fmt: skip
RETRIEVALS: Final = Kind(
    "retrieval", "Carfs.AcquireRetrieval", "Carfs.ReleaseRetrieval", lambda key: {"Retrieval": int(key)},
    retrieval_records.parse,
)  # fmt: skip


class AgentRecords:
    """A `Leasing`; `put` and what follows it are for the event loop, the rest for any thread."""

    def __init__(self, client: Client, kind: Kind) -> None:
        self.kind = kind
        self.leased: set[str] = set()
        self._client = client
        self._lock = threading.Lock()
        self._records: dict[str, ShardRecord] = {}
        self._snapshot: dict[str, ShardRecord] | None = None
        self._session: str | None = None

    def records(self) -> Mapping[str, ShardRecord]:
        return self._records

    # Leases

    def acquire(self, key: str) -> ShardRecord:
        with self._lock:
            session, known = self._session, self._records.get(key)
        record = None if session is None else self._acquire(session, key)
        if record is None:
            if known is None or not known.readable:
                message = f"{self.kind.word} {key} can only be opened by the agent, which does not answer"
                raise AgentAway(message)
            record = known
        with self._lock:
            self.leased.add(key)
        return record

    def release(self, key: str) -> None:
        with self._lock:
            session = self._session
            self.leased.discard(key)
        if session is not None:
            try:
                self._client.call(self.kind.release, {"Session": session, **self.kind.named(key)})
            except (AgentError, AgentUnreachable) as error:
                logger.debug("releasing %s: %s", key, error)  # the lease has ended with its session

    def fetcher(self, key: str) -> Fetch:
        return _AgentFetch(self, key)

    def fetch(self, key: str, offset: int, length: int, *, again: bool) -> None:
        """Has the agent get bytes of a shard that is acquired; see `Leasing.fetcher`."""
        with self._lock:
            session = self._session
        if session is None:
            raise AgentAway(f"bytes of shard {key} have to be fetched by the agent, which does not answer")
        params = {"Session": session, "Key": key, "Offset": offset, "Length": length, "Again": again}
        try:
            self._client.call("Carfs.FetchRange", params)
        except AgentUnreachable as error:
            raise AgentAway(f"shard {key}: {error}") from None
        except AgentError as error:
            raise ShardBroken(f"shard {key}: {error}") from None

    def want(self, key: str, ranges: Sequence[tuple[int, int]]) -> None:
        """Tells the agent what of such a shard will be asked for soon; never raises."""
        with self._lock:
            session = self._session
        if session is not None:
            wanted = [{"Offset": offset, "Length": length} for offset, length in ranges]
            try:
                self._client.call("Carfs.WantRanges", {"Session": session, "Key": key, "Ranges": wanted})
            except (AgentError, AgentUnreachable) as error:
                logger.debug("shard %s: %s", key, error)  # whoever needs the bytes will hear of it

    def greet(self, session: str) -> None:
        """In a thread: takes the leases of what is open once more."""
        for key in sorted(self.leased):
            try:
                self._acquire(session, key)
            except (ShardBroken, StaleNode) as error:
                logger.warning("%s; what is open of it stays readable", error)

    def set_session(self, session: str | None) -> None:
        with self._lock:
            self._session = session

    def _acquire(self, session: str, key: str) -> ShardRecord | None:
        """The record with a lease; None if the agent cannot be asked."""
        try:
            return self.kind.parse(
                self._client.call(self.kind.acquire, {"Session": session, **self.kind.named(key)})
            )
        except AgentUnreachable:
            return None
        except AgentError as error:
            with self._lock:
                if self._session != session:
                    return None  # the agent has restarted: it knows nothing of the session
            if error.error_class in _GONE:
                raise StaleNode(f"{self.kind.word} {key} is gone") from None
            raise ShardBroken(f"{self.kind.word} {key}: {error}") from None

    # What the events say

    def begin_snapshot(self) -> None:
        """What is taken from here on is all that there is, once `end_snapshot` is called."""
        self._snapshot = {}

    def end_snapshot(self, changed: Changed) -> None:
        snapshot, self._snapshot = self._snapshot or {}, None
        for key in [key for key in self._records if key not in snapshot]:
            self.remove(key, changed)
        for record in snapshot.values():
            self.put(record, changed)

    def take(self, document: Mapping[str, Json], changed: Changed) -> None:
        """A record from the event stream."""
        record = self.kind.parse(document)
        if self._snapshot is None:
            self.put(record, changed)
        else:
            self._snapshot[record.key] = record

    def put(self, record: ShardRecord, changed: Changed) -> None:
        """This is how it is now."""
        before = self._records.get(record.key)
        self._records[record.key] = record
        if before is None or before.document != record.document:
            changed(Change(record.key, before, record))

    def remove(self, key: str, changed: Changed) -> None:
        """It is gone."""
        before = self._records.pop(key, None)
        if before is not None:
            changed(Change(key, before, None))


class _AgentFetch:
    """A `Fetch` of one shard."""

    def __init__(self, records: AgentRecords, key: str) -> None:
        self._records = records
        self._key = key

    def ensure(self, offset: int, length: int) -> None:
        self._records.fetch(self._key, offset, length, again=False)

    def renew(self, offset: int, length: int) -> None:
        self._records.fetch(self._key, offset, length, again=True)

    def hint(self, ranges: Sequence[tuple[int, int]]) -> None:
        self._records.want(self._key, ranges)
