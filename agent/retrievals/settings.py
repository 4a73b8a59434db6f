"""`[retrieval]` of the configuration."""

from __future__ import annotations

import msgspec


class RetrievalConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[retrieval]`: where data that are not here come from."""
