"""Selectors from dag-json text, the form in which people and the client commands hand them over.

The same selectors are refused as by go-ipld-prime, in the same words; among them conditional exploration, which its
specification has and no implementation.  Source: IPLD, Selectors, the compact keys of its schema.
"""

from __future__ import annotations

import json
from typing import Any, Final

from carlib.cid import Cid
from carlib.errors import CarError, LimitExceeded, Malformed
from carlib.limits import MAX_NODE_DEPTH, MIB
from carlib.selectors.clauses import (
    All,
    Edge,
    Fields,
    InterpretAs,
    Matcher,
    Range,
    Recursive,
    Selector,
    Union,
    union,
)

MAX_SELECTOR_BYTES: Final = MIB
"""Text of one selector."""
_INT64: Final = range(-(1 << 63), 1 << 63)


def parse(text: str) -> Selector:
    """The selector in dag-json ``text``; raises Malformed, LimitExceeded."""
    if len(text) > MAX_SELECTOR_BYTES:
        raise LimitExceeded("length of a selector", len(text), MAX_SELECTOR_BYTES)
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Malformed(f"not dag-json: {error}") from None
    return compile_selector(value)


def compile_selector(value: Any) -> Selector:
    """The selector in a value of the data model, as dag-json or dag-cbor hold it; raises Malformed, LimitExceeded."""
    return _Compiler().selector(value)


def _rejected(why: str) -> Malformed:
    return Malformed(f"selector spec parse rejected: {why}")


class _Compiler:
    """``_edges`` are the recursions that are open, each with the number of edges found for it."""

    def __init__(self) -> None:
        self._edges: list[int] = []
        self._depth = 0

    def selector(self, value: Any) -> Selector:
        key, body = _only_entry(value, "selector")
        method = _CLAUSES.get(key)
        if method is None:
            raise _rejected(f'"{key}" is not a known member of the selector union')
        self._depth += 1
        if self._depth > MAX_NODE_DEPTH:
            raise LimitExceeded("depth of a selector", self._depth, MAX_NODE_DEPTH)
        made = method(self, body)
        self._depth -= 1
        return made

    def matcher(self, body: Any) -> Selector:
        _map(body)
        if "subset" not in body:
            return Matcher()
        subset = body["subset"]
        if not isinstance(subset, dict):
            raise _rejected("subset body must be a map")
        start = _number(subset, "[", "from", "Matcher")
        stop = _number(subset, "]", "to", "Matcher")
        if 0 <= stop < start:
            raise _rejected(
                "selector body must be a map with a 'from' key that is less than or equal to the 'to' key"
            )
        return Matcher((start, stop))

    def all(self, body: Any) -> Selector:
        return All(self._next(_map(body), "ExploreAll"))

    def fields(self, body: Any) -> Selector:
        fields = _map(body).get("f>")
        if fields is None:
            raise _rejected("fields in ExploreFields selector must be present")
        if not isinstance(fields, dict):
            raise _rejected("fields in ExploreFields selector must be a map")
        return Fields(tuple((str(key), self.selector(each)) for key, each in fields.items()))

    def index(self, body: Any) -> Selector:
        index = _number(_map(body), "i", "index", "ExploreIndex")
        return Range(index, index + 1, self._next(body, "ExploreIndex"))

    def range(self, body: Any) -> Selector:
        start = _number(_map(body), "^", "start", "ExploreRange")
        stop = _number(body, "$", "end", "ExploreRange")
        if start >= stop:
            raise _rejected("end field must be greater than start field in ExploreRange selector")
        return Range(start, stop, self._next(body, "ExploreRange"))

    def union(self, body: Any) -> Selector:
        if not isinstance(body, list):
            raise _rejected("explore union selector must be a list")
        return union([self.selector(member) for member in body]) or Union(())

    def recursive(self, body: Any) -> Selector:
        limit = _limit(_field(_map(body), "l", "limit", "ExploreRecursive"))
        sequence = _field(body, ":>", "sequence", "ExploreRecursive")
        self._edges.append(0)
        made = self.selector(sequence)
        if not self._edges.pop():
            raise _rejected("ExploreRecursive must have at least one ExploreRecursiveEdge")
        return Recursive(made, made, limit, _stop_at(body["!"]) if "!" in body else None)

    def edge(self, body: Any) -> Selector:
        _map(body)
        if not self._edges:
            raise _rejected("ExploreRecursiveEdge must be beneath ExploreRecursive")
        self._edges[-1] += 1
        return Edge()

    def interpret_as(self, body: Any) -> Selector:
        _map(body)
        if "as" not in body:
            raise _rejected("the 'as' field must be present in ExploreInterpretAs clause")
        if ">" not in body:
            raise _rejected("the 'next' field must be present in ExploreInterpretAs clause")
        if not isinstance(body["as"], str):
            raise _rejected("the 'as' field must be a string in ExploreInterpretAs clause")
        return InterpretAs(body["as"], self.selector(body[">"]))

    def _next(self, body: dict[Any, Any], clause: str) -> Selector:
        return self.selector(_field(body, ">", "next", clause))


_CLAUSES: Final = {
    ".": _Compiler.matcher,
    "a": _Compiler.all,
    "f": _Compiler.fields,
    "i": _Compiler.index,
    "r": _Compiler.range,
    "R": _Compiler.recursive,
    "|": _Compiler.union,
    "@": _Compiler.edge,
    "~": _Compiler.interpret_as,
}


def _map(body: Any) -> dict[Any, Any]:
    if not isinstance(body, dict):
        raise _rejected("selector body must be a map")
    return body


def _only_entry(value: Any, what: str) -> tuple[Any, Any]:
    if not isinstance(value, dict):
        raise _rejected(f"{what} is a keyed union and thus must be a map")
    if len(value) != 1:
        raise _rejected(f"{what} is a keyed union and thus must be single-entry map")
    return next(iter(value.items()))


def _field(body: dict[Any, Any], key: str, name: str, clause: str) -> Any:
    if key not in body:
        raise _rejected(f"{name} field must be present in {clause} selector")
    return body[key]


def _number(body: dict[Any, Any], key: str, name: str, clause: str) -> int:
    value = _field(body, key, name, clause)
    if not isinstance(value, int) or isinstance(value, bool) or value not in _INT64:
        raise _rejected(f"{name} field must be a number in {clause} selector")
    return value


def _limit(value: Any) -> int | None:
    key, depth = _only_entry(value, "limit in ExploreRecursive")
    if key == "none":
        return None
    if key != "depth":
        raise _rejected(f'"{key}" is not a known member of the limit union in ExploreRecursive')
    return _number({"depth": depth}, "depth", "limit", "ExploreRecursive")


def _stop_at(value: Any) -> Cid:
    """The one condition there is: a link, ``{"/": {"/": "<cid>"}}``."""
    key, link = _only_entry(value, "condition")
    if key != "/":
        raise _rejected(f'"{key}" is not a known member of the condition union')
    if isinstance(link, Cid):
        return link
    try:
        if isinstance(link, dict) and isinstance(link.get("/"), str) and len(link) == 1:
            return Cid.parse(link["/"])
    except CarError:
        pass
    raise _rejected("condition_link must be a link")
