"""`[retrieval]` of the configuration."""

from __future__ import annotations

from typing import Annotated

import msgspec

Seconds = Annotated[float, msgspec.Meta(gt=0, le=86400)]
Count = Annotated[int, msgspec.Meta(ge=1, le=4096)]


class RetrievalConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[retrieval]`: where data that are not here come from."""

    sources: tuple[
        str, ...
    ] = ()  # gateways and other agents that are asked, as https://host; the first ones first
    routers: tuple[str, ...] = ()  # delegated routing that says who else has it, as https://host
    allow_private: bool = False  # whether what routers name may be at private addresses
    allow_local: bool = True  # whether what shards and imports hold is taken from there
    on_demand: bool = False  # whether reading ipfs/CID in a mount fetches what is not here
    max_concurrent: Count = 20  # retrievals at once; the others wait
    per_source: Annotated[int, msgspec.Meta(ge=1, le=64)] = 4  # requests to one source at once
    attempts: Count = 8  # failures of a source on end, after which it is not asked any more
    hedge_s: Annotated[float, msgspec.Meta(ge=0, le=3600)] = (
        3.0  # seconds after which another source is asked for the same; 0: never
    )
    max_block_bytes: Annotated[int, msgspec.Meta(ge=1024, le=8 << 20)] = 2 << 20  # of a block, at most
    connect_timeout_s: Seconds = 10.0  # seconds for name, TCP and TLS
    response_timeout_s: Seconds = 60.0  # seconds from a request to the head of its answer
    stall_timeout_s: Seconds = 30.0  # seconds without a byte, after which another source is asked
    max_redirects: Annotated[int, msgspec.Meta(ge=0, le=50)] = 3  # redirects that are followed; 0: none
