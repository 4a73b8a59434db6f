"""`/api/v0/…`: what of an IPFS node's RPC API reads, for its clients: version, block/get, block/stat, dag/export, refs,
ls, cat. Nothing is fetched from elsewhere, and nothing changes.

Source: Kubo RPC API v0: POST only; an error before the first byte is 500 with `{"Message", "Code", "Type"}`, or 400
where the request is none.
"""

from __future__ import annotations

import platform
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from typing import Final
from urllib.parse import unquote_to_bytes

import msgspec
import trio
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from agent.dagstore.failures import ShardError
from agent.gateway import cars
from agent.gateway.answers import Headers
from agent.gateway.asked import CAR_TYPE, MAX_PATH_BYTES, MAX_SEGMENTS, RAW_TYPE, CarAsked, Refused
from agent.gateway.endpoint import Endpoint
from agent.local.blocks import Session
from carlib import links, traversal
from carlib.blockstore import Blocks
from carlib.cid import Cid
from carlib.errors import CarError
from carlib.unixfs import Directory, File, Kind, Stat, stat

PREFIX: Final = "/api/v0/"
_JSON: Final = "application/json"
_MOST_ARGUMENTS: Final = 64
_MOST_ENTRIES: Final = 1_000_000  # of an answer that is one JSON value
_LINES_BYTES: Final = 64 << 10
_TYPES: Final = {Kind.DIRECTORY: 1, Kind.FILE: 2, Kind.SYMLINK: 4, Kind.OTHER: 2}
"""UnixFS' numbers (spec, Data.DataType); what is no UnixFS is shown as the bytes that it is."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A command's arguments, each with the CID that its path leads to, and its options."""

    paths: tuple[str, ...]
    cids: tuple[Cid, ...]
    query: QueryParams

    def flag(self, name: str) -> bool:
        return self.query.get(name, "false").lower() in ("true", "1", "")

    def number(self, name: str, default: int) -> int:
        text = self.query.get(name, "")
        if not text:
            return default
        if not text.lstrip("-").isdecimal() or len(text) > 20:
            raise Refused(400, f"{name}={text[:40]}: it is a number")
        return int(text)


@dataclass(frozen=True, slots=True)
class Given:
    """A body in pieces, made by an iterator that blocks, its type, and more headers."""

    kind: str
    pieces: Iterator[bytes]
    more: Headers


Command = Callable[[Blocks, Asked], Given]


class KuboRpc(Endpoint):
    """The ASGI endpoint."""

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        begun = False

        async def begin(headers: Headers) -> None:
            nonlocal begun
            begun = True
            await self._answering.head(send, 200, headers)

        try:
            await self._give(request, begin, send)
        except (ShardError, Refused) as error:
            status = error.status if isinstance(error, Refused) else 500
            if begun or status in (404, 405):
                raise
            body = msgspec.json.encode({"Message": str(error), "Code": int(status == 400), "Type": "error"})
            await self._answering.head(send, 400 if status == 400 else 500, [("content-type", _JSON)])
            await self._answering.body(send, body, last=True)

    async def _give(self, request: Request, begin: Callable[[Headers], Awaitable[None]], send: Send) -> None:
        name = request.url.path.removeprefix(PREFIX).rstrip("/")
        if name != "version" and name not in COMMANDS:
            raise Refused(
                404, f"404 page not found: {name[:80]!r} is not among {', '.join(['version', *COMMANDS])}"
            )
        if request.method != "POST":
            raise Refused(405, "405 - Method Not Allowed: calls are POST")
        if name == "version":
            given = {"Version": version("carfs"), "Commit": "", "Repo": "", "Golang": ""}
            given["System"] = f"{platform.machine()}/{platform.system().lower()}"
            await begin([("content-type", _JSON)])
            await self._answering.body(send, msgspec.json.encode(given), last=True)
            return
        async with self._local.session() as session:
            asked = await self._asked(request.query_params, session)
            found = await trio.to_thread.run_sync(
                partial(_called, COMMANDS[name], session, asked), limiter=self._local.limiter
            )
            headers = [("content-type", found.kind), *found.more]
            await self._stream(request.scope, send, found.pieces, lambda: begin(headers))

    async def _asked(self, query: QueryParams, session: Session) -> Asked:
        """Arguments, looked up and not denied; raises Refused."""
        arguments = query.getlist("arg")
        if not 1 <= len(arguments) <= _MOST_ARGUMENTS:
            raise Refused(400, f'argument "arg" is required, and may be given {_MOST_ARGUMENTS} times')
        found = []
        rules = await self._answering.deny_list.rules()
        for text in arguments:
            request = _parsed(text)
            if rules.status(request.root, request.path) is not None:
                raise Refused(500, f"{text[:200]} is not served here")
            cid = request.root
            if request.path:
                way = await trio.to_thread.run_sync(
                    partial(_resolved, session, request), limiter=self._local.limiter
                )
                cid = way[-1]
            found.append(cid)
        return Asked(tuple(arguments), tuple(found), query)


