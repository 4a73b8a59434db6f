"""Storage deals, as a provider has them: proposed, fetched, verified, handed to sealing, served as shards, ended."""
