"""`carfs client export`: data of imports and shards as files, directories and CARs."""

from __future__ import annotations

import sys

import click

from agent.cli.calls import call_with_tasks, shown
from agent.cli.client.given import absolute, range_option, selector_option
from agent.cli.client.reading import reference, streamed
from agent.cli.command import command, example, json_option, quiet_option
from agent.cli.exits import CommandFailed, Exit, ended_by_signals
from agent.cli.output import counted, emit_json, size_text
from agent.cli.progress import progress

STDOUT = "-"


@command(
    epilog=example(
        "carfs client export photos/2024 restored",
        "carfs client export --car photos photos.car",
        "carfs client export --car --data-selector /Links/0/Hash --car-export-merkle-proof photos proof.car",
        "carfs client export --car photos - | zstd > photos.car.zst",
    )
)
@click.argument("root", metavar="ROOT[/PATH]")
@click.argument("out", metavar="OUT")
@click.option("--car", "is_car", is_flag=True, help="Write a CAR instead of a file or a directory.")
@click.option("--path", "paths", metavar="PATH", multiple=True,
              help="Only what is at this path below ROOT; with --car, may be repeated.")  # fmt: skip
@selector_option
@click.option("--car-export-merkle-proof", "proof", is_flag=True,
              help="With --car and a part: the blocks on the way from ROOT too.")  # fmt: skip
@range_option
@click.option("--version", type=click.Choice(["1", "2"]), default="1", show_default=True,
              help="Of the CAR.")  # fmt: skip
@click.option("--force", is_flag=True, help="Replace what stands at OUT.")
@quiet_option
@json_option
def export(
    root: str,
    out: str,
    is_car: bool,
    paths: tuple[str, ...],
    selectors: tuple[str, ...],
    proof: bool,
    byte_range: str,
    version: str,
    force: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Write what ROOT is, or the part of it at PATH, to OUT: a file or a directory, or with --car a CAR of all blocks.

    ROOT is an import, or any CID that an import or a shard holds. Every block is checked; OUT appears complete or not
    at all, and belongs to whom the agent runs as. OUT may be - for standard output, but for directories. Of several
    parts, the CAR has several roots.
    """
    if proof and not (is_car and (selectors or paths or "/" in root.removeprefix("/ipfs/").strip("/"))):
        raise click.UsageError("--car-export-merkle-proof needs --car, and --data-selector or a path")
    ref = reference(root, paths, selectors, byte_range=byte_range, proof=proof, version=int(version))
    with ended_by_signals():
        if out == STDOUT:
            _to_stdout(root, ref, is_car=is_car, quiet=quiet)
            return
        target = absolute(out)
        params = {"Ref": ref, "Path": target, "IsCAR": is_car, "Replace": force}
        told = call_with_tasks("Carfs.Export", params, f"exporting {shown(root)}", target, quiet=quiet)
    if as_json:
        emit_json(told)
        return
    what = counted(told["Blocks"], "block") if is_car else counted(told["Files"], "file")
    print(f"Exported {what}, {size_text(told['Bytes'])}, to {shown(out)}")


def _to_stdout(root: str, ref: object, *, is_car: bool, quiet: bool) -> None:
    if sys.stdout.isatty() and is_car:
        raise CommandFailed("a CAR is binary data, not for a terminal; write it to a file", Exit.USAGE)
    with progress(f"exporting {shown(root)}", quiet=quiet or sys.stdout.isatty()) as step:
        done = 0
        for piece in streamed(ref, is_car=is_car):
            sys.stdout.buffer.write(piece)
            done += len(piece)
            step(done, 0)
