"""What the machine's network is now, and what follows from it for transfers and for addresses that others are told."""
