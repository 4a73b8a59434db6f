"""The piece of a deal: `lotus://PIECE-CID`, of either version, read in place from where the piece store says it lies.

What an unsealed sector holds is padded (fr32) and is converted as it is read. The size is that of the data: the CAR's
where it is known (from a v2 CID, or from the piece store), else of the unpadded piece, never the padded one.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from agent.dagstore.access import Access, FileAccess, SectorAccess
from agent.dagstore.failures import ErrorClass, ShardError, class_of_os_error
from agent.dagstore.mounts import probing
from agent.dagstore.mounts.mount import MAX_CHUNK_BYTES, DataChanged, Fingerprint, Probe, check_range
from agent.dagstore.sector_reads import SectorSource
from carlib.cid import Cid
from carlib.errors import CarError
from carlib.piece import cids
from carlib.piece.cids import Piece
from carlib.piece.fr32 import unpadded_view
from carlib.piece.sizes import PADDED_GROUP, UNPADDED_GROUP
from carlib.source import ByteSource, FileSource

if TYPE_CHECKING:
    from agent.dagstore.mounts.environment import Environment
    from agent.dagstore.mounts.pieces import PiecePlace, PieceStore

_END_BYTES: Final = 4096  # of a piece, by which it is told from another one at the same place


@dataclass(frozen=True, slots=True)
class Found:
    """Data of the piece that is really there."""

    access: FileAccess | SectorAccess
    fingerprint: Fingerprint


@dataclass(frozen=True, slots=True)
class LotusMount:
    """The piece with this CID."""

    cid: Cid

    @classmethod
    def parse(cls, url: str) -> LotusMount:
        """From `lotus://` and a piece CID in any base; raises ShardError(invalid)."""
        text = url.split(":", 1)[1].removeprefix("//").removesuffix("/")
        try:
            cid = Cid.parse(text)
            cids.root_of(cid)
        except (CarError, ValueError) as error:
            raise ShardError(
                ErrorClass.INVALID, f"failed to parse PieceCid {text[:200]!r}: {error}"
            ) from error
        return cls(cid)

    @property
    def url(self) -> str:
        return f"lotus://{self.cid}"

    @property
    def path(self) -> Path | None:
        return None

    @property
    def origin(self) -> str:
        return "lotus:"

    def access(self, environment: Environment | None = None) -> Access | None:
        if environment is None:
            return None
        store = environment.piece_store()
        errors: list[ShardError] = []
        for place in store.find(self._v1()):
            try:
                return self._there(place).access
            except ShardError as error:
                errors.append(error)
        raise self._missing(store, errors)

    async def look(self, environment: Environment) -> Fingerprint:
        return (await self._found(environment))[0].fingerprint

    async def probe(self, environment: Environment) -> Probe:
        return await probing.probe(self, environment)

    @asynccontextmanager
    async def stream(
        self, environment: Environment, offset: int, length: int, expected: Fingerprint
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        check_range(self, offset, length, expected.size)
        found = await self._found(environment)
        same = [one for one in found if not expected.differs_from(one.fingerprint)]
        if not same:
            raise DataChanged(self, expected.differs_from(found[0].fingerprint))
        async with aclosing(self._pieces(environment, same[0].access, offset, length, expected)) as pieces:
            yield pieces

    async def _pieces(
        self, environment: Environment, access: Access, offset: int, length: int, expected: Fingerprint
    ) -> AsyncGenerator[bytes, None]:
        assert isinstance(access, FileAccess | SectorAccess)
        folder = str(Path(access.path).parent)
        for start in range(offset, offset + length, MAX_CHUNK_BYTES):
            size = min(MAX_CHUNK_BYTES, offset + length - start)
            read = partial(self._read, access, start, size, expected)
            yield await environment.threads.run(folder, read)

    def _read(
        self, access: FileAccess | SectorAccess, offset: int, length: int, expected: Fingerprint
    ) -> bytes:
        """Opens, reads, closes, as `FileMount` does; the fingerprint is taken after reading."""
        path = Path(access.path)
        is_sector = isinstance(access, SectorAccess)
        with _errors_named(path), (SectorSource if is_sector else FileSource)(path) as file:
            source: ByteSource = file
            if isinstance(access, SectorAccess):
                source = unpadded_view(file, access.offset, access.size)
            data = source.peek(offset, length)
            difference = expected.differs_from(_fingerprint(file.peek, path.stat(), access))
        if difference:
            raise DataChanged(self, difference)
        if len(data) != length:
            raise ShardError(ErrorClass.CORRUPT, f"{self}: {path} ends before the piece")
        return data

    async def _found(self, environment: Environment) -> list[Found]:
        """Every place where it really is, at least one; raises ShardError."""
        store, threads = environment.piece_store(), environment.threads
        found: list[Found] = []
        errors: list[ShardError] = []
        for place in await threads.run(store.name, partial(store.find, self._v1())):
            try:
                found.append(await threads.run(str(place.path.parent), partial(self._there, place)))
            except ShardError as error:
                errors.append(error)
        if not found:
            raise self._missing(store, errors)
        return found

    def _missing(self, store: PieceStore, errors: list[ShardError]) -> ShardError:
        if not errors:
            message = f"no storage deals found for piece {self.cid} in {store.name}"
            return ShardError(ErrorClass.GONE, message)
        reasons = "; ".join(str(error) for error in errors)
        error_class = errors[0].error_class if len(errors) == 1 else ErrorClass.GONE
        return ShardError(error_class, f"no unsealed copy of piece {self.cid}: {reasons}")

    def _there(self, place: PiecePlace) -> Found:
        """The data at this place; raises ShardError if it is not there. May block."""
        with _errors_named(place.path):
            # Opening a FIFO without O_NONBLOCK would wait for a writer.
            descriptor = os.open(place.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            try:
                status = os.fstat(descriptor)
                if not stat.S_ISREG(status.st_mode):
                    raise ShardError(ErrorClass.INVALID, f"{place.path} is not a regular file")
                access = self._access(place, status.st_size)
                if isinstance(access, SectorAccess) and not _is_written(descriptor, place):
                    message = f"{place.path} holds nothing at {access.offset}: not unsealed"
                    raise ShardError(ErrorClass.GONE, message)
                return Found(access, _fingerprint(partial(_peek, descriptor), status, access))
            finally:
                os.close(descriptor)

    def _access(self, place: PiecePlace, file_size: int) -> FileAccess | SectorAccess:
        piece = self._v2()
        if place.placement is None:
            if piece is not None and file_size != piece.payload_size:
                message = f"{place.path} has {file_size} bytes, the piece {piece.payload_size}"
                raise ShardError(ErrorClass.CORRUPT, message)
            return FileAccess(str(place.path))
        placement = place.placement
        size = placement.unpadded_size if place.payload_size is None else place.payload_size
        if piece is not None:
            if placement.size != piece.padded_size or place.payload_size not in (None, piece.payload_size):
                message = f"{place.path}: the sizes of the place are not those in the CID"
                raise ShardError(ErrorClass.CORRUPT, message)
            size = piece.payload_size
        if size > placement.unpadded_size:
            message = f"{place.path}: {size} bytes are not in a piece of {placement.size}"
            raise ShardError(ErrorClass.CORRUPT, message)
        if placement.end > file_size:
            message = f"{place.path} has {file_size} bytes, the piece ends at {placement.end}"
            raise ShardError(ErrorClass.GONE, message)
        return SectorAccess(str(place.path), placement.offset, size)

    def _v2(self) -> Piece | None:
        """What a v2 CID says of sizes; None for v1."""
        return None if self.cid == self._v1() else Piece.of(self.cid)

    def _v1(self) -> Cid:
        return Piece(cids.root_of(self.cid), 0).v1

    def __str__(self) -> str:
        return self.url


@contextmanager
def _errors_named(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ShardError(class_of_os_error(error), f"{path}: {error.strerror}") from error


def _fingerprint(
    peek: Callable[[int, int], bytes], status: os.stat_result, access: FileAccess | SectorAccess
) -> Fingerprint:
    """Of a piece in a sector its first and last bytes: the sector's file changes when other pieces come and go."""
    if isinstance(access, FileAccess):
        return Fingerprint(status.st_size, status.st_mtime_ns, status.st_ino, status.st_dev)
    end = access.offset + -(-access.size // UNPADDED_GROUP) * PADDED_GROUP
    length = min(_END_BYTES, end - access.offset)
    ends = peek(access.offset, length) + peek(end - length, length)
    return Fingerprint(access.size, status.st_mtime_ns, etag=f'"{hashlib.sha256(ends).hexdigest()[:32]}"')


def _peek(descriptor: int, offset: int, length: int) -> bytes:
    return os.pread(descriptor, length, offset)


def _is_written(descriptor: int, place: PiecePlace) -> bool:
    """Whether the file has any data in the range: Lotus makes a sector's file full of holes, and punches one where it
    drops an unsealed piece."""
    assert place.placement is not None
    try:
        return os.lseek(descriptor, place.placement.offset, os.SEEK_DATA) < place.placement.end
    except OSError as error:
        if error.errno == errno.ENXIO:  # none from there on
            return False
        raise
