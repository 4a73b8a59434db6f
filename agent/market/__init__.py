"""Storage deals, the pieces that they are about, and the sectors that hold these."""
