"""`Carfs.Ipfs…`: the IPFS node beside the agent."""

from __future__ import annotations

import msgspec

from agent.dagstore.failures import ShardError
from agent.rpc.methods.retrievals import retrievals
from agent.rpc.peers import Permission
from agent.rpc.registry import NoParams, method
from agent.rpc.services import Services
from agent.transfer.sources.naming import IPFS


class IpfsShown(msgspec.Struct, frozen=True, rename="pascal"):
    """`Address`: URL of its API. `Version`: "" if it does not answer, and then `Error` says why. The others: as the
    configuration says."""

    address: str
    version: str
    error: str
    use_for_storage: bool
    use_for_retrieval: bool
    online_mode: bool


@method("Carfs.IpfsNode", Permission.READ)
async def ipfs_node(services: Services, params: NoParams) -> IpfsShown:
    """Where the node is that "ipfs" stands for, whether it answers, and what it is used for."""
    elsewhere = retrievals(services).elsewhere
    assert elsewhere is not None  # it is set where retrievals are opened
    config = elsewhere.means.ipfs
    address = version = said = ""
    try:
        node = elsewhere.node(IPFS)
        address = node.base.shown.rstrip("/")
        version = await node.version()
    except ShardError as error:
        said = str(error)
    return IpfsShown(
        address, version, said, config.use_for_storage, config.use_for_retrieval, config.online_mode
    )
