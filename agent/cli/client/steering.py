"""`carfs client drop` and `rename`."""

from __future__ import annotations

import sys

import click

from agent.cli.calls import call, shown
from agent.cli.client.given import find_import, import_argument, text
from agent.cli.command import command, example, json_option
from agent.cli.exits import AgentUnreachable, CommandFailed, Exit
from agent.cli.output import emit_json


@command(epilog=example("carfs client drop photos", "carfs client drop 1790000000000000000 bafybeigdyr"))
@click.argument("imports", metavar="IMPORT...", nargs=-1, required=True, callback=text)
@json_option
def drop(imports: tuple[str, ...], as_json: bool) -> int:
    """Forget imports, and remove what was made of them; your files and CARs stay. Refused for one that is in use.

    Here, a beginning is enough of numbers and roots alone, and of these 8 characters. One that is being made is
    called off. If one of several cannot be dropped, the others are all the same.
    """
    worst, dropped = Exit.DONE, []
    for name in dict.fromkeys(imports):
        try:
            record = find_import(name, careful=True)
            call("Carfs.RemoveImport", {"Import": record["ID"]}, timeout_s=None)
        except AgentUnreachable:
            raise
        except CommandFailed as error:
            if len(imports) == 1:
                raise
            print(f"carfs: {error}", file=sys.stderr)
            worst = max(worst, error.code)
            continue
        dropped.append({"ID": record["ID"], "Name": record["Name"], "Root": record["Root"]})
        if not as_json:
            print(f"Dropped import {record['ID']}, {shown(record['Name'])}", flush=True)
    if as_json:
        emit_json(dropped)
    return worst


@command(epilog=example("carfs client rename photos holiday"))
@import_argument
@click.argument("name", callback=text)
@json_option
def rename(import_: str, name: str, as_json: bool) -> None:
    """Give IMPORT the name NAME, which no other has."""
    record = find_import(import_)
    renamed = call("Carfs.RenameImport", {"Import": record["ID"], "Name": name})
    if as_json:
        emit_json(renamed)
    else:
        print(f"Renamed import {shown(record['Name'])} to {shown(name)}")
