"""`rpc.discover` and Lotus' name for it: what there is to call, as an OpenRPC document."""

from __future__ import annotations

from agent.rpc.openrpc import Document, document
from agent.rpc.peers import Permission
from agent.rpc.registry import METHODS, NoParams, method
from agent.rpc.services import Services


@method("rpc.discover", Permission.READ)
async def discover(services: Services, params: NoParams) -> Document:
    """The OpenRPC document of all methods."""
    return document(METHODS, services.version)


@method("Filecoin.Discover", Permission.READ)
async def discover_as_lotus(services: Services, params: NoParams) -> Document:
    """The OpenRPC document of all methods."""
    return document(METHODS, services.version)
