"""Named maxima for every length that comes from outside; each is checked before memory is taken.

Values follow go-car v2 ``options.go`` where it has one (its reader refuses 8 MiB *with* the CID, its writer allows 8
MiB
*without*: we accept what it can write).
"""

from __future__ import annotations

from typing import Final

KIB: Final = 1024
MIB: Final = 1024 * KIB

MAX_VARINT_BYTES: Final = 9
"""Multiformats' unsigned varints: 63 bits."""
MAX_HEADER_BYTES: Final = 32 * MIB
"""A CARv1 header, without its length varint (go-car: MaxAllowedHeaderSize)."""
MAX_CID_BYTES: Final = 2 * KIB
"""One binary CID (go-car: MaxIndexCidSize)."""
MAX_BLOCK_BYTES: Final = 8 * MIB
"""The data of one block."""
MAX_SECTION_BYTES: Final = MAX_BLOCK_BYTES + MAX_CID_BYTES
"""A section: CID and data, without its length varint."""
MIN_DIGEST_BYTES: Final = 20
"""A shorter digest proves nothing; identity apart (boxo: verifcid)."""
MAX_INDEX_WIDTH: Final = 32 * MIB
"""Bytes of one index entry: digest and offset (go-car: index width cap)."""
MAX_INDEX_BUCKETS: Final = 64 * KIB
"""Buckets (hash codes and digest widths together) of one index."""
MAX_ROOTS: Final = 1 << 20
"""Roots of one CAR; the header's own maximum binds first for usual CIDs."""
MAX_NODE_DEPTH: Final = 128
"""Nesting inside one dag-cbor or dag-json block."""
MAX_DAG_DEPTH: Final = 1024
"""Links followed from a root to a leaf (boxo: the same)."""
MAX_LINKS: Final = 1 << 18
"""Links of one dag-pb node; the largest block holds 200,000 that carry a hash."""
