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

import errno
import os
import stat
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from agent.dagstore.access import Access, Fetch, open_source
from agent.dagstore.failures import ErrorClass, ShardError
from agent.export import listing
from agent.export.orders import exists
from agent.imports.records import Kind
from agent.workers.messages import Params
from agent.workers.tasks import Progress
from carlib import durable, unixfs
from carlib.blockstore import Blocks, ReadOnlyBlockstore
from carlib.cid import Cid
from carlib.container import read_container
from carlib.errors import BlockNotFound, CarError, NotUnixFs
from carlib.export import Export, ExportChanged
from carlib.extract import extract
from carlib.index import Index
from carlib.references import BrokenReference, ReferenceBlockstore
from carlib.selectors import DagSpec, NoSelection, car_selection, unixfs_root
from carlib.source import FileSource
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
        shared = _OneAtATime(fetch)
        blocks = JoinedBlocks([_opened(store, shared, stack) for store in params["stores"]])
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
            error.source = f"/{error.path}"  # references are relative to the root, `imports.imports.FOLDER`
            hint = "the source of an import has changed: carfs client verify says what, repair and relink may help"
            raise ShardError(ErrorClass.CORRUPT, f"{error}; {hint}") from error


class JoinedBlocks:
    """:class:`~carlib.blockstore.Blocks` of several stores: what one has not, or not whole, the next one gives."""

    def __init__(self, stores: Sequence[Blocks]) -> None:
        self._stores = tuple(stores)  # that which gave the last block in front; replaced whole, for threads

    def get(self, cid: Cid) -> bytes:
        return cid.digest if cid.is_identity else self._first(cid, lambda store: store.get(cid))

    def has(self, cid: Cid) -> bool:
        return cid.is_identity or any(store.has(cid) for store in self._stores)

    def size(self, cid: Cid) -> int:
        return len(cid.digest) if cid.is_identity else self._first(cid, lambda store: store.size(cid))

    def _first(self, cid: Cid, ask: Callable[[Blocks], Any]) -> Any:  # Any: what `ask` gives
        error: Exception | None = None
        stores = self._stores
        for store in stores:
            try:
                found = ask(store)
            except BlockNotFound:
                continue
            except (CarError, OSError, ShardError) as failure:
                error = error or failure
                continue
            if store is not stores[0]:
                self._stores = (store, *(other for other in stores if other is not store))
            return found
        raise error or BlockNotFound(cid)


class _OneAtATime:
    """A `Fetch` for several threads over one for a single thread."""

    def __init__(self, fetch: Fetch) -> None:
        self._fetch = fetch
        self._lock = threading.Lock()

    def ensure(self, offset: int, length: int) -> None:
        with self._lock:
            self._fetch.ensure(offset, length)

    def renew(self, offset: int, length: int) -> None:
        with self._lock:
            self._fetch.renew(offset, length)

    def hint(self, ranges: Sequence[tuple[int, int]]) -> None:
        with self._lock:
            self._fetch.hint(ranges)


def _opened(store: Params, fetch: Fetch, stack: ExitStack) -> Blocks:
    if store["kind"] == "shard":
        access: Access = msgspec.convert(store["access"], Access)
        source = stack.enter_context(closing(open_source(access, fetch)))
        index = stack.enter_context(closing(FileSource(Path(store["index"]))))
        return ReadOnlyBlockstore(source, read_container(source), Index.open(index))
    index_path = Path(store["index"]) if store.get("index") else None
    if store["kind"] == Kind.REF:
        return stack.enter_context(
            ReferenceBlockstore.open(Path(store["car"]), Path(store["folder"]), index=index_path)
        )
    return stack.enter_context(ReadOnlyBlockstore.open(Path(store["car"]), index=index_path))


def _holding(stores: Sequence[Params], cid: Cid) -> Iterator[str]:
    for store in stores:
        with suppress(CarError, OSError), ExitStack() as stack:  # what is broken holds nothing
            if _opened(store, _NOBODY, stack).has(cid):
                yield store["key"]


class _Nobody:
    """Gets nothing: whether a block is there is in the index."""

    def ensure(self, offset: int, length: int) -> None:
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    def renew(self, offset: int, length: int) -> None:
        self.ensure(offset, length)

    def hint(self, ranges: Sequence[tuple[int, int]]) -> None:
        pass


_NOBODY = _Nobody()


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
    made = _scratch(params) / "made"
    report = extract(blocks, cid, made, progress=lambda done, _total: progress(done, size))
    if report.problems:
        first = report.problems[0]
        if isinstance(first.error, BlockNotFound | BrokenReference):
            raise first.error
        error_class = ErrorClass.CORRUPT if isinstance(first.error, CarError) else ErrorClass.INVALID
        raise ShardError(error_class, f"{len(report.problems)} entries cannot be exported, first {first}")
    _place(made, params)
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
    made = _scratch(params) / "made"
    with made.open("xb") as file:
        done = _copy(pieces, file)
        file.flush()
        os.fsync(file.fileno())
    _place(made, params)
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


def _scratch(params: Params) -> Path:
    """The folder beside `out`, empty; a round that lacked a block may have left something."""
    path = Path(params["scratch"])
    path.mkdir(exist_ok=True)
    left = path / "made"
    if left.is_dir() and not left.is_symlink():
        left.rename(path / f"left-{len(list(path.iterdir()))}")
    else:
        left.unlink(missing_ok=True)
    return path


def _place(made: Path, params: Params) -> None:
    """Gives what was made its name; what stands there goes only if that was said."""
    out = Path(params["out"])
    if stat.S_ISREG(made.lstat().st_mode):
        _sync(made)
    if params["replace"]:
        _replace(made, Path(os.path.realpath(out)), Path(params["scratch"]))
    elif not _linked(made, out):
        if os.path.lexists(out):
            raise exists(out)
        made.rename(out)
    durable.sync_folder(out.parent)


def _linked(made: Path, out: Path) -> bool:
    """Whether it has its name now, which the system saw to that nobody else had; not of directories, nor everywhere."""
    try:
        os.link(made, out, follow_symlinks=False)
    except FileExistsError:
        raise exists(out) from None
    except OSError:
        return False
    return True


def _replace(made: Path, out: Path, scratch: Path) -> None:
    if out.is_dir() or (made.is_dir() and not made.is_symlink() and os.path.lexists(out)):
        out.rename(scratch / "replaced")
    made.replace(out)


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


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
