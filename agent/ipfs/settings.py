"""`[ipfs]` of the configuration; Lotus has the same as UseIpfs, IpfsUseForRetrieval, IpfsOnlineMode, IpfsMAddr."""

from __future__ import annotations

from typing import Annotated

import msgspec


class IpfsConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[ipfs]`: an IPFS node (Kubo) beside the agent, by its RPC API."""

    use_for_storage: bool = False  # whether deals are about data that the node has, unless told otherwise
    use_for_retrieval: bool = False  # whether what is retrieved is put into the node, unless told otherwise
    online_mode: bool = False  # whether the node may look in its own network for what it does not have
    address: str = ""  # of the API, as /ip4/127.0.0.1/tcp/5001 or http://host:5001; "": as `ipfs` finds it
    answer_timeout_s: Annotated[float, msgspec.Meta(gt=0, le=86400)] = (
        600.0  # seconds for the node to store and pin what it was sent
    )
