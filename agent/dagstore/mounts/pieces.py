"""Where the pieces of deals lie on this machine: the interface, and a folder that says it in files.

The folder holds, for each piece, named by its v1 piece CID (`baga6ea4seaq…`):

- `CID.json`: places in unsealed sectors, as Lotus lays them out, the best first:
  `{"payload": 1000, "places": [{"file": "unsealed/s-t01000-7", "offset": 0, "size": 2048}]}`.
  `file` is from this folder if it is not absolute; `offset` and `size` are padded bytes; `payload` is the size of the
  CAR, and may be left out: the data is all of the unpadded piece then, zeros behind the CAR included.
- `CID.car`: the CAR as it is.

Whoever writes them writes a temporary file and renames it. One look-up opens one file, however many there are.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Protocol

import msgspec

from agent.dagstore.failures import ErrorClass, ShardError, class_of_os_error
from carlib.cid import Cid
from carlib.errors import CarError
from carlib.piece.sector import Placement

Size = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]


@dataclass(frozen=True, slots=True)
class PiecePlace:
    """Where the bytes of a piece should be; whether they are is for whoever looks to find out."""

    path: Path
    placement: Placement | None  # in an unsealed sector; None: the file is the payload itself
    payload_size: int | None = None  # bytes; None: all of it


class PieceStore(Protocol):
    """Knows which deals put a piece where."""

    @property
    def name(self) -> str:
        """For messages."""

    def find(self, piece: Cid) -> Sequence[PiecePlace]:
        """The places of a piece, given by its v1 CID, the best first; none if it is not known. May block.

        Raises ShardError.
        """


class _Place(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    file: str
    offset: Size
    size: Size


class _Places(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    places: tuple[_Place, ...]
    payload: Size | None = None


_decode = msgspec.json.Decoder(_Places).decode


@dataclass(frozen=True, slots=True)
class PieceDirectory:
    """A `PieceStore` over a folder as described above."""

    folder: Path

    @property
    def name(self) -> str:
        return str(self.folder)

    def find(self, piece: Cid) -> Sequence[PiecePlace]:
        note = self.folder / f"{piece}.json"
        found: list[PiecePlace] = []
        try:
            described = _decode(note.read_bytes())
            for place in described.places:
                if "\0" in place.file:
                    raise ValueError("a file name with a null byte")
                placement = Placement.parse(place.offset, place.size)
                found.append(PiecePlace(self.folder / place.file, placement, described.payload))
        except FileNotFoundError:
            pass
        except OSError as error:
            raise ShardError(class_of_os_error(error), f"{note}: {error.strerror}") from error
        except (msgspec.DecodeError, CarError, ValueError) as error:
            raise ShardError(ErrorClass.CORRUPT, f"{note}: {error}") from error
        car = self.folder / f"{piece}.car"
        try:
            car.stat()
        except OSError as error:
            if error.errno != errno.ENOENT:
                raise ShardError(class_of_os_error(error), f"{car}: {error.strerror}") from error
            return found
        return [*found, PiecePlace(car, None)]
