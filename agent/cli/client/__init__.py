"""`carfs client …`: data before and after deals, with Lotus' names, flags and words; a module for each noun."""

from __future__ import annotations

from agent.cli.command import CommandTable, example, group

COMMANDS: CommandTable = {
    "commP": ("agent.cli.client.commp:commp", "Compute the piece CID of a file, in a worker of the agent."),
}


@group(COMMANDS, epilog=example("carfs client commP deal.car"))
def client() -> None:
    """What a client does with data: by the running agent."""
