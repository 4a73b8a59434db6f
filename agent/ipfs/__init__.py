"""IPFS nodes (Kubo) as a source and as a sink, over their RPC."""
