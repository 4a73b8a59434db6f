"""`[network]` of the configuration."""

from __future__ import annotations

import msgspec


class NetworkConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[network]`: what others are told of how to reach this agent."""
