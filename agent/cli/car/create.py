"""`carfs car create`: a file or a tree into an indexed CAR."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from agent.cli.car.result import STDOUT, version_option
from agent.cli.command import command, example, json_option, quiet_option
from agent.cli.exits import CommandFailed
from agent.cli.output import emit_json
from agent.cli.progress import progress
from carlib.pack import PackReport, Preserve, SourceChanged, pack
from carlib.unixfs.profile import CARFS, PROFILES, Layout, Profile, Symlinks


@command(
    epilog=example("carfs car create photos -o photos.car", "carfs car create --preserve /etc -o etc.car")
)
@click.argument("sources", metavar="SOURCE...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "-o", "-f", "--output", "--file", "output", metavar="FILE", required=True, help="The CAR to write."
)
@click.option("--wrap/--no-wrap", default=None,
              help="Whether SOURCE is put into a directory, under its name; several always are.")  # fmt: skip
@click.option("--profile", type=click.Choice(list(PROFILES)), default=CARFS.name, show_default=True,
              help="Whose parameters, which decide the CIDs; each of them can be overridden.")  # fmt: skip
@click.option("--chunker", metavar="CHUNKER",
              help="Where files are cut: size-N, rabin, rabin-AVG, rabin-MIN-AVG-MAX or buzhash.")  # fmt: skip
@click.option(
    "--layout", type=click.Choice([layout.value for layout in Layout]), help="How leaves are linked."
)
@click.option("--preserve", is_flag=True,
              help="Store permissions and modification times; this changes the CIDs.")  # fmt: skip
@click.option("--preserve-mode", is_flag=True, help="Store permissions alone.")
@click.option("--preserve-mtime", is_flag=True, help="Store modification times alone.")
@click.option("--hidden/--no-hidden", default=None, help="Take or leave out names that begin with a dot.")
@click.option("--symlinks", type=click.Choice([policy.value for policy in Symlinks]),
              help="Keep symlinks, pack what they point to, or leave them out.")  # fmt: skip
@version_option(2)
@json_option
@quiet_option
def create(
    sources: tuple[Path, ...],
    output: str,
    wrap: bool | None,
    profile: str,
    version: int,
    as_json: bool,
    quiet: bool,
    **choices: Any,  # those of _chosen
) -> None:
    """Pack the file or directory SOURCE, or several in one directory, into a CAR, and print the root.

    The CAR is an indexed CARv2 with the root in its header; it appears under its name when it is complete. Sockets,
    FIFOs and devices are left out and named. What becomes of hidden files, symlinks and empty directories is up to
    the profile; ours packs them as they are.
    """
    if wrap is False and len(sources) > 1:
        raise click.UsageError("no-wrap cannot be set with multiple source locations")
    if output == STDOUT:
        raise click.UsageError(
            "the root is known last and stands first, so a CAR cannot be packed into a pipe; name a file"
        )
    source = sources if wrap or len(sources) > 1 else sources[0]
    chosen, preserved = _chosen(PROFILES[profile], **choices)
    try:
        with progress(f"packing {sources[0]}", quiet=quiet) as step:
            packed = pack(
                source, Path(output), profile=chosen, progress=step, preserve=preserved, version=version
            )
    except (SourceChanged, ValueError) as error:
        raise CommandFailed(str(error)) from error
    for skipped in packed.skipped:
        print(f"carfs: left out: {skipped.path} {skipped.reason}", file=sys.stderr)
    if as_json:
        emit_json(_as_json(packed))
    else:
        print(packed.root)


def _chosen(
    profile: Profile,
    *,
    chunker: str | None,
    layout: str | None,
    hidden: bool | None,
    symlinks: str | None,
    preserve: bool,
    preserve_mode: bool,
    preserve_mtime: bool,
) -> tuple[Profile, Preserve]:
    """The profile with what was asked for instead, and the attributes to keep; UsageError for an unknown chunker."""
    try:
        changed = profile.with_chunker(chunker) if chunker is not None else profile
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    changed = replace(
        changed,
        layout=profile.layout if layout is None else Layout(layout),
        hidden=profile.hidden if hidden is None else hidden,
        symlinks=profile.symlinks if symlinks is None else Symlinks(symlinks),
    )
    preserved = Preserve.ALL if preserve else Preserve.NOTHING
    preserved |= Preserve.MODE if preserve_mode else Preserve.NOTHING
    return changed, preserved | (Preserve.MTIME if preserve_mtime else Preserve.NOTHING)


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
