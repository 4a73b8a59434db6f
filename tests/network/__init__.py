"""Two hosts on this machine: network namespaces joined by a link with delay, loss and rate."""
