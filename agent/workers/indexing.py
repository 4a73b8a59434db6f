"""The task `index`: makes the detached index of the data behind a local file.

Takes `{"path", "scratch", "out"}` and perhaps `"indexer"`, a name in `dagstore.indexers`; gives what
`records.IndexFacts` holds of the file and its index. The index is made in the folder `scratch` and appears as `out`
complete and on disk, or not at all.
"""

from __future__ import annotations

import errno
import shutil
from pathlib import Path

from agent.dagstore import index_files, indexers
from agent.dagstore.failures import ErrorClass, ShardError
from agent.dagstore.mounts import FileMount, Fingerprint
from agent.dagstore.records import MAX_ROOTS_KEPT
from agent.workers.messages import Params
from agent.workers.tasks import Progress
from carlib import durable
from carlib.errors import CarError


def build_index(params: Params, progress: Progress) -> Params:
    """Indexes the file; raises ShardError, CarError, OSError."""
    mount, scratch, out = FileMount(Path(params["path"])), Path(params["scratch"]), Path(params["out"])
    index = indexers.load(params.get("indexer", indexers.DEFAULT))
    before = mount.stat()
    scratch.mkdir(exist_ok=True)
    try:
        report = index(mount.path, scratch / out.name, progress=progress)
    except CarError:
        _refuse_if_changed(mount, before)  # a file that is still being copied is not a damaged one
        raise
    except OSError as error:
        if (
            error.filename is None
        ):  # of a read or a write; the first is about the data, a full disk about the index
            error.filename = str(out.parent if error.errno in (errno.ENOSPC, errno.EDQUOT) else mount.path)
        raise
    _refuse_if_changed(mount, before)
    checksum = index_files.checksum(scratch / out.name)
    (scratch / out.name).rename(out)
    durable.sync_folder(out.parent)
    shutil.rmtree(scratch)
    return {
        "name": out.name,
        "size": report.index_size,
        "fingerprint": {name: getattr(before, name) for name in ("size", "mtime_ns", "inode", "device")},
        "codec": report.index_codec,
        "version": report.version,
        "data_offset": report.data_offset,
        "data_size": report.data_size,
        "blocks": report.block_count,
        "roots": [str(root) for root in report.roots[:MAX_ROOTS_KEPT]],
        "checksum": checksum,
        "format": index_files.FORMAT,
    }


def _refuse_if_changed(mount: FileMount, before: Fingerprint) -> None:
    changed = before.differs_from(mount.stat())
    if changed:
        message = (
            f"{mount} was written to while it was indexed ({changed}); recover the shard when that is done"
        )
        raise ShardError(ErrorClass.BUSY, message)
