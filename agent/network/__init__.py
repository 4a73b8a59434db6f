"""Whether there are ways to other hosts, as the kernel sees them."""
