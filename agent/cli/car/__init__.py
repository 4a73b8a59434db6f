"""`carfs car …`: commands on CAR files alone; no agent, no mount.  Thin over carlib.

Names and short names are those of go-car's `car`, and what is printed is what it prints, where it has the command
(`docs/car-features.md`).
"""

from __future__ import annotations

import click

from agent.cli.command import CommandTable, example, group
from agent.cli.exits import ended_by_signals

COMMANDS: CommandTable = {
    "list": ("agent.cli.car.listing:list_", "List blocks, or paths."),
    "tree": ("agent.cli.car.drawing:tree", "Draw files and directories with their sizes."),
    "get": ("agent.cli.car.get:get", "Write one block, or the file at a path, to stdout."),
    "get-block": ("agent.cli.car.get:get_block", "Write one block."),
    "get-dag": ("agent.cli.car.dag:get_dag", "Write what is below a CID as a CAR."),
    "put-block": ("agent.cli.car.putting:put_block", "Put a block into a CAR."),
    "root": ("agent.cli.car.rooting:root", "Show or replace the roots."),
    "inspect": ("agent.cli.car.inspecting:inspect", "Report on header, roots, blocks and codecs."),
    "verify": ("agent.cli.car.verifying:verify", "Check structure, index, blocks, links."),
    "diff": ("agent.cli.car.comparing:diff", "Show what differs between two CARs."),
    "create": ("agent.cli.car.create:create", "Pack files and directory trees."),
    "extract": ("agent.cli.car.extracting:extract", "Unpack files and directories."),
    "index": ("agent.cli.car.indexing:index", "Write an indexed CARv2, or a detached index."),
    "detach-index": (
        "agent.cli.car.detaching:detach_index",
        "Write the index of a CARv2 to a file; list one.",
    ),
    "wrap": ("agent.cli.car.framing:wrap", "Make a CARv2 of a CARv1."),
    "unwrap": ("agent.cli.car.framing:unwrap", "Take the CARv1 out of a CARv2."),
    "concat": ("agent.cli.car.joining:concat", "Join CARs."),
    "split": ("agent.cli.car.splitting:split", "Cut a CAR into parts of a size."),
    "filter": ("agent.cli.car.filtering:filter_", "Take the blocks that are named, or all others."),
    "dedup": ("agent.cli.car.joining:dedup", "Write each block once."),
    "commp": ("agent.cli.car.commp:commp", "Compute the piece CIDs."),
    "debug": ("agent.cli.car.patching:debug", "Write a CAR as text."),
    "compile": ("agent.cli.car.patching:compile_", "Make a CAR of text."),
}

ALIASES = {
    "ls": "list",
    "l": "list",
    "gb": "get-block",
    "gd": "get-dag",
    "pb": "put-block",
    "v": "verify",
    "c": "create",
    "x": "extract",
    "i": "index",
    "f": "filter",
}


@group(
    COMMANDS,
    aliases=ALIASES,
    epilog=example("carfs car inspect backup.car", "carfs car ls --unixfs backup.car"),
)
def car() -> None:
    """Look into CAR files, check, make and unpack them."""
    click.get_current_context().with_resource(ended_by_signals())
