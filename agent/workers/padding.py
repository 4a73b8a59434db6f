"""The task `addpiece`: a CAR as a piece in an unsealed sector, padded by fr32, zeros behind it.

Takes `{"path", "piece", "file", "offset", "size"}`: the CAR, the piece CID of version 1 that it must be, the sector's
file, and where in it the piece lies, in padded bytes. Gives `{"payload"}`, the size of the CAR.

The piece is the last one in its sector: whatever an earlier attempt has left from `offset` on is cut off, and what
fails is cut off again. What was written is on disk when it returns; zeros are holes.
"""

from __future__ import annotations

import os
from pathlib import Path

from agent.dagstore.access import Fetch
from agent.dagstore.failures import ErrorClass, ShardError
from agent.workers.messages import Params
from agent.workers.tasks import Progress
from carlib import durable
from carlib.cid import Cid
from carlib.piece import cids
from carlib.piece.commitment import Commitment, pad_piece
from carlib.piece.fr32 import Padder
from carlib.piece.sector import Placement
from carlib.source import FileSource

_AT_ONCE = 127 * 8192  # bytes: whole groups, about a MiB


def add_piece(params: Params, progress: Progress, fetch: Fetch) -> Params:
    """Raises ShardError(corrupt) if it is another piece, CarError, OSError."""
    place = Placement.parse(params["offset"], params["size"])
    file = Path(params["file"])
    is_new = not file.exists()
    fd = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        os.ftruncate(fd, place.offset)
        try:
            payload = _written(Path(params["path"]), fd, place, Cid.parse(params["piece"]), progress)
            os.ftruncate(fd, place.end)
            os.fsync(fd)
        except BaseException:
            os.ftruncate(fd, place.offset)
            raise
    finally:
        os.close(fd)
    if is_new:
        durable.sync_folder(file.parent)
    return {"payload": payload}


def _written(path: Path, fd: int, place: Placement, due: Cid, progress: Progress) -> int:
    commitment, padder, at = Commitment(), Padder(), place.offset
    with FileSource(path) as source:
        size = source.size
        if size > place.unpadded_size:
            message = f"{path} has {size} bytes, and the piece room for {place.unpadded_size}"
            raise ShardError(ErrorClass.CORRUPT, message)
        for offset in range(0, size, _AT_ONCE):
            data = source.pread(offset, min(_AT_ONCE, size - offset))
            commitment.update(data)
            at += _put(fd, padder.feed(data), at)
            progress(offset + len(data), size)
        _put(fd, padder.finish(), at)
    found = pad_piece(commitment.piece(), place.size)
    if found.root != cids.root_of(due):
        message = f"{path} is not the piece {due} of {place.size} padded bytes, but {found.v1}"
        raise ShardError(ErrorClass.CORRUPT, message)
    return size


def _put(fd: int, data: bytes, at: int) -> int:
    view = memoryview(data)
    while view:
        count = os.pwrite(fd, view, at + len(data) - len(view))
        view = view[count:]
    return len(data)
