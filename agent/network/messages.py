"""rtnetlink (rtnetlink(7)) as changes of `state.Network`: pyroute2 parses, this picks out what counts."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Iterator
from ipaddress import ip_address, ip_network
from typing import Any, Final

from agent.network.state import Address, Change, Interface, Item, Route

LISTED: Final = (18, 22, 26)  # RTM_GETLINK, RTM_GETADDR, RTM_GETROUTE
GROUPS: Final = 0x1 | 0x10 | 0x40 | 0x100 | 0x400
"""RTMGRP_LINK, RTMGRP_IPV4_IFADDR, RTMGRP_IPV4_ROUTE, RTMGRP_IPV6_IFADDR, RTMGRP_IPV6_ROUTE."""

_DONE, _ERROR = 3, 2  # NLMSG_DONE, NLMSG_ERROR
_REQUEST_DUMP = 0x1 | 0x300  # NLM_F_REQUEST, NLM_F_DUMP
_UP, _LOOPBACK, _LOWER_UP = 0x1, 0x8, 0x10000  # IFF_…
_UNICAST, _LOCAL_TABLE = 1, 255  # RTN_UNICAST, RT_TABLE_LOCAL

Message = Any  # pyroute2's nlmsg, a mapping of fields with attributes by name
Parse = Callable[[bytes], Iterator[Message]]


def parser() -> Parse:
    """pyroute2's parser; 0.1 s to load, so not before it is needed."""
    from pyroute2.netlink.rtnl.marshal import MarshalRtnl

    parse: Parse = MarshalRtnl().parse
    return parse


def request(kind: int, sequence: int) -> bytes:
    """A request for all of a kind, of `LISTED`."""
    return struct.pack("=IHHIIB3x", 20, kind, _REQUEST_DUMP, sequence, 0, socket.AF_UNSPEC)


def is_end(message: Message) -> bool:
    """Whether it is the last word of a listing, good or bad."""
    return int(message["header"]["type"]) in (_DONE, _ERROR)


def change_of(message: Message) -> Change | None:
    """What it says; None if that is nothing to us."""
    event = str(message.get("event") or "")
    items: tuple[Item, ...]
    match event.removeprefix("RTM_NEW").removeprefix("RTM_DEL"):
        case "LINK":
            items = (_interface(message),)
        case "ADDR":
            items = _address(message)
        case "ROUTE":
            items = tuple(_routes(message))
        case _:
            return None
    return Change(items, gone=event.startswith("RTM_DEL")) if items else None


def _interface(message: Message) -> Interface:
    flags = int(message["flags"])
    runs = bool(flags & _UP and flags & _LOWER_UP)
    name = str(message.get_attr("IFLA_IFNAME") or message["index"])
    return Interface(int(message["index"]), name, runs, bool(flags & _LOOPBACK))


def _address(message: Message) -> tuple[Item, ...]:
    """Ours is IFA_LOCAL where there is one: on a link from point to point, IFA_ADDRESS is the other end's."""
    text = message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS")
    return (Address(int(message["index"]), ip_address(text)),) if text else ()


def _routes(message: Message) -> Iterator[Route]:
    table = int(message.get_attr("RTA_TABLE") or message["table"])
    if message["type"] != _UNICAST or table == _LOCAL_TABLE:
        return
    anywhere = {int(socket.AF_INET): "0.0.0.0", int(socket.AF_INET6): "::"}.get(message["family"])
    if anywhere is None:
        return
    network = ip_network(f"{message.get_attr('RTA_DST') or anywhere}/{message['dst_len']}", strict=False)
    hops = message.get_attr("RTA_MULTIPATH") or []
    for interface in [message.get_attr("RTA_OIF"), *(hop["oif"] for hop in hops)]:
        if interface:
            yield Route(table, network, int(interface))
