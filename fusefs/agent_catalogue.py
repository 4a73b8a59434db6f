"""The shards, imports and retrievals of an agent: its event stream keeps the lists, its leases keep what is open from
being destroyed.

                 ┌─ snapshot, `ready` ─► changes … ─► stream ends ─┐
    connect ─────┤                                                 ├─► back off 0.1 s … 5 s, connect anew
                 └─ refused ───────────────────────────────────────┘

Leases belong to a session, which ends with its stream: after each connect those of what is open are taken
again.  While the agent is away the last snapshot stands: what it says is readable can be opened, since its
files lie where they lay.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping

import trio

from agent.client import AgentError, AgentUnreachable, Client
from agent.dagstore.access import Fetch
from fusefs.agent_documents import AgentDocuments, rendered
from fusefs.agent_records import IMPORTS, RETRIEVALS, SHARDS, AgentRecords, Changed, Json
from fusefs.catalogue import ShardRecord
from fusefs.errors import AgentAway, Overdue

logger = logging.getLogger(__name__)

_FIRST_WAIT_S = 0.1
_LONGEST_WAIT_S = 5.0


class AgentCatalogue:
    """A `Catalogue` over one agent; `imports` and `retrievals` are beside its shards."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.shards = AgentRecords(client, SHARDS)
        self.imports = AgentRecords(client, IMPORTS)
        self.retrievals = AgentRecords(client, RETRIEVALS)
        self._kinds = (self.shards, self.imports, self.retrievals)
        self._session: str | None = None
        self._since = time.time()
        self._documents = AgentDocuments(client)

    @property
    def is_here(self) -> bool:
        """Whether its events are being followed."""
        return self._session is not None

    def records(self) -> Mapping[str, ShardRecord]:
        return self.shards.records()

    def acquire(self, key: str) -> ShardRecord:
        return self.shards.acquire(key)

    def release(self, key: str) -> None:
        self.shards.release(key)

    def fetcher(self, key: str) -> Fetch:
        return self.shards.fetcher(key)

    def find(self, cid: str, but: Collection[str] = ()) -> list[str]:
        try:
            answer = self.client.call("Carfs.LookupCid", {"Cid": cid, "But": list(but)})
            return [str(found["Key"]) for found in answer]
        except AgentUnreachable as error:
            raise AgentAway(f"who has {cid} is for the agent to say: {error}") from None
        except AgentError as error:
            raise Overdue(f"looking for {cid}: {error}") from None

    def document(self, name: str) -> bytes:
        return self._status() if name == "status.json" else self._documents.text(name)

    def _status(self) -> bytes:
        """What the mount knows by itself, so it answers when the agent does not, and the agent's own status."""
        is_reachable, status = self._documents.status()
        document = {
            "Agent": {
                "Socket": str(self.client.path),
                "Reachable": is_reachable and self._session is not None,
                "Since": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self._since)),
                "Status": status,
            },
            "ShardsByState": _states(self.shards),
            "Leased": sorted(self.shards.leased),
            "ImportsByState": _states(self.imports),
            "LeasedImports": sorted(map(int, self.imports.leased)),
            "RetrievalsByState": _states(self.retrievals),
            "LeasedRetrievals": sorted(map(int, self.retrievals.leased)),
        }
        return rendered(document)

    # The event stream

    async def run(
        self,
        changed: Changed,
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

    async def _follow(self, changed: Changed, begin: Callable[[], None]) -> None:
        """One session: a snapshot, `begin`, then changes until the stream ends."""
        stream = await trio.to_thread.run_sync(self.client.events, abandon_on_cancel=True)
        try:
            events = iter(stream)
            for records in self._kinds:
                records.begin_snapshot()
            is_ready = False
            while (
                event := await trio.to_thread.run_sync(next, events, None, abandon_on_cancel=True)
            ) is not None:
                if event.get("event") == "ready" and not is_ready:
                    is_ready = True
                    for records in self._kinds:
                        records.end_snapshot(changed)
                    self._set_session(stream.session)
                    await trio.to_thread.run_sync(self._greet, stream.session, abandon_on_cancel=True)
                    begin()
                else:
                    self._take(event, changed)
        finally:
            stream.close()

    def _take(self, event: Mapping[str, Json], changed: Changed) -> None:
        match event.get("event"):
            case "shard":
                self.shards.take(event["shard"], changed)
            case "shard-removed":
                self.shards.remove(str(event["key"]), changed)
            case "import":
                self.imports.take(event["record"], changed)
            case "import-removed":
                self.imports.remove(str(event["id"]), changed)
            case "retrieval":
                self.retrievals.take(event["record"], changed)
            case "retrieval-removed":
                self.retrievals.remove(str(event["id"]), changed)

    def _greet(self, session: str) -> None:
        for records in self._kinds:
            records.greet(session)

    def _set_session(self, session: str | None) -> None:
        if (self._session is None) != (session is None):
            self._since = time.time()
        self._session = session
        for records in self._kinds:
            records.set_session(session)


def _states(records: AgentRecords) -> dict[str, int]:
    """How many are in which state; they change in another thread."""
    return dict(sorted(Counter(record.state for record in list(records.records().values())).items()))
