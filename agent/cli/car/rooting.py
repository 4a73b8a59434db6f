"""`carfs car root`: the roots in the header of a CAR, shown or replaced."""

from __future__ import annotations

from pathlib import Path

import click

from agent.cli.car.given import STDIN, car_path, optional_car_argument
from agent.cli.command import command, example, json_option
from agent.cli.exits import CommandFailed, Exit
from agent.cli.output import emit_json
from carlib.cid import Cid
from carlib.container import read_container
from carlib.errors import CarError
from carlib.frame import RootsOfOtherLength, replace_roots
from carlib.source import FileSource


@command(
    epilog=example(
        "carfs car root backup.car",
        "carfs car root --set bafybeigdyrzt5sfp7udm7hu76uh7y26nf3efuylqabf3oclgtqy55fbzdi backup.car",
    )
)
@optional_car_argument
@click.option(
    "--set", "new", metavar="CID", multiple=True, help="Replace the roots by this one; repeat it for several."
)
@click.option("--clear", is_flag=True, help="Leave CAR without roots.")
@click.option(
    "--rewrite", is_flag=True, help="Write CAR anew where the new roots take more or less room in its header."
)
@json_option
def root(car: str, new: tuple[str, ...], clear: bool, rewrite: bool, as_json: bool) -> None:
    """Print the roots of CAR, one a line, or replace them.

    They are replaced in place; where they take another room in the header that is refused, unless --rewrite is given.
    Whether their blocks are there is not looked at. CAR may be - for standard input when nothing is replaced.
    """
    if new or clear:
        _replace(car, new, clear, rewrite)
    elif rewrite:
        raise click.UsageError("--rewrite is for --set and --clear")
    with car_path(car) as path, FileSource(path) as source:
        roots = [str(cid) for cid in read_container(source, strict=False).roots]
    if as_json:
        emit_json(roots)
    else:
        for cid in roots:
            print(cid)


def _replace(car: str, new: tuple[str, ...], clear: bool, rewrite: bool) -> None:
    if car == STDIN or (new and clear):
        raise click.UsageError(
            "name the CAR whose roots to replace" if car == STDIN else "--set or --clear, not both"
        )
    try:
        roots = [Cid.parse(text) for text in new]
    except CarError as error:
        raise click.UsageError(error.message) from error
    try:
        replace_roots(Path(car), roots, rewrite=rewrite)
    except RootsOfOtherLength as error:
        raise CommandFailed(f"{error}; --rewrite writes the whole CAR anew", Exit.REFUSED) from error
