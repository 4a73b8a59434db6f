"""`carfs car wrap` and `unwrap`: the frame of a CARv2 put around a CARv1, and taken off."""

from __future__ import annotations

from pathlib import Path

import click

from agent.cli.car.given import car_argument, car_path
from agent.cli.car.indexing import CODECS, NONE
from agent.cli.car.result import only, output_argument, output_option, stream_target
from agent.cli.command import command, example, quiet_option
from agent.cli.exits import CommandFailed, Exit
from agent.cli.progress import progress
from carlib import frame
from carlib.frame import AlreadyV1
from carlib.index import CODEC_NAMES, MULTIHASH_INDEX_SORTED
from carlib.options import WriteOptions


@command(
    epilog=example("carfs car wrap old.car new.car", "carfs car wrap --data-padding 4045 old.car aligned.car")
)
@car_argument
@output_argument
@output_option
@click.option("-c", "--codec", type=click.Choice([*CODECS, NONE]), default=CODEC_NAMES[MULTIHASH_INDEX_SORTED],
              show_default=True, help="Format of the index.")  # fmt: skip
@click.option("--index", "detached", type=click.Path(path_type=Path),
              help="Take this detached index instead of making one; it is read through first.")  # fmt: skip
@click.option(
    "--identity", is_flag=True, help="List identity CIDs in the index too, and say so in the header."
)
@click.option("--data-padding", type=click.IntRange(0), default=0, help="Zero bytes before the data.")
@click.option("--index-padding", type=click.IntRange(0), default=0, help="Zero bytes before the index.")
@quiet_option
def wrap(
    car: str,
    out: str | None,
    output: str | None,
    codec: str,
    detached: Path | None,
    identity: bool,
    data_padding: int,
    index_padding: int,
    quiet: bool,
) -> None:
    """Write the data of CAR, of either version, as a CARv2; not a byte of the data changes.

    CAR may be - for standard input, OUT for standard output. OUT may be CAR itself.
    """
    target = stream_target(only(out, output))
    options = WriteOptions(
        index_codec=None if codec == NONE else CODECS[codec],
        identity=identity, data_padding=data_padding, index_padding=index_padding,
    )  # fmt: skip
    with car_path(car) as path, progress(f"wrapping {car}", quiet=quiet) as step:
        frame.wrap(path, target, options, index=detached, progress=step)


@command(epilog=example("carfs car unwrap new.car old.car", "carfs car unwrap new.car - | sha256sum"))
@car_argument
@output_argument
@output_option
@quiet_option
def unwrap(car: str, out: str | None, output: str | None, quiet: bool) -> None:
    """Write the CARv1 that is inside of the CARv2 CAR.

    CAR may be - for standard input, OUT for standard output. OUT may be CAR itself.
    """
    target = stream_target(only(out, output))
    try:
        with car_path(car) as path, progress(f"unwrapping {car}", quiet=quiet) as step:
            frame.extract_v1(path, target, progress=step)
    except AlreadyV1 as error:
        raise CommandFailed(f"{car}: {error.message}", Exit.REFUSED) from error
