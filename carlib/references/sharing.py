"""Dense packing that stores no leaf which already lies in a file of the user's: that is referred to instead.

Only the user's own files are ever referred to, not the CARs of other imports.  So an import may be removed whatever
others share with it; the price is that what is shared is lost when the user changes that file, as in any ref-import.
Who wants a CAR that depends on nothing packs without sharing, or freezes.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from carlib.cid import RAW, Cid
from carlib.references.table import TableWriter
from carlib.references.target import BrokenReference, Reference, Target, Targets
from carlib.writer import CarWriter

Known = Callable[[Cid], Reference | None]
"""Where a block lies in a file of the user's, as somebody remembers it."""


class SharedLeaves:
    """To be given to :func:`carlib.pack.pack` or :func:`carlib.pack.pack_stream`, once.

    ``blocks`` and ``bytes`` count what was not stored; if there is any, the CAR is to be read through
    :class:`~carlib.references.store.ReferenceBlockstore`.
    """

    def __init__(self, known: Known, folder: Path = Path("/")) -> None:
        """``known`` answers with references below ``folder``, and may be wrong: what lies there is compared."""
        self.blocks = self.bytes = 0
        self.known = known
        self.folder = folder

    def sink(self, car: CarWriter, folder: Path) -> SharedLeavesSink:
        self.blocks = self.bytes = 0
        return SharedLeavesSink(self, car, folder)


class SharedLeavesSink:
    """Blocks of one CAR."""

    def __init__(self, shared: SharedLeaves, car: CarWriter, folder: Path) -> None:
        self._shared = shared
        self._car = car
        self._targets = Targets(shared.folder)
        self._table = TableWriter(folder)
        self._files: dict[bytes, int] = {}

    def put(self, cid: Cid, data: bytes) -> bool:
        place = self._place(cid, data) if cid.codec == RAW and data and not cid.is_identity else None
        if place is None:
            return self._car.put(cid, data)
        before = len(self._table)
        self._table.add(cid, *place, len(data))
        if len(self._table) > before:
            self._shared.blocks += 1
            self._shared.bytes += len(data)
        return False

    @property
    def between(self) -> Callable[[BinaryIO], object] | None:
        return self._table.write if self._files else None

    def close(self) -> None:
        self._targets.close()
        self._table.close()

    def _place(self, cid: Cid, data: bytes) -> tuple[int, int] | None:
        """The file and offset at which ``data`` lies now; None where it is not so."""
        reference = self._shared.known(cid)
        if reference is None or reference.size != len(data):
            return None
        try:
            found = self._targets.look(reference.target)
            if self._targets.read(reference) != data:
                return None
        except BrokenReference:
            return None
        path = reference.target.path
        if path not in self._files:
            self._files[path] = self._table.files.append(Target.of(path, found))
        return self._files[path], reference.offset
