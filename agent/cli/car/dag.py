"""`carfs car get-dag`: all that is below a CID, or what a selector takes of it, as a CAR."""

from __future__ import annotations

import sys

import click

from agent.cli.car.given import car_argument, car_path
from agent.cli.car.result import only, opened, output_option, version_option
from agent.cli.command import command, example, quiet_option
from agent.cli.exits import CommandFailed, Exit
from agent.cli.progress import progress
from carlib.blockstore import ReadOnlyBlockstore
from carlib.cid import Cid
from carlib.errors import CarError
from carlib.export import Export
from carlib.selectors import Selection, parse
from carlib.traversal import Rules, Traversal, Walkable


@command(
    epilog=example(
        "carfs car get-dag export.car bafybeigdyrzt5sfp7udm7hu76uh7y26nf3efuylqabf3oclgtqy55fbzdi dag.car",
        'carfs car get-dag -s \'{"R":{"l":{"depth":2},":>":{"a":{">":{"@":{}}}}}}\' export.car top.car',
    )
)
@car_argument
@click.argument("rest", metavar="[ROOT] [OUT]", nargs=-1)
@output_option
@click.option(
    "-s", "--selector", metavar="JSON", help="An IPLD selector as dag-json; without one, everything."
)
@click.option(
    "--strict", is_flag=True, help="Fail where a linked block is not in CAR, instead of leaving it out."
)
@version_option(2)
@quiet_option
def get_dag(
    car: str,
    rest: tuple[str, ...],
    output: str | None,
    selector: str | None,
    strict: bool,
    version: int,
    quiet: bool,
) -> None:
    """Write the DAG below ROOT, by default the only root of CAR, as a CAR: depth first, each block once and checked.

    With a selector, the blocks that its traversal reads. Missing blocks are told and left out. A CARv1 has identity
    CIDs as blocks, a CARv2 has not, as go-car's tool does it. The size is known before the first byte, so both may go
    to standard output (-).
    """
    root, name = _arguments(rest, output)
    with car_path(car) as path, ReadOnlyBlockstore.open(path) as blocks:
        source = _source(
            blocks, _root(blocks, root), selector, Rules(skip_missing=not strict, identity=version == 1)
        )
        export = Export.plan(source, version=version)
        done = 0
        with opened(name) as file, progress(f"reading {car}", quiet=quiet) as step:
            for chunk in export.chunks():
                file.write(chunk)
                done += len(chunk)
                step(done, export.size)
    for cid in export.missing:
        print(f"carfs: left out: block {cid} is not in {car}", file=sys.stderr)


def _arguments(rest: tuple[str, ...], output: str | None) -> tuple[str | None, str]:
    """Root and output, as go-car's tool takes them: the last argument is the output, unless there is an option."""
    if len(rest) > (2 if output is None else 1):
        raise click.UsageError(f"got an unexpected argument ({rest[-1]})")
    if output is None:
        *roots, name = rest or (None,)
        return (roots[0] if roots else None), only(name)
    return (rest[0] if rest else None), output


def _root(blocks: ReadOnlyBlockstore, text: str | None) -> Cid:
    if text is not None:
        try:
            return Cid.parse(text)
        except CarError as error:
            raise click.UsageError(error.message) from error
    if len(blocks.roots) != 1:
        raise CommandFailed(
            f"the CAR has {len(blocks.roots)} roots and not exactly one, so the root of the DAG must be given",
            Exit.USAGE,
        )
    return blocks.roots[0]


def _source(blocks: ReadOnlyBlockstore, root: Cid, selector: str | None, rules: Rules) -> Walkable:
    if not root.is_identity:
        blocks.size(root)  # a missing root is an error whatever is left out below it
    if selector is None:
        return Traversal.of(blocks, root, rules=rules)
    try:
        return Selection(blocks, ((root, parse(selector)),), rules)
    except CarError as error:
        raise click.UsageError(f"--selector: {error.message}") from error
