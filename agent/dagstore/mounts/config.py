"""`[mounts]` of the configuration: how patient and how trusting mounts are."""

from __future__ import annotations

import msgspec


class MountsConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[mounts]`."""
