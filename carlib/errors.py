"""The one error family of carlib: what is wrong, in which source, at which offset.

Every parser and reader of carlib answers with a value, with "need more", or with a :class:`CarError`; anything else
that comes out of one is a bug.  ``agent`` maps these classes to RPC and exit codes, ``fusefs`` to errnos.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from carlib.cid import Cid


class CarError(Exception):
    """Bad or missing CAR data; ``str()`` reads ``source: offset N: message``.

    ``offset`` counts bytes from the start of ``source`` (a file's name, or None where the caller knows better).
    """

    def __init__(self, message: str, *, source: str | None = None, offset: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.source = source
        self.offset = offset

    def __str__(self) -> str:
        parts = [] if self.source is None else [self.source]
        if self.offset is not None:
            parts.append(f"offset {self.offset}")
        return ": ".join([*parts, self.message])

    def located(self, *, source: str | None = None, shift: int = 0) -> Self:
        """This error with ``source`` filled in where it was unknown and its offset moved by ``shift`` bytes."""
        if self.source is None:
            self.source = source
        if self.offset is not None:
            self.offset += shift
        return self


class Truncated(CarError):
    """The data ends inside something that was announced."""


class Malformed(CarError):
    """The bytes are not what the format says."""


class LimitExceeded(CarError):
    """A length that comes from outside is over one of the named maxima of :mod:`carlib.limits`."""

    def __init__(
        self, what: str, value: int, maximum: int, *, source: str | None = None, offset: int | None = None
    ) -> None:
        super().__init__(
            f"{what} is {value}, more than the maximum of {maximum}", source=source, offset=offset
        )
        self.value = value
        self.maximum = maximum


class HashMismatch(CarError):
    """A block does not hash to its CID: the data is corrupt, or was never what its CID says."""

    def __init__(self, cid: Cid, *, source: str | None = None, offset: int | None = None) -> None:
        super().__init__(f"block does not match its CID {cid}", source=source, offset=offset)
        self.cid = cid


class UnknownHash(CarError):
    """A multihash code that we cannot compute, so its blocks cannot be verified."""

    def __init__(self, code: int, *, source: str | None = None, offset: int | None = None) -> None:
        super().__init__(
            f"hash function 0x{code:x} is not supported, the block cannot be verified",
            source=source,
            offset=offset,
        )
        self.code = code


class UnknownCodec(CarError):
    """A content codec or an index codec that we cannot read."""

    def __init__(
        self, code: int, what: str = "codec", *, source: str | None = None, offset: int | None = None
    ) -> None:
        super().__init__(f"{what} 0x{code:x} is not supported", source=source, offset=offset)
        self.code = code


class BlockNotFound(CarError):
    """The CID is not in this CAR."""

    def __init__(self, cid: Cid, *, source: str | None = None) -> None:
        super().__init__(f"block {cid} is not here", source=source)
        self.cid = cid


class NotUnixFs(CarError):
    """The block is not a UnixFS node of the kind that was asked for."""
