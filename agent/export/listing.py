"""What `ls` shows: the entries of UnixFS directories, or paths of the IPLD data model; may block, for a worker."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from carlib.blockstore import Blocks
from carlib.cid import Cid
from carlib.errors import BlockNotFound, CarError
from carlib.names import shown
from carlib.selectors import Selector, from_path, parse, select
from carlib.traversal import Rules
from carlib.unixfs import Directory, Entry, Kind, stat


class Line(msgspec.Struct, frozen=True, rename="pascal"):
    """One entry, or one node. `Name` is the path from where the listing began, as the mount would show it; `Kind` is
    that of UnixFS, or "missing" or "corrupt", with `Error`; `Size` is of the content, `Tsize` what the link says of all
    below. Of a node only path and CID (of the block that it is in) are known."""

    name: str
    cid: str = msgspec.field(name="CID")
    kind: str = ""
    size: int | None = None
    tsize: int | None = None
    target: str = ""  # of a symlink
    error: str = ""


def entries(blocks: Blocks, cid: Cid, depth: int) -> Iterator[Line]:
    """What is in the directory `cid`, down to `depth` levels, each directory before what is in it; of anything else
    itself. Raises CarErrors of that one alone."""
    found = stat(blocks, cid)
    if found.kind is not Kind.DIRECTORY:
        yield Line("", str(cid), found.kind.value, found.size, None, _text(found.target or b""))
        return
    errors: list[CarError] = []
    pending = [(b"", Directory.open(blocks, cid).entries(errors.append))]
    while pending:
        above, listed = pending[-1]
        entry = next(listed, None)
        yield from (_part(above, error) for error in errors)
        errors.clear()
        if entry is None:
            pending.pop()
            continue
        path = above + shown(entry.name)
        line = _line(blocks, path, entry)
        if line.kind == Kind.DIRECTORY.value and len(pending) < depth:
            try:
                listing = Directory.open(blocks, entry.cid).entries(errors.append)
                pending.append((path + b"/", listing))
            except CarError as error:
                line = _bad(path, entry, error)
        yield line


def nodes(blocks: Blocks, cid: Cid, depth: int, selectors: Sequence[str]) -> Iterator[Line]:
    """The paths of the nodes down to `depth` below where the selectors (text paths) lead."""
    everything = '{"R":{"l":{"depth":%d},":>":{"a":{">":{"|":[{"@":{}},{".":{}}]}}}}}' % depth  # noqa: UP031  braces
    below: Selector = parse(everything)
    for selector in [from_path(text, below) for text in selectors] or [below]:
        for step in select(blocks, cid, selector, rules=Rules()):
            if step.matched:
                yield Line(step.path, str(step.visit.cid))


def _line(blocks: Blocks, path: bytes, entry: Entry) -> Line:
    try:
        found = stat(blocks, entry.cid)
    except CarError as error:
        return _bad(path, entry, error)
    target = _text(found.target or b"")
    return Line(_text(path), str(entry.cid), found.kind.value, found.size, entry.tsize, target)


def _part(above: bytes, error: CarError) -> Line:
    """Of a directory, a shard that is not here: what is in it is not known."""
    cid = str(error.cid) if isinstance(error, BlockNotFound) else ""
    kind = "missing" if isinstance(error, BlockNotFound) else "corrupt"
    return Line(_text(above), cid, kind, error=str(error))


def _bad(path: bytes, entry: Entry, error: CarError) -> Line:
    kind = "missing" if isinstance(error, BlockNotFound) else "corrupt"
    return Line(_text(path), str(entry.cid), kind, None, entry.tsize, error=str(error))


def _text(name: bytes) -> str:
    return name.decode("utf-8", "backslashreplace")
