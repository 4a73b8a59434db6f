"""Workers that are not the agent's own: a program elsewhere (`carfs worker --connect`) joins over the RPC and is given
tasks. `joining` and `executor` are the agent's half, `worker` and `link` the program's; `messages` is between them."""
