"""The UnixFS Data message: exact bytes, round trips, and what the specification forbids."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carlib.blockstore import MemoryBlocks
from carlib.cid import DAG_CBOR, DAG_PB, RAW, Cid
from carlib.errors import BlockNotFound, CarError, LimitExceeded, Malformed
from carlib.unixfs import Kind, NoSuchEntry, Stat, node, resolve, stat
from carlib.unixfs.node import Data, DataType
from tests.carlib.nodes import put, put_directory, put_file, put_node, put_raw, put_shard
from tests.fixtures import fixture

UINT64 = st.integers(0, 2**64 - 1)
OPTIONAL = st.none() | UINT64


@st.composite
def _data(draw: st.DrawFn) -> Data:
    kind = draw(st.sampled_from(DataType))
    content = draw(st.none() | st.binary(max_size=200))
    sizes = tuple(draw(st.lists(st.integers(0, 2**40), max_size=5)))
    size = sum(sizes) + len(content or b"")
    is_file = kind in (DataType.FILE, DataType.RAW)
    return Data(
        kind,
        content,
        draw(st.sampled_from([None, size]) if is_file else OPTIONAL),
        sizes,
        draw(OPTIONAL),
        draw(OPTIONAL),
        draw(st.none() | st.integers(0, 2**32 - 1)),
        draw(st.none() | st.integers(-(2**63) * 10**9, 2**63 * 10**9 - 1)),
    )


@given(_data())
def test_what_was_encoded_is_parsed(data: Data) -> None:
    assert Data.parse(data.encode()) == data
    assert Data.parse(memoryview(data.encode())) == data


@given(st.binary(max_size=100))
def test_garbage_is_a_node_or_a_car_error(garbage: bytes) -> None:
    try:
        Data.parse(garbage)
    except CarError:
        pass


@given(_data(), st.data())
def test_a_damaged_message_is_a_node_or_a_car_error(data: Data, draw: st.DataObject) -> None:
    message = bytearray(data.encode())
    message[draw.draw(st.integers(0, len(message) - 1))] = draw.draw(st.integers(0, 255))
    for damaged in (message, message[: draw.draw(st.integers(0, len(message)))]):
        try:
            Data.parse(damaged)
        except CarError:
            pass


@pytest.mark.parametrize(
    ("digits", "data"),
    [
        ("0801", Data(DataType.DIRECTORY)),
        ("08021800", Data(DataType.FILE, filesize=0)),
        ("08021203616263" + "1803", Data(DataType.FILE, b"abc", 3)),
        ("0802" + "1807" + "2003" + "2004", Data(DataType.FILE, None, 7, (3, 4))),
        ("0804" + "1201" + "78", Data(DataType.SYMLINK, b"x")),
        ("0801" + "38ed03", Data(DataType.DIRECTORY, mode=0o755)),
        ("0801" + "4202" + "0801", Data(DataType.DIRECTORY, mtime_ns=10**9)),
        ("0801" + "4207" + "0801" + "1502000000", Data(DataType.DIRECTORY, mtime_ns=10**9 + 2)),
        ("0801" + "420b" + "08ffffffffffffffffff01", Data(DataType.DIRECTORY, mtime_ns=-(10**9))),
    ],
)
def test_exact_bytes(digits: str, data: Data) -> None:
    assert data.encode().hex() == digits
    assert Data.parse(bytes.fromhex(digits)) == data


def test_packed_blocksizes_and_unknown_fields_are_read() -> None:
    assert Data.parse(bytes.fromhex("0802" + "1807" + "22020304" + "7a01ff")) == Data(
        DataType.FILE, None, 7, (3, 4)
    )


@pytest.mark.parametrize(
    ("what", "digits"),
    [
        ("no type", "1803"),
        ("unknown type", "0806"),
        ("type twice", "08010801"),
        ("filesize that is not the sum", "08021804" + "2003"),
        ("filesize that is not what is there", "080218041203616263"),
        ("type as bytes", "0a0101"),
        ("data as varint", "08021000"),
        ("no nanoseconds where they are stated", "08014207080115" + "00000000"),
        ("a second's nanoseconds", "08014207080115" + "00ca9a3b"),
        ("mtime without seconds", "0801" + "4200"),
        ("mtime seconds as bytes", "0801" + "42020a00"),
        ("mode of 33 bits", "0801" + "388080808010"),
        ("group", "0801" + "0b"),
        ("field number 0", "0801" + "0000"),
        ("type not in its shortest form", "088100"),
    ],
)
def test_what_is_malformed(what: str, digits: str) -> None:
    with pytest.raises(Malformed):
        Data.parse(bytes.fromhex(digits))


def test_a_file_larger_than_an_offset_can_say_is_refused() -> None:
    with pytest.raises(LimitExceeded):
        Data.parse(Data(DataType.FILE, None, None, (2**63,)).encode())


def test_stat_of_every_kind() -> None:
    blocks = MemoryBlocks()
    leaf = put_raw(blocks, b"hello")
    full = Data(DataType.FILE, b"abc", 3, mode=0o1004755, mtime_ns=-1).encode()
    assert [
        stat(blocks, leaf),
        stat(blocks, Cid.identity(b"abc")),
        stat(blocks, put_file(blocks, [(leaf, 5), (leaf, 5)])),
        stat(blocks, put_node(blocks, (), full)),
        stat(blocks, put_directory(blocks, [(b"a", leaf)])),
        stat(blocks, put_shard(blocks, {})),
        stat(blocks, put_node(blocks, (), Data(DataType.SYMLINK, b"../x", mtime_ns=7).encode())),
        stat(blocks, put(blocks, b"\xa0", DAG_CBOR)),
        stat(blocks, put_node(blocks)),
        stat(blocks, put_node(blocks, (), Data(DataType.METADATA).encode())),
    ] == [
        Stat(Kind.FILE, 5),
        Stat(Kind.FILE, 3),
        Stat(Kind.FILE, 10),
        Stat(Kind.FILE, 3, 0o4755, -1),
        Stat(Kind.DIRECTORY, 0),
        Stat(Kind.DIRECTORY, 0, sharded=True),
        Stat(Kind.SYMLINK, 4, None, 7, b"../x"),
        Stat(Kind.OTHER, 1),
        Stat(Kind.OTHER, 0),
        Stat(Kind.OTHER, 4),
    ]


def test_all_stored_mode_bits_stay_in_the_node() -> None:
    assert Data.parse(Data(DataType.FILE, mode=0xFFFFF1ED).encode()).mode == 0xFFFFF1ED


def test_identity_cids_hold_at_most_128_bytes() -> None:
    assert stat(MemoryBlocks(), Cid.identity(bytes(128))).size == 128
    with pytest.raises(LimitExceeded):
        stat(MemoryBlocks(), Cid.identity(bytes(129)))


def test_the_inline_constants_of_the_specification() -> None:
    assert node.fetch(MemoryBlocks(), Cid.parse("bafkqaaa")) == b""
    assert stat(MemoryBlocks(), Cid.parse("bafyaabakaieac")) == Stat(Kind.DIRECTORY, 0)


def test_stat_of_what_is_not_here() -> None:
    for codec in (RAW, DAG_PB, DAG_CBOR):
        with pytest.raises(BlockNotFound):
            stat(MemoryBlocks(), Cid.of(b"x", codec))


def test_resolve_goes_by_stored_names() -> None:
    blocks = MemoryBlocks()
    leaf = put_raw(blocks, b"x")
    root = put_directory(blocks, [(b"a/b", put_directory(blocks, [(b"..", leaf)]))])
    assert resolve(blocks, root, []) == root
    assert resolve(blocks, root, [b"a/b", b".."]) == leaf
    with pytest.raises(NoSuchEntry, match="no entry 'a' in directory"):
        resolve(blocks, root, [b"a"])
    with pytest.raises(CarError):
        resolve(blocks, root, [b"a/b", b"..", b"c"])


def test_a_path_of_the_lotus_fixture() -> None:
    from carlib.blockstore import ReadOnlyBlockstore
    from carlib.unixfs import File

    with ReadOnlyBlockstore.open(fixture("filecoin-project+lotus/itests/fixtures/adl_test.car")) as blocks:
        found = resolve(blocks, blocks.roots[0], [b"Links", b"0", b"Hash"])
        assert File.open(blocks, found).read(0, 100) == b"ADL"


@given(st.lists(st.tuples(st.integers(0, 2**40), st.integers(1, 100)), max_size=12))
def test_runs_of_equal_blocksizes_are_read_as_any_others(runs: list[tuple[int, int]]) -> None:
    sizes = tuple(size for size, count in runs for _ in range(count))
    data = Data(DataType.FILE, None, sum(sizes), sizes, mode=0o644)
    assert Data.parse(data.encode()) == data
    assert Data.parse(memoryview(data.encode())) == data


def test_a_run_of_too_many_blocksizes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node, "MAX_LINKS", 20)
    assert len(Data.parse(Data(DataType.FILE, None, None, (1,) * 20).encode()).blocksizes) == 20
    with pytest.raises(LimitExceeded, match="number of blocksizes"):
        Data.parse(Data(DataType.FILE, None, None, (1,) * 21).encode())
