"""A stretch of a CAR's sections against their hashes and an index: verifying bit by bit what may be huge.

:func:`check` looks at the sections between two offsets and says where to go on, so that whoever keeps that offset
loses at most one stretch.  The index is what leads on behind a section whose length is damaged; in return each of its
entries is compared with what lies there.  Which of the two is wrong is told by the block: one that hashes to its CID
is right, and then the index is not.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Final

from carlib import multihash, varint
from carlib.checked import CheckedBlocks
from carlib.cid import Cid
from carlib.container import Container
from carlib.errors import CarError, HashMismatch, Malformed, Truncated, UnknownHash
from carlib.index import Index
from carlib.index_range import IndexRange, Known, next_offset
from carlib.limits import MAX_BLOCK_BYTES, MIB
from carlib.multihash import IDENTITY, SHA2_256
from carlib.patched import PAGE, SalvagedSource
from carlib.section import HEAD_BYTES, Section, Sections, read_head
from carlib.source import ByteSource
from carlib.usual import SHA2_256_PREFIXES

MAX_DAMAGE: Final = 256
"""Damaged places after which a stretch ends early: each costs a window that is read again."""
MAX_INDEX_PROBLEMS: Final = 20
"""Wrong entries that are named; the rest are counted."""
_EVERYWHERE: Final = (1 << 64) - 1
_NOTHING: Final = (_EVERYWHERE, 0, b"")
_USUAL_CODES: Final = (SHA2_256, -1)
_BEYOND: Final = 2 * MAX_BLOCK_BYTES
"""How far behind its end a stretch's last section can reach."""


@dataclass(frozen=True, slots=True)
class Damage:
    """Bytes that are not what they should be: a section, or all up to the next one that is known; file offsets."""

    offset: int
    size: int
    problem: CarError
    cid: Cid | None = None
    """As it stands there; None where it cannot be read, or the index knows another."""
    multihash: bytes = b""
    """What should lie there: of the index, or of the CID."""

    @property
    def end(self) -> int:
        return self.offset + self.size


@dataclass(slots=True)
class Stretch:
    """The verdict on the sections from ``start`` to ``position``, where the next stretch begins."""

    start: int
    position: int
    ended: bool = False
    """Whether there is no next one."""
    entries: int = 0
    """Of the index, for these sections."""
    unverifiable: int = 0
    """Blocks whose hash function we lack, as the index says too: no damage, and no proof either."""
    damage: list[Damage] = field(default_factory=list)
    index_problems: list[CarError] = field(default_factory=list)
    index_problem_count: int = 0


def check(
    source: ByteSource,
    container: Container,
    index: Index,
    start: int,
    until: int,
    *,
    hashes: bool = True,
    compare: bool = True,
    alone: bool = True,
) -> Stretch:
    """Look at the sections that begin at ``start`` and behind, up to ``until`` or a window further.

    ``start`` is the container's first section or the ``position`` of another stretch.  ``hashes``: read and hash every
    block; ``compare``: every entry of the index against its section and back; ``alone``: entries of what lies
    outside of the container are wrong, else they are of another one.  Raises CarError where the index cannot be read,
    Truncated where ``source`` ends too early, OSError; but bytes that the disk does not give are damage.
    """
    found = Stretch(start, start)
    salvaged = SalvagedSource(source)
    walk = _Walk(salvaged, container, index, found, until, alone=alone)
    walk.run(hashes)
    if compare:
        walk.compare(hashes)
    walk.add_unreadable(salvaged)
    return found


