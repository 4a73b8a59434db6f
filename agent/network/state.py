"""What the kernel says of interfaces, addresses and routes, as a value, and what follows from it. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final

Ip = IPv4Address | IPv6Address
MOST_ROUTES: Final = 4096
"""Beyond that this is a router, whose routes are too many to follow: all is taken for reachable."""


@dataclass(frozen=True, slots=True)
class Interface:
    """One of them; `runs`: it is switched on and has a carrier."""

    index: int
    name: str
    runs: bool
    is_loopback: bool


@dataclass(frozen=True, slots=True)
class Address:
    """One of ours, on an interface."""

    interface: int
    ip: Ip


@dataclass(frozen=True, slots=True)
class Route:
    """A way to a network over an interface; the kernel has tables of them, of which any may count."""

    table: int
    network: IPv4Network | IPv6Network
    interface: int


Item = Interface | Address | Route


@dataclass(frozen=True, slots=True)
class Change:
    """What one message says: these are there now, or have gone."""

    items: tuple[Item, ...]
    gone: bool = False


@dataclass(slots=True)
class Network:
    """All of it. Before the kernel has told everything, nothing is known, and everybody is reachable."""

    interfaces: dict[int, Interface] = field(default_factory=dict)
    addresses: set[Address] = field(default_factory=set)
    routes: set[Route] = field(default_factory=set)
    is_known: bool = False

    def apply(self, change: Change) -> None:
        """What a vanished interface had vanishes with it."""
        for item in change.items:
            match item:
                case Interface(index=index) if change.gone:
                    self.interfaces.pop(index, None)
                    self.addresses = {one for one in self.addresses if one.interface != index}
                    self.routes = {one for one in self.routes if one.interface != index}
                case Interface(index=index):
                    self.interfaces[index] = item
                case Address():
                    (self.addresses.discard if change.gone else self.addresses.add)(item)
                case Route() if change.gone:
                    self.routes.discard(item)
                case Route():
                    if len(self.routes) <= MOST_ROUTES:
                        self.routes.add(item)

    def reaches(self, host: str) -> bool:
        """Whether anything leads to `host`: an address, or a name, for which (and for "") any way out will do."""
        if not self.is_known or len(self.routes) > MOST_ROUTES or host == "localhost":
            return True
        ip = _ip(host)
        if ip is None:
            return any(self._runs(route.interface) for route in self.routes)
        if ip.is_loopback or any(one.ip == ip for one in self.addresses):
            return True
        best: dict[int, int] = {}
        for route in self.routes:
            if ip.version == route.network.version and ip in route.network:
                best[route.table] = max(best.get(route.table, 0), route.network.prefixlen)
        return any(
            self._runs(route.interface)
            for route in self.routes
            if ip.version == route.network.version
            and ip in route.network
            and route.network.prefixlen == best[route.table]
        )

    def reachable_at(self) -> list[Ip]:
        """Our addresses that others may know us by, in a fixed order: those of interfaces that run, without loopback
        and those of one link alone."""
        found = {
            one.ip
            for one in self.addresses
            if self._runs(one.interface) and not one.ip.is_loopback and not one.ip.is_link_local
        }
        return sorted(found, key=lambda ip: (ip.version, int(ip)))

    def _runs(self, interface: int) -> bool:
        found = self.interfaces.get(interface)
        return found is not None and found.runs and not found.is_loopback


def announced(listen: tuple[str, ...], network: Network, scheme: str) -> list[str]:
    """URLs at which others find what listens at `listen` ("host:port"); a wildcard is all addresses of ours."""
    urls: list[str] = []
    for one in listen:
        host, _, port = one.rpartition(":")
        host = host.strip("[]")
        ip = _ip(host)
        hosts = [host]
        if host == "" or (ip is not None and ip.is_unspecified):
            takes_all = ip is None or ip.version == 6  # the kernel's default for a wildcard of IPv6
            hosts = [str(ours) for ours in network.reachable_at() if takes_all or ours.version == 4]
        urls += [f"{scheme}://{f'[{name}]' if ':' in name else name}:{port}" for name in hosts]
    return list(dict.fromkeys(urls))


def _ip(host: str) -> Ip | None:
    try:
        ip = ip_address(host.strip("[]").partition("%")[0])
    except ValueError:
        return None
    return getattr(ip, "ipv4_mapped", None) or ip
