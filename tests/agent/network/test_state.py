"""What follows from interfaces, addresses and routes."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest

from agent.network.state import MOST_ROUTES, Address, Change, Interface, Network, Route, announced

LO = Interface(1, "lo", runs=True, is_loopback=True)
ETH = Interface(2, "eth0", runs=True, is_loopback=False)
WLAN = Interface(3, "wlan0", runs=False, is_loopback=False)


def route(network: str, interface: int, table: int = 254) -> Route:
    return Route(table, ip_network(network), interface)


def network(*items: Interface | Address | Route) -> Network:
    made = Network(is_known=True)
    made.apply(Change(items))
    return made


HOME = network(
    LO, ETH, WLAN, Address(1, ip_address("127.0.0.1")), Address(2, ip_address("192.0.2.7")),
    Address(3, ip_address("198.51.100.7")), Address(2, ip_address("fe80::7")), Address(2, ip_address("2001:db8::7")),
    route("192.0.2.0/24", 2), route("198.51.100.0/24", 3), route("2001:db8::/64", 2),
)  # fmt: skip


@pytest.mark.parametrize(
    ("host", "is_reached"),
    [
        ("192.0.2.1", True),
        ("198.51.100.1", False),  # its interface has no carrier
        ("203.0.113.1", False),  # there is no route
        ("198.51.100.7", True),  # ours
        ("127.0.0.5", True),
        ("::1", True),
        ("localhost", True),
        ("2001:db8::1", True),
        ("[2001:db8::1]", True),
        ("2001:db9::1", False),
        ("::ffff:192.0.2.1", True),
        ("::ffff:203.0.113.1", False),
        ("gateway.example", True),
        ("", True),
    ],
)
def test_a_host_is_reached_by_a_route_over_an_interface_that_runs(host: str, is_reached: bool) -> None:
    assert HOME.reaches(host) is is_reached


def test_the_longest_prefix_counts_and_any_table_will_do() -> None:
    found = network(ETH, WLAN, route("0.0.0.0/0", 2), route("198.51.100.0/24", 3))
    assert found.reaches("203.0.113.1") and not found.reaches("198.51.100.1")
    found.apply(Change((route("198.51.100.0/24", 2, table=7),)))
    assert found.reaches("198.51.100.1")


def test_a_vanished_interface_takes_what_it_had_with_it() -> None:
    found = network(LO, ETH, Address(2, ip_address("192.0.2.7")), route("0.0.0.0/0", 2))
    assert found.reaches("a.example") and found.reachable_at()
    found.apply(Change((ETH,), gone=True))
    assert (found.addresses, found.routes, found.reachable_at()) == (set(), set(), [])
    assert not found.reaches("a.example") and not found.reaches("")


def test_nothing_is_said_to_be_down_that_is_not_known_to_be() -> None:
    assert Network().reaches("203.0.113.1")
    many = Network(is_known=True)
    many.apply(Change(tuple(route(f"10.{n >> 8}.{n & 255}.0/24", 2) for n in range(MOST_ROUTES + 9))))
    assert len(many.routes) == MOST_ROUTES + 1
    assert many.reaches("203.0.113.1")


def test_what_is_announced_follows_the_interfaces() -> None:
    assert announced(("192.0.2.7:80",), HOME, "http") == ["http://192.0.2.7:80"]
    assert announced(("0.0.0.0:80",), HOME, "http") == ["http://192.0.2.7:80"]
    both = ["https://192.0.2.7:80", "https://[2001:db8::7]:80"]
    assert announced(("[::]:80",), HOME, "https") == announced((":80", "0.0.0.0:80"), HOME, "https") == both
    assert announced(("gateway.example:80",), HOME, "http") == ["http://gateway.example:80"]
    assert announced((), HOME, "http") == []
