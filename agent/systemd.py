"""What systemd wants to hear (sd_notify) and how it likes its log lines."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, MutableMapping
from typing import Final

FIRST_GIVEN: Final = 3  # sd_listen_fds(3)


def notify(*lines: str, environ: Mapping[str, str] = os.environ) -> bool:
    """Sends `READY=1`, `STOPPING=1`, `STATUS=…`; False if nobody listens, which is never an error of ours."""
    address = environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return False
    if address.startswith("@"):  # Linux' abstract namespace
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
        try:
            sender.sendto("\n".join(lines).encode(), address)
        except OSError:
            return False
    return True


def watchdog_s(environ: Mapping[str, str] = os.environ) -> float | None:
    """Seconds in which systemd wants to hear from us (`WATCHDOG=1`), if it does (sd_watchdog_enabled(3))."""
    text, pid = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", "")
    if not text.isdecimal() or not int(text) or (pid and pid != str(os.getpid())):
        return None
    return int(text) / 1e6


def given_sockets(environ: MutableMapping[str, str] = os.environ) -> list[socket.socket]:
    """Sockets that systemd listens on for us (sd_listen_fds(3)); once, since the variables are taken away."""
    count, pid = environ.pop("LISTEN_FDS", ""), environ.pop("LISTEN_PID", "")
    environ.pop("LISTEN_FDNAMES", None)
    if not count.isdecimal() or pid != str(os.getpid()):
        return []
    found = []
    for descriptor in range(FIRST_GIVEN, FIRST_GIVEN + int(count)):
        os.set_inheritable(descriptor, False)
        found.append(socket.socket(fileno=descriptor))
    return found


def is_journal(descriptor: int, environ: Mapping[str, str] = os.environ) -> bool:
    """Whether what is written to `descriptor` goes to the journal (systemd.exec(5), $JOURNAL_STREAM)."""
    try:
        found = os.fstat(descriptor)
    except OSError:
        return False
    return environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"
