"""`carfs car detach-index`: the index of a CARv2 as a file of its own, and what stands in such a file."""

from __future__ import annotations

import click

from agent.cli.car.given import STDIN, car_argument, car_path
from agent.cli.car.result import STDOUT, only, output_argument, output_option, stream_target
from agent.cli.command import command, example, json_option
from agent.cli.exits import CommandFailed, Exit
from agent.cli.output import emit_json_line
from carlib import frame, varint
from carlib.container import read_container
from carlib.index import Entry, Index
from carlib.source import FileSource


@command(epilog=example("carfs car detach-index list piece.car.idx"))
@click.argument("index", metavar="[INDEX]", default=STDIN)
@json_option
def list_(index: str, as_json: bool) -> None:
    """List a detached index: the multihash of each entry in hex, and its offset in the CARv1.

    An index of the older codec keeps no hash functions: then it is digests that are listed. INDEX may be - for
    standard input.
    """
    with car_path(index) as path, FileSource(path) as source:
        for entry in Index.open(source):
            _print(entry, as_json)


def _print(entry: Entry, as_json: bool) -> None:
    if entry.hash_code is None:
        name, key = entry.digest.hex(), "digest"
    else:
        head = varint.encode(entry.hash_code) + varint.encode(len(entry.digest))
        name, key = (head + entry.digest).hex(), "multihash"
    if as_json:
        emit_json_line({key: name, "offset": entry.offset})
    else:
        print(f"{name} {entry.offset}")


@command(
    epilog=example(
        "carfs car detach-index indexed.car indexed.car.idx", "carfs car detach-index list indexed.car.idx"
    ),
    actions={"list": list_},
)
@car_argument
@output_argument
@output_option
def detach_index(car: str, out: str | None, output: str | None) -> None:
    """Write the index that the CARv2 CAR carries to a file of its own, or to standard output.

    `carfs car index create` makes one for any CAR. `carfs car detach-index list` shows what is in one.
    """
    target = only(out, output, default=STDOUT)
    with car_path(car) as path:
        with FileSource(path) as source:
            if not read_container(source).index_offset:
                raise CommandFailed(
                    f"{car}: no index present; `carfs car index create` makes one", Exit.NOT_FOUND
                )
        frame.detach_index(path, stream_target(target))
