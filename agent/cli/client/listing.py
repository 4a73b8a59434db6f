"""`carfs client local`, `info` and `stat`: which imports there are, and what is known of them."""

from __future__ import annotations

import click

from agent.cli.calls import call, call_with_tasks, shown
from agent.cli.client.given import Json, find_data, find_import, import_argument
from agent.cli.command import command, example, json_option, quiet_option
from agent.cli.output import Styled, color_option, counted, emit_json, emit_table, seconds, size_text

SHOWN_FILES = 20
_COLORS = {"Ready": "green", "Importing": "blue", "Stale": "yellow", "Broken": "red"}


@command(
    epilog=example(
        "carfs client local", "carfs client local --long", "carfs client local --json | jq '.[].Name'"
    )
)
@click.option("-l", "--long", "is_long", is_flag=True, help="A table with names, states and sizes.")
@color_option
@json_option
def local(is_long: bool, color: bool, as_json: bool) -> None:
    """List the imports, oldest first, as Lotus does: number, root, source and what made it."""
    records = call("Carfs.Imports", timeout_s=None)
    if as_json:
        emit_json(records)
    elif is_long:
        rows = [_row(one) for one in records]
        if rows:
            emit_table(("ID", "Name", "Kind", "State", "Size", "Root", "Source"), rows, color=color)
    else:
        for one in records:
            print(f"{one['ID']}: {one['Root'] or '<nil>'} @{shown(one['FilePath'])} ({one['Source']})")
            for line in _remarks(one):
                print(f"\t{line}")


def _row(one: Json) -> tuple[object, ...]:
    state = one["State"].removeprefix("ImportState")
    return (
        one["ID"], shown(one["Name"]), one["Kind"], Styled(state, _COLORS.get(state, "")),
        size_text(one["Size"]) if one["Size"] is not None else _how_far(one), one["Root"] or "",
        shown(one["FilePath"]),
    )  # fmt: skip


def _how_far(one: Json) -> str:
    done = size_text(one["Done"])
    return f"{done} of {size_text(one['Total'])}" if one["Total"] else done


def _remarks(one: Json) -> list[str]:
    """What is not well with it, or is done with it."""
    lines = [f"error: {shown(one['Error'])}"] if one["Error"] else []
    if one["StaleCount"]:
        changed = f"{counted(one['StaleCount'], 'file')} changed since it was imported"
        lines.append(f"stale: {changed}, first {shown(one['StaleFiles'][0])}")
    if one["State"] == "ImportStateImporting":
        lines.append(f"importing: {_how_far(one)}")
    if one["Job"]:
        lines.append(f"{one['Job']}: under way")
    return lines


@command(epilog=example("carfs client info photos", "carfs client info photos --json | jq .StaleFiles"))
@import_argument
@json_option
def info(import_: str, as_json: bool) -> None:
    """Show all that is known of IMPORT."""
    one = find_import(import_)
    if as_json:
        emit_json(one)
        return
    kinds = {
        "ref": "by reference: the data are in the source",
        "dense": "dense",
        "car": "a CAR, used in place",
    }
    owner = "ours" if one["CAROwner"] == "importmgr" else "yours"
    print(f"ID:       {one['ID']}")
    print(f"Name:     {shown(one['Name'])}")
    print(f"State:    {one['State'].removeprefix('ImportState')}")
    print(f"Kind:     {kinds.get(one['Kind'], one['Kind'])}")
    print(f"Root:     {one['Root'] or '<nil>'}")
    print(f"Source:   {shown(one['FilePath']) or 'a stream'} ({one['Source']})")
    print(f"CAR:      {shown(one['CARPath'])} ({owner})")
    if one["Profile"]:
        print(f"Profile:  {one['Profile']}")
    print(f"Created:  {seconds(one['Created'])}")
    if one["Size"] is not None:
        files = f", references to {counted(one['Files'], 'file')}" if one["Files"] else ""
        print(f"Size:     {size_text(one['Size'])} in {counted(one['Blocks'], 'block')}{files}")
    print(f"Leases:   {one['Refs']}")
    for line in _remarks(one):
        print(f"Note:     {line}")
    for path in one["StaleFiles"][:SHOWN_FILES]:
        print(f"Changed:  {shown(path)}")
    _print_more(one["StaleCount"], "Changed", len(one["StaleFiles"]))
    for left_out in one["Skipped"][:SHOWN_FILES]:
        print(f"Left out: {shown(left_out['Path'])}: {shown(left_out['Reason'])}")
    _print_more(one["SkippedCount"], "Left out", len(one["Skipped"]))


def _print_more(count: int, what: str, known: int) -> None:
    more = count - min(known, SHOWN_FILES)
    if more > 0:
        print(f"{f'{what}:':<9} {more} more")


@command(epilog=example("carfs client stat photos", "carfs client stat --piece photos"))
@click.argument("root", metavar="IMPORT|ROOT")
@click.option(
    "--piece", "with_piece", is_flag=True, help="The CID of the piece too, for which all is hashed."
)
@quiet_option
@json_option
def stat(root: str, with_piece: bool, quiet: bool, as_json: bool) -> None:
    """Show how long the CAR of an import is, and the piece that it would be in a deal, in bytes."""
    cid = find_data(root).root
    method = "Filecoin.ClientDealPieceCID" if with_piece else "Filecoin.ClientDealSize"
    name = find_import(cid)["Name"]
    found = call_with_tasks(method, {"Root": cid}, f"hashing {shown(root)}", name, quiet=quiet)
    if as_json:
        emit_json(found)
        return
    print(f"Piece Size  : {found['PieceSize']}")
    print(f"Payload Size: {found['PayloadSize']}")
    if with_piece:
        print(f"Piece CID   : {found['PieceCID']['/']}")
