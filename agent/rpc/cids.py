"""CIDs as callers give them: text in any base and version, or in Lotus' form."""

from __future__ import annotations

import msgspec

from agent.export.orders import parse_cid
from carlib.cid import Cid


class CidLink(msgspec.Struct, frozen=True):
    """A CID as Lotus writes it in JSON."""

    cid: str = msgspec.field(name="/")


GivenCid = str | CidLink


def text_of(given: GivenCid) -> str:
    return given if isinstance(given, str) else given.cid


def cid_of(given: GivenCid) -> Cid:
    """Raises ShardError(invalid)."""
    return parse_cid(text_of(given))
