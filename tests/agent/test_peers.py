"""Permissions on the socket come from the kernel's word about the peer."""

from __future__ import annotations

import os
import pwd
import socket

import pytest

from agent.rpc.peers import Peer, Permission, peer_of, permission_of


def test_the_peer_is_who_connected() -> None:
    one, two = socket.socketpair()
    with one, two:
        assert peer_of(one) == Peer(os.getpid(), os.getuid(), os.getgid())


def test_levels_are_nested() -> None:
    assert Permission.READ < Permission.WRITE < Permission.SIGN < Permission.ADMIN


@pytest.mark.parametrize(
    ("uid", "gid", "admin_gid", "permission"),
    [
        (0, 0, None, Permission.ADMIN),
        (4_000_000, 4_000_000, None, Permission.READ),
        (4_000_000, 777, 777, Permission.ADMIN),
        (4_000_000, 778, 777, Permission.READ),
    ],
)
def test_root_and_the_admin_group_may_do_all_and_others_read(
    uid: int, gid: int, admin_gid: int | None, permission: Permission
) -> None:
    assert permission_of(Peer(1, uid, gid), admin_gid=admin_gid) is permission


def test_our_own_user_may_do_all() -> None:
    assert permission_of(Peer(1, os.geteuid(), 4_000_000), admin_gid=None) is Permission.ADMIN


def test_further_groups_of_a_user_count() -> None:
    user = next(user for user in pwd.getpwall() if user.pw_uid not in (0, os.geteuid()))
    for group in os.getgrouplist(user.pw_name, user.pw_gid):
        assert permission_of(Peer(1, user.pw_uid, user.pw_gid), admin_gid=group) is Permission.ADMIN
