"""`carfs client generate-car`: a CAR of a file, without an import."""

from __future__ import annotations

import os
from pathlib import Path

import click

from agent.cli.calls import call_with_tasks, shown
from agent.cli.client.given import absolute
from agent.cli.command import command, example, json_option, quiet_option
from agent.cli.exits import CommandFailed, Exit
from agent.cli.output import emit_json


@command(
    epilog=example(
        "carfs client generate-car disk.img disk.car", "carfs client generate-car --car v2.car v1.car"
    )
)
@click.argument("source", metavar="IN")
@click.argument("out", metavar="OUT")
@click.option("--car", "is_car", is_flag=True, help="IN is a CAR: take the DAG below its roots.")
@click.option("--force", is_flag=True, help="Replace what stands at OUT.")
@quiet_option
@json_option
def generate_car(source: str, out: str, is_car: bool, force: bool, quiet: bool, as_json: bool) -> None:
    """Pack the file IN into the CARv1 OUT of all its blocks, with Lotus' parameters, and import nothing.

    The agent does it, as whom it runs; `carfs car create` packs here, and has other parameters.
    """
    if os.path.lexists(out) and not force:
        raise CommandFailed(f"{shown(out)} exists; remove it, or replace it with --force", Exit.REFUSED)
    params = {"Ref": {"Path": absolute(source), "IsCAR": is_car}, "Outpath": absolute(out)}
    subject = os.path.realpath(source)
    call_with_tasks("Filecoin.ClientGenCar", params, f"packing {shown(source)}", subject, quiet=quiet)
    if as_json:
        emit_json({"Path": absolute(out), "Size": Path(out).stat().st_size})
