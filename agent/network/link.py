"""Whether there is a way to a host at all: what transfers wait for, instead of using up their attempts."""

from __future__ import annotations

from typing import Protocol

import trio


class Link(Protocol):
    """The way to other hosts, as the kernel sees it; it says nothing of the other end."""

    def is_up(self, host: str = "") -> bool:
        """False where it is known that nothing gets to `host`: no route, an interface without a carrier.

        `host` is an address, or a name, for which (and for "") it is whether there is any way out. Loopback is up.
        """

    async def wait_up(self, host: str = "") -> None:
        """Returns as soon as it is up."""

    async def wait_down(self, host: str = "") -> None:
        """Returns as soon as it is not."""


class AlwaysUp:
    """A `Link` where nobody looks."""

    def is_up(self, host: str = "") -> bool:
        return True

    async def wait_up(self, host: str = "") -> None:
        await trio.lowlevel.checkpoint()

    async def wait_down(self, host: str = "") -> None:
        await trio.sleep_forever()
