"""`carfs car concat` and `carfs car dedup`: the blocks of CARs in one, each once."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import click

from agent.cli.car.given import car_argument, car_path
from agent.cli.car.result import STDOUT, car_target, only, output_argument, output_option, version_option
from agent.cli.command import command, example, json_option, quiet_option
from agent.cli.output import emit_json, size_text
from agent.cli.progress import progress
from carlib import selection
from carlib.cid import Cid
from carlib.container import read_container
from carlib.options import WriteOptions
from carlib.source import FileSource


@command(
    epilog=example(
        "carfs car concat a.car b.car -o both.car", "carfs car concat part-*.car --version 2 -o whole.car"
    )
)
@click.argument("cars", metavar="CAR...", nargs=-1, required=True)
@output_option
@version_option(1)
@click.option("--roots", "which", type=click.Choice(["all", "first"]), default="all", show_default=True,
              help="Whose roots the result has; go-car's tool takes those of the first CAR.")  # fmt: skip
@click.option(
    "--duplicates", is_flag=True, help="Keep blocks that were there already, as go-car's tool does."
)
@quiet_option
def concat(
    cars: tuple[str, ...], output: str | None, version: int, which: str, duplicates: bool, quiet: bool
) -> None:
    """Join CARs: their blocks in order and once each, every one checked against its CID.

    The CARs may be of either version, one of them may be - for standard input. The result goes to standard output
    unless -o is given; a CARv2 needs a file.
    """
    target = car_target(only(output, default=STDOUT), version)
    with ExitStack() as stack:
        paths = [stack.enter_context(car_path(car)) for car in cars]
        options = WriteOptions(
            version=version,
            whole_cids=True,
            allow_duplicates=duplicates,
            identity=selection.have_identity(paths),
        )
        with progress(f"joining {len(cars)} CARs", quiet=quiet) as step:
            selection.concat(
                paths, target, options, roots=_roots(paths[0]) if which == "first" else None, progress=step
            )


def _roots(path: Path) -> tuple[Cid, ...]:
    with FileSource(path) as source:
        return read_container(source).roots


@command(
    epilog=example("carfs car dedup export.car small.car", "carfs car dedup - -o small.car < export.car")
)
@car_argument
@output_argument
@output_option
@version_option(2)
@click.option("--by-multihash", is_flag=True,
              help="Blocks with one multihash are the same, whatever codecs their CIDs say.")  # fmt: skip
@json_option
@quiet_option
def dedup(
    car: str,
    out: str | None,
    output: str | None,
    version: int,
    by_multihash: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Write CAR with each block once, in the place where it stands first.

    CAR may be - for standard input, OUT for standard output if it is a CARv1.
    """
    name = only(out, output)
    target = car_target(name, version)
    with car_path(car) as path, progress(f"deduplicating {car}", quiet=quiet) as step:
        identity = selection.have_identity([path])
        options = WriteOptions(version=version, whole_cids=not by_multihash, identity=identity)
        found = selection.deduplicated(path, target, options, progress=step)
    if name == STDOUT:
        return
    if as_json:
        emit_json({"blocks": found.blocks, "bytes": found.bytes, "dropped": found.dropped,
                   "droppedBytes": found.dropped_bytes})  # fmt: skip
    else:
        print(f"{found.blocks} blocks kept, {found.dropped} dropped ({size_text(found.dropped_bytes)})")
