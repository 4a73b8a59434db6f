"""`python -m tests.network.link NAMESPACE NAMESPACE`: carries packets between two namespaces, late or not at all.

For kernels without netem. A TUN device `lag0` in each namespace; what one sends, the other gets after `delay_ms` (each
way), less `loss_percent`, at most `rate_kbit`. It prints `up` when the link is there. A line on standard input, such as
`delay_ms=50 loss_percent=100`, sets things anew while it runs; when standard input is closed, the link goes.
"""

from __future__ import annotations

import ctypes
import fcntl
import heapq
import os
import random
import select
import struct
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Final

from pyroute2 import IPRoute

ADDRESSES: Final = ("10.77.0.1", "10.77.0.2")
DEVICE: Final = "lag0"
_CLONE_NEWNET: Final = 0x40000000
_TUNSETIFF: Final = 0x400454CA
_TUN_WITHOUT_HEADERS: Final = 0x0001 | 0x1000
_PACKET_BYTES: Final = 65536
_PACKETS_AT_ONCE: Final = 64
_QUEUE_S: Final = 1.0  # of packets that wait for their turn at `rate_kbit`; more are dropped


@dataclass(frozen=True, slots=True)
class Conditions:
    """What the link is like, both ways; a rate of 0 is no limit."""

    delay_ms: float = 0.0
    loss_percent: float = 0.0
    rate_kbit: float = 0.0

    def changed(self, line: str) -> Conditions:
        """With what a line such as `delay_ms=50 rate_kbit=8000` says."""
        return replace(
            self, **{key: float(value) for key, value in (word.split("=") for word in line.split())}
        )

    def __str__(self) -> str:
        return f"delay_ms={self.delay_ms} loss_percent={self.loss_percent} rate_kbit={self.rate_kbit}"


class Link:
    """The packets under way; `ends` are the two TUN devices' descriptors."""

    def __init__(self, ends: tuple[int, int]) -> None:
        self.conditions = Conditions()
        self._random = random.Random(1)
        self._other = {ends[0]: ends[1], ends[1]: ends[0]}
        self._free_at = dict.fromkeys(ends, 0.0)  # when all that was sent towards an end has left
        self._queue: list[tuple[float, int, int, bytes]] = []
        self._number = 0

    def wait_ms(self) -> float | None:
        """How long nothing is due; None if nothing is under way."""
        return max(0.0, (self._queue[0][0] - time.monotonic()) * 1e3) if self._queue else None

    def take(self, end: int) -> None:
        """Takes what the host at `end` sends."""
        with suppress(BlockingIOError):
            for _ in range(_PACKETS_AT_ONCE):
                self._send(self._other[end], os.read(end, _PACKET_BYTES))

    def deliver(self) -> None:
        """Gives what is due to its host."""
        while self._queue and self._queue[0][0] <= time.monotonic():
            _, _, end, packet = heapq.heappop(self._queue)
            with suppress(OSError):  # the device is down, or its queue is full: lost
                os.write(end, packet)

    def _send(self, end: int, packet: bytes) -> None:
        if self._random.random() * 100 < self.conditions.loss_percent:
            return
        leaves = time.monotonic()
        if self.conditions.rate_kbit:
            begins = max(leaves, self._free_at[end])
            if begins - leaves > _QUEUE_S:
                return
            leaves = self._free_at[end] = begins + len(packet) * 8 / (self.conditions.rate_kbit * 1e3)
        self._number += 1
        heapq.heappush(self._queue, (leaves + self.conditions.delay_ms / 1e3, self._number, end, packet))


def main(namespaces: list[str]) -> None:
    """Carries packets until standard input is closed."""
    first, second = (_tun(name, address) for name, address in zip(namespaces, ADDRESSES, strict=True))
    link = Link((first, second))
    poll = select.poll()
    for descriptor in (first, second, 0):
        poll.register(descriptor, select.POLLIN)
    print("up", flush=True)
    while True:
        for descriptor, _ in poll.poll(link.wait_ms()):
            if descriptor != 0:
                link.take(descriptor)
            elif line := os.read(0, _PACKET_BYTES).decode():
                link.conditions = link.conditions.changed(line)
            else:
                return
        link.deliver()


def _tun(namespace: str, address: str) -> int:
    """A TUN device in the namespace, up and with its address; gives its descriptor."""
    with _entered(namespace):
        descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        fcntl.ioctl(descriptor, _TUNSETIFF, struct.pack("16sH", DEVICE.encode(), _TUN_WITHOUT_HEADERS))
        with IPRoute() as route:
            (index,) = route.link_lookup(ifname=DEVICE)
            route.addr("add", index=index, address=address, prefixlen=24)
            route.link("set", index=index, mtu=1500, txqlen=1000, state="up")
    return descriptor


@contextmanager
def _entered(namespace: str) -> Iterator[None]:
    home = os.open("/proc/self/ns/net", os.O_RDONLY)
    away = os.open(f"/run/netns/{namespace}", os.O_RDONLY)
    try:
        _setns(away)
        yield
    finally:
        _setns(home)
        os.close(away)
        os.close(home)


def _setns(descriptor: int) -> None:
    library = ctypes.CDLL(None, use_errno=True)
    if library.setns(descriptor, _CLONE_NEWNET):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


if __name__ == "__main__":
    main(sys.argv[1:])
