"""What is fuzzed: every parser of carlib, each a function from bytes that may raise CarError and nothing else.

One line in `TARGETS` registers one.  `tests/test_fuzz.py` runs them over the sample files and their pieces in every
test run; `python -m tests.fuzz` (`make fuzz`) lets atheris look for more.
"""

from __future__ import annotations

from collections.abc import Callable

from carlib import dagcbor, dagjson, dagpb, header, tally, usual, varint
from carlib.blockstore import MemoryBlocks, own_index
from carlib.checked import CheckedBlocks
from carlib.cid import CODEC_NAMES, DAG_PB, Cid, read_cid
from carlib.container import read_container
from carlib.errors import CarError
from carlib.index import Index
from carlib.links import links
from carlib.references.lotus import parse_record
from carlib.references.table import ReferenceTable
from carlib.section import NEED_DATA, SectionScanner
from carlib.source import MemorySource
from carlib.unixfs import Directory, File, stat


def whole_car(data: bytes) -> None:
    """Frame, sections with their hashes, own index, reference table."""
    source = MemorySource(data)
    container = read_container(source, strict=bool(len(data) & 1), whole=False)
    ReferenceTable.find_in(source, container)
    index = own_index(source, container)
    if index is not None:
        list(zip(range(1000), index, strict=False))
        list(index.find(0x12, data[:32]))
    for block in CheckedBlocks(source, container):
        list(links(block.cid, block.data))


def stream(data: bytes) -> None:
    """The scanner, fed in pieces whose length the first byte tells."""
    scanner = SectionScanner(zero_is_end=bool(data[:1] > b"\x80"))
    step = max(1, (data[:1] or b"\1")[0])
    for start in range(1, len(data), step):
        scanner.feed(data[start : start + step])
        while scanner.next() not in (NEED_DATA, None):
            pass
    scanner.feed_end()
    while scanner.next() is not None:
        pass


def index(data: bytes) -> None:
    """An index file, read through and searched."""
    found = Index.open(MemorySource(data))
    list(zip(range(1000), found, strict=False))
    for bucket in found.buckets[:8]:
        list(found.find(bucket.hash_code or 0, bytes(bucket.digest_bytes)))


def unixfs_node(data: bytes) -> None:
    """A block as a UnixFS file and directory, with nothing below it."""
    blocks = MemoryBlocks()
    cid = Cid.of(data, DAG_PB)
    blocks.put(cid, data)
    for work in (
        lambda: stat(blocks, cid),
        lambda: File.open(blocks, cid).read(0, 1 << 16),
        lambda: [*zip(range(1000), Directory.open(blocks, cid), strict=False)],
        lambda: Directory.open(blocks, cid).lookup(data[:8]),
    ):
        try:
            work()
        except CarError:
            continue


def every_codec(data: bytes) -> None:
    """The links of a block under each codec there is."""
    for codec in CODEC_NAMES:
        try:
            list(links(Cid.v1(codec, b"\0\0"), data))
        except CarError:
            continue


_KEY = bytes(range(16))


def usual_sections(data: bytes) -> None:
    """Sections by the kernel and by its Python twin, which must say the same."""
    start = min((data[:1] or b"\0")[0], len(data))
    absent = data[-32:] if len(data) > 64 else b""
    if usual.hop(data, start, len(data)) != usual.portable_hop(data, start, len(data)):
        raise AssertionError("hop")
    count, rows = usual.entries(data, start, 1000, 0)
    if (count, rows[: 40 * count]) != usual.portable_entries(data, start, 1000, 0):
        raise AssertionError("entries")
    for width in (8, 40, 8 + start):
        rows = data[: len(data) // width * width]
        if tally.tally(rows, width, _KEY) != tally.portable_tally(rows, width, _KEY):
            raise AssertionError("tally")
    expected = usual.portable_right(data, start, 1000, absent)
    for variant in range(len(usual.VARIANTS)):
        if usual.variant(variant)(data, start, 1000, absent) != expected:
            raise AssertionError(usual.VARIANTS[variant])


TARGETS: dict[str, Callable[[bytes], object]] = {
    "varint": lambda data: varint.decode(data, 0, len(data)),
    "cid": lambda data: read_cid(data, 0, len(data)),
    "cid-text": lambda data: Cid.parse(data.decode("utf-8", "surrogateescape")),
    "header-v1": lambda data: header.parse_v1(data, strict=False),
    "header-v2": header.V2Header.parse,
    "car": whole_car,
    "stream": stream,
    "index": index,
    "dag-cbor": dagcbor.decode,
    "dag-json": dagjson.decode,
    "dag-pb": dagpb.decode,
    "links": every_codec,
    "unixfs": unixfs_node,
    "lotus-record": parse_record,
    "usual": usual_sections,
}
"""Name → parser."""