def _called(command: Command, blocks: Blocks, asked: Asked) -> Given:
    try:
        return command(blocks, asked)
    except (CarError, OSError) as error:
        raise Refused(500, str(error)) from error


def _resolved(blocks: Blocks, request: traversal.Request) -> list[Cid]:
    try:
        return cars.resolved(blocks, request)
    except Refused as error:
        raise Refused(500, str(error)) from error
    except (CarError, OSError) as error:
        raise Refused(500, f"{request.root} cannot be read: {error}") from error


def _parsed(text: str) -> traversal.Request:
    head, *rest = text.removeprefix("/ipfs/").split("/")
    path = tuple(unquote_to_bytes(part) for part in rest if part)
    if len(text) > MAX_PATH_BYTES or len(path) > MAX_SEGMENTS:
        raise Refused(400, "the path is too long")
    try:
        return traversal.Request(Cid.parse(head), path)
    except (CarError, ValueError) as error:
        raise Refused(400, f"invalid path {text[:200]!r}: {error}") from None


# The commands


def _block_get(blocks: Blocks, asked: Asked) -> Given:
    return Given(RAW_TYPE, iter([blocks.get(asked.cids[0])]), [("x-stream-output", "1")])


def _block_stat(blocks: Blocks, asked: Asked) -> Given:
    cid = asked.cids[0]
    return _value({"Key": str(cid), "Size": blocks.size(cid)})


def _dag_export(blocks: Blocks, asked: Asked) -> Given:
    cid = asked.cids[0]
    blocks.size(cid)  # or it is not here, which is a status yet
    pieces = cars.pieces(blocks, CarAsked(traversal.Request(cid), "", "", duplicates=False))
    return Given(CAR_TYPE, pieces, [("x-stream-output", "1")])


def _cat(blocks: Blocks, asked: Asked) -> Given:
    files = []
    for path, cid in zip(asked.paths, asked.cids, strict=True):
        found = stat(blocks, cid)
        if found.kind is Kind.DIRECTORY:
            raise Refused(500, f"{path[:200]}: this dag node is a directory")
        if found.kind is not Kind.FILE:
            raise Refused(500, f"{path[:200]}: it is no file of UnixFS")
        files.append(File.open(blocks, cid))
    skip, most = asked.number("offset", 0), asked.number("length", -1)
    total = sum(file.size for file in files)
    if skip < 0:
        raise Refused(400, f"offset={skip}: it is not negative")
    size = max(0, total - skip) if most < 0 else min(most, max(0, total - skip))
    more = [("x-stream-output", "1"), ("x-content-length", str(size))]
    return Given("text/plain", _read(files, skip, size), more)


def _read(files: list[File], skip: int, left: int) -> Iterator[bytes]:
    for file in files:
        start, skip = skip, max(0, skip - file.size)
        while left and start < file.size:
            piece = file.read(start, min(left, cars.PIECE_BYTES))
            yield piece
            start += len(piece)
            left -= len(piece)


