"""`[gateway]` of the configuration."""

from __future__ import annotations

import msgspec


class GatewayConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[gateway]`: what is served over HTTP to whom."""
