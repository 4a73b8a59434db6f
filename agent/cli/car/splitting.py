"""`carfs car split`: a CAR in parts of a size, which joined are the whole again."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import click

from agent.cli.car.given import STDIN, car_argument, car_path
from agent.cli.car.result import version_option
from agent.cli.command import command, example, json_option, quiet_option
from agent.cli.exits import CommandFailed, Exit
from agent.cli.output import emit_json
from agent.cli.progress import progress
from carlib import selection
from carlib.blockstore import ReadOnlyBlockstore
from carlib.cid import Cid
from carlib.errors import LimitExceeded
from carlib.options import WriteOptions
from carlib.traversal import Rules, Traversal

_SIZE = re.compile(r"(\d+)\s*([KMGT]?)(i?B?)", re.IGNORECASE)


class Size(click.ParamType[int]):
    """Bytes, as a number or with a unit: 1000000, 512KiB, 1GB; K, M, G and T alone are binary."""

    name = "size"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        found = _SIZE.fullmatch(str(value).strip())
        if found is None or int(found[1]) == 0:
            self.fail(f"{value!r} is not a size, such as 1000000, 512KiB or 1GB", param, ctx)
        number, unit, kind = found.groups()
        base = 1000 if kind.upper() == "B" and unit else 1024
        return int(number) * int(base ** " KMGT".index(unit.upper() or " "))


@command(
    epilog=example(
        "carfs car split --size 1GiB export.car",
        "carfs car split --size 31GiB --order dag -o parts/x export.car",
    )
)
@car_argument
@click.option(
    "--size", "size_bytes", type=Size(), required=True, help="The most bytes of blocks and header in a part."
)
@click.option("-o", "--output", metavar="PREFIX", help="How names of parts begin; without it, as CAR's.")
@click.option("--order", type=click.Choice(["file", "dag"]), default="file", show_default=True,
              help="Blocks as they lie in CAR, or depth first from the roots; then no others.")  # fmt: skip
@version_option(1)
@json_option
@quiet_option
def split(
    car: str, size_bytes: int, output: str | None, order: str, version: int, as_json: bool, quiet: bool
) -> None:
    """Cut CAR into PREFIX-0000.car, PREFIX-0001.car …, and print their names.

    Each part has the roots of CAR. `carfs car concat` makes the whole of them again. CAR may be - for standard input.
    """
    if output is None and car == STDIN:
        raise click.UsageError("say how the names of the parts begin: -o PREFIX")
    prefix = output or str(Path(car).with_suffix(""))
    made: list[Path] = []

    def name(number: int) -> Path:
        path = Path(f"{prefix}-{number:04}.car")
        if path.exists():
            raise CommandFailed(f"{path} exists; remove it or choose another -o PREFIX", Exit.REFUSED)
        made.append(path)
        return path

    try:
        with car_path(car) as path, progress(f"splitting {car}", quiet=quiet) as step, ExitStack() as stack:
            identity = selection.have_identity([path])
            options = WriteOptions(version=version, whole_cids=True, identity=identity)
            blocks = (
                _depth_first(stack.enter_context(ReadOnlyBlockstore.open(path)), identity)
                if order == "dag"
                else None
            )
            selection.split(path, size_bytes, name, options, blocks=blocks, progress=step)
    except LimitExceeded as error:
        _remove(made)
        raise CommandFailed(f"{error.message}; choose a larger --size", Exit.REFUSED) from error
    except BaseException:
        _remove(made)
        raise
    if as_json:
        emit_json([{"path": str(path), "size": path.stat().st_size} for path in made])
    else:
        print(*made, sep="\n")


def _depth_first(blocks: ReadOnlyBlockstore, identity: bool) -> Iterator[tuple[Cid, bytes]]:
    rules = Rules(whole_cids=True, identity=identity, skip_missing=True)
    for visit in Traversal.of(blocks, *blocks.roots, rules=rules).walk():
        if visit.data is not None:
            yield visit.cid, visit.data


def _remove(parts: list[Path]) -> None:
    """None of the parts is worth anything without the others; all of them are ours, as none was there before."""
    for path in parts:
        path.unlink(missing_ok=True)
