"""`[market]` of the configuration."""

from __future__ import annotations

import msgspec


class MarketConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[market]`: which deals are taken, and where their pieces go."""
