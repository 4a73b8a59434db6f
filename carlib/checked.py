"""Every block of a CAR in file order with the verdict of its hash: what inspect, verify and exports go through.

Small blocks are hashed where they lie in the window that was read for their heads, large ones are read one by one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from carlib import multihash
from carlib.cid import Cid
from carlib.container import Container
from carlib.errors import CarError, HashMismatch
from carlib.section import SHA2_256_PREFIXES, USUAL_CID_BYTES, Sections
from carlib.source import ByteSource


@dataclass(frozen=True, slots=True)
class CheckedBlock:
    """One block; offsets in bytes from the start of the file, ``problem`` None where its hash is right."""

    cid: Cid
    offset: int
    data_offset: int
    data: memoryview
    problem: CarError | None


class CheckedBlocks:
    """All blocks of ``source``; iterate once.  ``position`` is the end of the last whole section, as in Sections.

    ``start`` (a section's offset) and ``until`` are as in Sections: for those who go through a CAR bit by bit.
    """

    def __init__(
        self,
        source: ByteSource,
        container: Container,
        *,
        zero_is_end: bool = True,
        start: int | None = None,
        until: int | None = None,
    ) -> None:
        self.blocks = self.data_bytes = 0
        self._source = source
        first = container.first_section if start is None else start
        self._sections = Sections(source, first, container.data_end, zero_is_end=zero_is_end, until=until)

    @property
    def position(self) -> int:
        return self._sections.position

    def __iter__(self) -> Iterator[CheckedBlock]:
        """Raises Truncated, Malformed or LimitExceeded where the sections themselves are damaged; OSError."""
        for buffer, base, starts in self._sections.windows():
            for start in starts:
                yield self._block(buffer, start, base)

    def problems(self, absent: set[bytes], tell: Callable[[int], None] | None = None) -> Iterator[CarError]:
        """Only what is wrong with blocks, as fast as they can be hashed; ``blocks`` and ``data_bytes`` are counted.

        Multihashes that are met are taken out of ``absent``; ``tell`` is given the offset of each window.  Raises like
        an iteration.
        """
        sha256 = hashlib.sha256
        for buffer, base, starts in self._sections.windows():
            view, present, count = memoryview(buffer), len(buffer), 0
            for start in starts:
                length, cid = buffer[start], start + 1
                if length > 0x7F and (high := buffer[cid]) < 0x80:
                    length, cid = length & 0x7F | high << 7, cid + 1
                data, end = cid + USUAL_CID_BYTES, cid + length
                if (
                    end > present
                    or length > 0x3FFF
                    or buffer[cid : cid + 4] not in SHA2_256_PREFIXES
                    or end < data
                ):
                    problem = self._one(buffer, start, base, absent)
                    if problem is not None:
                        yield problem
                    continue
                count += 1
                self.data_bytes += end - data
                if absent:
                    absent.discard(buffer[cid + 2 : data])
                if sha256(view[data:end]).digest() != buffer[cid + 4 : data]:
                    yield HashMismatch(Cid(buffer[cid:data]), source=self._source.name, offset=base + start)
            self.blocks += count
            if tell is not None:
                tell(base)

    def _one(self, buffer: bytes, start: int, base: int, absent: set[bytes]) -> CarError | None:
        block = self._block(buffer, start, base)
        self.blocks += 1
        self.data_bytes += len(block.data)
        absent.discard(block.cid.multihash)
        return block.problem

    def _block(self, buffer: bytes, start: int, base: int) -> CheckedBlock:
        head = self._sections.head(buffer, start, base)
        cid = Cid(buffer[head.cid : head.data])
        if head.end <= len(buffer):
            data = memoryview(buffer)[head.data : head.end]
        else:
            data = memoryview(self._source.pread(base + head.data, head.end - head.data))
        return CheckedBlock(cid, base + start, base + head.data, data, self._problem(cid, data, base + start))

    def _problem(self, cid: Cid, data: memoryview, offset: int) -> CarError | None:
        try:
            multihash.check(cid, data)
        except CarError as error:
            error.source, error.offset = self._source.name, offset
            return error
        return None
