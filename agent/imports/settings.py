"""`[imports]` of the configuration."""

from __future__ import annotations

from typing import Annotated

import msgspec


class ImportsConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[imports]`: what is known of imports, and how often it is looked at."""

    look_interval_s: Annotated[float, msgspec.Meta(ge=0, le=31_536_000)] = (
        3600.0  # seconds between two looks at the files that imports refer to; 0: only when one is used
    )
    check_seconds: Annotated[float, msgspec.Meta(gt=0, le=86400)] = (
        60.0  # seconds for looking at all imports at the start, after which the rest is left to the first look
    )