class _Walk:
    """One call of :func:`check`; ``known`` is what the index says of the stretch and a little more."""

    def __init__(
        self,
        source: ByteSource,
        container: Container,
        index: Index,
        found: Stretch,
        until: int,
        *,
        alone: bool,
    ) -> None:
        self._source = source
        self._container = container
        self._index = index
        self._found = found
        self._base = container.data_offset
        self._until = min(until, container.data_end)
        is_first, is_last = found.start == container.first_section, until >= container.data_end
        last = _EVERYWHERE if alone else container.data_end - self._base
        self._known = IndexRange(
            index,
            0 if is_first and alone else found.start - self._base,
            last if is_last else min(last, self._until + _BEYOND - self._base),
        )

    def run(self, hashes: bool) -> None:
        """Walk and hash; jump over what is damaged."""
        found = self._found
        while found.position < self._until and len(found.damage) < MAX_DAMAGE:
            problem, found.position = self._first_problem(found.position, hashes)
            if problem is None:
                break
            self._jump(problem, found.position)
        full = len(found.damage) >= MAX_DAMAGE
        if found.position >= self._container.data_end or (found.position < self._until and not full):
            found.ended = True
            self._check_rest()

    def _first_problem(self, start: int, hashes: bool) -> tuple[CarError | None, int]:
        """What is wrong first, and the section where; or None, and where the walk has come to."""
        if not hashes:
            sections = Sections(
                self._source, start, self._container.data_end, zero_is_end=True, until=self._until
            )
            try:
                return self._overlap(sections) or self._after(sections.position)
            except CarError as error:
                return error, sections.position
        blocks = CheckedBlocks(self._source, self._container, start=start, until=self._until)
        try:
            for problem in blocks.problems(set()):
                at = blocks.position if problem.offset is None else problem.offset
                if not (isinstance(problem, UnknownHash) and self._is_known(at)):
                    return problem, at
                self._found.unverifiable += 1
        except CarError as error:
            return error, blocks.position
        return self._after(blocks.position)

    def _overlap(self, sections: Sections) -> tuple[CarError, int] | None:
        """The first section that reaches over the beginning of another, as the index knows it, and is not whole."""
        known = iter(self._known)
        following = -1
        for section in sections:
            cid, offset, data_offset, size = section
            while following <= offset:
                following = next(known, _NOTHING)[0] + self._base
            if following < data_offset + size and self._problem(Cid(cid), section) is not None:
                return Malformed(f"reaches over the section at {following}", offset=offset), offset
        return None

    def _after(self, position: int) -> tuple[CarError | None, int]:
        """A length of zero ends the data, unless the index knows better."""
        if position < self._until and self._known.after(position - self._base - 1) is not None:
            return Malformed("a length of zero where sections should follow", offset=position), position
        return None, position

    def _jump(self, problem: CarError, at: int) -> None:
        """Note the damage at ``at`` and go on behind it; what touches the damage before it belongs to that."""
        if isinstance(problem, Truncated) and self._source.size < self._container.data_end:
            raise problem  # the file became shorter under us
        following = self._following(at)
        end = self._container.data_end if following is None else following
        if isinstance(problem, HashMismatch | UnknownHash):
            end = min(end, self._section_end(at))
        due = self._known.at(at - self._base)
        damage = self._found.damage
        if damage and damage[-1].end == at and not due:
            damage[-1] = replace(damage[-1], size=end - damage[-1].offset, cid=None)
        else:
            damage.append(self._described(problem, at, end - at, due))
        self._found.position = end

    def _described(self, problem: CarError, at: int, size: int, due: list[Known]) -> Damage:
        problem.source, problem.offset = self._source.name, at
        cid = self._cid_at(at)
        if not due:
            return Damage(at, size, problem, cid, b"" if cid is None else cid.multihash)
        _, code, digest = due[0]
        if cid is not None and cid.digest == digest:
            return Damage(at, size, problem, cid, cid.multihash)
        if code < 0:  # the codec does not tell; nearly all are
            code = SHA2_256
        return Damage(at, size, problem, None, varint.encode(code) + varint.encode(len(digest)) + digest)

    def _following(self, at: int) -> int | None:
        """The file offset of the next section that the index knows."""
        offset = self._known.after(at - self._base)
        if offset is None and self._known.stop + self._base < self._container.data_end:
            offset = next_offset(self._index, at - self._base)
        return None if offset is None else min(offset + self._base, self._container.data_end)

    def _is_known(self, at: int) -> bool:
        cid = self._cid_at(at)
        return cid is not None and any(_matches(cid, known) for known in self._known.at(at - self._base))

    def _cid_at(self, at: int) -> Cid | None:
        piece = self._source.peek(at, HEAD_BYTES)
        try:
            head = read_head(piece, 0, len(piece))
        except CarError:
            return None
        return None if head is None else Cid(piece[head.cid : head.data])

    def _section_end(self, at: int) -> int:
        piece = self._source.peek(at, HEAD_BYTES)
        head = read_head(piece, 0, len(piece))
        assert head is not None
        return at + head.end

    def _check_rest(self) -> None:
        """What follows the data must be zeros, else data hides behind it."""
        position, end = self._found.position, self._container.data_end
        for offset in range(position, end, MIB):
            piece = self._source.peek(offset, min(MIB, end - offset))
            if piece.strip(b"\0"):
                problem = Malformed("bytes that are not zero follow the end of the data", offset=position)
                self._found.damage.append(self._described(problem, position, end - position, []))
                return

    def add_unreadable(self, source: SalvagedSource) -> None:
        """Sections in pages that were read as zeros: they may well have been zeros, but nobody can read them."""
        found = self._found
        for page in sorted(source.unreadable):
            start, end = max(page, found.start), min(page + PAGE, found.position)
            while start < end:
                first = self._known.before(start - self._base)
                at = start if first is None else first + self._base
                stop = self._following(start) or self._container.data_end
                if not any(one.offset < stop and at < one.end for one in found.damage):
                    problem = Malformed("cannot be read from its disk")
                    due = self._known.at(at - self._base)
                    found.damage.append(self._described(problem, at, stop - at, due))
                start = stop

    # The index, both ways

    def compare(self, hashed: bool) -> None:
        """Each entry against its section and each section against its entries, where nothing is damaged."""
        entries = _Entries(iter(self._known))
        position = self._found.start
        for damage in sorted(self._found.damage, key=lambda one: one.offset):
            self._compare(position, damage.offset, entries, hashed)
            entries.skip_to(damage.end - self._base)
            position = damage.end
        self._compare(position, self._found.position, entries, hashed)
        self._found.entries = entries.taken
        if self._found.ended:
            for known in entries.before(self._known.stop):
                self._say(f"{known[2].hex()} lies at {known[0]} of the data, where it does not")

    def _compare(self, start: int, stop: int, entries: _Entries, hashed: bool) -> None:
        base = self._base
        for section in Sections(self._source, start, stop, zero_is_end=True):
            raw, offset = section[0], section[1] - base
            head = entries.head
            # Nearly every section there is: one entry, as it should be (5 times as fast as a closer look).
            if (
                head[0] == offset
                and head[1] in _USUAL_CODES
                and raw[:4] in SHA2_256_PREFIXES
                and raw[4:] == head[2]
            ):
                if entries.advance() != offset:
                    continue
                due = [head, *entries.at(offset)]
            else:
                due = []
            for known in entries.before(offset):
                self._say(f"{known[2].hex()} lies at {known[0]} of the data, where it does not")
            due += entries.at(offset)
            cid = Cid(raw)
            if all(_matches(cid, known) for known in due) and (due or cid.hash_code == IDENTITY):
                continue
            if not hashed and (problem := self._problem(cid, section)) is not None:
                size = section[2] + section[3] - section[1]
                self._found.damage.append(self._described(problem, section[1], size, due))
                continue
            if not due:
                self._say(f"nothing of {cid}, which lies at {offset} of the data")
            for known in due:
                if not _matches(cid, known):
                    self._say(f"{known[2].hex()} lies at {offset} of the data, where {cid} does")

    def _problem(self, cid: Cid, section: Section) -> CarError | None:
        try:
            multihash.check(cid, self._source.pread(section[2], section[3]))
        except CarError as error:
            return error
        return None

    def _say(self, what: str) -> None:
        self._found.index_problem_count += 1
        if len(self._found.index_problems) < MAX_INDEX_PROBLEMS:
            self._found.index_problems.append(Malformed(f"index says {what}", source="index"))


class _Entries:
    """Entries by offset, taken one after the other; ``head`` is the next one."""

    def __init__(self, entries: Iterator[Known]) -> None:
        self.taken = 0
        self.head = next(entries, _NOTHING)
        self._entries = entries

    def advance(self) -> int:
        """Takes the head; the offset of the next one."""
        self.taken += 1
        self.head = next(self._entries, _NOTHING)
        return self.head[0]

    def before(self, offset: int) -> list[Known]:
        """Those at offsets less than ``offset`` that were not taken yet."""
        found = []
        while self.head[0] < offset:
            found.append(self.head)
            self.advance()
        return found

    def at(self, offset: int) -> list[Known]:
        return self.before(offset + 1)

    def skip_to(self, offset: int) -> None:
        self.before(offset)


def _matches(cid: Cid, known: Known) -> bool:
    return cid.digest == known[2] and known[1] in (-1, cid.hash_code)
