"""What `carfs car list -v` says of a block: its codec, and of dag-pb its links and what it is in UnixFS.

The words and the numbers are those of go-car's tool; sizes have decimal units there.
"""

from __future__ import annotations

from collections.abc import Iterator

from agent.cli.output import printable
from carlib import dagpb
from carlib.cid import DAG_PB, Cid, codec_name
from carlib.errors import CarError, Malformed
from carlib.unixfs.node import Data, DataType

SHOWN_LINKS = 3
TYPES = {
    DataType.RAW: "Raw",
    DataType.DIRECTORY: "Directory",
    DataType.FILE: "File",
    DataType.METADATA: "Metadata",
    DataType.SYMLINK: "Symlink",
    DataType.HAMT_SHARD: "HAMTShard",
}
_UNITS = ("B", "kB", "MB", "GB", "TB", "PB", "EB")


def lines(cid: Cid, block: bytes) -> Iterator[str]:
    """The lines about one block."""
    yield f"{codec_name(cid.codec)}: {cid}"
    if cid.codec != DAG_PB:
        return
    try:
        node = dagpb.decode(block)
    except CarError as error:
        yield f"\tnot interpretable as dag-pb: {error}"
        return
    yield f"\t{len(node.links)} links. {len(node.data or b'')} bytes"
    for link in node.links[:SHOWN_LINKS]:
        name = printable(link.name) if link.named else "<no name>"
        yield f"\t\t{name}[{decimal_size(link.tsize)}] {link.cid}"
    if len(node.links) > SHOWN_LINKS:
        yield f"\t\t({len(node.links)} total)"
    try:
        if node.data is None:
            raise Malformed("there is no data")
        yield f"\tUnixfs {TYPES[Data.parse(node.data).type]}"
    except CarError as error:
        yield f"\tnot interpretable as unixfs: {error}"


def decimal_size(size_bytes: int) -> str:
    """ "9 B", "262 kB", "2.3 MB"."""
    unit = 0
    while size_bytes >= 1000 ** (unit + 1) and unit < len(_UNITS) - 1:
        unit += 1
    tenths = (20 * size_bytes + 1000**unit) // (2 * 1000**unit)  # rounded half up
    if not unit or tenths >= 100:
        return f"{tenths / 10 if unit else size_bytes:.0f} {_UNITS[unit]}"
    return f"{tenths / 10:.1f} {_UNITS[unit]}"
