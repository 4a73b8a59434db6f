"""A CAR as text and back: exact for every block, in go-car's form where that is, new CIDs for what was edited."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carlib import dagcbor, dagjson, dagpb, patch
from carlib.checked import CheckedBlocks
from carlib.cid import DAG_CBOR, DAG_JSON, DAG_PB, JSON, RAW, Cid
from carlib.container import read_container
from carlib.errors import CarError, Malformed
from carlib.multihash import BLAKE2B_256, SHA2_512
from carlib.source import FileSource
from tests.fixtures import fixtures

SAMPLES = fixtures("ipld+ipld/specs/*/*/*.car", "ipld+ipld/**/carv1-basic.car", "generated-with-go-car/rw-v1*.car",
                   "ipld+go-car/v2/testdata/sample-v1.car", "ipld+go-car/cmd/**/simple-unixfs.car")  # fmt: skip


def through(*blocks: tuple[Cid, bytes]) -> list[tuple[Cid, bytes]]:
    """The blocks after a journey through text."""
    text = patch.heading("x.car", 1, []) + b"".join(patch.render(cid, block) for cid, block in blocks)
    return patch.compiled(patch.read(io.BytesIO(text)))[1]


def rendered(block: bytes, codec: int = RAW) -> str:
    return patch.render(Cid.of(block, codec), block).decode()


def test_a_block_of_text_stands_there_as_it_is() -> None:
    cid = Cid.of(b"hello world")
    assert rendered(b"hello world") == f"--- {cid}\n+++ raw (no-end-cr) {cid}\n@@ -0,0 +0,0 @@\nhello world\n"


def test_a_structured_block_is_dag_json_with_tabs() -> None:
    block = dagcbor.encode({"b": [1, 1.0, None], "a": Cid.of(b"x"), "c": {}})
    lines = [
        "{",
        '\t"a": {',
        f'\t\t"/": "{Cid.of(b"x")}"',
        "\t},",
        '\t"b": [',
        "\t\t1,",
        "\t\t1.0,",
        "\t\tnull",
    ]
    assert rendered(block, DAG_CBOR).splitlines()[3:] == [*lines, "\t],", '\t"c": {}', "}", ""]


@pytest.mark.parametrize(
    ("mode", "codec", "block"),
    [
        ("raw", RAW, b"a\n"),
        ("raw", RAW, b""),
        ("dag-json", RAW, b"\0"),
        ("dag-json", RAW, b"a\n--- b"),
        ("dag-json", RAW, b"a\r"),
        ("text", DAG_JSON, b'{ "a": 1 }\n'),
        ("text", JSON, b'{"b":1,"a":1}'),
        ("base64", DAG_CBOR, b"\x61\xff"),
        ("base64", DAG_CBOR, b"\x18\x01"),
        ("dag-json", DAG_PB, b""),
        ("base64", DAG_PB, b"\xff"),
    ],
)
def test_every_block_has_a_mode_that_gives_it_back(mode: str, codec: int, block: bytes) -> None:
    cid = Cid.of(block, codec)
    assert rendered(block, codec).splitlines()[1].split()[1] == mode
    assert through((cid, block)) == [(cid, block)]


@given(
    st.lists(
        st.tuples(st.sampled_from([RAW, DAG_CBOR, DAG_JSON, DAG_PB, JSON, 0x78]), st.binary()), max_size=5
    )
)
def test_any_bytes_of_any_codec_come_back(blocks: list[tuple[int, bytes]]) -> None:
    given_blocks = list(dict.fromkeys((Cid.of(block, codec), block) for codec, block in blocks))
    assert through(*given_blocks) == given_blocks


@given(st.recursive(st.none() | st.booleans() | st.integers(-(1 << 63), 1 << 63) | st.text() | st.binary()
       | st.floats(allow_nan=False, allow_infinity=False), lambda inner: st.lists(inner)
       | st.dictionaries(st.text(min_size=2), inner)))  # fmt: skip
def test_dag_json_gives_back_what_it_was_made_of(value: object) -> None:
    assert dagjson.decode(dagjson.encode(value)) == dagjson.decode(dagjson.encode(value, tabs=True)) == value


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.name)
def test_sample_cars_come_back_block_by_block(path: Path) -> None:
    with FileSource(path) as source:
        blocks = [(block.cid, bytes(block.data)) for block in CheckedBlocks(source, read_container(source))]
    assert through(*blocks) == list(dict(blocks).items())


def test_an_edited_block_changes_the_cids_of_all_that_link_to_it_and_the_root() -> None:
    leaf, hash_code = b"old", SHA2_512
    cid = Cid.of(leaf, RAW, hash_code)
    middle = dagpb.encode(dagpb.PBNode((dagpb.PBLink(cid, b"x", 3),)))
    top = dagcbor.encode({"m": Cid.of(middle, DAG_PB)})
    root = Cid.of(top, DAG_CBOR, BLAKE2B_256)
    text = patch.heading("x.car", 2, [root]) + patch.render(root, top)
    text += patch.render(Cid.of(middle, DAG_PB), middle) + patch.render(cid, leaf).replace(b"old", b"new")
    roots, blocks = patch.compiled(patch.read(io.BytesIO(text)))
    middle = dagpb.encode(dagpb.PBNode((dagpb.PBLink(Cid.of(b"new", RAW, hash_code), b"x", 3),)))
    top = dagcbor.encode({"m": Cid.of(middle, DAG_PB)})
    assert [block for _, block in blocks] == [top, middle, b"new"]
    assert roots == (Cid.of(top, DAG_CBOR, BLAKE2B_256),)


def test_blocks_that_link_in_a_circle_are_refused() -> None:
    one, two = Cid.of(b"1", DAG_CBOR), Cid.of(b"2", DAG_CBOR)
    blocks = tuple(
        (cid, "dag-json", json.dumps({"/": str(to)}).encode()) for cid, to in ((one, two), (two, one))
    )
    with pytest.raises(Malformed, match="links to itself"):
        patch.compiled(patch.Patch("", 1, (), blocks))


@given(st.binary() | st.text().map(str.encode))
def test_garbage_is_a_car_error(garbage: bytes) -> None:
    cid = str(Cid.of(b"")).encode()
    for text in (
        garbage,
        b"car compile x\n" + garbage,
        b"car compile x\n--- %b\n+++ dag-json %b\n@@\n" % (cid, cid) + garbage,
    ):
        try:
            patch.compiled(patch.read(io.BytesIO(text)))
        except CarError:
            pass
