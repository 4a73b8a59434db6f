"""An IPFS node beside the agent (Kubo): its RPC API, as a place to take data from and to put them into."""
