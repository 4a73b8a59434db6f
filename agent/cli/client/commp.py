"""`carfs client commP`: the piece that a file is, computed by the agent."""

from __future__ import annotations

from pathlib import Path

import click

from agent.cli.calls import call_that_lasts, shown
from agent.cli.command import command, example, json_option, quiet_option
from agent.cli.output import emit_json, size_text


@command(epilog=example("carfs client commP deal.car", "carfs client commP --json deal.car"))
@click.argument("path", type=click.Path())
@json_option
@quiet_option
def commp(path: str, as_json: bool, quiet: bool) -> None:
    """Compute the piece commitment of the file PATH: its piece CID and the size of the piece.

    A worker of the agent does it, when there is memory and a CPU for it, and as whom the agent runs; `carfs car commp`
    does it here. Every byte counts, so this is for any file.
    """
    result = call_that_lasts(
        "Filecoin.ClientCalcCommP",
        {"Inpath": str(Path(path).absolute())},
        f"hashing {shown(path)}",
        lambda _status: None,
        quiet=quiet,
    )
    if as_json:
        emit_json(result)
        return
    print(f"CID:  {result['Root']['/']}")
    print(f"Piece size:  {size_text(result['Size']).replace('.0 ', ' ')}")
