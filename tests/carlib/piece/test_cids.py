"""Piece CIDs, both versions, by the vectors of FRC-0069 and against garbage."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carlib import varint
from carlib.cid import Cid
from carlib.errors import CarError, LimitExceeded, Malformed
from carlib.piece.cids import Piece, is_piece_cid, root_of
from carlib.piece.commitment import Commitment
from carlib.piece.sizes import MAX_HEIGHT, height_of, padded_size, unpadded_at, unpadded_size
from tests.fixtures import fixture

NUMBERS = [(n, 127) for n in range(4)]
VECTORS = [
    (
        NUMBERS,
        "baga6ea4seaqes3nobte6ezpp4wqan2age2s5yxcatzotcvobhgcmv5wi2xh5mbi",
        "bafkzcibcaaces3nobte6ezpp4wqan2age2s5yxcatzotcvobhgcmv5wi2xh5mbi",
    ),
    (
        [*NUMBERS, (0, 5)],
        "baga6ea4seaqn42av3szurbbscwuu3zjssvfwbpsvbjf6y3tukvlgl2nf5rha6pa",
        "bafkzcibd64bqlxticxolgseegik2stpfgkkuwyf6kufex3doorkvmzpjuxwe4dz4",
    ),
    (
        [],
        "baga6ea4seaqdomn3tgwgrh3g532zopskstnbrd2n3sxfqbze7rxt7vqn7veigmy",
        "bafkzcibcp4bdomn3tgwgrh3g532zopskstnbrd2n3sxfqbze7rxt7vqn7veigmy",
    ),
    (
        [(0, 34091302912)],
        "baga6ea4seaqao7s73y24kcutaosvacpdjgfe5pw76ooefnyqw4ynr3d2y6x2mpq",
        "bafkzcibcaapao7s73y24kcutaosvacpdjgfe5pw76ooefnyqw4ynr3d2y6x2mpq",
    ),
]
V1, V2 = VECTORS[0][1:]
ROOT = bytes(range(32))


def piece_of(runs: list[tuple[int, int]]) -> Piece:
    """The piece of (byte, count) runs."""
    made = Commitment()
    for byte, count in runs:
        if byte:
            made.update(bytes((byte,)) * count)
        else:
            made.update_zeros(count)
    return made.piece()


def v2(padding: int, height: int, root: bytes = ROOT) -> Cid:
    digest = varint.encode(padding) + bytes((height,)) + root
    return Cid(b"\x01\x55\x91\x20" + varint.encode(len(digest)) + digest)


@pytest.mark.parametrize(("runs", "first", "second"), VECTORS)
def test_known_answers(runs: list[tuple[int, int]], first: str, second: str) -> None:
    piece = piece_of(runs)
    assert (str(piece.v1), str(piece.v2)) == (first, second)
    assert Piece.parse(second) == Piece.parse(first, payload_size=piece.payload_size) == piece


def test_all_vectors_of_frc_0069() -> None:
    cases = json.loads(fixture("vectors/commp-frc0069.json").read_text())["cases"]
    assert len(cases) == 9
    for case in cases:
        piece = piece_of([(run["byte"], run["count"]) for run in case["input"]])
        assert str(piece.v2) == case["v2"]
        assert str(piece.v1) == case.get("v1", str(piece.v1))
        assert (piece.padding, piece.height) == (case["padding"], case["height"])


@given(st.binary(min_size=32, max_size=32), st.integers(0, unpadded_at(MAX_HEIGHT)))
def test_every_piece_comes_back_from_its_cids(root: bytes, payload_size: int) -> None:
    piece = Piece(root, payload_size)
    assert Piece.parse(piece.v2.raw) == Piece.parse(str(piece.v2)) == piece
    assert Piece.of(piece.v1, payload_size=payload_size, padded=piece.padded_size) == piece
    assert root_of(piece.v1) == root_of(piece.v2) == root
    assert piece.padding + payload_size == piece.unpadded_size == unpadded_size(piece.padded_size)
    assert is_piece_cid(piece.v1)
    assert is_piece_cid(piece.v2)


def test_a_v1_with_a_padded_size_is_a_whole_piece() -> None:
    assert Piece.parse(V1, padded=512) == Piece.parse(V2) == Piece.parse(V2, padded=512, payload_size=508)


@pytest.mark.parametrize(
    "given_with",
    [{}, {"padded": 511}, {"padded": 64}, {"padded": 0}, {"payload_size": 509, "padded": 512}],
)
def test_a_v1_needs_a_size_that_can_be(given_with: dict[str, int]) -> None:
    with pytest.raises(Malformed):
        Piece.parse(V1, **given_with)


@pytest.mark.parametrize("given_with", [{"padded": 1024}, {"payload_size": 507}])
def test_a_v2_must_agree_with_the_size_beside_it(given_with: dict[str, int]) -> None:
    with pytest.raises(Malformed):
        Piece.parse(V2, **given_with)


@pytest.mark.parametrize(
    "cid",
    [
        v2(0, 1),  # no group fits
        v2(0, MAX_HEIGHT + 1),
        v2(128, 2),  # more padding than piece
        v2(127, 3),  # the payload would make a lower tree
        v2(0, 2, ROOT[1:]),
        v2(0, 2, ROOT + b"\0"),
        Cid(b"\x01\x55\x91\x20\x02\x80\x00"),  # padding not in its shortest form
        Cid(b"\x01\x55\x91\x20\x00"),
        Cid(Piece(ROOT, 1).v1.raw[:-1]),
        Cid.of(b"a block"),
        Cid.parse("QmdfTbBqBPQ7VNxZEYEj14VmRuZBkqFbiwReogJgS1zR1n"),
    ],
)
def test_other_cids_are_no_pieces(cid: Cid) -> None:
    with pytest.raises(CarError):
        Piece.of(cid, payload_size=1 if cid.raw[:2] != b"\x01\x55" else None)
    with pytest.raises(CarError):
        root_of(cid)


@given(
    st.binary(max_size=50).map(lambda tail: b"\x01\x55\x91\x20" + tail) | st.binary(max_size=60) | st.text()
)
def test_garbage_raises_a_car_error_or_is_a_piece(value: str | bytes) -> None:
    try:
        piece = Piece.parse(value)
    except CarError:
        return
    assert Piece.parse(piece.v2.raw) == piece


@pytest.mark.parametrize(
    ("payload", "padded"), [(0, 128), (127, 128), (128, 256), (1016, 1024), (1017, 2048)]
)
def test_padded_sizes(payload: int, padded: int) -> None:
    assert padded_size(payload) == padded


@pytest.mark.parametrize("padded", [-128, 0, 1, 32, 127, 129, 384])
def test_other_sizes_are_no_piece_sizes(padded: int) -> None:
    with pytest.raises(Malformed):
        height_of(padded)


def test_sizes_have_a_maximum() -> None:
    with pytest.raises(LimitExceeded):
        padded_size(unpadded_at(MAX_HEIGHT) + 1)
    with pytest.raises(LimitExceeded):
        height_of(1 << 63)
    with pytest.raises(ValueError, match="-1"):
        padded_size(-1)
