"""`carfs deal …`: storage deals, as a client proposes them and a provider has them; a module for each noun."""

from __future__ import annotations

from agent.cli.command import CommandTable, example, group

COMMANDS: CommandTable = {
    "propose": ("agent.cli.deal.proposing:propose", "Propose to a provider to store an import."),
    "list": ("agent.cli.deal.showing:list_", "List the deals of this agent, or of a provider elsewhere."),
    "show": ("agent.cli.deal.showing:show", "Show all that is known of a deal."),
    "wait": ("agent.cli.deal.showing:wait", "Wait until a deal is active, or has failed."),
    "import": ("agent.cli.deal.steering:import_", "Bring the CAR of an offline deal."),
    "retry": ("agent.cli.deal.steering:retry", "Begin deals that have failed once more."),
    "end": ("agent.cli.deal.steering:end", "End deals; the last one about a piece takes the piece with it."),
    "migrate": ("agent.cli.deal.migrating:migrate", "Register the active deals of a Lotus miner as shards."),
    "unseal": ("agent.cli.deal.steering:unseal", "Have the piece of a deal unsealed, or ask whether it is."),
}


@group(
    COMMANDS,
    epilog=example(
        "carfs deal propose --provider https://provider.example:3453 --token-file token photos",
        "carfs deal list",
        "carfs deal end 1790000000000000001",
    ),
)
def deal() -> None:
    """Storage deals: a provider keeps what an import is, as a piece in a sector, and serves it as a shard.

    Deals are about data alone: there are no payments, no proofs and no chain.
    """
