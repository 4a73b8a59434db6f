"""What somebody wants exported, as a value; whatever makes no sense is refused here, before anybody works. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from agent.dagstore.failures import ErrorClass, ShardError
from agent.workers.messages import Params
from carlib.cid import Cid
from carlib.errors import CarError, Malformed
from carlib.names import unshown
from carlib.selectors import data_selector
from carlib.traversal import ByteRange

Path = tuple[bytes, ...]
"""Stored names below a root."""


@dataclass(frozen=True, slots=True)
class Order:
    """A DAG, or parts of it: by `paths` in UnixFS or by Lotus' `selectors`, not by both. `proof`: with the blocks on
    the way. `byte_range` as in the gateways' `entity-bytes`; "": the whole."""

    root: Cid
    paths: tuple[Path, ...] = ()
    selectors: tuple[str, ...] = ()
    proof: bool = False
    byte_range: str = ""
    is_car: bool = False
    version: int = 1  # of the CAR
    local_car: str = ""  # a CAR to read from instead of asking who has it

    def checked(self) -> Self:
        """Raises ShardError(invalid), of selectors and of what is too many in Lotus' words."""
        if self.paths and self.selectors:
            raise invalid("give paths or data selectors, not both")
        if self.version not in (1, 2):
            raise invalid(f"there is no CAR version {self.version}")
        if self.proof and not (self.is_car and (self.paths or self.selectors)):
            raise invalid("a merkle proof is of a path or a data selector, and goes into a CAR")
        if self.byte_range and (self.selectors or len(self.paths) > 1):
            raise invalid("a range of bytes is of one file")
        parts = len(self.paths) + len(self.selectors)
        if parts > 1 and not self.is_car:
            raise invalid(f"unixfs retrieval requires one root node, got {parts}")
        self._check_texts()
        return self

    def _check_texts(self) -> None:
        try:
            if self.byte_range:
                ByteRange.parse(self.byte_range)
            for selector in self.selectors:
                data_selector(selector)
        except Malformed as error:
            raise invalid(f"parsing dag spec: {error.message}" if self.selectors else error.message) from None

    def described(self) -> Params:
        """The order, as workers are told of it."""
        return {
            "root": str(self.root),
            "paths": [[name.hex() for name in path] for path in self.paths],
            "selectors": list(self.selectors),
            "proof": self.proof,
            "range": self.byte_range,
            "version": self.version,
        }


def invalid(message: str) -> ShardError:
    return ShardError(ErrorClass.INVALID, message)


def parse_cid(text: str) -> Cid:
    """In any base and version; raises ShardError(invalid)."""
    try:
        return Cid.parse(text)
    except CarError as error:
        raise invalid(f"{text!r} is not a CID: {error}") from None


def parse_path(text: str) -> Path:
    """The stored names of a path, which is written as listings and the mount show it."""
    return tuple(map(_stored, filter(None, text.split("/"))))


def _stored(name: str) -> bytes:
    given = name.encode("utf-8", "surrogateescape")
    stored = unshown(given)
    return given if stored is None else stored


def exists(out: object) -> ShardError:
    """For something that stands where an export was to go."""
    hint = "remove it, choose another path, or say that it may be replaced (--force)"
    return ShardError(ErrorClass.EXISTS, f"{out} exists; {hint}")
