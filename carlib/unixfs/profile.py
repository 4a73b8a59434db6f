"""Import profiles: the parameters on which the CID of a file or directory depends, under the names people ask for.

Sources: IPIP-499 (unixfs-v0-2015, unixfs-v1-2025) and the configuration profiles and defaults of the programs named,
each checked against the program where it runs (``tests/carlib/test_unixfs_peers.py``).  A further profile is one line
below.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from typing import Final

from carlib import multihash
from carlib.limits import KIB, MAX_BLOCK_BYTES, MIB
from carlib.unixfs import chunking
from carlib.unixfs.hamt import SHARD_FANOUTS
from carlib.unixfs.node import MAX_IDENTITY_BYTES


class Layout(Enum):
    """How the leaves of a file are put under inner nodes."""

    BALANCED = "balanced"
    TRICKLE = "trickle"


class DirectorySize(Enum):
    """What of a directory is compared with ``hamt_threshold``; it is sharded when there is more."""

    BLOCK_BYTES = "block-bytes"  # the size of the plain directory's block
    LINKS_BYTES = "links-bytes"  # bytes of all names and CIDs, kubo's old estimate
    ENTRIES = "entries"


class Symlinks(Enum):
    """What becomes of a symlink below the source."""

    KEEP = "keep"
    FOLLOW = "follow"  # what it points to is packed in its place
    SKIP = "skip"


@dataclass(frozen=True, slots=True)
class Profile:
    """Parameters of one import; ``dataclasses.replace`` makes variants."""

    name: str
    cid_version: int = 1
    hash_code: int = multihash.SHA2_256
    raw_leaves: bool = True
    chunk_size: int = MIB  # of fixed chunks
    chunker: chunking.Chunker | None = None  # cuts by content instead
    width: int = 1024  # links of one inner node of a file
    layout: Layout = Layout.BALANCED
    inline_limit: int = 0  # blocks of up to so many bytes are put into their CID
    hamt_fanout: int = 256
    hamt_threshold: int = 256 * KIB
    hamt_measure: DirectorySize = DirectorySize.BLOCK_BYTES
    hamt_at_threshold: bool = False  # sharded already when the threshold is reached
    raw_with_attributes: bool = True  # False: a file that has a mode or mtime has dag-pb leaves, as in kubo
    # Not parameters of CIDs but of what is packed; a caller may choose otherwise.
    symlinks: Symlinks = Symlinks.KEEP
    hidden: bool = True  # names that begin with a dot
    empty_directories: bool = True  # False: below the root, directories without a file in them are left out

    def __post_init__(self) -> None:
        if self.cid_version not in (0, 1):
            raise ValueError(f"CID version {self.cid_version}")
        if self.cid_version == 0 and (self.raw_leaves or self.hash_code != multihash.SHA2_256):
            raise ValueError("CIDv0 is for dag-pb and sha2-256 alone")
        if not 0 < self.chunk_size <= MAX_BLOCK_BYTES - KIB:
            raise ValueError(f"chunk size {self.chunk_size}")
        if self.width < 2:
            raise ValueError(f"width {self.width}: an inner node needs two links at least")
        if not 0 <= self.inline_limit <= (MAX_IDENTITY_BYTES if self.cid_version else 0):
            raise ValueError(f"inline limit {self.inline_limit}")
        if self.hamt_fanout not in SHARD_FANOUTS:
            raise ValueError(f"fanout {self.hamt_fanout}")

    def with_chunker(self, text: str) -> Profile:
        """This profile with a chunker by kubo's name for it; ValueError for what is none."""
        parsed = chunking.parse(text)
        if isinstance(parsed, int):
            return replace(self, chunk_size=parsed, chunker=None)
        return replace(self, chunker=parsed)


_KUBO: Final = Profile(
    "", width=174, hamt_measure=DirectorySize.LINKS_BYTES, raw_with_attributes=False, hidden=False
)
"""What kubo does unless it is told otherwise, but for CIDv1 and what comes with it."""

CARFS: Final = Profile("carfs")
"""Ours: the CIDs of unixfs-v1-2025, with hidden files, and raw leaves even where modes and mtimes are kept."""
UNIXFS_V1_2025: Final = Profile("unixfs-v1-2025", raw_with_attributes=False, hidden=False)
UNIXFS_V0_2015: Final = replace(
    _KUBO, name="unixfs-v0-2015", cid_version=0, raw_leaves=False, chunk_size=256 * KIB
)
LEGACY_CID_V0: Final = replace(UNIXFS_V0_2015, name="legacy-cid-v0")
"""kubo's other name for it."""
TEST_CID_V1: Final = replace(_KUBO, name="test-cid-v1", hamt_at_threshold=True)
"""In kubo 0.33 to 0.39, as the next one."""
TEST_CID_V1_WIDE: Final = replace(
    TEST_CID_V1, name="test-cid-v1-wide", width=1024, hamt_fanout=1024, hamt_threshold=MIB
)
KUBO_CID_V1: Final = replace(_KUBO, name="kubo-cid-v1")
"""``ipfs add --cid-version=1 --raw-leaves --chunker=size-1048576``, as most of what is in Filecoin was made."""
LOTUS: Final = Profile(
    "lotus", hash_code=multihash.BLAKE2B_256, inline_limit=126, hamt_measure=DirectorySize.LINKS_BYTES
)
"""``lotus client import``, which takes single files.  A directory is made as kubo would with the same options."""
GO_CAR: Final = Profile("go-car", chunk_size=256 * KIB, width=174, hamt_measure=DirectorySize.LINKS_BYTES)
"""What go-car's ``car create`` writes."""
IPFS_CAR: Final = Profile("ipfs-car", hamt_measure=DirectorySize.ENTRIES, hamt_threshold=1000,
                          symlinks=Symlinks.SKIP, hidden=False, empty_directories=False)  # fmt: skip
"""``ipfs-car pack --no-wrap`` 3.1: a directory of more than 1,000 entries is sharded."""

PROFILES: Final = {
    profile.name: profile
    for profile in (
        CARFS,
        UNIXFS_V1_2025,
        UNIXFS_V0_2015,
        LEGACY_CID_V0,
        TEST_CID_V1,
        TEST_CID_V1_WIDE,
        KUBO_CID_V1,
        LOTUS,
        GO_CAR,
        IPFS_CAR,
    )
}
