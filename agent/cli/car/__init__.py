"""`carfs car …`: commands on CAR files alone; no agent, no mount.  Thin over carlib."""

from __future__ import annotations

from agent.cli.command import CommandTable, example, group

COMMANDS: CommandTable = {
    "ls": ("agent.cli.car.listing:ls", "List blocks, or paths."),
    "get": ("agent.cli.car.get:get", "Write one block, or the file at a path, to stdout."),
    "inspect": ("agent.cli.car.inspecting:inspect", "Report on header, roots, blocks and codecs."),
    "verify": ("agent.cli.car.verifying:verify", "Check every block, the roots and the index."),
    "index": ("agent.cli.car.indexing:index", "Write a detached index, or an indexed CARv2."),
    "create": ("agent.cli.car.create:create", "Pack a file or a directory tree."),
    "extract": ("agent.cli.car.extracting:extract", "Unpack files and directories."),
}


@group(COMMANDS, epilog=example("carfs car inspect backup.car", "carfs car ls --unixfs backup.car"))
def car() -> None:
    """Look into CAR files, check, make and unpack them."""
