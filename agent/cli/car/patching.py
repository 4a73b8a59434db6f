"""`carfs car debug` and `carfs car compile`: a CAR as text to read and edit, and back."""

from __future__ import annotations

import click

from agent.cli.car.given import STDIN, car_path, optional_car_argument
from agent.cli.car.result import STDOUT, car_target, only, opened, output_argument, output_option
from agent.cli.command import command, example, quiet_option
from agent.cli.progress import progress
from carlib import patch
from carlib.checked import CheckedBlocks
from carlib.container import read_container
from carlib.options import WriteOptions
from carlib.source import FileSource
from carlib.writer import creating


@command(epilog=example("carfs car debug small.car", "carfs car debug small.car -o small.patch"))
@optional_car_argument
@output_argument
@output_option
@quiet_option
def debug(car: str, out: str | None, output: str | None, quiet: bool) -> None:
    """Write CAR as text: its roots, and each block as dag-json or, where that can be printed, as it is.

    `carfs car compile` makes the CAR of it again, edited or not. go-car's tool reads it too, but for blocks that
    dag-json cannot hold exactly, which it would change.
    """
    target = only(out, output, default=STDOUT)
    with (
        car_path(car) as path,
        FileSource(path) as source,
        progress(f"writing {car} as text", quiet=quiet) as step,
    ):
        container = read_container(source)
        blocks = CheckedBlocks(source, container)
        with opened(target, text=True) as file:
            file.write(patch.heading(car, container.version, container.roots))
            for block in blocks:
                if block.problem is not None:
                    raise block.problem
                file.write(patch.render(block.cid, bytes(block.data)))
                step(block.offset, container.data_end)


@command(epilog=example("carfs car compile small.patch -o small.car"))
@click.argument("text", metavar="[PATCH]", default=STDIN)
@output_argument
@output_option
def compile_(text: str, out: str | None, output: str | None) -> None:
    """Make a CAR of PATCH, which `carfs car debug` or go-car's tool wrote.

    Blocks that were edited get the CIDs that they have now, and so do the blocks that link to them and the roots.
    PATCH says which version is made. A CARv1 goes to standard output unless -o is given.
    """
    with car_path(text) as path, path.open("rb") as file:
        found = patch.read(file)
    roots, blocks = patch.compiled(found)
    identity = any(cid.is_identity for cid, _ in blocks)
    options = WriteOptions(version=found.version, whole_cids=True, identity=identity)
    target = car_target(only(out, output, default=STDOUT), found.version)
    with creating(target, options, roots=roots) as car:
        for cid, data in blocks:
            car.put(cid, data)
        car.finish()
