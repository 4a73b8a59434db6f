"""The shards of an agent: its event stream keeps the list, its leases keep what is open from being destroyed.

                 ┌─ snapshot, `ready` ─► changes … ─► stream ends ─┐
    connect ─────┤                                                 ├─► back off 0.1 s … 5 s, connect anew
                 └─ refused ───────────────────────────────────────┘

Leases belong to a session, which ends with its stream: after each connect those of open shards are taken
again.  While the agent is away the last snapshot stands: what it says is readable can be opened, since its
files lie where they lay.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence

import trio

from agent.client import AgentError, AgentUnreachable, Client
from agent.dagstore.access import Fetch
from fusefs.agent_documents import AgentDocuments, rendered
from fusefs.catalogue import Change, ShardRecord
from fusefs.errors import AgentAway, Overdue, ShardBroken, StaleNode

logger = logging.getLogger(__name__)

_FIRST_WAIT_S = 0.1
_LONGEST_WAIT_S = 5.0
_GONE = frozenset({"not-found", "gone"})


class AgentCatalogue:
    """A `Catalogue` over one agent."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._lock = threading.Lock()
        self._records: dict[str, ShardRecord] = {}
        self._session: str | None = None
        self._leased: set[str] = set()
        self._since = time.time()
        self._documents = AgentDocuments(client)

    def records(self) -> Mapping[str, ShardRecord]:
        return self._records

    def document(self, name: str) -> bytes:
        return self._status() if name == "status.json" else self._documents.text(name)

    def _status(self) -> bytes:
        """What the mount knows by itself, so it answers when the agent does not, and the agent's own status."""
        is_reachable, status = self._documents.status()
        states = Counter(
            record.state for record in list(self._records.values())
        )  # they change in another thread
        document = {
            "Agent": {
                "Socket": str(self._client.path),
                "Reachable": is_reachable and self._session is not None,
                "Since": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self._since)),
                "Status": status,
            },
            "ShardsByState": dict(sorted(states.items())),
            "Leased": sorted(self._leased),
        }
        return rendered(document)

    # Leases, from threads

    def acquire(self, key: str) -> ShardRecord:
        with self._lock:
            session, known = self._session, self._records.get(key)
        record = None if session is None else self._acquire(session, key)
        if record is None:
            if known is None or not known.readable:
                raise AgentAway(f"shard {key} can only be opened by the agent, which does not answer")
            record = known
        with self._lock:
            self._leased.add(key)
        return record

    def find(self, cid: str, but: Collection[str] = ()) -> list[str]:
        try:
            answer = self._client.call("Carfs.LookupCid", {"Cid": cid, "But": list(but)})
            return [str(found["Key"]) for found in answer]
        except AgentUnreachable as error:
            raise AgentAway(f"who has {cid} is for the agent to say: {error}") from None
        except AgentError as error:
            raise Overdue(f"looking for {cid}: {error}") from None

    def release(self, key: str) -> None:
        with self._lock:
            session = self._session
            self._leased.discard(key)
        if session is not None:
            try:
                self._client.call("Carfs.ReleaseShard", {"Session": session, "Key": key})
            except (AgentError, AgentUnreachable) as error:
                logger.debug("releasing %s: %s", key, error)  # the lease has ended with its session

    def fetcher(self, key: str) -> Fetch:
        return _AgentFetch(self, key)

    def fetch(self, key: str, offset: int, length: int, *, again: bool) -> None:
        """Has the agent get bytes of a shard that is acquired; see `Catalogue.fetcher`."""
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

    def _acquire(self, session: str, key: str) -> ShardRecord | None:
        """The record with a lease; None if the agent cannot be asked."""
        try:
            return ShardRecord.parse(
                self._client.call("Carfs.AcquireShard", {"Session": session, "Key": key})
            )
        except AgentUnreachable:
            return None
        except AgentError as error:
            with self._lock:
                if self._session != session:
                    return None  # the agent has restarted: it knows nothing of the session
            if error.error_class in _GONE:
                raise StaleNode(f"shard {key} is gone") from None
            raise ShardBroken(f"shard {key}: {error}") from None

    # The event stream

    async def run(
        self,
        changed: Callable[[Change], None],
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Raises AgentUnreachable if the first connect fails; later ones are repeated until one does not."""
        wait_s = _FIRST_WAIT_S
        begun = False

        def begin() -> None:
            nonlocal begun, wait_s
            if begun:
                logger.info("the agent is back")
            else:
                begun = True
                task_status.started()
            wait_s = _FIRST_WAIT_S

        while True:
            try:
                await self._follow(changed, begin)
            except AgentUnreachable as error:
                if not begun:
                    raise
                if self._session is not None:
                    logger.info("%s; what is known stays readable, connecting again until it is back", error)
            except Exception:
                if not begun:
                    raise
                logger.exception("bug in following the agent's events, connecting again")
            self._set_session(None)
            await trio.sleep(wait_s)
            wait_s = min(wait_s * 2, _LONGEST_WAIT_S)

    async def _follow(self, changed: Callable[[Change], None], begin: Callable[[], None]) -> None:
        """One session: a snapshot, `begin`, then changes until the stream ends."""
        stream = await trio.to_thread.run_sync(self._client.events, abandon_on_cancel=True)
        try:
            events = iter(stream)
            snapshot: dict[str, ShardRecord] | None = {}
            while (
                event := await trio.to_thread.run_sync(next, events, None, abandon_on_cancel=True)
            ) is not None:
                kind = event.get("event")
                if kind == "shard":
                    record = ShardRecord.parse(event["shard"])
                    if snapshot is None:
                        self._put(record, changed)
                    else:
                        snapshot[record.key] = record
                elif kind == "shard-removed":
                    self._remove(str(event["key"]), changed)
                elif kind == "ready" and snapshot is not None:
                    self._replace(snapshot, changed)
                    snapshot = None
                    self._set_session(stream.session)
                    await trio.to_thread.run_sync(self._greet, stream.session, abandon_on_cancel=True)
                    begin()
        finally:
            stream.close()

    def _greet(self, session: str) -> None:
        """In a thread: takes the leases of what is open once more."""
        for key in sorted(self._leased):
            try:
                self._acquire(session, key)
            except (ShardBroken, StaleNode) as error:
                logger.warning("%s; what is open of it stays readable", error)

    def _set_session(self, session: str | None) -> None:
        with self._lock:
            if (self._session is None) != (session is None):
                self._since = time.time()
            self._session = session

    def _replace(self, snapshot: Mapping[str, ShardRecord], changed: Callable[[Change], None]) -> None:
        for key in [key for key in self._records if key not in snapshot]:
            self._remove(key, changed)
        for record in snapshot.values():
            self._put(record, changed)

    def _put(self, record: ShardRecord, changed: Callable[[Change], None]) -> None:
        before = self._records.get(record.key)
        self._records[record.key] = record
        if before is None or before.document != record.document:
            changed(Change(record.key, before, record))

    def _remove(self, key: str, changed: Callable[[Change], None]) -> None:
        before = self._records.pop(key, None)
        if before is not None:
            changed(Change(key, before, None))


class _AgentFetch:
    """A `Fetch` of one shard."""

    def __init__(self, catalogue: AgentCatalogue, key: str) -> None:
        self._catalogue = catalogue
        self._key = key

    def ensure(self, offset: int, length: int) -> None:
        self._catalogue.fetch(self._key, offset, length, again=False)

    def renew(self, offset: int, length: int) -> None:
        self._catalogue.fetch(self._key, offset, length, again=True)

    def hint(self, ranges: Sequence[tuple[int, int]]) -> None:
        self._catalogue.want(self._key, ranges)
