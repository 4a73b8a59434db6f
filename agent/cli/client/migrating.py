"""`carfs client migrate-imports`: what a Lotus node has imported, and what of it must be imported anew."""

from __future__ import annotations

import sys

import click

from agent.cli.calls import call, shown
from agent.cli.client.given import absolute
from agent.cli.command import command, example, json_option
from agent.cli.exits import AgentUnreachable, CommandFailed, Exit
from agent.cli.output import emit_json


@command(
    epilog=example(
        "carfs client migrate-imports stores/", "carfs client migrate-imports --reimport stores.json"
    )
)
@click.argument("path", metavar="LOTUS_REPO")
@click.option("--reimport", is_flag=True, help="Import anew, here, all whose source is known.")
@json_option
def migrate_imports(path: str, reimport: bool, as_json: bool) -> int:
    """Look at the imports of a Lotus node, and say in the words of its log which work and which must be imported anew.

    LOTUS_REPO is a folder with a file for each, named by its number, or a file of lines, as Lotus' tools print its
    database: see docs/imports.md. Nothing of Lotus' is changed.
    """
    found = call("Carfs.CheckLotusImports", {"Path": absolute(path)}, timeout_s=None)
    if as_json and not reimport:
        emit_json(found)
    elif not as_json:
        for line in found["Lines"]:
            print(shown(line))
    if not reimport:
        return Exit.DONE
    worst, made = Exit.DONE, []
    for source in dict.fromkeys(one["FilePath"] for one in found["Imports"] if one["FilePath"]):
        try:
            params = {"Path": source, "Profile": "lotus", "Kind": "ref", "Wait": True}
            one = call("Carfs.Import", params, timeout_s=None)
        except AgentUnreachable:
            raise
        except CommandFailed as error:
            print(f"carfs: {error}", file=sys.stderr)
            worst = max(worst, error.code)
            continue
        made.append(one)
        if not as_json:
            print(f"Import {one['ID']}, Root {one['Root']}", flush=True)
    if as_json:
        emit_json({**found, "Imported": made})
    return worst
