"""The task `export`: a DAG, or parts of it, out of the stores that hold it.

Takes `{"what", "stores", …}`, where each of `stores` is `{"key", "kind", …}`: an IMPORT as `checking` has it, a shard
(`"kind": "shard", "access", "index"`) or a CAR (`"kind": "car", "car"`). Each block is verified, and what one store has
not whole, another one gives. `what` is

- `file`: the file, directory or symlink that an order (`export.orders.Order.described`) leads to
- `car`: the CAR of what an order takes in
- `list`: with `"depth", "ipld"`, what is below, a line of JSON each
- `find`: with `"cid"` instead of an order, the keys of the stores that hold that block

The first two go to `"out"`, by way of the folder `"scratch"`, which is made beside it and left to whoever asked; or
like a list into `"fifo"`. `"replace"`: whatever stands at `out` goes. A block that no store has is the result, as
`missing`; nothing was written then.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from agent.dagstore.access import Fetch
from agent.dagstore.failures import ErrorClass, ShardError
from agent.export import listing, placing, stores
from agent.workers.messages import Params
from agent.workers.tasks import Progress
from carlib import unixfs
from carlib.blockstore import Blocks
from carlib.cid import Cid
from carlib.errors import BlockNotFound, CarError, NotUnixFs
from carlib.export import Export, ExportChanged
from carlib.extract import extract
from carlib.references import BrokenReference
from carlib.selectors import DagSpec, NoSelection, car_selection, unixfs_root
from carlib.traversal import ByteRange, Request, Rules, Scope, Traversal, Walkable
from carlib.traversal.ledger import Ledger
from carlib.traversal.path import follow
from carlib.unixfs import NoSuchEntry

PIECE_BYTES = 1 << 20


def export(params: Params, progress: Progress, fetch: Fetch) -> Params:
    """Does it; raises ShardError, CarError, OSError."""
    if params["what"] == "find":
        return {"keys": list(_holding(params["stores"], Cid.parse(params["cid"])))}
    with ExitStack() as stack:
        shared = stores.OneAtATime(fetch)
        blocks = stores.JoinedBlocks([stores.opened(store, shared, stack) for store in params["stores"]])
        try:
            return _TASKS[params["what"]](blocks, params, progress)
        except BlockNotFound as error:
            return {"missing": str(error.cid)}
        except (NoSuchEntry, NoSelection) as error:
            raise ShardError(ErrorClass.NOT_FOUND, error.message) from error
        except NotUnixFs as error:
            raise ShardError(ErrorClass.INVALID, error.message) from error
        except ExportChanged as error:
            raise ShardError(ErrorClass.BUSY, error.message) from error
        except BrokenReference as error:
            error.source = f"/{error.path}"  # references are relative to the root, `imports.making.FOLDER`
            hint = "the source of an import has changed: carfs client verify says what, repair and relink may help"
            raise ShardError(ErrorClass.CORRUPT, f"{error}; {hint}") from error


def _holding(given: Sequence[Params], cid: Cid) -> Iterator[str]:
    for store in given:
        with suppress(CarError, OSError), ExitStack() as stack:  # what is broken holds nothing
            if stores.opened(store, stores.NOBODY, stack).has(cid):
                yield store["key"]


# Files and directories


def _file(blocks: Blocks, params: Params, progress: Progress) -> Params:
    cid = _target(blocks, params)
    found = unixfs.stat(blocks, cid)
    if found.kind is unixfs.Kind.OTHER:
        message = f"{cid} is no UnixFS file or directory; export it as a CAR (--car)"
        raise ShardError(ErrorClass.INVALID, message)
    if "fifo" not in params and not params["range"]:
        return _extracted(blocks, cid, found, params, progress)
    if found.kind is not unixfs.Kind.FILE:
        message = f"{cid} is a {found.kind.value}, and only a file is a stream of bytes; export it to a path"
        raise ShardError(ErrorClass.INVALID, message)
    wanted = ByteRange.parse(params["range"]) if params["range"] else None
    start, stop = (0, found.size) if wanted is None else wanted.within(found.size)
    whole = Traversal(blocks, (Request(cid, scope=Scope.ENTITY, entity_bytes=wanted),))
    for _ in whole.walk(data=False):  # what is missing shows before the first byte is given
        pass
    content = _content(unixfs.File.open(blocks, cid), start, stop, progress)
    done = _write(content, params)
    return {"kind": "file", "bytes": done, "files": 1}


def _content(file: unixfs.File, start: int, stop: int, progress: Progress) -> Iterator[bytes]:
    for offset in range(start, stop, PIECE_BYTES):
        yield file.read(offset, min(PIECE_BYTES, stop - offset))
        progress(min(offset + PIECE_BYTES, stop) - start, stop - start)


def _extracted(blocks: Blocks, cid: Cid, found: unixfs.Stat, params: Params, progress: Progress) -> Params:
    size = found.size if found.kind is unixfs.Kind.FILE else 0
    made = placing.scratch(params) / "made"
    report = extract(blocks, cid, made, progress=lambda done, _total: progress(done, size))
    if report.problems:
        first = report.problems[0]
        if isinstance(first.error, BlockNotFound | BrokenReference):
            raise first.error
        error_class = ErrorClass.CORRUPT if isinstance(first.error, CarError) else ErrorClass.INVALID
        raise ShardError(error_class, f"{len(report.problems)} entries cannot be exported, first {first}")
    placing.place(made, params)
    return {"kind": found.kind.value, "bytes": report.bytes, "files": report.files}


def _target(blocks: Blocks, params: Params) -> Cid:
    """What the order leads to, which is one thing."""
    root = Cid.parse(params["root"])
    if params["selectors"]:
        return unixfs_root(blocks, root, [DagSpec(text) for text in params["selectors"]])
    return _end(blocks, root, _path(params["paths"][0])) if params["paths"] else root


def _end(blocks: Blocks, root: Cid, path: tuple[bytes, ...]) -> Cid:
    way = follow(Ledger(blocks, Rules()), root, path)
    while True:
        try:
            next(way)
        except StopIteration as end:
            cid: Cid = end.value[0]
            return cid


def _path(names: Sequence[str]) -> tuple[bytes, ...]:
    return tuple(map(bytes.fromhex, names))


# CARs


def _car(blocks: Blocks, params: Params, progress: Progress) -> Params:
    source = _walkable(blocks, params)
    roots = tuple(dict.fromkeys(source.roots))
    planned = Export.plan(source, version=params["version"], roots=roots)
    done = _write(_told(planned, progress), params)
    return {"kind": "car", "bytes": done, "blocks": planned.blocks, "roots": [str(root) for root in roots]}


def _walkable(blocks: Blocks, params: Params) -> Walkable:
    """What goes into the CAR, identity CIDs too, as Lotus has it (C-8)."""
    root, proof = Cid.parse(params["root"]), params["proof"]
    wanted = ByteRange.parse(params["range"]) if params["range"] else None
    if not params["paths"] and wanted is None:
        return car_selection(blocks, root, [DagSpec(text, proof) for text in params["selectors"]])
    requests = []
    for names in params["paths"] or [[]]:
        path = _path(names)
        start, way = (root, path) if proof else (_end(blocks, root, path), ())
        requests.append(Request(start, way, entity_bytes=wanted))
    return Traversal(blocks, tuple(requests), Rules(whole_cids=True, identity=True))


def _told(planned: Export, progress: Progress) -> Iterator[bytes]:
    done = 0
    for chunk in planned.chunks():
        yield chunk
        done += len(chunk)
        progress(done, planned.size)


# Where it goes


def _write(pieces: Iterator[bytes], params: Params) -> int:
    """Into the FIFO, or to `out`; how many bytes."""
    if "fifo" in params:
        with Path(params["fifo"]).open("wb", buffering=0) as fifo:
            return _copy(pieces, fifo)
    made = placing.scratch(params) / "made"
    with made.open("xb") as file:
        done = _copy(pieces, file)
        file.flush()
        os.fsync(file.fileno())
    placing.place(made, params)
    return done


def _copy(pieces: Iterator[bytes], file: Any) -> int:  # Any: a file, buffered or not
    done = 0
    try:
        for piece in pieces:
            view = memoryview(piece)
            done += len(view)
            while view:
                view = view[file.write(view) :]
    except BlockNotFound as error:
        if done:  # what was written cannot be begun anew
            raise ExportChanged(f"{error}, and was when this began") from error
        raise
    return done


def _list(blocks: Blocks, params: Params, progress: Progress) -> Params:
    root = Cid.parse(params["root"])
    if params["ipld"]:
        start = root if not params["paths"] else _end(blocks, root, _path(params["paths"][0]))
        lines = iter(list(listing.nodes(blocks, start, params["depth"], params["selectors"])))
    else:
        lines = listing.entries(blocks, _target(blocks, params), params["depth"])
    with Path(params["fifo"]).open("wb") as fifo:
        count = _write_lines(lines, fifo)
    return {"kind": "list", "bytes": 0, "entries": count}


def _write_lines(lines: Iterator[listing.Line], fifo: BinaryIO) -> int:
    count = 0
    for line in lines:
        fifo.write(msgspec.json.encode(line) + b"\n")
        count += 1
    return count


_TASKS: dict[str, Callable[[Blocks, Params, Progress], Params]] = {"file": _file, "car": _car, "list": _list}
