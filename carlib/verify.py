"""Is this CAR what it says: every block's hash, the roots, and the index against the data both ways.

Nothing of what the CAR claims is believed; what is wrong is counted, and the first problems are kept with their
offsets.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from carlib import index_check
from carlib.checked import CheckedBlocks
from carlib.cid import Cid
from carlib.container import Container, read_container
from carlib.errors import CarError, Malformed, Truncated
from carlib.index import Index
from carlib.source import ByteSource, FileSource

MAX_PROBLEMS: Final = 100
"""Problems kept in full; the rest are only counted."""


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
    """``none``, ``good``, ``unusable`` or ``wrong``."""
    problems: list[CarError] = field(default_factory=list)
    problem_count: int = 0

    @property
    def good(self) -> bool:
        """No problem with a block, the container or the index; a root that is absent is allowed by the format."""
        return not self.problem_count

    def add(self, problem: CarError) -> None:
        self.problem_count += 1
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(problem)


def verify(
    path: Path, *, index: Path | None = None, progress: Callable[[int, int], None] | None = None
) -> Report:
    """Check the CAR at ``path`` and its own or the detached ``index``; CarErrors end up in the report, OSError is
    raised."""
    report = Report(path)
    with FileSource(path) as source:
        try:
            container = read_container(source, whole=False)
        except CarError as error:
            report.add(error)
            return report
        report.version, report.roots = container.version, container.roots
        _check_blocks(source, container, report, progress)
        if container.missing:
            report.add(
                Truncated(
                    f"the file ends {container.missing} bytes before the data should",
                    source=source.name,
                    offset=source.size,
                )
            )
        _check_index(path, source, container, index, report)
    return report


def _check_blocks(
    source: ByteSource, container: Container, report: Report, progress: Callable[[int, int], None] | None
) -> None:
    roots = {root.multihash: root for root in container.roots if not root.is_identity}
    absent, blocks = set(roots), CheckedBlocks(source, container)
    start, total = container.first_section, container.data_end - container.first_section
    tell = None if progress is None else lambda offset: progress(offset - start, total)
    try:
        for problem in blocks.problems(absent, tell):
            report.add(problem)
    except CarError as error:
        report.add(error)
    else:
        report.padding = container.data_end - blocks.position
        _check_padding(source, blocks.position, container.data_end, report)
    report.whole_until = blocks.position
    report.blocks, report.data_bytes = blocks.blocks, blocks.data_bytes
    report.missing_roots = [root for key, root in roots.items() if key in absent]
    if progress is not None:
        progress(total, total)


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


def _check_index(
    path: Path, source: ByteSource, container: Container, detached: Path | None, report: Report
) -> None:
    if detached is None and not container.index_offset:
        return
    index_source = source if detached is None else FileSource(detached)
    try:
        index = Index.open(index_source, container.index_offset if detached is None else 0)
        before = report.problem_count
        for problem in index_check.problems(path, index, index_source.name):
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
