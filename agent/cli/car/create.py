"""`carfs car create`: a file or a tree into an indexed CAR."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from agent.cli.command import command, example, json_option, quiet_option
from agent.cli.exits import CommandFailed
from agent.cli.output import emit_json
from agent.cli.progress import progress
from carlib.pack import PackReport, SourceChanged, pack
from carlib.unixfs.profile import CARFS, PROFILES


@command(
    epilog=example("carfs car create photos -o photos.car", "carfs car create --preserve /etc -o etc.car")
)
@click.argument("source", type=click.Path(path_type=Path))
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="The CAR to write.")
@click.option("--profile", type=click.Choice(list(PROFILES)), default=CARFS.name, show_default=True,
              help="Chunk size, width and sharding, which decide the CIDs.")  # fmt: skip
@click.option(
    "--preserve", is_flag=True, help="Store permissions and modification times; this changes the CIDs."
)
@click.option("--no-hidden", is_flag=True, help="Leave out names that begin with a dot.")
@click.option(
    "--version", type=click.Choice(["1", "2"]), default="2", show_default=True, help="Version of the CAR."
)
@json_option
@quiet_option
def create(
    source: Path,
    output: Path,
    profile: str,
    preserve: bool,
    no_hidden: bool,
    version: str,
    as_json: bool,
    quiet: bool,
) -> None:
    """Pack the file or directory SOURCE into a CAR, in one pass, and print the root.

    The CAR is an indexed CARv2 with the root in its header; it appears under its name when it is complete. Sockets,
    FIFOs and devices are left out and named.
    """
    try:
        with progress(f"packing {source}", quiet=quiet) as step:
            packed = pack(
                source, output, profile=PROFILES[profile], progress=step,
                hidden=not no_hidden, preserve=preserve, version=int(version),
            )  # fmt: skip
    except (SourceChanged, ValueError) as error:
        raise CommandFailed(str(error)) from error
    for skipped in packed.skipped:
        print(f"carfs: left out: {skipped.path} {skipped.reason}", file=sys.stderr)
    if as_json:
        emit_json(_as_json(packed))
    else:
        print(packed.root)


def _as_json(packed: PackReport) -> dict[str, object]:
    return {
        "root": str(packed.root),
        "files": packed.files,
        "directories": packed.directories,
        "symlinks": packed.symlinks,
        "bytes": packed.bytes,
        "blocks": packed.blocks,
        "blockBytes": packed.block_bytes,
        "duplicates": packed.duplicates,
        "skipped": [{"path": str(skipped.path), "reason": skipped.reason} for skipped in packed.skipped],
    }