def _ls(blocks: Blocks, asked: Asked) -> Given:
    if asked.flag("stream"):
        return _lines(
            {"Objects": [{"Hash": path, "Links": [link]}]}
            for path, cid in zip(asked.paths, asked.cids, strict=True)
            for link in _entries(blocks, cid)
        )
    found, left = [], _MOST_ENTRIES
    for path, cid in zip(asked.paths, asked.cids, strict=True):
        entries = []
        for link in _entries(blocks, cid):
            entries.append(link)
            left -= 1
            if left < 0:
                raise Refused(500, f"more than {_MOST_ENTRIES} entries; ask with stream=true")
        found.append({"Hash": path, "Links": entries})
    return _value({"Objects": found})


def _entries(blocks: Blocks, cid: Cid) -> Iterator[dict[str, object]]:
    """The links of a directory, or one link that is the object itself."""
    found = stat(blocks, cid)
    if found.kind is not Kind.DIRECTORY:
        yield _entry("", cid, found)
        return
    for entry in Directory.open(blocks, cid).entries():
        yield _entry(entry.name.decode("utf-8", "backslashreplace"), entry.cid, stat(blocks, entry.cid))


def _entry(name: str, cid: Cid, found: Stat) -> dict[str, object]:
    target = (found.target or b"").decode("utf-8", "backslashreplace")
    size = found.size if found.kind is not Kind.SYMLINK else 0
    return {"Name": name, "Hash": str(cid), "Size": size, "Type": _TYPES[found.kind], "Target": target}


def _refs(blocks: Blocks, asked: Asked) -> Given:
    for cid in asked.cids:
        blocks.size(cid)
    depth = asked.number("max-depth", -1) if asked.flag("recursive") else 1
    edges = asked.flag("edges")
    return _lines(_references(blocks, asked.cids, depth, edges=edges, unique=asked.flag("unique")))


def _references(
    blocks: Blocks, roots: tuple[Cid, ...], depth: int, *, edges: bool, unique: bool
) -> Iterator[dict[str, str]]:
    """The links below the roots, down to `depth` levels (negative: all), before what is below each of them. A block
    that cannot be read is told, and ends it."""
    seen: set[bytes] = set()
    read: dict[bytes, int] = {}  # at which level: with a depth, there is more to tell from a higher one
    for root in roots:
        pending = [(root, iter(_links(blocks, root)))]
        while pending:
            above, below = pending[-1]
            cid = next(below, None)
            if cid is None:
                pending.pop()
                continue
            if not unique or cid.raw not in seen:
                yield {"Ref": f"{above} -> {cid}" if edges else str(cid), "Err": ""}
            if len(pending) == depth or links.scanner_of(cid.codec) is None:
                seen.add(cid.raw)
                continue
            if unique and read.get(cid.raw, len(pending) + 1) <= len(pending):
                continue
            seen.add(cid.raw)
            read[cid.raw] = len(pending)
            if len(pending) > cars.MOST_DEPTH:
                yield {"Ref": "", "Err": f"deeper than {cars.MOST_DEPTH} levels"}
                return
            try:
                pending.append((cid, iter(_links(blocks, cid))))
            except (CarError, OSError) as error:
                yield {"Ref": "", "Err": str(error)}
                return


def _links(blocks: Blocks, cid: Cid) -> list[Cid]:
    return list(links.links(cid, blocks.get(cid)))


def _value(value: object) -> Given:
    return Given(_JSON, iter([msgspec.json.encode(value) + b"\n"]), [])


def _lines(values: Iterator[object]) -> Given:
    """A JSON value a line, as they are found."""

    def pieces() -> Iterator[bytes]:
        held, size = [], 0
        for value in values:
            held.append(msgspec.json.encode(value) + b"\n")
            size += len(held[-1])
            if size >= _LINES_BYTES:
                yield b"".join(held)
                held, size = [], 0
        yield b"".join(held)

    return Given(_JSON, pieces(), [("x-chunked-output", "1")])


COMMANDS: Final[dict[str, Command]] = {
    "block/get": _block_get,
    "block/stat": _block_stat,
    "dag/export": _dag_export,
    "refs": _refs,
    "ls": _ls,
    "cat": _cat,
}
