"""Root CIDs that kubo gives for the same input: every profile, layout and threshold, restated from its tests."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import pytest

from carlib import multihash
from carlib.blockstore import MemoryBlocks
from carlib.cid import Cid
from carlib.unixfs.builder import Builder
from carlib.unixfs.profile import PROFILES, Layout, Profile
from tests.carlib.building import built_directory, built_file, numbered
from tests.carlib.keystream import keystream, pieces

V0, V1 = PROFILES["unixfs-v0-2015"], PROFILES["unixfs-v1-2025"]
ALPHABET = b"abcdefghijklmnopqrstuvwxyz01234567890-_"
MIB = 1 << 20


def variant(profile: Profile, **changes: Any) -> Profile:
    return dataclasses.replace(profile, **changes)


def kubo_names(seed: str, count: int, length: int, last_length: int) -> Iterator[tuple[bytes, bytes]]:
    stream = keystream(seed, (count - 1) * length + last_length)
    for index in range(count):
        start, size = index * length, length if index < count - 1 else last_length
        yield bytes(ALPHABET[byte % 39] for byte in stream[start : start + size]), b"x"


@pytest.mark.parametrize(
    ("profile", "cid"),
    [
        (V0, "Qmf412jQZiuVUtdgnB36FXFX7xg5V6KEbSJ4dpQuhkLyfD"),
        (V1, "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e"),
        (variant(V1, raw_leaves=False), "bafybeihykld7uyxzogax6vgyvag42y7464eywpf55gxi5qpoisibh3c5wa"),
        (
            variant(V1, hash_code=multihash.SHA2_512),
            "bafkrgqbqt3gerhas23vuzrapkdeqf4vu2dwxp3srdj6hvg6nhsug2tgyn6mj3u23yx7utftq3i2ckw2fwdh5qmhid5qf3t35yvkc5e5ottlw6",
        ),
    ],
)
def test_hello_world(profile: Profile, cid: str) -> None:
    assert built_file(profile, [b"hello world"]) == cid


@pytest.mark.parametrize(
    ("profile", "seed", "length", "cid"),
    [
        (V0, "chunk-v0-seed", 262144, "QmWmRj3dFDZdb6ABvbmKhEL6TmPbAfBZ1t5BxsEyJrcZhE"),
        (V0, "chunk-v0-seed", 262145, "QmYyLxtzZyW22zpoVAtKANLRHpDjZtNeDjQdJrcQNWoRkJ"),
        (V0, "v0-seed", 45613056, "QmUbBALi174SnogsUzLpYbD4xPiBSFANF4iztWCsHbMKh2"),
        (V0, "v0-seed", 45613057, "QmV81WL765sC8DXsRhE5fJv2rwhS4icHRaf3J9Zk5FdRnW"),
        (V1, "chunk-v1-seed", MIB, "bafkreiacndfy443ter6qr2tmbbdhadvxxheowwf75s6zehscklu6ezxmta"),
        (V1, "chunk-v1-seed", MIB + 1, "bafybeigmix7t42i6jacydtquhet7srwvgpizfg7gjbq7627d35mjomtu64"),
        (
            variant(V0, layout=Layout.TRICKLE),
            "trickle-test",
            47185920,
            "QmbqR6g7YCpndLcCZZXkGyj13uMcSrwDYUvZ47vJqBVjUH",
        ),
    ],
)
def test_chunk_and_width_boundaries(profile: Profile, seed: str, length: int, cid: str) -> None:
    assert built_file(profile, pieces(seed, length)) == cid


@pytest.mark.slow
@pytest.mark.parametrize(
    ("profile", "seed", "length", "cid"),
    [
        (variant(V0, width=1024), "hello world", 268435456, "QmbBftNHWmjSWKLC49dMVrfnY8pjrJYntiAXirFJ7oJrNk"),
        (V1, "v1-2025-seed", 1024 * MIB, "bafybeihmf37wcuvtx4hpu7he5zl5qaf2ineo2lqlfrapokkm5zzw7zyhvm"),
        (V1, "v1-2025-seed", 1024 * MIB + 1, "bafybeibdsi225ugbkmpbdohnxioyab6jsqrmkts3twhpvfnzp77xtzpyhe"),
    ],
)
def test_width_boundaries_of_wide_nodes(profile: Profile, seed: str, length: int, cid: str) -> None:
    assert built_file(profile, pieces(seed, length)) == cid


@pytest.mark.parametrize(
    ("profile", "seed", "count", "length", "last", "cid"),
    [
        (V0, "hamt-unixfs-v0-2015", 4096, 30, 30, "QmX5GtRk3TSSEHtdrykgqm4eqMEn3n2XhfkFAis5fjyZmN"),
        (V0, "hamt-unixfs-v0-2015", 4033, 31, 31, "QmeMiJzmhpJAUgynAcxTQYek5PPKgdv3qEvFsdV3XpVnvP"),
        (
            V1,
            "hamt-unixfs-v1-2025",
            4766,
            11,
            21,
            "bafybeic3h7rwruealwxkacabdy45jivq2crwz6bufb5ljwupn36gicplx4",
        ),
        (
            V1,
            "hamt-unixfs-v1-2025",
            4766,
            11,
            22,
            "bafybeiegvuterwurhdtkikfhbxcldohmxp566vpjdofhzmnhv6o4freidu",
        ),
    ],
)
def test_the_last_plain_and_the_first_sharded_directory(
    profile: Profile, seed: str, count: int, length: int, last: int, cid: str
) -> None:
    assert built_directory(profile, kubo_names(seed, count, length, last)) == cid


@pytest.mark.parametrize(
    ("profile", "cid"),
    [
        (V0, "QmavrTrQG4VhoJmantURAYuw3bowq3E2WcvP36NRQDAC1N"),
        (variant(V0, hamt_threshold=0), "QmSCJD1KYLhVVHqBK3YyXuoEqHt7vggyJhzoFYbT8v1XYL"),
        (variant(V1, hamt_threshold=0), "bafybeibiemewfzzdyhq2l74wrd6qj2oz42usjlktgnlqv4yfawgouaqn4u"),
    ],
)
def test_two_thousand_files_plain_and_sharded(profile: Profile, cid: str) -> None:
    assert built_directory(profile, numbered(2000)) == cid


@pytest.mark.parametrize(
    ("profile", "file", "directory"),
    [
        (
            V0,
            "QmbFMke1KXqnYyBBWxB74N4c5SBnJMVAiMNRcGu6x1AwQH",
            "QmUNLLsPACCz1vLxQVkXqqLX5R1X345qqfHbsf67hvA3Nn",
        ),
        (
            V1,
            "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku",
            "bafybeiczsscdsbs7ffqz55asqdf3smv6klcw3gofszvwlyarci47bgf354",
        ),
    ],
)
def test_empty_file_and_empty_directory(profile: Profile, file: str, directory: str) -> None:
    blocks = MemoryBlocks()
    builder = Builder(blocks, profile)
    assert (str(builder.file([]).cid), str(builder.directory([]).cid)) == (file, directory)
    assert blocks.has(Cid.parse(file))
