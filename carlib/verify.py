"""Is this CAR what it says: its structure, the index against the data both ways, every block's hash, every link.

Nothing of what the CAR claims is believed; what is wrong is counted, and the first problems are kept with their
offsets.  How deep to look is the caller's choice (:class:`Depth`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import Final

from carlib import index_check, index_sample, tally
from carlib.checked import CheckedBlocks
from carlib.cid import Cid
from carlib.container import Container, read_container
from carlib.errors import CarError, Malformed, Truncated
from carlib.index import Index
from carlib.reachability import Reach, reach
from carlib.section import Sections
from carlib.source import ByteSource, FileSource

MAX_PROBLEMS: Final = 100
"""Problems kept in full; the rest are only counted."""


class Depth(IntEnum):
    """How much is looked at; each is more than the one before."""

    STRUCTURE = 1
    """Frame, sections and padding; whether the roots are here and the index can be read.  No data is read."""
    INDEX = 2
    """The index against the sections, both ways, or a sample of it."""
    BLOCKS = 3
    """Every block's hash."""
    FULL = 4
    """Every link: what is reached from the roots, what dangles, what nothing leads to."""


@dataclass(slots=True)
class Report:
    """The verdict.  ``whole_until`` is the offset up to which the sections are whole, ``padding`` zero bytes behind
    them."""

    path: Path
    version: int = 0
    roots: tuple[Cid, ...] = ()
    blocks: int = 0
    data_bytes: int = 0
    whole_until: int = 0
    padding: int = 0
    missing_roots: list[Cid] = field(default_factory=list)
    index_state: str = "none"
    """``none``, ``good``, ``unusable`` or ``wrong``; ``readable`` where it was not compared."""
    index_sampled: int = 0
    """Entries that were looked at, where not all were."""
    links: Reach | None = None
    """For :attr:`Depth.FULL` alone."""
    problems: list[CarError] = field(default_factory=list)
    problem_count: int = 0

    @property
    def good(self) -> bool:
        """No problem with a block, the container or the index; roots and links to absent blocks the format allows."""
        return not self.problem_count

    @property
    def complete(self) -> bool:
        """Whether every root is here and, as far as links were followed, every block that they lead to."""
        return not self.missing_roots and (self.links is None or self.links.is_complete)

    def add(self, problem: CarError) -> None:
        self.problem_count += 1
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(problem)


