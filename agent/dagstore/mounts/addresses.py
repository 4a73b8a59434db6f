"""Which addresses the agent connects to for a URL that somebody gave it.

A URL is a way to make the agent ask its own network: a router, a database, the metadata service of a cloud that hands
out keys. So what is not on the public Internet is refused unless the operator allows it, and what is checked is the
address that is connected to: a name is resolved once, not once to be checked and again to be used.
"""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable, Iterable, Set
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Any, Final

import httpcore2
import trio

from agent.dagstore.failures import ErrorClass, ShardError
from agent.dagstore.mounts.mount import TryLater

_NAT64: Final = IPv6Network("64:ff9b::/96")  # RFC 6052: an IPv4 address in the last four bytes
# Which Python's ipaddress has as global, at least some versions of it.
_ALSO_PRIVATE: Final = (
    IPv4Network("192.0.0.0/24"),  # IETF assignments; Oracle's clouds have their metadata service at .192
    IPv4Network("192.88.99.0/24"),  # relays of 6to4
    IPv4Network("168.63.129.16/32"),  # the service of Azure that hands out certificates
)
_UNKNOWN_NAME: Final = frozenset({socket.EAI_NONAME, socket.EAI_NODATA})

Resolve = Callable[[str, int], Awaitable[list[str]]]
"""Addresses of a name, best first; raises socket.gaierror."""


def is_public(address: str) -> bool:
    """Whether this is a host of the public Internet, also if the address of one is wrapped in IPv6."""
    found = ip_address(address)
    if isinstance(found, IPv6Address):
        inside = _wrapped(found)
        if inside is not None:
            return is_public(str(inside))
        if found.is_site_local or found.is_reserved:  # Python has them as global: fec0::1, ::127.0.0.1
            return False
    elif any(found in network for network in _ALSO_PRIVATE):
        return False
    return found.is_global and not found.is_multicast


def _wrapped(address: IPv6Address) -> IPv4Address | None:
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    teredo = address.teredo
    return address.ipv4_mapped or address.sixtofour or (teredo[1] if teredo is not None else None)


async def resolve(host: str, port: int) -> list[str]:
    """By the system's resolver, in a thread of trio's."""
    found = await trio.socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


class GuardedBackend(httpcore2.AsyncNetworkBackend):
    """Connects to what a name stands for, if that may be."""

    def __init__(
        self,
        *,
        allow_private: bool,
        trusted: Set[tuple[str, int]] = frozenset(),
        resolve: Resolve = resolve,
    ) -> None:
        """`trusted` are hosts and ports that may be private in any case."""
        self._allow_private = allow_private
        self._trusted = trusted
        self._resolve = resolve
        self._inner = httpcore2.TrioBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,  # Any: httpcore2's own type of tuples
    ) -> httpcore2.AsyncNetworkStream:
        """Tries the addresses in turn; raises ShardError (denied, gone, busy) or httpcore2's own."""
        deadline = trio.current_time() + (30.0 if timeout is None else timeout)
        addresses = await self._addresses(host, port, deadline)
        for number, address in enumerate(addresses, 1):
            # An address that swallows packets does not take the time of the next one.
            share = (deadline - trio.current_time()) / (len(addresses) - number + 1)
            try:
                return await self._inner.connect_tcp(
                    address, port, max(share, 0.001), local_address, socket_options
                )
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout):
                if number == len(addresses):
                    raise
        raise AssertionError("no address")

    async def sleep(self, seconds: float) -> None:
        await trio.sleep(seconds)

    async def _addresses(self, host: str, port: int, deadline: float) -> list[str]:
        with trio.move_on_at(deadline) as scope:
            try:
                found = await self._resolve(host, port)
            except socket.gaierror as error:
                if error.errno in _UNKNOWN_NAME:
                    message = f"there is no host {host!r}"
                    raise ShardError(ErrorClass.GONE, message, origin_failed=True) from error
                raise TryLater(f"the name {host!r} cannot be resolved now: {error.strerror}") from error
        if scope.cancelled_caught or not found:
            raise TryLater(f"the name {host!r} could not be resolved in time")
        any_address = self._allow_private or (host, port) in self._trusted
        permitted = [address for address in found if any_address or is_public(address)]
        if not permitted:
            hint = "set mounts.allow_private to let mounts read from such hosts"
            raise ShardError(ErrorClass.DENIED, f"{host!r} is a private address ({found[0]}); {hint}")
        return permitted
