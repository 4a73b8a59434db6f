"""Every block of a CAR in file order with the verdict of its hash: what inspect, verify and exports go through.

Small blocks are hashed where they lie in the window that was read for their heads, large ones are read one by one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import NamedTuple

from carlib import multihash, section, usual
from carlib.cid import Cid
from carlib.container import Container
from carlib.errors import CarError
from carlib.multihash import hashing_threads
from carlib.section import Sections, Window
from carlib.source import Buffers, ByteSource
from carlib.tally import Tally
from carlib.usual import USUAL_CID_BYTES, V0_CID_BYTES
from carlib.varint import Buffer


class CheckedBlock(NamedTuple):
    """One block; offsets in bytes from the start of the file, ``problem`` None where its hash is right."""

    cid: Cid
    offset: int
    data_offset: int
    data: memoryview
    problem: CarError | None


@dataclass(slots=True)
class _Found:
    """What one window holds: ``damage`` where its sections end, ``met`` of the multihashes that were looked for."""

    blocks: int = 0
    data_bytes: int = 0
    met: set[bytes] = field(default_factory=set)
    problems: list[CarError] = field(default_factory=list)
    tally: Tally | None = None
    damage: CarError | None = None
    end: int = 0


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
        tally: Tally | None = None,
    ) -> None:
        """To ``tally`` :meth:`problems` adds the index entries of all blocks, where the sections are not damaged."""
        self.blocks = self.data_bytes = 0
        self._tally = tally
        self._source = source
        first = container.first_section if start is None else start
        self._sections = Sections(source, first, container.data_end, zero_is_end=zero_is_end, until=until)

    @property
    def position(self) -> int:
        return self._sections.position

    def __iter__(self) -> Iterator[CheckedBlock]:
        """Raises Truncated, Malformed or LimitExceeded where the sections themselves are damaged; OSError."""
        for buffer, base, starts, _ in self._sections.windows(through=True):
            done, right, view = 0, usual.right, memoryview(buffer)
            while done < len(starts):
                count, _ = right(buffer, starts[done], len(starts) - done, b"")
                for start in starts[done : done + count]:
                    length, cid = buffer[start], start + 1
                    if length > 0x7F:
                        length, cid = length & 0x7F | (buffer[cid] & 0x7F) << 7, cid + 1
                        if buffer[cid - 1] > 0x7F:
                            length, cid = length | buffer[cid] << 14, cid + 1
                    data = cid + (USUAL_CID_BYTES if buffer[cid] == 1 else V0_CID_BYTES)
                    body = view[data : cid + length]
                    yield CheckedBlock(Cid(bytes(buffer[cid:data])), base + start, base + data, body, None)
                done += count
                if done < len(starts):
                    block = self._block(buffer, starts[done], base)
                    yield block
                    done += 1
                    if block.problem is not None:
                        right = usual.portable_right  # as in _window

    def problems(self, absent: set[bytes], tell: Callable[[int], None] | None = None) -> Iterator[CarError]:
        """Only what is wrong with blocks, as fast as they can be hashed, in some threads; ``blocks`` and ``data_bytes``
        are counted.

        Multihashes that are met are taken out of ``absent``; ``tell`` is given the offset of each window.  Raises like
        an iteration.
        """
        threads = hashing_threads()
        waiting: deque[tuple[Window, Future[_Found]]] = deque()
        with ThreadPoolExecutor(threads, "carfs-verify") as pool:
            buffers = Buffers(section.THROUGH_WINDOW)
            windows = self._sections.windows(through=True, buffers=buffers)
            while True:
                damage: CarError | None = None
                try:
                    window = next(windows, None)
                except CarError as error:
                    window, damage = None, error
                if window is not None:
                    waiting.append((window, pool.submit(self._window, window, absent)))
                position = self.position
                while len(waiting) > (threads + 1 if window is not None else 0):
                    first, future = waiting.popleft()
                    yield from self._taken(future.result(), absent)
                    if first.whole is not None:
                        buffers.give_back(first.whole)
                    if tell is not None:
                        tell(first.offset)
                self._sections.position = position
                if damage is not None:
                    raise damage
                if window is None:
                    return

    def _taken(self, found: _Found, absent: set[bytes]) -> Iterator[CarError]:
        """Count the next window in file order and give its problems; raises what ended it: nothing behind counts."""
        self.blocks += found.blocks
        self.data_bytes += found.data_bytes
        absent -= found.met
        if self._tally is not None and found.tally is not None:
            self._tally.merge(found.tally)
        yield from found.problems
        if found.damage is not None:
            self._sections.position = found.end
            raise found.damage

    def _window(self, window: Window, absent: set[bytes]) -> _Found:
        """The blocks of one window, in any thread; ``absent`` may shrink meanwhile."""
        buffer, base, starts, _ = window
        found, done, right = _Found(), 0, usual.right
        while done < len(starts):
            # Very many roots are looked for one by one until some are left.
            if len(absent) <= usual.MAX_ABSENT:
                digests = [
                    each[2:] for each in tuple(absent) if each[:2] == b"\x12\x20" and each not in found.met
                ]
                count, data_bytes = right(buffer, starts[done], len(starts) - done, b"".join(digests))
                found.blocks += count
                found.data_bytes += data_bytes
                done += count
                if done == len(starts):
                    break
            try:
                block = self._block(buffer, starts[done], base)
            except CarError as error:
                found.damage, found.end = error, base + starts[done]
                break
            if block.cid.multihash in absent:
                found.met.add(block.cid.multihash)
            found.blocks += 1
            found.data_bytes += len(block.data)
            done += 1
            if block.problem is not None:
                found.problems.append(block.problem)
                # In C the blocks after a wrong one were hashed for nothing: a CAR of wrong ones would cost many times.
                right = usual.portable_right
        if self._tally is not None and found.damage is None:
            found.tally = Tally(self._tally.key, self._tally.payload)
            found.tally.add_window(self._sections, window)
        return found

    def _block(self, buffer: Buffer, start: int, base: int) -> CheckedBlock:
        head = self._sections.head(buffer, start, base)
        cid = Cid(bytes(buffer[head.cid : head.data]))
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
