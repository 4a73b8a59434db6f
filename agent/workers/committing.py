"""The task `commp`: the piece that a file, or the data of a shard, is for Filecoin.

Takes `{"path"}` or, for the data of a shard, `{"access"}`, and gives `{"root", "padded", "payload"}`: the piece CID of
version 1, the size of the piece, and that of the data. Every byte counts. Nothing is written.
"""

from __future__ import annotations

import stat
from contextlib import closing
from pathlib import Path

import msgspec

from agent.dagstore.access import Access, Fetch, open_source
from agent.dagstore.failures import ErrorClass, ShardError
from agent.workers.messages import Params
from agent.workers.tasks import Progress
from carlib.piece import Piece, commit_source
from carlib.source import FileSource


def commit(params: Params, progress: Progress, fetch: Fetch) -> Params:
    """Hashes; raises ShardError, CarError, OSError."""
    if "access" in params:
        access: Access = msgspec.convert(params["access"], Access)
        with closing(open_source(access, fetch)) as source:
            return _facts(commit_source(source, progress=progress))
    path = Path(params["path"])
    if not stat.S_ISREG(path.stat().st_mode):  # a FIFO would be waited for, a device has no size
        raise ShardError(ErrorClass.INVALID, f"{path} is not a regular file")
    with FileSource(path) as source:
        return _facts(commit_source(source, progress=progress))


def _facts(piece: Piece) -> Params:
    return {"root": str(piece.v1), "padded": piece.padded_size, "payload": piece.payload_size}
