"""`carfs car filter`: the blocks of a CAR that are named, or all others."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

import click

from agent.cli.car.given import STDIN, car_argument, car_path
from agent.cli.car.result import STDOUT, car_target, only, output_argument, output_option, version_option
from agent.cli.command import command, example, quiet_option
from agent.cli.progress import progress
from carlib import selection
from carlib.cid import Cid
from carlib.container import read_container
from carlib.errors import Malformed
from carlib.options import WriteOptions
from carlib.source import FileSource


@command(
    epilog=example(
        "carfs car filter --cid-file wanted.txt export.car some.car",
        "carfs car list a.car | carfs car filter --inverse both.car b.car",
    )
)
@car_argument
@output_argument
@output_option
@click.option(
    "--cid-file", metavar="FILE", default=STDIN, help="Where the CIDs stand, one a line; else standard input."
)
@click.option("--append", is_flag=True, help="Put the blocks behind those that OUT has, and keep its roots.")
@click.option("--inverse", is_flag=True, help="Take all blocks but these.")
@version_option(2)
@quiet_option
def filter_(
    car: str,
    out: str | None,
    output: str | None,
    cid_file: str,
    append: bool,
    inverse: bool,
    version: int,
    quiet: bool,
) -> None:
    """Write the blocks of CAR whose CIDs are named, in its order, each checked; identity CIDs like any other.

    Roots that are not among them are left out of the header too. CAR or the CIDs may come from standard input, and a
    CARv1 may go to standard output.
    """
    name = only(out, output)
    if car == STDIN and cid_file == STDIN:
        raise click.UsageError("CAR and CIDs cannot both come from standard input; name a --cid-file")
    if append and (version != 2 or name == STDOUT):
        raise click.UsageError("blocks can only be appended to a CARv2 in a file")
    target = car_target(name, version)
    wanted = _cids(cid_file)
    what = "filtering out" if inverse else "filtering to"
    print(f"{what} {len(wanted)} cids", file=sys.stderr if name == STDOUT else sys.stdout)
    with car_path(car) as path, progress(f"filtering {car}", quiet=quiet) as step:
        before = [Path(name)] if append else []
        roots = (
            _roots(before[0])
            if before
            else tuple(cid for cid in _roots(path) if (cid.raw in wanted) != inverse)
        )
        if not roots:
            print("warning: no roots defined after filtering", file=sys.stderr)
        identity = selection.have_identity([path], lambda raw: (raw in wanted) != inverse)
        identity = identity or selection.have_identity(before)
        options = WriteOptions(version=version, whole_cids=True, identity=identity)
        selection.filtered(
            path, target, wanted, options, inverse=inverse, roots=roots, append=append, progress=step
        )


def _cids(cid_file: str) -> set[bytes]:
    if cid_file == STDIN:
        return _parsed(sys.stdin, "standard input")
    with Path(cid_file).open(encoding="utf-8", errors="replace") as lines:
        return _parsed(lines, cid_file)


def _parsed(lines: Iterable[str], name: str) -> set[bytes]:
    """The binary CIDs in `lines`; one that stands there twice is told."""
    found: set[bytes] = set()
    for number, line in enumerate(lines, 1):
        if text := line.strip():
            try:
                cid = Cid.parse(text)
            except Malformed as error:
                raise click.UsageError(f"{name}: line {number}: {error.message}") from error
            if cid.raw in found:
                print(f"duplicate cid: {cid}", file=sys.stderr)
            found.add(cid.raw)
    return found


def _roots(path: Path) -> tuple[Cid, ...]:
    with FileSource(path) as source:
        container = read_container(source)
        return container.roots
