"""Local export: files, directories and CARs out of what imports and shards hold, as a whole or in part.

`orders` says what is wanted, `holders` who has it, `exporting` has a worker (`agent.workers.exporting`) do it.
"""
