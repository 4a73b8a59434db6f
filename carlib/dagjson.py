"""dag-json: what people are shown of structured blocks, and the links of dag-json blocks.

Source: IPLD, DAG-JSON specification: a link is ``{"/": "<cid>"}``, bytes are ``{"/": {"bytes": "<base64,
unpadded>"}}``.
"""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Any, Final

from carlib.cid import Cid
from carlib.errors import CarError, Malformed
from carlib.limits import MAX_NODE_DEPTH
from carlib.varint import Buffer

_ESCAPED: Final = re.compile('[\x00-\x1f"\\\\\u2028\u2029]')
"""Control characters, quotes, and what JavaScript takes for the end of a line."""
_SHORT: Final = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def render(value: Any, *, indent: int | None = 2) -> str:
    """``value`` (as :func:`carlib.dagcbor.decode` gives it) as dag-json text; keys keep their order.

    Text that was not UTF-8 is shown with replacement characters: this is for reading, not for hashing.
    """
    return json.dumps(_plain(value), indent=indent, ensure_ascii=False, allow_nan=False)


def encode(value: Any, *, tabs: bool = False) -> bytes:
    """``value`` as dag-json, keys sorted and without white space: its one form, for hashing.

    ``tabs``: an item a line instead, indented by tabs, as go-car's ``debug`` writes it.  TypeError or ValueError for
    what dag-json cannot hold, text that is not UTF-8 among it.
    """
    text = "".join(_emitted(_spelled(value), "\n" if tabs else ""))
    return (text + "\n" if tabs and isinstance(value, Cid | bytes | dict | list) else text).encode()


def decode(block: Buffer) -> Any:
    """The value of a dag-json block, links as :class:`Cid` and bytes as ``bytes``; Malformed where it is none."""
    try:
        value = json.loads(
            bytes(block), parse_constant=_no_constant, parse_float=_finite, object_pairs_hook=_unique
        )
        return _typed(value, 0)
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
            try:
                return value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
            except UnicodeEncodeError:  # half of a pair that JSON escaped, which stands for no byte
                return value.encode("utf-8", "replace").decode()
        case dict():
            return {_plain(key): _plain(item) for key, item in value.items()}
        case list() | tuple():
            return [_plain(item) for item in value]
    return value


def _spelled(value: Any) -> Any:
    """Links and bytes as the maps that stand for them."""
    match value:
        case Cid():
            return {"/": str(value)}
        case bytes():
            return {"/": {"bytes": base64.b64encode(value).decode("ascii").rstrip("=")}}
    return value


def _emitted(value: Any, line: str) -> Iterator[str]:
    """The text of ``value``; ``line`` is what its lines begin with, or nothing for no lines at all."""
    match value:
        case dict() | list():
            inner = line + "\t" if line else ""
            opening, closing = "{}" if isinstance(value, dict) else "[]"
            yield opening
            for number, item in enumerate(sorted(value) if isinstance(value, dict) else value):
                yield f",{inner}" if number else inner
                if isinstance(value, dict):
                    yield _quoted(item) + (": " if line else ":")
                    item = value[item]
                yield from _emitted(_spelled(item), inner)
            yield line + closing if value else closing
        case str():
            yield _quoted(value)
        case float():
            yield _number(value)
        case None | bool() | int():
            yield json.dumps(value)
        case _:
            raise TypeError(f"dag-json cannot hold {type(value).__name__}")


def _quoted(text: str) -> str:
    escaped = _ESCAPED.sub(lambda match: _SHORT.get(match[0]) or f"\\u{ord(match[0]):04x}", text)
    return f'"{escaped}"'


def _number(value: float) -> str:
    """Digits alone from 1e-6 to 1e21, as ECMAScript has it, but with a point: 1 would be an integer."""
    if not math.isfinite(value):
        raise ValueError("dag-json holds finite floats only")
    if value == 0 or 1e-6 <= abs(value) < 1e21:
        text = format(Decimal(repr(value)), "f")
        return text if "." in text else text + ".0"
    return repr(value).replace("e-0", "e-")


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


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise Malformed(f"dag-json: {text[:60]} is more than a float can be")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise Malformed("dag-json: a key stands twice in a map")
    return found


def _no_constant(name: str) -> Any:
    raise Malformed(f"dag-json has no {name}")
