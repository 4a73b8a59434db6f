"""Where the API of an IPFS node is, from what people write and what the node leaves in its repository."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.dagstore.failures import ErrorClass, ShardError
from agent.ipfs.address import api_url


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("/ip4/127.0.0.1/tcp/5001", "http://127.0.0.1:5001/"),
        ("/ip4/127.0.0.1/tcp/5001/http", "http://127.0.0.1:5001/"),
        ("/ip6/::1/tcp/5001", "http://[::1]:5001/"),
        ("/dns4/node.example/tcp/443/https", "https://node.example/"),
        ("/dns/node.example/tcp/443/tls/http", "https://node.example/"),
        ("https://me:secret@node.example/ipfs", "https://me:secret@node.example/ipfs"),
    ],
)
def test_an_address_is_a_multiaddr_or_a_url(given: str, expected: str) -> None:
    assert api_url(given, {}).text == expected


@pytest.mark.parametrize(
    "given",
    ["/unix/run/ipfs.sock", "/ip4/127.0.0.1", "/ip4/127.0.0.1/udp/5001", "/ip4/127.0.0.1/tcp/x", "node:5001",
     "/ip4/127.0.0.1/tcp/5001/ws", "/ip4//tcp/5001", "/ip4/127.0.0.1/tcp/99999", "ftp://host"],
)  # fmt: skip
def test_what_is_none_is_said_with_what_to_write(given: str) -> None:
    with pytest.raises(ShardError) as caught:
        api_url(given, {})
    assert caught.value.error_class is ErrorClass.INVALID


def test_without_one_it_is_found_as_ipfs_finds_it(tmp_path: Path) -> None:
    assert api_url("", {"IPFS_PATH": str(tmp_path)}).text == "http://127.0.0.1:5001/"
    assert api_url("", {}).text == "http://127.0.0.1:5001/"
    (tmp_path / "api").write_text("/ip4/127.0.0.1/tcp/9999\n")
    assert api_url("", {"IPFS_PATH": str(tmp_path)}).text == "http://127.0.0.1:9999/"
    (tmp_path / ".ipfs").mkdir()
    (tmp_path / ".ipfs/api").write_text("/ip4/127.0.0.1/tcp/9998")
    assert api_url("", {"HOME": str(tmp_path)}).text == "http://127.0.0.1:9998/"
