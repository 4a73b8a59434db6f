"""`[ipfs]` of the configuration."""

from __future__ import annotations

import msgspec


class IpfsConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[ipfs]`: the IPFS node to use, and for what; Lotus' `[Client]` has the same."""
