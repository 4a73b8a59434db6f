"""`carfs client …`: data before and after deals, with Lotus' names, flags and words; a module for each noun."""

from __future__ import annotations

from agent.cli.command import CommandTable, example, group

COMMANDS: CommandTable = {
    "import": ("agent.cli.client.importing:import_", "Import files, directories, CARs or standard input."),
    "local": ("agent.cli.client.listing:local", "List imports."),
    "info": ("agent.cli.client.listing:info", "Show all that is known of an import."),
    "stat": ("agent.cli.client.listing:stat", "Show how big an import is as a CAR, and as a piece."),
    "drop": ("agent.cli.client.steering:drop", "Forget imports; your files stay."),
    "rename": ("agent.cli.client.steering:rename", "Give an import another name."),
    "verify": ("agent.cli.client.verifying:verify", "Check imports and the files that they refer to."),
    "repair": ("agent.cli.client.mending:repair", "Find blocks that moved within the source."),
    "relink": ("agent.cli.client.mending:relink", "Say where the source of an import is now."),
    "freeze": ("agent.cli.client.mending:freeze", "Make an import independent of your files."),
    "ls": ("agent.cli.client.reading:ls", "List what is in a directory of an import or a shard."),
    "cat": ("agent.cli.client.reading:cat", "Print a file of an import or a shard."),
    "export": ("agent.cli.client.exporting:export", "Write data of imports and shards to files and CARs."),
    "retrieve": ("agent.cli.client.retrieving:retrieve", "Fetch a DAG, or a part of one, from elsewhere."),
    "list-retrievals": (
        "agent.cli.client.retrieving:list_retrievals",
        "List what was fetched, or is on its way.",
    ),
    "cancel-retrieval": (
        "agent.cli.client.retrieving:cancel_retrieval",
        "Call retrievals off; what has come stays.",
    ),
    "drop-retrieval": (
        "agent.cli.client.retrieving:drop_retrieval",
        "Forget retrievals, and delete their CARs.",
    ),
    "find": ("agent.cli.client.reading:find", "Say which imports and shards hold a block."),
    "commP": ("agent.cli.client.commp:commp", "Compute the piece CID of a file, in a worker of the agent."),
    "generate-car": (
        "agent.cli.client.generating:generate_car",
        "Pack a file into a CAR, without importing it.",
    ),
    "migrate-imports": (
        "agent.cli.client.migrating:migrate_imports",
        "Look what of Lotus' imports works here.",
    ),
}
ALIASES = {"list-imports": "local"}


@group(
    COMMANDS,
    epilog=example("carfs client import photos", "carfs client local", "carfs client export photos/2024 out"),
    aliases=ALIASES,
)
def client() -> None:
    """What a client does with data: by the running agent.

    An import is named by its number, its name, its root, or the beginning of one of these that no other has.
    """
