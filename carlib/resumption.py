"""What is left of a CAR whose writer was interrupted, and where it may be continued; reads only.

What a kill can leave behind the last whole section is the beginning of a section, or of the index, or zeros (a power
cut): that is cut off.  Anything else that is not whole is damage in the middle of acknowledged data, and an error.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from carlib import multihash
from carlib.cid import Cid
from carlib.container import Container, read_container, read_v1_header
from carlib.errors import CarError, Malformed, Truncated
from carlib.header import PRAGMA, V2_HEADER_BYTES, V2_PREFIX_BYTES
from carlib.index import INDEX_SORTED, MULTIHASH_INDEX_SORTED, write
from carlib.indexing import SortedRuns
from carlib.limits import MAX_SECTION_BYTES, MAX_VARINT_BYTES, MIB
from carlib.section import Sections
from carlib.source import ByteSource


@dataclass(slots=True)
class Resumed:
    """Where to go on: ``end`` is the file offset for the next section, ``sections`` the CID and file offset of each."""

    end: int
    is_fresh: bool = False
    is_final: bool = False
    dropped_bytes: int = 0
    sections: list[tuple[Cid, int]] = field(default_factory=list)


def examine(
    source: ByteSource,
    fresh: bytes,
    roots: tuple[Cid, ...],
    version: int,
    base: int,
    *,
    salvage: bool = False,
) -> Resumed:
    """What can be continued of the CAR in ``source``; ``fresh`` are the bytes that a new one begins with.

    ``base`` is where the payload must begin.  ``salvage`` cuts at the first damage, wherever it is.  Raises Malformed,
    HashMismatch, UnknownHash, LimitExceeded, with source and offset; OSError.
    """
    size = source.size
    if size < len(fresh) and source.peek(0, size) == fresh[:size]:
        return Resumed(len(fresh), is_fresh=True)
    container = _finished(source, version, base)
    first = _check_header(source, roots, base)
    end = container.data_end if container is not None else size
    if version == 1:
        container = None
    resumed = Resumed(first, is_final=container is not None)
    damage = _take_whole_sections(source, end, resumed)
    if (
        damage is not None
        and (container is not None or not _is_torn(source, resumed, base, damage))
        and not salvage
    ):
        raise damage
    resumed.dropped_bytes = end - resumed.end
    return resumed


def _finished(source: ByteSource, version: int, base: int) -> Container | None:
    """The frame of a CAR that was finalised, None of one that was not; Malformed where it is another one than ours."""
    start = source.peek(0, V2_PREFIX_BYTES)
    if (found := 2 if start.startswith(PRAGMA) else 1) != version:
        raise Malformed(
            f"cannot resume on a CARv{found} file, a CARv{version} is to be written",
            source=source.name,
            offset=0,
        )
    if version == 2 and not any(start[len(PRAGMA) : len(PRAGMA) + V2_HEADER_BYTES]):
        return None
    container = read_container(source)
    if container.data_offset != base:
        raise Malformed(
            f"cannot resume on a file whose data begins at {container.data_offset}, {base} is asked for: "
            "give the same data padding",
            source=source.name,
        )
    return container


def _check_header(source: ByteSource, roots: tuple[Cid, ...], base: int) -> int:
    """Where the first section begins; Malformed unless the header has ``roots``, in any order."""
    padding = source.peek(V2_PREFIX_BYTES, max(0, base - V2_PREFIX_BYTES))
    try:
        if any(padding):
            raise Malformed(
                "there is no header: give the data padding that the file was begun with", offset=0
            )
        header = read_v1_header(source, base)
    except CarError as error:
        raise Malformed(
            f"cannot resume: {error.message} (was it begun with another data padding?)",
            source=source.name,
            offset=base,
        ) from None
    if sorted(header.roots) != sorted(roots):
        found = ", ".join(map(str, header.roots)) or "no roots"
        raise Malformed(
            f"cannot resume on a file with other roots: it has {found}", source=source.name, offset=base
        )
    return base + header.length


def _take_whole_sections(source: ByteSource, end: int, resumed: Resumed) -> CarError | None:
    """Fill ``resumed`` with every section up to the first that is not whole or does not hash; what is wrong there."""
    try:
        for raw, offset, data_offset, size in Sections(source, resumed.end, end):
            cid = Cid(raw)
            try:
                multihash.check(cid, source.pread(data_offset, size))
            except CarError as error:
                error.source, error.offset = source.name, offset
                return error
            resumed.sections.append((cid, offset))
            resumed.end = data_offset + size
    except CarError as error:
        return error
    return None


def _is_torn(source: ByteSource, resumed: Resumed, base: int, damage: CarError) -> bool:
    """Whether what follows the last whole section is what an interrupted writer leaves there."""
    left = source.size - resumed.end
    if isinstance(damage, Truncated) and left <= MAX_SECTION_BYTES + MAX_VARINT_BYTES:
        return True
    if _is_last(source, resumed.end) or _zeros(source, resumed.end) == left:
        return True
    index_at = resumed.end + _zeros(source, resumed.end)
    return any(
        _begins(source, index_at, resumed, base, codec) for codec in (MULTIHASH_INDEX_SORTED, INDEX_SORTED)
    )


def _is_last(source: ByteSource, start: int) -> bool:
    """Whether the section at ``start`` has its full length and the file ends with it: torn by pages in a power cut."""
    try:
        _raw, _offset, data_offset, size = next(iter(Sections(source, start, source.size)))
    except CarError:
        return False
    return data_offset + size == source.size


def _zeros(source: ByteSource, start: int) -> int:
    """How many zero bytes begin at ``start``."""
    for offset in range(start, source.size, MIB):
        piece = source.peek(offset, MIB)
        if rest := piece.lstrip(b"\0"):
            return offset + len(piece) - len(rest) - start
    return source.size - start


def _begins(source: ByteSource, start: int, resumed: Resumed, base: int, codec: int) -> bool:
    """Whether the file ends with the index that a writer would have appended, or with a beginning of it."""
    with tempfile.TemporaryDirectory(prefix="carfs-") as folder, SortedRuns(Path(folder), codec) as runs:
        for cid, offset in resumed.sections:
            runs.add_one(cid.hash_code, cid.digest, offset - base)
        file = Path(folder) / "index"
        with file.open("wb") as out:
            length = write(out, codec, runs.buckets())
        if source.size - start > length:
            return False
        with file.open("rb") as expected:
            return all(
                source.peek(offset, MIB) == expected.read(min(MIB, source.size - offset))
                for offset in range(start, source.size, MIB)
            )
