"""The task `index`: makes the detached index of a CAR, local or not.

Takes `{"path", "scratch", "out"}` for a local file, and gives what `records.IndexFacts` holds of it and its index. For
other data it takes `{"access", "fingerprint", "scratch", "out"}`: an `Access`, and what the agent knows them by. The
index is made in the folder `scratch` and appears as `out` complete and on disk, or not at all.
"""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict
from pathlib import Path

import msgspec

from agent.dagstore.access import Access, Fetch, RemoteSource, open_source, place_of
from agent.dagstore.ahead import WINDOW_BYTES, ForeseeingSource
from agent.dagstore.failures import ErrorClass, ShardError
from agent.dagstore.mounts import FileMount, Fingerprint
from agent.dagstore.records import MAX_ROOTS_KEPT
from agent.workers.messages import Params
from agent.workers.tasks import Progress
from carlib import adoption, durable, indexing
from carlib.container import read_container
from carlib.errors import CarError
from carlib.indexing import IndexReport
from carlib.source import ByteSource


def build_index(params: Params, progress: Progress, fetch: Fetch) -> Params:
    """Indexes the data; raises ShardError, CarError, OSError."""
    scratch, out = Path(params["scratch"]), Path(params["out"])
    if "access" in params:
        return _of_access(params, scratch, out, progress, fetch)
    mount = FileMount(Path(params["path"]))
    before = mount.stat()
    try:
        with _making(scratch, out, str(mount.path)):
            report = indexing.build(mount.path, scratch / out.name, progress=progress)
    except CarError:
        _refuse_if_changed(mount, before)  # a file that is still being copied is not a damaged one
        raise
    _refuse_if_changed(mount, before)
    return _finished(report, scratch, out, asdict(before))


def _of_access(params: Params, scratch: Path, out: Path, progress: Progress, fetch: Fetch) -> Params:
    """Data that the agent watches: whether they change meanwhile is seen there."""
    access: Access = msgspec.convert(params["access"], Access)
    with closing(open_source(access, fetch)) as source, _making(scratch, out, place_of(access)):
        report = _report(source, scratch / out.name, progress)
    return _finished(report, scratch, out, params["fingerprint"])


def _report(source: ByteSource, out: Path, progress: Progress) -> IndexReport:
    if not isinstance(source, RemoteSource):
        return indexing.build(source, out, progress=progress)
    container = read_container(source)
    if container.version == 2:
        try:
            return adoption.adopt(source, container, out, hint=source.hint)
        except adoption.NotAdopted:
            pass  # so it is made from the sections, as every index of local data is
    return indexing.build(ForeseeingSource(source), out, progress=progress, window_bytes=WINDOW_BYTES)


@contextmanager
def _making(scratch: Path, out: Path, data: str) -> Iterator[None]:
    """Names the file in errors of a read or a write; the first is about the data, a full disk about the index."""
    scratch.mkdir(exist_ok=True)
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(out.parent if error.errno in (errno.ENOSPC, errno.EDQUOT) else data)
        raise


def _finished(report: IndexReport, scratch: Path, out: Path, fingerprint: Params) -> Params:
    (scratch / out.name).rename(out)
    durable.sync_folder(out.parent)
    shutil.rmtree(scratch)
    return {
        "name": out.name,
        "size": report.index_size,
        "fingerprint": fingerprint,
        "codec": report.index_codec,
        "version": report.version,
        "data_offset": report.data_offset,
        "data_size": report.data_size,
        "blocks": report.block_count,
        "roots": [str(root) for root in report.roots[:MAX_ROOTS_KEPT]],
    }


def _refuse_if_changed(mount: FileMount, before: Fingerprint) -> None:
    changed = before.differs_from(mount.stat())
    if changed:
        message = (
            f"{mount} was written to while it was indexed ({changed}); recover the shard when that is done"
        )
        raise ShardError(ErrorClass.BUSY, message)
