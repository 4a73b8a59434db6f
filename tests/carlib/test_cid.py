"""CIDs: binary and text, versions 0 and 1, and multiformats as the oracle."""

import multiformats
import pytest
from hypothesis import given
from hypothesis import strategies as st

from carlib import multibase, multihash
from carlib.cid import DAG_CBOR, DAG_PB, RAW, Cid, codec_name, read_cid
from carlib.errors import CarError, LimitExceeded, Malformed, Truncated
from tests.carlib.cars import BLOCKS, V0

EMPTY_FILE_V0 = "QmbFMke1KXqnYyBBWxB74N4c5SBnJMVAiMNRcGu6x1AwQH"
EMPTY_RAW = "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku"


@pytest.mark.parametrize("text", [EMPTY_FILE_V0, EMPTY_RAW, "bafkqaaa", "bafyaabakaieac"])
def test_text_round_trip(text: str) -> None:
    assert str(Cid.parse(text)) == text
    assert Cid.parse(Cid.parse(text).raw) == Cid.parse(text)


def test_fields_of_v0_and_v1() -> None:
    v0 = Cid.parse(EMPTY_FILE_V0)
    assert (v0.version, v0.codec, v0.hash_code, len(v0.digest), v0.is_identity) == (
        0,
        DAG_PB,
        0x12,
        32,
        False,
    )
    v1 = Cid.of(b"x", DAG_CBOR, multihash.SHA2_512)
    assert (v1.version, v1.codec, v1.hash_code, len(v1.digest)) == (1, DAG_CBOR, 0x13, 64)
    identity = Cid.identity(b"data")
    assert (identity.is_identity, identity.digest, identity.codec) == (True, b"data", RAW)


def test_v0_and_its_v1_differ_but_share_the_multihash() -> None:
    v1 = Cid.v1(DAG_PB, V0.multihash)
    assert (v1 == V0, v1.multihash == V0.multihash, V0.encode("base32") == str(v1)) == (False, True, True)


@pytest.mark.parametrize(
    "base", ["base16", "base32", "base32upper", "base36", "base58btc", "base64url", "base2"]
)
def test_every_base_agrees_with_multiformats(base: str) -> None:
    cid = Cid.of(b"hello", DAG_CBOR)
    text = multiformats.CID.decode(cid.raw).set(base=base).encode(base)
    assert Cid.parse(text) == cid
    assert cid.encode(base) == text


@given(st.binary(max_size=60))
def test_base58_agrees_with_multiformats(data: bytes) -> None:
    text = multibase.base58_encode(data)
    assert "z" + text == multiformats.multibase.get("base58btc").encode(data)
    assert multibase.base58_decode(text) == data


@pytest.mark.parametrize(
    "text",
    [
        "",
        "b",
        "hello world",
        "Qm",
        EMPTY_RAW[:-1],
        EMPTY_RAW + "a",
        "bAFKQAAA",
        "z" + EMPTY_FILE_V0,
        "é",
        "b" * 9000,
    ],
)
def test_bad_text_is_malformed(text: str) -> None:
    with pytest.raises(Malformed):
        Cid.parse(text)


def test_paths_and_urls_in_front_are_taken() -> None:
    assert str(Cid.parse("/ipfs/bafkqaaa")) == str(Cid.parse("ipfs://bafkqaaa")) == "bafkqaaa"


@pytest.mark.parametrize(
    ("raw", "error"),
    [
        ("12", Truncated),
        ("1221", Malformed),  # v0 must be 32 bytes
        ("0255122000", Malformed),  # version 2
        ("0155122000", Truncated),
        ("015500ffff7f", LimitExceeded),
        ("0155808080808080808080", Malformed),
    ],
)
def test_bad_binary(raw: str, error: type[CarError]) -> None:
    with pytest.raises(error):
        read_cid(bytes.fromhex(raw), 0, len(raw) // 2)


def test_a_cid_in_the_middle_ends_where_it_ends() -> None:
    for cid, _data in BLOCKS:
        assert read_cid(b"??" + cid.raw + b"??", 2, 4 + len(cid.raw)) == 2 + len(cid.raw)


@given(st.binary(max_size=80))
def test_any_bytes_give_a_cid_or_our_error(data: bytes) -> None:
    try:
        cid = Cid.parse(data)
    except CarError:
        return
    assert cid.raw == data
    assert Cid.parse(str(cid)) == cid


@given(st.text(max_size=80))
def test_any_text_gives_a_cid_or_our_error(text: str) -> None:
    try:
        Cid.parse(text)
    except CarError:
        return


def test_codec_names() -> None:
    assert [codec_name(code) for code in (RAW, DAG_PB, 0x9999)] == ["raw", "dag-pb", "0x9999"]
    for code in (RAW, DAG_PB, DAG_CBOR, 0x72, 0x0129):
        assert codec_name(code) == multiformats.multicodec.get(code=code).name
