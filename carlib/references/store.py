"""Blocks out of a ref-CAR: those that are in it, and those that lie in the user's files."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from carlib import multihash
from carlib.blockstore import ReadOnlyBlockstore
from carlib.cid import Cid
from carlib.errors import BlockNotFound, HashMismatch
from carlib.references.lotus import LotusReferences
from carlib.references.table import ReferenceTable
from carlib.references.target import BrokenReference, Reference, Status, Targets


class References(Protocol):
    """Where referenced blocks lie."""

    def find(self, cid: Cid) -> Reference | None: ...


class ReferenceBlockstore:
    """:class:`~carlib.blockstore.Blocks` of a ref-CAR; every block is verified, wherever it comes from."""

    def __init__(self, store: ReadOnlyBlockstore, references: References, targets: Targets) -> None:
        self.store = store
        self.references = references
        self.targets = targets

    @classmethod
    def open(cls, path: Path, folder: Path, *, index: Path | None = None) -> Self:
        """The ref-CAR at ``path``, ours or Lotus', whose references are below ``folder``; raises CarError, OSError."""
        store = ReadOnlyBlockstore.open(path, index=index)
        try:
            table = ReferenceTable.find_in(store.source, store.container)
            return cls(store, LotusReferences(store) if table is None else table, Targets(folder))
        except BaseException:
            store.close()
            raise

    @property
    def roots(self) -> tuple[Cid, ...]:
        return self.store.roots

    @property
    def folder(self) -> Path:
        """What referenced files are below."""
        return self.targets.folder

    def get(self, cid: Cid) -> bytes:
        """The block; raises BrokenReference where it is in a file that no longer has it, otherwise as any Blocks."""
        try:
            return self.store.get(cid)
        except BlockNotFound:
            reference = self._reference(cid)
        try:
            return self._referenced(cid, reference)
        except BrokenReference:
            # The file may have been put back by another one of its name, while we have the one that was changed open.
            if not self.targets.forget(reference.target):
                raise
        return self._referenced(cid, reference)

    def _referenced(self, cid: Cid, reference: Reference) -> bytes:
        data = self.targets.read(reference)
        try:
            multihash.check(cid, data)
        except HashMismatch:
            path = reference.target.path.decode("utf-8", "surrogateescape")
            raise BrokenReference(
                Status.CHANGED, path, f"what lies there is no longer {cid}", offset=reference.offset
            ) from None
        return data

    def has(self, cid: Cid) -> bool:
        """Whether the block is here or referenced; the file is not looked at."""
        return self.store.has(cid) or self.references.find(cid) is not None

    def size(self, cid: Cid) -> int:
        try:
            return self.store.size(cid)
        except BlockNotFound:
            return self._reference(cid).size

    def close(self) -> None:
        self.targets.close()
        self.store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _reference(self, cid: Cid) -> Reference:
        reference = self.references.find(cid)
        if reference is None:
            raise BlockNotFound(cid, source=self.store.source.name)
        return reference
