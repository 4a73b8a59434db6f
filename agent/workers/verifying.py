"""The task `verify`: looks at one slice of a shard's data, or at a sample, or follows its links.

Takes `{"access", "index", "indexer", "fingerprint", "what", "start", "length", "sample"}` and gives what
`scrub.records.SliceResult` holds. `what` is `structure`, `index`, `full` (a slice of `length` bytes from the section
at `start`; 0: from the first), `sample` (so many entries of the index, by chance) or `links`. What is verified is what
readers get, repairs included. Nothing is written.
"""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import msgspec

from agent.dagstore import indexers
from agent.dagstore.access import (
    Access,
    Fetch,
    RemoteSource,
    RepairedAccess,
    SectorAccess,
    TransientAccess,
    open_source,
)
from agent.workers.messages import Params
from agent.workers.tasks import Progress
from carlib import index_sample, reachability
from carlib.blockstore import ReadOnlyBlockstore
from carlib.container import Container, read_container
from carlib.errors import CarError, Truncated
from carlib.index import Index
from carlib.source import ByteSource, FileSource
from carlib.stretch import Stretch


def verify(params: Params, progress: Progress, fetch: Fetch) -> Params:
    """Verifies; what is wrong with the data or the index is the result, what keeps us from looking is raised.

    Raises OSError, and ShardError where the data cannot be reached.
    """
    with closing(open_source(_access(params), fetch)) as source:
        changed = _difference(params)
        if changed:
            return {"changed": changed}
        try:
            found = _verified(source, params, progress)
        except Truncated as error:
            found = {"broken": str(error)}
        changed = _difference(params)
        return {"changed": changed} if changed else found


def _verified(source: ByteSource, params: Params, progress: Progress) -> Params:
    try:
        container = read_container(source)
    except CarError as error:
        return {"broken": str(error)}
    try:
        index_source = FileSource(Path(params["index"]))
    except FileNotFoundError:
        return {"index_broken": "its index file is missing"}
    with index_source:
        try:
            index = Index.open(index_source)
        except CarError as error:
            return {"index_broken": str(error)}
        match params["what"]:
            case "sample":
                return _sample(source, container, index, params["sample"])
            case "links":
                return _links(source, container, index, progress)
        return _slice(source, container, index, params)


def _slice(source: ByteSource, container: Container, index: Index, params: Params) -> Params:
    found = _checked(source, container, index, params)
    if found.damage and isinstance(source, RemoteSource):
        for one in found.damage:  # is it our copy, or what it is a copy of?
            source.renew(one.offset, one.size)
        found = _checked(source, container, index, params)
    return {
        "start": found.start,
        "position": found.position,
        "end": container.data_end,
        "ended": found.ended,
        "blocks": found.entries,
        "unverifiable": found.unverifiable,
        "damage": [
            {
                "offset": one.offset,
                "size": one.size,
                "cid": "" if one.cid is None else str(one.cid),
                "multihash": one.multihash.hex(),
                "problem": one.problem.message,
            }
            for one in found.damage
        ],
        "index_problems": [problem.message for problem in found.index_problems],
        "index_problem_count": found.index_problem_count,
    }


def _checked(source: ByteSource, container: Container, index: Index, params: Params) -> Stretch:
    start, what = params["start"] or container.first_section, params["what"]
    check = indexers.load_check(params.get("indexer", indexers.DEFAULT))
    return check(
        source, container, index, start, start + params["length"],
        hashes=what == "full", compare=what != "structure",
    )  # fmt: skip


def _sample(source: ByteSource, container: Container, index: Index, count: int) -> Params:
    problems = [
        problem.message for problem in index_sample.problems(source, container, index, "index", count)
    ]
    return {
        "end": container.data_end,
        "ended": True,
        "blocks": min(count, len(index)),
        "suspects": problems[:20],
        "suspect_count": len(problems),
    }


def _links(source: ByteSource, container: Container, index: Index, progress: Progress) -> Params:
    reach = reachability.reach_in(ReadOnlyBlockstore(source, container, index), progress=progress)
    return {
        "end": container.data_end,
        "ended": True,
        "links": {
            "Reachable": reach.reachable,
            "Unreachable": reach.unreachable,
            "Dangling": reach.dangling,
            "Unreadable": reach.unreadable,
        },
    }


def _difference(params: Params) -> str:
    """How a file differs from what was indexed; the device's number is not kept from one boot to the next.

    A transient is compared by whoever fills it.
    """
    access = _access(params)
    base = access.base if isinstance(access, RepairedAccess) else access
    if isinstance(base, TransientAccess):
        return ""
    found = Path(base.path).stat()
    now = {"size": found.st_size, "mtime_ns": found.st_mtime_ns, "inode": found.st_ino}
    due = params["fingerprint"]
    if isinstance(base, SectorAccess) or not due["inode"]:
        del now["size"]
    return ", ".join(
        f"{name} {due[name]} -> {value}" for name, value in now.items() if due[name] not in (0, value)
    )


def _access(params: Params) -> Access:
    access: Access = msgspec.convert(params["access"], Access)
    return access
