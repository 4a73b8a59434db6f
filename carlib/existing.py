"""A CAR that is there already, before it is taken as an import in its place: what it is, or why it cannot be taken.

Both versions are read as what they are: the roots of a CARv2 are those of the CARv1 inside (Lotus read the outer frame
as a CARv1, found no root and refused: C-1).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from carlib.blockstore import own_index
from carlib.cid import Cid
from carlib.container import read_container
from carlib.errors import CarError
from carlib.references.table import ReferenceTable
from carlib.source import FileSource
from carlib.verify import Depth, verify


class NotTaken(CarError):
    """The file is no CAR, or one with damage; ``source`` and ``offset`` say where, ``cause`` is the error itself."""

    def __init__(self, cause: CarError, count: int = 1) -> None:
        more = f" (and {count - 1} more problems)" if count > 1 else ""
        super().__init__(f"{cause.message}{more}", source=cause.source, offset=cause.offset)
        self.cause = cause
        self.count = count


@dataclass(frozen=True, slots=True)
class Facts:
    """What a CAR is.  ``roots`` may be none or several: whether that will do is up to the caller."""

    version: int
    roots: tuple[Cid, ...]
    missing_roots: tuple[Cid, ...]
    """Roots whose blocks are not here."""
    blocks: int
    data_bytes: int
    """Bytes of all blocks."""
    size: int
    """Bytes of the file."""
    has_index: bool
    """Whether it has an index that can be read; not whether that is right."""
    has_references: bool
    """Whether it is a ref-CAR of ours, some of whose blocks lie in other files."""

    @property
    def note(self) -> str:
        """What is unusual about the roots, in words; empty where nothing is."""
        if not self.roots:
            return "the CAR has no root"
        if self.missing_roots:
            return f"the root {self.missing_roots[0]} is not in the CAR"
        return f"the CAR has {len(self.roots)} roots" if len(self.roots) > 1 else ""


def adopt(path: Path, *, deep: bool = True, progress: Callable[[int, int], None] | None = None) -> Facts:
    """What the CAR at ``path`` is; nothing is written.

    Every block is hashed, unless ``deep`` is False: then the sections alone are gone through.  Raises NotTaken for a
    file that is no CAR, is cut short, or has a block that does not hash to its CID or cannot be hashed; an index that
    is wrong can be made anew and is only told.  Raises OSError.
    """
    with FileSource(path) as source:
        try:
            container = read_container(source)
            has_references = ReferenceTable.find_in(source, container) is not None
            has_index = own_index(source, container) is not None
        except CarError as error:
            raise NotTaken(error) from error
        size = source.size
    # No entry of the index is compared: where it is wrong, another one is made.
    depth = Depth.BLOCKS if deep else Depth.STRUCTURE
    report = verify(path, depth=depth, sample=0 if deep else None, progress=progress)
    if report.problems:
        raise NotTaken(report.problems[0], report.problem_count) from report.problems[0]
    missing = tuple(report.missing_roots) if not has_references else ()
    return Facts(
        report.version,
        report.roots,
        missing,
        report.blocks,
        report.data_bytes,
        size,
        has_index,
        has_references,
    )
