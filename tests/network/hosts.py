"""Two namespaces with a link between them for the time of a block, and commands that run in one of them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pyroute2 import NetNS, netns

from tests.network.link import ADDRESSES, Conditions


@dataclass(frozen=True, slots=True)
class Host:
    """One network namespace: its name and its address on the link."""

    name: str
    address: str

    def command(self, command: Sequence[str]) -> list[str]:
        """The command as it runs in this namespace, with the rest of this machine as it is."""
        return ["nsenter", f"--net=/run/netns/{self.name}", *command]


@dataclass(frozen=True, slots=True)
class Hosts:
    """Both, and the link."""

    near: Host
    far: Host
    _link: subprocess.Popen[str]

    def set(self, conditions: Conditions) -> None:
        """Makes the link so from now on, both ways."""
        assert self._link.stdin is not None
        self._link.stdin.write(f"{conditions}\n")
        self._link.stdin.flush()


def why_none() -> str:
    """Why there can be no namespaces here; empty if there can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    return "" if Path("/dev/net/tun").exists() else "there is no /dev/net/tun"


@contextmanager
def hosts(conditions: Conditions | None = None) -> Iterator[Hosts]:
    """Two hosts that see nothing but each other; all of it is gone at the end of the block."""
    near, far = (Host(f"carfs-{os.getpid()}-{side}", ADDRESSES[side]) for side in range(2))
    made = []
    try:
        for host in (near, far):
            netns.create(host.name)
            made.append(host.name)
            with NetNS(host.name) as namespace:
                namespace.link("set", index=1, state="up")
        command = [sys.executable, "-m", "tests.network.link", near.name, far.name]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as link:
            assert link.stdout is not None
            if link.stdout.readline() != "up\n":
                raise RuntimeError("the link between the namespaces did not come up")
            both = Hosts(near, far, link)
            both.set(conditions or Conditions())
            yield both
            assert link.stdin is not None
            link.stdin.close()
    finally:
        for name in made:
            netns.remove(name)
