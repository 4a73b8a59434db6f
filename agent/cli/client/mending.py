"""`carfs client repair`, `relink` and `freeze`: what makes an import whole again, and what keeps it so."""

from __future__ import annotations

import click

from agent.cli.calls import call_with_tasks, shown
from agent.cli.client.given import Json, absolute, find_import, import_argument
from agent.cli.command import command, example, json_option, quiet_option
from agent.cli.exits import Exit
from agent.cli.output import counted, emit_json

deep_option = click.option("--deep", is_flag=True, help="Read files that look as they did, too.")


@command(
    epilog=example("carfs client repair photos", "carfs client repair photos --also /backup/photos/a.raw")
)
@import_argument
@click.option(
    "--also", multiple=True, metavar="FILE", help="A file in which lost blocks may be; may be repeated."
)
@deep_option
@quiet_option
@json_option
def repair(import_: str, also: tuple[str, ...], deep: bool, quiet: bool, as_json: bool) -> int:
    """Find blocks of IMPORT that have moved within its source, or to other files, and refer to them there.

    The root stays what it is. What is nowhere any more stays an error of those who read it; the exit code is 5 then.
    To have the source as it is now, import it anew.
    """
    record = find_import(import_)
    params = {"Import": record["ID"], "Deep": deep, "Also": [absolute(path) for path in also]}
    remade = _remade("Carfs.RepairImport", params, record, "repairing", quiet)
    if as_json:
        emit_json(remade)
    else:
        moved = f"{counted(remade['Relinked'], 'block')} found elsewhere"
        as_before = f"{counted(remade['Refreshed'], 'file')} as before"
        lost = f", {counted(remade['Gone'], 'block')} lost" if remade["Gone"] else ""
        print(f"Repaired {shown(record['Name'])}: {moved}, {as_before}{lost}")
    return Exit.CORRUPT if remade["Gone"] or not _is_ready(remade) else Exit.DONE


@command(epilog=example("mv photos /srv/photos", "carfs client relink photos /srv/photos"))
@import_argument
@click.argument("path", metavar="NEWPATH")
@deep_option
@quiet_option
@json_option
def relink(import_: str, path: str, deep: bool, quiet: bool, as_json: bool) -> int:
    """Say that the source of IMPORT is at NEWPATH now. Refused, and nothing changed, if what lies there is not it."""
    record = find_import(import_)
    params = {"Import": record["ID"], "Path": absolute(path), "Deep": deep}
    remade = _remade("Carfs.RelinkImport", params, record, "linking", quiet)
    if as_json:
        emit_json(remade)
    else:
        print(f"Linked {shown(record['Name'])} to {shown(path)}: {counted(remade['Relinked'], 'file')}")
    return Exit.DONE if _is_ready(remade) else Exit.CORRUPT


@command(epilog=example("carfs client freeze photos"))
@import_argument
@quiet_option
@json_option
def freeze(import_: str, quiet: bool, as_json: bool) -> None:
    """Make IMPORT independent of your files, which may then change or go.

    Where the file system can clone files, that costs no space; elsewhere the data are copied. Refused if a block is
    lost already.
    """
    record = find_import(import_)
    remade = _remade("Carfs.FreezeImport", {"Import": record["ID"]}, record, "freezing", quiet)
    if as_json:
        emit_json(remade)
    elif remade["Cloned"]:
        print(f"Froze {shown(record['Name'])}: {counted(remade['Cloned'], 'file')} cloned")
    else:
        why = f" ({shown(remade['Reason'])})" if remade["Reason"] else ""
        print(f"Froze {shown(record['Name'])}: copied{why}")


def _remade(method: str, params: Json, record: Json, what: str, quiet: bool) -> Json:
    return call_with_tasks(method, params, f"{what} {shown(record['Name'])}", record["Name"], quiet=quiet)


def _is_ready(remade: Json) -> bool:
    return bool(remade["Record"]["State"] == "ImportStateReady")
