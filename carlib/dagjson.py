"""dag-json: what people are shown of structured blocks, and the links of dag-json blocks.

Source: IPLD, DAG-JSON specification: a link is ``{"/": "<cid>"}``, bytes are ``{"/": {"bytes": "<base64,
unpadded>"}}``.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

from carlib.cid import Cid
from carlib.errors import CarError, Malformed
from carlib.limits import MAX_NODE_DEPTH
from carlib.varint import Buffer


def render(value: Any, *, indent: int | None = 2) -> str:
    """``value`` (as :func:`carlib.dagcbor.decode` gives it) as dag-json text; keys keep their order.

    Text that was not UTF-8 is shown with replacement characters: this is for reading, not for hashing.
    """
    return json.dumps(_plain(value), indent=indent, ensure_ascii=False, allow_nan=False)


def decode(block: Buffer) -> Any:
    """The value of a dag-json block, links as :class:`Cid` and bytes as ``bytes``; Malformed where it is none."""
    try:
        return _typed(json.loads(bytes(block), parse_constant=_no_constant), 0)
    except CarError:
        raise
    except (ValueError, RecursionError) as error:
        raise Malformed(f"not dag-json: {error}") from None


def links(block: Buffer) -> Iterator[Cid]:
    """The links of a dag-json block, depth first in the order of its text."""
    return _links(decode(block))


def _plain(value: Any) -> Any:
    match value:
        case Cid():
            return {"/": str(value)}
        case bytes() | bytearray() | memoryview():
            return {"/": {"bytes": base64.b64encode(value).decode("ascii").rstrip("=")}}
        case str():
            return value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        case dict():
            return {_plain(key): _plain(item) for key, item in value.items()}
        case list() | tuple():
            return [_plain(item) for item in value]
    return value


def _typed(value: Any, depth: int) -> Any:
    if depth > MAX_NODE_DEPTH:
        raise Malformed(f"dag-json deeper than {MAX_NODE_DEPTH}")
    match value:
        case {"/": str(text)} if len(value) == 1:
            return Cid.parse(text)
        case {"/": {"bytes": str(text)}} if len(value) == 1 and len(value["/"]) == 1:
            return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
        case dict() if "/" in value:
            raise Malformed("dag-json: the key '/' is reserved")
        case dict():
            return {key: _typed(item, depth + 1) for key, item in value.items()}
        case list():
            return [_typed(item, depth + 1) for item in value]
    return value


def _links(value: Any) -> Iterator[Cid]:
    match value:
        case Cid():
            yield value
        case dict():
            for item in value.values():
                yield from _links(item)
        case list():
            for item in value:
                yield from _links(item)


def _no_constant(name: str) -> Any:
    raise Malformed(f"dag-json has no {name}")
