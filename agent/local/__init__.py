"""The blocks of all that is here (shards, imports, retrievals), read in this process: for those who serve them."""
