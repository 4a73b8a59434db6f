"""What the mount has the agent do: import, register, retrieve, rename, drop. Blocks, for threads; refusals come as
MountErrors.

What was done is in `AgentRecords` before the call returns, so that whoever made a directory finds it there although the
event of it is still on its way.
"""

from __future__ import annotations

import logging
import os
import threading
from pathlib import Path
from typing import Any, Final

import trio

from agent.client import AgentError, AgentUnreachable, Client
from agent.dagstore.mounts.file import FileMount
from fusefs.agent_catalogue import AgentCatalogue
from fusefs.agent_records import AgentRecords, Changed
from fusefs.errors import (
    AgentAway,
    InUse,
    MountError,
    NameTaken,
    NoRoom,
    NoSource,
    NotAllowed,
    NotWhole,
    UnfitSource,
)

logger = logging.getLogger(__name__)

Json = Any  # any value that JSON can carry
ANSWER_S: Final = 10.0
"""The kernel keeps a directory locked while a name in it is made or taken away: nobody lists it meanwhile."""
_BY_CLASS: Final[dict[str, type[MountError]]] = {
    "exists": NameTaken,
    "busy": InUse,
    "invalid": UnfitSource,
    "denied": NotAllowed,
    "gone": NoSource,
    "not-found": NoSource,
    "no-space": NoRoom,
    "corrupt": NotWhole,
    "cancelled": NotWhole,
}


class AgentChanges:
    """The changes; `told` is what the mount hears of each change with, in its event loop."""

    def __init__(self, catalogue: AgentCatalogue, told: Changed, token: trio.lowlevel.TrioToken) -> None:
        self._client = Client(catalogue.client.path, timeout_s=ANSWER_S)
        self._patient = Client(catalogue.client.path, timeout_s=None)
        self._catalogue = catalogue
        self._told = told
        self._token = token

    def link(self, path: Path, name: str) -> None:
        """Imports what is at `path`, by reference or as the CAR that it is; returns when that has begun."""
        self._import({"Path": _text(path), "Name": name, "Kind": "auto", "Wait": False})

    def check_here(self) -> None:
        if not self._catalogue.is_here:
            raise AgentAway("the agent, which would import it, does not answer")

    def copy(self, path: Path, name: str) -> None:
        """Imports a staged file, which is taken over, and returns when that is done. Raises NameTaken, too, where the
        same content is imported already."""
        done = self._import({"Path": _text(path), "Name": name, "Kind": "auto", "Wait": True}, patient=True)
        if done["Existing"]:
            raise NameTaken(f"{name} has the same content as the import {done['Name']}")

    def take_tree(self, path: Path, name: str) -> None:
        """Imports a staged directory, which is taken over; returns when that has begun."""
        self._import({"Path": _text(path), "Name": name, "Kind": "dense", "Wait": False})

    def rename(self, key: str, name: str) -> None:
        self._record(self._ask("Carfs.RenameImport", {"Import": int(key), "Name": name}))

    def drop(self, key: str) -> None:
        """Drops an import, or calls it off while it is being made."""
        self._ask("Carfs.RemoveImport", {"Import": int(key)})
        self._soon(self._catalogue.imports, key)

    def register(self, key: str, url: str) -> None:
        """Registers a shard; returns when that is written down."""
        record = self._ask("Carfs.RegisterShard", {"Key": key, "URL": url})
        self._token.run_sync_soon(self._put, self._catalogue.shards, record)

    def destroy(self, key: str) -> None:
        self._ask("Carfs.DestroyShard", {"Key": key})
        self._soon(self._catalogue.shards, key)

    def retrieve(self, cid: str, *, on_demand: bool = False) -> str:
        """Begins a retrieval; gives the name that it has, under which the mount knows it then. `on_demand`: of what is
        read alone, if the agent does that; else NotAllowed."""
        record = self._ask("Carfs.StartRetrieval", {"Root": cid, "OnDemand": on_demand})
        known = threading.Event()

        def put() -> None:
            self._put(self._catalogue.retrievals, record)
            known.set()

        self._token.run_sync_soon(put)
        if not known.wait(ANSWER_S):
            raise AgentAway("the mount is too busy")
        return str(record["Name"])

    def drop_retrieval(self, key: str) -> None:
        """Forgets one with its CAR; calls it off while it is under way."""
        self._ask("Carfs.RemoveRetrieval", {"Retrieval": int(key)})
        self._soon(self._catalogue.retrievals, key)

    def _import(self, params: dict[str, Json], *, patient: bool = False) -> Json:
        done = self._ask("Carfs.Import", params, patient=patient)
        try:
            self._record(self._ask("Carfs.GetImport", {"Import": int(done["ID"])}))
        except MountError as error:  # dropped since, or the agent is gone: it is imported all the same
            logger.debug("import %s: %s", done["ID"], error)
        return done

    def _record(self, document: Json) -> None:
        self._token.run_sync_soon(self._put, self._catalogue.imports, document)

    def _put(self, records: AgentRecords, document: Json) -> None:
        records.put(records.kind.parse(document), self._told)

    def _soon(self, records: AgentRecords, key: str) -> None:
        self._token.run_sync_soon(records.remove, key, self._told)

    def _ask(self, method: str, params: dict[str, Json], *, patient: bool = False) -> Json:
        try:
            return (self._patient if patient else self._client).call(method, params)
        except AgentUnreachable as error:
            raise AgentAway(str(error)) from None
        except AgentError as error:
            raise _BY_CLASS.get(error.error_class, NotWhole)(str(error)) from None


def _text(path: Path) -> str:
    """As JSON can carry it."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return FileMount.at(os.fsencode(path)).url
    return str(path)
