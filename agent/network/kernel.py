"""The `Link` that the kernel tells of: a netlink socket that trio waits on, and the network as it last was."""

from __future__ import annotations

import errno
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import trio

from agent.network import messages
from agent.network.state import MOST_ROUTES, Network, announced

logger = logging.getLogger(__name__)

_PIECE_BYTES = 1 << 16  # the kernel's messages of a listing come in up to half of that
_BUFFER_BYTES = 1 << 20
_AGAIN_S = 1.0  # after an error of the socket, before all is listed anew


class KernelLink:
    """Get it from `open_link`."""

    def __init__(self) -> None:
        self.network = Network()
        self._changed = trio.Event()

    def is_up(self, host: str = "") -> bool:
        return self.network.reaches(host)

    async def wait_up(self, host: str = "") -> None:
        await self._wait(host, up=True)

    async def wait_down(self, host: str = "") -> None:
        await self._wait(host, up=False)

    async def _wait(self, host: str, *, up: bool) -> None:
        await trio.lowlevel.checkpoint()
        while self.network.reaches(host) is not up:
            await self._changed.wait()

    def poke(self) -> None:
        """Has all who wait look again."""
        self._changed.set()
        self._changed = trio.Event()

    async def follow(self) -> None:
        """Keeps it true, for ever. Where no netlink is to be had, everybody stays reachable."""
        parse = await trio.to_thread.run_sync(messages.parser)
        while True:
            try:
                await self._listed_and_followed(parse)
            except OSError as error:
                if error.errno != errno.ENOBUFS:  # the usual: too much at once, and some of it was lost
                    logger.warning(
                        "the network cannot be watched: %s; all is taken for reachable", error.strerror
                    )
                    self.network = Network()
                    self.poke()
                    if error.errno in (errno.EPERM, errno.EACCES, errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT):
                        return
                    await trio.sleep(_AGAIN_S)

    async def _listed_and_followed(self, parse: messages.Parse) -> None:
        """Raises OSError, with ENOBUFS where all is to be listed anew."""
        network = Network()
        to_list = list(messages.LISTED)
        with socket.socket(
            socket.AF_NETLINK,
            socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC,
            socket.NETLINK_ROUTE,
        ) as netlink:
            netlink.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)
            netlink.bind((0, messages.GROUPS))
            netlink.send(messages.request(to_list.pop(0), 1))
            while True:
                await trio.lowlevel.wait_readable(netlink)
                for message in parse(netlink.recv(_PIECE_BYTES)):
                    change = messages.change_of(message)
                    if change is not None:
                        network.apply(change)
                    elif messages.is_end(message) and not network.is_known:
                        if to_list:
                            netlink.send(messages.request(to_list.pop(0), 1))
                        else:
                            self._begin(network)
                if network.is_known:
                    self.poke()

    def _begin(self, network: Network) -> None:
        network.is_known = True
        self.network = network
        if len(network.routes) > MOST_ROUTES:
            logger.info("more than %d routes: all is taken for reachable", MOST_ROUTES)


@dataclass(frozen=True, slots=True)
class Announcing:
    """What others are told of how to reach the gateway, which listens at `listen`."""

    link: KernelLink
    listen: tuple[str, ...]
    scheme: str

    def urls(self) -> list[str]:
        """As it is now."""
        return announced(self.listen, self.link.network, self.scheme)


@asynccontextmanager
async def open_link() -> AsyncIterator[KernelLink]:
    """Watches for the time of a block."""
    link = KernelLink()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(link.follow)
        yield link
        nursery.cancel_scope.cancel()
