"""Every block of a CAR in file order with the verdict of its hash: what inspect, verify and exports go through.

Small blocks are hashed where they lie in the window that was read for their heads, large ones are read one by one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from carlib import multihash
from carlib.cid import Cid
from carlib.container import Container
from carlib.errors import CarError
from carlib.section import Sections
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
    """All blocks of ``source``; iterate once.  ``position`` is the end of the last whole section, as in Sections."""

    def __init__(self, source: ByteSource, container: Container, *, zero_is_end: bool = True) -> None:
        self._source = source
        self._sections = Sections(
            source, container.first_section, container.data_end, zero_is_end=zero_is_end
        )

    @property
    def position(self) -> int:
        return self._sections.position

    def __iter__(self) -> Iterator[CheckedBlock]:
        """Raises Truncated, Malformed or LimitExceeded where the sections themselves are damaged; OSError."""
        for window in self._sections.windows():
            buffer, base, starts = window
            view = memoryview(buffer)
            for start in starts:
                head = self._sections.head(buffer, start, base)
                cid = Cid(buffer[head.cid : head.data])
                if head.end <= len(buffer):
                    data = view[head.data : head.end]
                else:
                    data = memoryview(self._source.pread(base + head.data, head.end - head.data))
                yield CheckedBlock(
                    cid, base + start, base + head.data, data, self._problem(cid, data, base + start)
                )

    def _problem(self, cid: Cid, data: memoryview, offset: int) -> CarError | None:
        try:
            multihash.check(cid, data)
        except CarError as error:
            error.source, error.offset = self._source.name, offset
            return error
        return None
