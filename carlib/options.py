"""How CARs are written: go-car's options under its names, shared by all that writes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from carlib.cid import Cid
from carlib.header import V2_PREFIX_BYTES, V2Header
from carlib.index import MULTIHASH_INDEX_SORTED


@dataclass(frozen=True, slots=True)
class WriteOptions:
    """How a CAR is written; the same must be given when one is resumed, but for the index."""

    version: int = 2
    """1 writes a plain CARv1, which needs no finalising (go-car: WriteAsCarV1)."""
    whole_cids: bool = False
    """Blocks are the same if their CIDs are, not already if their multihashes are (UseWholeCIDs)."""
    allow_duplicates: bool = False
    """Put again what is there (AllowDuplicatePuts)."""
    identity: bool = False
    """Store and index identity CIDs, and say so in the header (StoreIdentityCIDs)."""
    data_padding: int = 0
    """Zero bytes before the payload."""
    index_padding: int = 0
    """Zero bytes before the index."""
    index_codec: int | None = MULTIHASH_INDEX_SORTED
    """None for a CARv2 without an index (WithoutIndex)."""

    def __post_init__(self) -> None:
        if self.version not in (1, 2):
            raise ValueError(f"CAR version {self.version}: 1 or 2 can be written")
        if self.data_padding < 0 or self.index_padding < 0:
            raise ValueError("padding of less than no bytes")

    @property
    def base(self) -> int:
        """Where the CARv1 payload begins."""
        return V2_PREFIX_BYTES + self.data_padding if self.version == 2 else 0

    @property
    def indexed(self) -> bool:
        """Whether an index follows the payload."""
        return self.version == 2 and self.index_codec is not None

    def key(self, cid: Cid) -> bytes:
        """What blocks are told apart by."""
        return cid.raw if self.whole_cids else cid.multihash

    def header(self, data_size: int) -> V2Header:
        """The CARv2 header over a payload of ``data_size`` bytes."""
        index_offset = self.base + data_size + self.index_padding if self.indexed else 0
        header = V2Header(self.base, data_size, index_offset)
        return header.with_fully_indexed() if self.identity else header


DEFAULT: Final = WriteOptions()
