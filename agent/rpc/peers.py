"""Who calls, and what that allows; at a Unix socket by SO_PEERCRED: the kernel's word, not the peer's."""

from __future__ import annotations

import enum
import os
import pwd
import socket
import struct
from dataclasses import dataclass


class Permission(enum.IntEnum):
    """Lotus' levels; each includes those before it."""

    READ = 1
    WRITE = 2
    SIGN = 3
    ADMIN = 4


@dataclass(frozen=True, slots=True)
class Peer:
    """The process that connected."""

    pid: int
    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks for something, and how much that one may."""

    permission: Permission
    name: str  # for people and for the history of shards


def peer_of(connection: socket.socket) -> Peer:
    """The peer of a connected Unix socket."""
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return Peer(*struct.unpack("3i", raw))


def permission_of(peer: Peer, *, admin_gid: int | None) -> Permission:
    """Admin for our own user, root, and the admin group; read for all others."""
    if peer.uid in (os.geteuid(), 0):
        return Permission.ADMIN
    if admin_gid is not None and admin_gid in _groups(peer):
        return Permission.ADMIN
    return Permission.READ


def _groups(peer: Peer) -> list[int]:
    """The groups of the peer's user, as the user database has them; the kernel reports the first only."""
    try:
        name = pwd.getpwuid(peer.uid).pw_name
    except KeyError:
        return [peer.gid]
    return os.getgrouplist(name, peer.gid)