def verify(
    path: Path,
    *,
    index: Path | None = None,
    depth: Depth = Depth.BLOCKS,
    sample: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Check the CAR at ``path`` and its own or the detached ``index``.

    ``sample``: look at so many entries of the index, chosen by chance, instead of all.  CarErrors end up in the
    report, OSError is raised.
    """
    report = Report(path)
    with FileSource(path) as source:
        try:
            container = read_container(source, whole=False)
        except CarError as error:
            report.add(error)
            return report
        report.version, report.roots = container.version, container.roots
        with _listed(path, container, index, depth, sample) as listed:
            truth = None if listed is None else listed.truth
            whole = _check_blocks(source, container, report, depth, progress, truth)
            agrees = listed is not None and whole and not container.missing and listed.agrees()
        if container.missing:
            report.add(
                Truncated(
                    f"the file ends {container.missing} bytes before the data should",
                    source=source.name,
                    offset=source.size,
                )
            )
        _check_index(path, source, container, index, report, depth, sample, agrees=agrees)
    if depth is Depth.FULL and report.whole_until:
        total = report.data_bytes
        tell = None if progress is None else lambda done, all_: progress(total * done // all_, total)
        report.links = reach(path, progress=tell)
    return report


def _listed(
    path: Path, container: Container, detached: Path | None, depth: Depth, sample: int | None
) -> contextlib.AbstractContextManager[tally.Beside | None]:
    """The index, tallied beside the blocks where all of both is gone through."""
    if depth < Depth.BLOCKS or sample is not None or not (detached or container.index_offset):
        return contextlib.nullcontext()
    start = 0 if detached else container.index_offset
    return tally.beside(detached or path, start, container.data_offset)


def _check_blocks(
    source: ByteSource,
    container: Container,
    report: Report,
    depth: Depth,
    progress: Callable[[int, int], None] | None,
    truth: tally.Tally | None,
) -> bool:
    """Whether all sections could be gone through; then ``truth`` has their index entries, if blocks were hashed."""
    roots = {root.multihash: root for root in container.roots if not root.is_identity}
    absent: set[bytes] = set(roots)
    blocks: CheckedBlocks | _UncheckedBlocks
    if depth >= Depth.BLOCKS:
        blocks = CheckedBlocks(source, container, tally=truth)
    else:
        blocks = _UncheckedBlocks(source, container)
    start, total = container.first_section, container.data_end - container.first_section
    tell = None if progress is None else lambda offset: progress(offset - start, total)
    whole = False
    try:
        for problem in blocks.problems(absent, tell):
            report.add(problem)
    except CarError as error:
        report.add(error)
    else:
        whole = True
        report.padding = container.data_end - blocks.position
        _check_padding(source, blocks.position, container.data_end, report)
    report.whole_until = blocks.position
    report.blocks, report.data_bytes = blocks.blocks, blocks.data_bytes
    report.missing_roots = [root for key, root in roots.items() if key in absent]
    if progress is not None:
        progress(total, total)
    return whole


def _check_padding(source: ByteSource, start: int, end: int, report: Report) -> None:
    """What follows a zero length must be zeros, else data hides behind it."""
    for offset in range(start, end, 1 << 20):
        piece = source.peek(offset, min(1 << 20, end - offset))
        if rest := piece.lstrip(b"\0"):
            at = offset + len(piece) - len(rest)
            report.add(
                Malformed("bytes that are not zero follow the end of the data", source=source.name, offset=at)
            )
            return


class _UncheckedBlocks:
    """What :class:`CheckedBlocks` counts, with no data read."""

    def __init__(self, source: ByteSource, container: Container) -> None:
        self.blocks = self.data_bytes = 0
        self._sections = Sections(source, container.first_section, container.data_end, zero_is_end=True)

    @property
    def position(self) -> int:
        return self._sections.position

    def problems(self, absent: set[bytes], tell: Callable[[int], None] | None = None) -> Iterator[CarError]:
        for number, (cid, offset, _, size) in enumerate(self._sections, 1):
            self.blocks = number
            self.data_bytes += size
            if absent:
                absent.discard(Cid(cid).multihash)
            if tell is not None and not number & 0xFFFF:
                tell(offset)
        yield from ()


def _check_index(
    path: Path,
    source: ByteSource,
    container: Container,
    detached: Path | None,
    report: Report,
    depth: Depth,
    sample: int | None,
    *,
    agrees: bool,
) -> None:
    """``agrees``: it is known to list all of the data, so there is nothing to look for."""
    if detached is None and not container.index_offset:
        return
    index_source = source if detached is None else FileSource(detached)
    try:
        index = Index.open(index_source, container.index_offset if detached is None else 0)
        if depth is Depth.STRUCTURE:
            report.index_state = "readable"
            return
        before = report.problem_count
        found: Iterator[CarError] = iter(())
        if sample is None and not agrees:
            found = index_check.problems(path, index, index_source.name)
        elif sample is not None:
            report.index_sampled = min(sample, len(index))
            found = index_sample.problems(source, container, index, index_source.name, sample)
        for problem in found:
            report.add(problem)
        report.index_state = "good" if report.problem_count == before else "wrong"
    except CarError as error:
        # Ancient or foreign indices are in the field; readers make their own, so this is said and not a fault.
        report.index_state = "unusable"
        if detached is not None:
            report.add(error)
    finally:
        if index_source is not source:
            index_source.close()
