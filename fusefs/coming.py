"""An open retrieval whose CAR still grows: what has come is read, and what has not is asked for and waited for.

    block ──► in the CAR? ──yes──► verified, given
                 │ no
                 └─► `Carfs.WantBlocks`: comes before all else ──► in the CAR: given
                                                               └─► cannot be had, or not in time: an error

Listings wait for nothing: they show what is here, and names alone of the rest.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

from agent.client import AgentError, AgentUnreachable, Client
from agent.dagstore.access import Fetch
from carlib.blockstore import Location, ReadOnlyBlockstore, _State
from carlib.cid import Cid
from carlib.errors import CarError
from carlib.following import FollowedBlockstore, Following
from fusefs.catalogue import ShardRecord
from fusefs.errors import AgentAway, Overdue
from fusefs.nearby import Nearby
from fusefs.stores import Opener, OpenShard

_BEGINS_S: Final = 5.0
"""For the CAR of a retrieval that has just begun to be there."""
_LOOK_S: Final = 0.05

Want = Callable[[Cid], None]


def opener(client: Client, deadline_s: float) -> Opener:
    """Opens retrievals; `deadline_s`: how long a block is waited for."""
    patient = Client(client.path, timeout_s=deadline_s)

    def opened(record: ShardRecord, fetch: Fetch) -> OpenShard:
        return OpenRetrieval(record, fetch, patient) if record.growing else OpenShard(record, fetch)

    return opened


class OpenRetrieval(OpenShard):
    """Its open files."""

    def __init__(self, record: ShardRecord, fetch: Fetch, client: Client) -> None:
        self._client = client
        super().__init__(record, fetch)

    def _blocks(self, record: ShardRecord, fetch: Fetch) -> ReadOnlyBlockstore:
        assert record.path is not None
        following = _begun(record.path)
        self._here = FollowedBlockstore(following)
        return ComingBlocks(following, partial(self._want, record))

    @property
    def here(self) -> ReadOnlyBlockstore:
        return self._here

    def nearby(self) -> Nearby | None:
        return None

    def _want(self, record: ShardRecord, cid: Cid) -> None:
        """Returns when the block is there or cannot be had; raises AgentAway, or Overdue where that is not said in
        time."""
        try:
            self._client.call("Carfs.WantBlocks", {"Retrieval": int(record.key), "CIDs": [str(cid)]})
        except AgentUnreachable as error:
            raise AgentAway(f"{cid} of {record.what} {record.key} has not come yet: {error}") from None
        except AgentError:
            pass  # the retrieval itself says why, in `retrieval.json` and the agent's log


class ComingBlocks(FollowedBlockstore):
    """Has blocks wanted that are not here yet, but for `has`."""

    def __init__(self, following: Following, want: Want) -> None:
        super().__init__(following)
        self._want = want

    def has(self, cid: Cid) -> bool:
        return cid.is_identity or super()._lookup(cid)[1] is not None

    def _lookup(self, cid: Cid) -> tuple[_State, Location | None, bytes | None]:
        found = super()._lookup(cid)
        if found[1] is None:
            self._want(cid)
            found = super()._lookup(cid)
        return found


def _begun(path: Path) -> Following:
    """Waits for its head, for a moment. Raises Overdue, OSError."""
    deadline_s = time.monotonic() + _BEGINS_S
    while True:
        try:
            return Following(path)
        except (CarError, FileNotFoundError):
            if time.monotonic() > deadline_s:
                raise Overdue(f"{path}: the retrieval has not begun to write") from None
        time.sleep(_LOOK_S)
