"""`[market]` of the configuration."""

from __future__ import annotations

from typing import Annotated

import msgspec

Seconds = Annotated[float, msgspec.Meta(gt=0, le=7 * 86400)]
Count = Annotated[int, msgspec.Meta(ge=1, le=1024)]


class MarketConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[market]`: storage deals, as a provider."""

    accept: bool = False  # whether deals are taken from those who have a token that may sign
    sector_size: Annotated[int, msgspec.Meta(ge=2048, le=64 << 30)] = (
        32 << 30  # of new sectors, a power of two of padded bytes
    )
    sectors: str = "sectors"  # folder for unsealed sectors, from $CARFS_PATH
    keep_staged: bool = False  # whether the CAR that was fetched stays beside the sector
    max_concurrent: Count = 5  # deals that are fetched, verified or packed at once; the others wait
    sealing_command: tuple[
        str, ...
    ] = ()  # program that sealing is left to (docs/deals.md); none: sectors stay unsealed here
    sealing_timeout_s: Seconds = 3600.0  # seconds for a call of it
    sealing_poll_s: Seconds = 30.0  # seconds between two questions how far it is
    max_concurrent_sealing: Count = 5  # calls of it at once, but for unsealing
    max_concurrent_unseals: Count = 2  # pieces that are unsealed at once
