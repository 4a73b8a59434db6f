"""`Carfs.Network`: the way to others, and theirs to us."""

from __future__ import annotations

import msgspec

from agent.rpc.backend import not_set_up
from agent.rpc.peers import Permission
from agent.rpc.registry import NoParams, method
from agent.rpc.services import Services


class InterfaceShown(msgspec.Struct, frozen=True, rename="pascal"):
    """`Up`: it is switched on and has a carrier."""

    name: str
    up: bool
    addresses: tuple[str, ...]


class NetworkShown(msgspec.Struct, frozen=True, rename="pascal"):
    """`Known`: whether the kernel tells; if not, all is taken for reachable. `Up`: whether there is any way out.
    `Announced`: URLs by which others reach the gateway."""

    known: bool
    up: bool
    interfaces: tuple[InterfaceShown, ...]
    announced: tuple[str, ...]


@method("Carfs.Network", Permission.READ)
async def network(services: Services, params: NoParams) -> NetworkShown:
    """Interfaces, addresses, and where the gateway is reached from elsewhere, as it is now."""
    if services.announcing is None:
        raise not_set_up("network")
    found = services.announcing.link.network
    shown = tuple(
        InterfaceShown(
            one.name,
            one.runs,
            tuple(sorted(str(at.ip) for at in found.addresses if at.interface == one.index)),
        )
        for one in sorted(found.interfaces.values(), key=lambda one: one.index)
    )
    return NetworkShown(found.is_known, found.reaches(""), shown, tuple(services.announcing.urls()))
