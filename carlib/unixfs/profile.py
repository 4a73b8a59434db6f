"""Import profiles: the parameters on which the CID of a file or directory depends, under the names people ask for.

Sources: IPIP-499 (unixfs-v0-2015, unixfs-v1-2025); kubo's and go-car's defaults.  A further profile is one line in
:data:`PROFILES`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

from carlib import multihash
from carlib.limits import KIB, MAX_BLOCK_BYTES, MIB
from carlib.unixfs.hamt import SHARD_FANOUTS


class Layout(Enum):
    """How the leaves of a file are put under inner nodes."""

    BALANCED = "balanced"
    TRICKLE = "trickle"


class DirectorySize(Enum):
    """What of a directory is compared with ``hamt_threshold``; it is sharded when there is more."""

    BLOCK_BYTES = "block-bytes"  # the size of the plain directory's block
    LINKS_BYTES = "links-bytes"  # bytes of all names and CIDs, kubo's old estimate
    ENTRIES = "entries"


@dataclass(frozen=True, slots=True)
class Profile:
    """Parameters of one import; ``dataclasses.replace`` makes variants."""

    name: str
    cid_version: int = 1
    hash_code: int = multihash.SHA2_256
    raw_leaves: bool = True
    chunk_size: int = MIB
    width: int = 1024  # links of one inner node of a file
    layout: Layout = Layout.BALANCED
    hamt_fanout: int = 256
    hamt_threshold: int = 256 * KIB
    hamt_measure: DirectorySize = DirectorySize.BLOCK_BYTES

    def __post_init__(self) -> None:
        if self.cid_version not in (0, 1):
            raise ValueError(f"CID version {self.cid_version}")
        if self.cid_version == 0 and (self.raw_leaves or self.hash_code != multihash.SHA2_256):
            raise ValueError("CIDv0 is for dag-pb and sha2-256 alone")
        if not 0 < self.chunk_size <= MAX_BLOCK_BYTES - KIB:
            raise ValueError(f"chunk size {self.chunk_size}")
        if self.width < 2:
            raise ValueError(f"width {self.width}: an inner node needs two links at least")
        if self.hamt_fanout not in SHARD_FANOUTS:
            raise ValueError(f"fanout {self.hamt_fanout}")


UNIXFS_V1_2025: Final = Profile("unixfs-v1-2025")
UNIXFS_V0_2015: Final = Profile(
    "unixfs-v0-2015",
    cid_version=0,
    raw_leaves=False,
    chunk_size=256 * KIB,
    width=174,
    hamt_measure=DirectorySize.LINKS_BYTES,
)
CARFS: Final = Profile("carfs")
"""Ours: the CIDs of unixfs-v1-2025, which also leaves hidden files out; we pack them, see ``carlib.pack``."""
GO_CAR: Final = Profile("go-car", chunk_size=256 * KIB, width=174, hamt_measure=DirectorySize.LINKS_BYTES)
"""What go-car's ``car create`` writes."""

PROFILES: Final = {profile.name: profile for profile in (CARFS, UNIXFS_V1_2025, UNIXFS_V0_2015, GO_CAR)}
