"""`carfs deal migrate`."""

from __future__ import annotations

import click

from agent.cli.calls import call, shown
from agent.cli.client.given import absolute
from agent.cli.command import command, example, json_option
from agent.cli.exits import Exit
from agent.cli.output import emit_json


@command(epilog=example("carfs deal migrate deals.json", "carfs deal migrate --again --prune deals.json"))
@click.argument("export", metavar="EXPORT")
@click.option("--again", is_flag=True, help="Although it was complete.")
@click.option("--prune", is_flag=True, help="Destroy shards of pieces that no deal is about any more.")
@json_option
def migrate(export: str, again: bool, prune: bool, as_json: bool) -> int:
    """Register every active deal of a Lotus miner as a shard, which is indexed when it is first used.

    EXPORT is what Lotus' tools print of its deals, as JSON (docs/deals.md has the form). It can be broken
    off and run again; the exit code is 1 if one or more could not be registered.
    """
    params = {"Path": absolute(export), "Again": again, "Prune": prune}
    found = call("Carfs.MigrateDeals", params, timeout_s=None)
    if as_json:
        emit_json(found)
    else:
        for line in found["Lines"]:
            print(shown(line))
    return Exit.DONE if found["Complete"] else Exit.FAILED
