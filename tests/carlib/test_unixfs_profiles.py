"""Root CIDs by the profiles of Kubo 0.33 to 0.39, Lotus and ipfs-car, and what kubo does with attributes and trickle.

Roots of test-cid-v1 restate kubo's tests (0.38); that of a photograph is in lotus issue 2487; the others were given
by Kubo 0.43.0, called as in `test_unixfs_peers.py`, and ipfs-car 3.1.0.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from carlib.blockstore import MemoryBlocks
from carlib.cid import DAG_PB, Cid
from carlib.dagpb import encode_link, encode_parts
from carlib.unixfs import File, Stat, stat
from carlib.unixfs.builder import Builder
from carlib.unixfs.node import Data, DataType
from carlib.unixfs.profile import CARFS, PROFILES, DirectorySize, Layout, Profile
from tests.carlib.building import built_directory, built_file, numbered
from tests.carlib.keystream import keystream, pieces

MIB = 1 << 20
LOTUS, IPFS_CAR, KUBO = PROFILES["lotus"], PROFILES["ipfs-car"], PROFILES["kubo-cid-v1"]
V0 = PROFILES["unixfs-v0-2015"]
KEPT: dict[str, Any] = {"mode": 0o4751, "mtime_ns": 1_700_000_000_123_456_789}


def trickle(profile: Profile) -> Profile:
    return dataclasses.replace(profile, layout=Layout.TRICKLE)


def test_every_profile_is_known_by_its_name_and_an_alias_differs_in_nothing_else() -> None:
    assert {name: profile.name for name, profile in PROFILES.items()} == {name: name for name in PROFILES}
    assert dataclasses.replace(PROFILES["legacy-cid-v0"], name=V0.name) == V0


@pytest.mark.parametrize(
    ("name", "seed", "mib", "cid"),
    [
        ("test-cid-v1", "v1-seed", 174, "bafybeigwduxcf2aawppv3isnfeshnimkyplvw3hthxjhr2bdeje4tdaicu"),
        ("test-cid-v1", "v1-seed", 175, "bafybeidhd7lo2n2v7lta5yamob3xwhbxcczmmtmhquwhjesi35jntf7mpu"),
        ("kubo-cid-v1", "v1-seed", 175, "bafybeidhd7lo2n2v7lta5yamob3xwhbxcczmmtmhquwhjesi35jntf7mpu"),
    ],
)
def test_width_of_kubos_test_profile(name: str, seed: str, mib: int, cid: str) -> None:
    assert built_file(PROFILES[name], pieces(seed, mib * MIB)) == cid


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mib", "cid"),
    [
        (1024, "bafybeiej5w63ir64oxgkr5htqmlerh5k2rqflurn2howimexrlkae64xru"),
        (1025, "bafybeieilp2qx24pe76hxrxe6bpef5meuxto3kj5dd6mhb5kplfeglskdm"),
    ],
)
def test_width_of_kubos_wide_test_profile(mib: int, cid: str) -> None:
    assert built_file(PROFILES["test-cid-v1-wide"], pieces("v1-seed-1024", mib * MIB)) == cid


@pytest.mark.parametrize(("at_threshold", "sharded"), [(False, False), (True, True)])
@pytest.mark.parametrize("measure", DirectorySize)
def test_a_directory_just_at_the_threshold(at_threshold: bool, sharded: bool, measure: DirectorySize) -> None:
    """Only the profiles of before kubo 0.40 shard it."""
    assert [profile.name for profile in PROFILES.values() if profile.hamt_at_threshold] == [
        "test-cid-v1",
        "test-cid-v1-wide",
    ]
    size = {DirectorySize.ENTRIES: 2, DirectorySize.LINKS_BYTES: 2 * (3 + 36),
            DirectorySize.BLOCK_BYTES: 4 + 2 * (2 + 2 + 36 + 2 + 3 + 2)}[measure]  # fmt: skip
    for threshold, expected in ((size - 1, True), (size, sharded), (size + 1, False)):
        profile = dataclasses.replace(
            CARFS, hamt_threshold=threshold, hamt_measure=measure, hamt_at_threshold=at_threshold
        )
        blocks = MemoryBlocks()
        builder = Builder(blocks, profile)
        root = builder.directory([(name, builder.file([b"x"])) for name in (b"one", b"two")]).cid
        assert stat(blocks, root).sharded == expected


@pytest.mark.parametrize(
    ("size", "cid"),
    [
        (0, "bafkqaaa"),
        (
            126,
            "bafkqa7sdkdy7r4tmh576cj5zrpj3kh526h66qmioj4gtynzzp44dc5dvawl4ugjgoqoble76am5bv7djvuyu5i5vaybmovyfkbuz3ksv"
            "7xk5naj4claamhobdsmk6mdbooeph23g45jq6vyyrzpj7rynf3ipe4cupwr3jwxmlc5gxvh6kgmpw5tpjdythi62erp24cl6fgen55jm",
        ),
        (127, "bafk2bzacecmftbjsa5irso43aiescxrcn64cobt4im33tuejfxbfgixx5q5vk"),
        (MIB, "bafk2bzacecllfxswjx225ee4mddvjk6dqq5eh7a3mp7zzo5l7qv4kq3yd6bgk"),
        (
            MIB + 1,
            "bafyaasysfyfcmakvudsaeiewwlpfmtpvv2ijyyghksv4hbb2ip6bwy77ts52x7blyvbxqh4cmujaageaqbabecykauavkaabyyjaagab"
            "bigaqaqyqgaeaieaqbacaai",
        ),
        (2 * MIB + 1, "bafykbzacedujkxx3suz4fn6i5c62xoq64inzdwu2yuk6asnpeuy4c4v7rzyp2"),
        (5 * MIB + 5, "bafykbzaceb5wjf2zgoby5lyvxjq7nv5qxh663srlxhv5og7iltmsckl7rblew"),
    ],
)
def test_lotus_puts_small_blocks_into_their_cids_inner_nodes_too(size: int, cid: str) -> None:
    assert built_file(LOTUS, pieces("lotus-seed", size)) == cid


def test_the_root_that_lotus_gave_for_a_photograph() -> None:
    """Of its two leaves only the CIDs are known, which is all that the root is made of."""
    sizes = (MIB, 586_397)
    leaves = (
        "bafk2bzacealunotuc2yw2llid6vf5tw744jlrugbd2lwvvqy24qqtw5gmpqxe",
        "bafk2bzacedsgjjbctvxxfvxsajf6uhwqfhy4u5smm2l2nsb7gf67p4g4xl5ma",
    )
    links = (encode_link(Cid.parse(leaf).raw, b"", size) for leaf, size in zip(leaves, sizes, strict=True))
    root = encode_parts(links, Data(DataType.FILE, None, sum(sizes), sizes).encode())
    assert len(root) <= LOTUS.inline_limit
    assert str(Cid.identity(root, DAG_PB)) == (
        "bafyaa4asfyfcmakvudsaeiaxi25hifvrnuwwqh5kl3hn7zysxdimchuxnllbrvzbbhn2my7boijaageaqbabelqkeyavliheaiqoizfeekow6"
        "4ww6ibex2q62au7dstwjrtjpjwih4yx357q3s5pvqasaamj3zjdbihaqaqytxswgieaqbacbhpfem"
    )


def test_ipfs_car_shards_above_a_thousand_entries() -> None:
    assert built_directory(IPFS_CAR, numbered(1000)) == (
        "bafybeif5dx3krc2zohafpw6izn5gnznqzrdf47hlidij7qisxxgplrdcw4"
    )
    assert built_directory(IPFS_CAR, numbered(1001)) == (
        "bafybeigge5ehtm5amfeyehyzmz7ym6xcgudeu54giajh4sfmnwcwltbk5u"
    )


@pytest.mark.parametrize(
    ("profile", "data", "cid"),
    [
        (V0, b"", "QmbFMke1KXqnYyBBWxB74N4c5SBnJMVAiMNRcGu6x1AwQH"),
        (KUBO, b"", "bafybeif7ztnhq65lumvvtr4ekcwd2ifwgm3awq4zfr3srh462rwyinlb4y"),
        (V0, b"x", "QmRk1rz6JkatqRNAPhKJtcVpiSiEQyBZUEnAYUfnC8mzbJ"),
        (KUBO, b"x", "bafybeifllvoksoremiq4fdx7qmaihxzt25pvyfl4xwh7c5kuw3rgamgm3a"),
    ],
)
def test_a_trickle_root_is_always_an_inner_node(profile: Profile, data: bytes, cid: str) -> None:
    assert built_file(trickle(profile), [data]) == cid


@pytest.mark.parametrize(
    ("profile", "cid"),
    [
        (V0, "QmaDqdvRKJF7K52bXEgdcUf8xqdnZe1yjBQtx7FEgxCnfx"),
        (KUBO, "bafybeifqrwejvk5zd5a5q7znwp6vd3pr7luznwzxzfmpc5o636tc7ogv54"),
        (CARFS, "bafybeifqrwejvk5zd5a5q7znwp6vd3pr7luznwzxzfmpc5o636tc7ogv54"),
        (trickle(V0), "QmPY2efnV7GG8AXgMJYrRqu6MkRiBv1L5LcAe2YiCWGN9t"),
    ],
)
def test_mode_and_mtime_of_a_small_file(profile: Profile, cid: str) -> None:
    assert built_file(profile, [b"hello world"], **KEPT) == cid


def test_mode_and_mtime_turn_raw_leaves_off_in_kubo_and_not_in_ours() -> None:
    data = [keystream("attributes", 300_000)]
    kept: dict[str, Any] = {"mode": 0o640, "mtime_ns": -5_000_000_001}
    assert built_file(V0, data, **kept) == "QmVzr5kiLFGvGK7Tigd4J6kctXmQ6xaaNAkFNbGiZCUgtm"
    default = dataclasses.replace(KUBO, chunk_size=262144)
    assert built_file(default, data, **kept) == "bafybeibi7naavwjfxp3vlenejvrqaox4tekhbbwyhpcmxetjfn7ymnck7y"
    blocks = MemoryBlocks()
    file = Builder(blocks, dataclasses.replace(CARFS, chunk_size=4)).file([b"four", b"more"], **kept)
    assert blocks.has(Cid.of(b"four"))
    assert stat(blocks, file.cid) == Stat(stat(blocks, file.cid).kind, 8, 0o640, -5_000_000_001)
    assert File.open(blocks, file.cid).read(0, 8) == b"fourmore"


@pytest.mark.parametrize(
    "wrong",
    [{"inline_limit": 129}, {"inline_limit": -1}, {"cid_version": 0}, {"hamt_fanout": 7}, {"width": 1}],
)
def test_a_profile_that_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"inline limit|CIDv0|fanout|width"):
        dataclasses.replace(CARFS, **wrong)
