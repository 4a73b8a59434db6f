"""What directories are made of, plain and sharded alike."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from carlib.cid import Cid
from carlib.errors import CarError

OnMissing = Callable[[CarError], None]
"""Told of each part of a directory that is not here or not readable, while the rest is listed."""


class Entry(NamedTuple):
    """One name in a directory; ``tsize`` is the writer's hint of all bytes below, not to be relied on."""

    name: bytes
    cid: Cid
    tsize: int
