"""Retrievals: DAGs, or parts of them, fetched into CARv2s that are read while they grow and survive interruption."""
