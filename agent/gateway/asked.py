"""What a request to the trustless gateway asks for, or why it cannot be answered: from text to values.

Source: IPFS specs, Trustless Gateway (2026-03-05), with IPIP-0402 (dag-scope, entity-bytes), IPIP-0412 (order, dups),
IPIP-0523 (`format` wins over Accept), IPIP-0524 (no conversion of codecs: 406).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, TypeVar
from urllib.parse import unquote_to_bytes

from carlib.cid import Cid
from carlib.errors import CarError
from carlib.traversal import ByteRange, Request, Scope

RAW_TYPE: Final = "application/vnd.ipld.raw"
CAR_TYPE: Final = "application/vnd.ipld.car"
MAX_SEGMENTS: Final = 256
MAX_PATH_BYTES: Final = 16 * 1024
_BREAKS: Final = re.compile(r"[\x00-\x1f\x7f]")


T = TypeVar("T")


class Refused(Exception):
    """A status and a line for whoever asked."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class RawAsked:
    """One block."""

    cid: Cid
    text: str  # the CID as it was written
    filename: str


@dataclass(frozen=True, slots=True)
class CarAsked:
    """A CAR."""

    request: Request
    text: str
    filename: str
    duplicates: bool

    @property
    def content_type(self) -> str:
        return f"{CAR_TYPE}; version=1; order=dfs; dups={'y' if self.duplicates else 'n'}"


Asked = RawAsked | CarAsked


def parse(raw_path: bytes, query: Mapping[str, str], accept: str) -> Asked:
    """What is asked for by a path `/ipfs/…` as it was sent, a query and an Accept header; raises Refused."""
    cid, text, path = _place(raw_path)
    kind, parameters = _kind(query, accept)
    filename = query.get("filename", "")
    if _BREAKS.search(filename) or len(filename) > 1024:
        raise Refused(400, "filename: has characters that no file name has, or too many")
    if kind == RAW_TYPE:
        if path:
            raise Refused(400, "a raw block has no path below it; ask for its own CID, or for a CAR")
        return RawAsked(cid, text, filename or f"{text}.bin")
    scope, wanted = _scope(query)
    request = Request(cid, path, Scope.ENTITY if wanted is not None else scope, wanted)
    duplicates = _choice(query, parameters, "dups", {"y": True, "n": False}, default=False)
    _choice(
        query, parameters, "order", {"dfs": 1, "unk": 1}, default=1
    )  # ours is depth first, which is either
    _choice(query, parameters, "version", {"1": 1}, default=1)
    return CarAsked(request, text, filename or f"{text}.car", duplicates)


def _place(raw_path: bytes) -> tuple[Cid, str, tuple[bytes, ...]]:
    parts = raw_path.partition(b"?")[0].split(b"/")
    # ["", "ipfs", CID, …]; a slash at the end, or two, are one
    if len(raw_path) > MAX_PATH_BYTES:
        raise Refused(414, f"the path has more than {MAX_PATH_BYTES} bytes")
    segments = tuple(unquote_to_bytes(part) for part in parts[3:] if part)
    if len(segments) > MAX_SEGMENTS:
        raise Refused(400, f"the path has more than {MAX_SEGMENTS} segments")
    if any(segment in (b".", b"..") for segment in segments):
        raise Refused(400, "the path has . or .. in it")
    text = parts[2].decode("ascii", "replace") if len(parts) > 2 else ""
    try:
        return Cid.parse(text), text, segments
    except (CarError, ValueError) as error:
        raise Refused(400, f"{text[:120]!r} is not a CID: {error}") from None


def _kind(query: Mapping[str, str], accept: str) -> tuple[str, Mapping[str, str]]:
    """The type of the answer, and the parameters that it was given in an Accept header."""
    wanted = query.get("format")
    if wanted is not None:
        kinds = {"raw": RAW_TYPE, "car": CAR_TYPE}
        if wanted not in kinds:
            raise Refused(406, f"format={wanted[:40]}: only raw and car are served; nothing is converted")
        return kinds[wanted], next((given for kind, given in _accepted(accept) if kind == kinds[wanted]), {})
    known = [(kind, given) for kind, given in _accepted(accept) if kind in (RAW_TYPE, CAR_TYPE)]
    if known:
        return known[0]
    asked = [kind for kind, _ in _accepted(accept) if not kind.endswith("/*")]
    if any(kind.startswith("application/vnd.ip") for kind in asked):
        raise Refused(406, f"{asked[0][:80]}: only {RAW_TYPE} and {CAR_TYPE} are served")
    hint = f"ask with ?format=raw or ?format=car, or Accept: {RAW_TYPE} or {CAR_TYPE}"
    raise Refused(400, f"what is served here is verified by whoever asks; {hint}")


def _accepted(accept: str) -> Iterator[tuple[str, Mapping[str, str]]]:
    """The media types of an Accept header, the most wanted first."""
    found = []
    for number, part in enumerate(accept.split(",")):
        kind, *rest = (piece.strip() for piece in part.split(";"))
        given = dict(piece.lower().replace(" ", "").split("=", 1) for piece in rest if "=" in piece)
        try:
            quality = float(given.get("q", "1"))
        except ValueError:
            quality = 0.0
        if kind and quality > 0:
            found.append((-quality, number, kind.lower(), given))
    for _, _, kind, given in sorted(found, key=lambda one: one[:2]):
        yield kind, given


def _scope(query: Mapping[str, str]) -> tuple[Scope, ByteRange | None]:
    text = query.get("dag-scope", "all")
    try:
        scope = Scope(text)
    except ValueError:
        raise Refused(400, f"dag-scope={text[:40]}: it is block, entity or all") from None
    if "entity-bytes" not in query:
        return scope, None
    try:
        return scope, ByteRange.parse(query["entity-bytes"])
    except CarError as error:
        raise Refused(400, f"entity-bytes: {error}") from None


def _choice(
    query: Mapping[str, str], parameters: Mapping[str, str], name: str, known: Mapping[str, T], *, default: T
) -> T:
    text = query.get(f"car-{name}", parameters.get(name))
    if text is None:
        return default
    if text not in known:
        raise Refused(406, f"car-{name}={text[:40]}: it is {' or '.join(known)}")
    return known[text]
