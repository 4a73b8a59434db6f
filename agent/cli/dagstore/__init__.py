"""`carfs dagstore …`: shards by hand, with Lotus' names, flags and words; a module for each noun."""

from __future__ import annotations

from agent.cli.command import CommandTable, example, group

COMMANDS: CommandTable = {
    "list-shards": ("agent.cli.dagstore.listing:list_shards", "List shards and their states."),
    "register-shard": (
        "agent.cli.dagstore.registering:register_shard",
        "Take a CAR in as a shard, and index it.",
    ),
    "register-shards": ("agent.cli.dagstore.registering:register_shards", "Take many CARs in at once."),
    "initialize-shard": (
        "agent.cli.dagstore.indexing:initialize_shard",
        "Index a shard that was registered lazily.",
    ),
    "initialize-all": ("agent.cli.dagstore.indexing:initialize_all", "Index all shards that are not yet."),
    "recover-shard": (
        "agent.cli.dagstore.indexing:recover_shard",
        "Try a shard again that is errored, or all.",
    ),
    "destroy-shard": ("agent.cli.dagstore.collecting:destroy_shard", "Forget a shard; its data stays."),
    "lookup-pieces": ("agent.cli.dagstore.listing:lookup_pieces", "List the shards that have a block."),
    "gc": ("agent.cli.dagstore.collecting:gc", "Remove local copies of remote data that nobody uses."),
    "complete": ("agent.cli.dagstore.fetching:complete", "Fetch all data of a remote shard."),
    "reindex": ("agent.cli.dagstore.reindexing:reindex", "Make the index of look-ups anew, or check it."),
    "verify": ("agent.cli.dagstore.verifying:verify", "Check that shards hold what they should."),
    "history": (
        "agent.cli.dagstore.history:history",
        "Show what happened to a shard, when, why and by whom.",
    ),
    "watch": ("agent.cli.dagstore.history:watch", "Show what happens to shards as it happens."),
}


@group(
    COMMANDS, epilog=example("carfs dagstore register-shard photos photos.car", "carfs dagstore list-shards")
)
def dagstore() -> None:
    """Register, list, index, recover, verify and destroy shards of the running agent."""
