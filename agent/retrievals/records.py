"""A retrieval as a value: what the catalogue keeps of it, and the same as it goes over the wire."""

from __future__ import annotations

from pathlib import Path

import msgspec

from agent.dagstore.failures import ErrorClass, ShardError
from agent.dagstore.mounts.mount import Fingerprint
from agent.export.orders import parse_path
from agent.retrievals.transitions import State
from agent.transfer.units import Order
from carlib.cid import Cid
from carlib.errors import CarError
from carlib.selectors import data_selector
from carlib.traversal import ByteRange, Scope


class Wanted(msgspec.Struct, frozen=True, rename="pascal"):
    """What somebody asks for: a root, and a part of what is below it by a path, a range of bytes, or a selector."""

    root: str
    path: str = ""
    range: str = ""
    selector: str = ""
    lazy: bool = False  # only blocks that somebody reads
    local: bool | None = None  # whether what is here is taken from here; None: as configured
    to: str | None = (
        None  # an IPFS node that it is put into, too ("ipfs", "ipfs:ADDRESS"); None: as configured
    )

    def checked(self) -> Wanted:
        """With the root in its own spelling; raises ShardError(invalid)."""
        self.order()
        return msgspec.structs.replace(self, path="/".join(filter(None, self.path.split("/"))))

    def order(self) -> Order:
        try:
            cid = Cid.parse(self.root)
            path = parse_path(self.path)
            wanted = ByteRange.parse(self.range) if self.range else None
            if self.selector:
                data_selector(self.selector)
        except CarError as error:
            raise ShardError(ErrorClass.INVALID, str(error)) from None
        if self.selector and (path or wanted):
            raise ShardError(ErrorClass.INVALID, "give a selector, or a path and a range, not both")
        scope = Scope.ENTITY if wanted is not None else Scope.ALL
        return Order(cid, path, scope, wanted, self.selector)


class RetrievalRow(msgspec.Struct, frozen=True):
    """What the catalogue keeps."""

    id: int  # nanoseconds of the clock when it was begun, and rising
    name: str  # the root as it was given: its folder in the mount
    wanted: tuple[Wanted, ...]  # all that was asked for, one after the other
    sources: tuple[str, ...]  # besides those of the configuration
    state: State
    created: str  # RFC 3339, UTC
    ended: str = ""
    error: str = ""
    error_class: ErrorClass | None = None
    bytes: int = 0
    blocks: int = 0
    wasted: int = 0
    generation: int = 0  # rises each time it is done
    met: int = 0  # of `wanted`, how many are in the file: all, when it was done the last time
    data_size: int = 0  # of the CARv1 inside, when it is done
    fingerprint: Fingerprint | None = None  # of the file, likewise

    @property
    def root(self) -> Cid:
        return Cid.parse(self.wanted[0].root)

    @property
    def local(self) -> bool | None:
        """Whether what is here is taken from here, as who asked last wants it; None: as configured."""
        return self.wanted[-1].local

    @property
    def nodes(self) -> tuple[str, ...]:
        """IPFS nodes that it is put into."""
        return tuple(dict.fromkeys(wanted.to for wanted in self.wanted if wanted.to))

    @property
    def is_whole(self) -> bool:
        """Whether all below the root is wanted."""
        return any(wanted.order().is_whole and not wanted.lazy for wanted in self.wanted)

    @property
    def is_lazy(self) -> bool:
        return all(one.lazy for one in self.wanted)


class RetrievalRecord(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """RECORD on the wire; what is not known (yet) is null. Sizes in bytes, times in seconds."""

    id: int = msgspec.field(name="ID")
    name: str
    root: str
    state: str
    path: str
    range: str
    selector: str
    lazy: bool
    sources: tuple[str, ...]
    car_path: str = msgspec.field(name="CARPath")
    bytes: int
    blocks: int
    wasted: int
    total: int | None  # bytes that there will be
    rate: float  # bytes a second, lately
    eta_seconds: float | None = msgspec.field(name="ETASeconds")
    source: str  # that gave the last blocks
    error: str
    error_class: str
    created: str
    ended: str | None
    roots: tuple[str, ...]
    version: int
    data_offset: int
    data_size: int
    fingerprint: Fingerprint | None
    generation: int
    refs: int


def car_path(directory: Path, number: int) -> Path:
    return directory / f"{number}.car"
