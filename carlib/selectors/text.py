"""Text paths through the data model, ``Links/0/Hash`` or ``8/1/8/1/0/1/0``, as Lotus' client takes them for selectors.

Source: go-ipld-selector-text-lite: segments are keys of maps or indices of lists, one slash may lead and one may
trail, and only the characters of :data:`_INVALID` can stand in a path.
"""

from __future__ import annotations

import re
from typing import Final

from carlib.errors import Malformed
from carlib.limits import MAX_NODE_DEPTH
from carlib.selectors.clauses import MATCH_ALL, Fields, Matcher, Selector, union
from carlib.selectors.parser import parse

_INVALID: Final = re.compile(r"[^- _0-9a-zA-Z/.]")


def from_path(path: str, target: Selector | None = None, *, match_path: bool = False) -> Selector:
    """The selector that goes along ``path`` and there on with ``target`` (default: matches what it finds).

    ``match_path`` matches every node on the way too.  Raises Malformed.
    """
    if path == "/":
        raise Malformed("a standalone '/' is not a valid path")
    if (invalid := _INVALID.search(path)) is not None:
        offset = len(path[: invalid.start()].encode("utf-8", "surrogateescape"))
        raise Malformed(f"path string contains invalid character at offset {offset}")
    selector: Selector = Matcher() if target is None else target
    segments = path.split("/")
    for position in reversed(range(len(segments))):
        segment = segments[position]
        if not segment:
            if position in (0, len(segments) - 1):
                continue
            raise Malformed(f"invalid empty segment at position {position}")
        if segment in (".", ".."):
            raise Malformed(f"unsupported path segment '{segment}' at position {position}")
        if position > MAX_NODE_DEPTH:
            raise Malformed(f"a path of more than {MAX_NODE_DEPTH} segments")
        selector = Fields(((segment, selector),))
        if match_path:
            selector = union((Matcher(), selector)) or selector
    return selector


def data_selector(text: str | None, *, match_path: bool = False) -> Selector:
    """What Lotus makes of a ``DataSelector``: a JSON selector, or a text path and everything below its end.

    None selects everything.  Raises Malformed in Lotus' words.
    """
    if text is None:
        return MATCH_ALL
    kind = "json" if text.startswith("{") else "text"
    try:
        return parse(text) if kind == "json" else from_path(text, MATCH_ALL, match_path=match_path)
    except Malformed as error:
        raise Malformed(f"failed to parse {kind}-selector '{text[:1000]}': {error.message}") from None
