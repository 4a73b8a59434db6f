"""Hash functions against multiformats, and the check of a block."""

import multiformats
import pytest

from carlib import multihash, varint
from carlib.cid import RAW, Cid
from carlib.errors import HashMismatch, Malformed, UnknownHash
from tests.carlib.cars import BLOCKS

SHA = ["sha1", "sha2-256", "sha2-384", "sha2-512", "sha3-224", "sha3-256", "sha3-384", "sha3-512"]
BLAKE = ["blake3", "blake2b-256", "blake2b-160", "blake2b-512", "blake2s-256"]


@pytest.mark.parametrize("name", [*SHA, *BLAKE, "dbl-sha2-256", "identity"])
def test_digests_agree_with_multiformats(name: str) -> None:
    if name == "dbl-sha2-256":  # multiformats has no implementation of it
        expected = multihash.digest(multihash.SHA2_256, multihash.digest(multihash.SHA2_256, b"abc"))
        assert multihash.digest(multihash.DBL_SHA2_256, b"abc") == expected
        return
    oracle = multiformats.multihash.get(name)
    assert multihash.NAMES[oracle.code] == name
    size = 32 if name == "blake3" else None
    assert multihash.digest(oracle.code, b"abc") == oracle.unwrap(oracle.digest(b"abc", size=size))


def test_every_kind_of_block_passes_and_every_changed_one_fails() -> None:
    for cid, data in BLOCKS:
        multihash.check(cid, data)
        with pytest.raises(HashMismatch) as caught:
            multihash.check(cid, data + b"!")
        assert caught.value.cid == cid


def test_a_shortened_digest_is_a_prefix_and_no_less_than_20_bytes() -> None:
    digest = multihash.digest(multihash.SHA2_256, b"abc")
    multihash.check(Cid.v1(RAW, varint.encode(0x12) + varint.encode(20) + digest[:20]), b"abc")
    with pytest.raises(Malformed, match="proves nothing"):
        multihash.check(Cid.v1(RAW, varint.encode(0x12) + varint.encode(19) + digest[:19]), b"abc")


def test_an_unknown_function_is_a_clear_error() -> None:
    with pytest.raises(UnknownHash, match="hash function 0x1012 is not supported"):
        multihash.check(Cid.v1(RAW, varint.encode(0x1012) + varint.encode(32) + bytes(32)), b"abc")
