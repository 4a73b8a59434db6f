"""`carfs car get` and `get-block`: one block, or the file at a path, as bytes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click

from agent.cli.car.given import car_argument, car_path
from agent.cli.car.result import STDOUT, only, opened, output_argument, output_option
from agent.cli.car.target import Target
from agent.cli.command import command, example, quiet_option
from agent.cli.exits import CommandFailed, Exit
from agent.cli.progress import Step, progress_beside_output
from carlib import dagcbor, dagjson, dagpb
from carlib.blockstore import ReadOnlyBlockstore
from carlib.cid import DAG_CBOR, DAG_JSON, DAG_PB, Cid
from carlib.errors import Malformed, UnknownCodec
from carlib.unixfs import File, Kind, stat

PIECE_BYTES = 1 << 20


@command(
    epilog=example(
        "carfs car get backup.car bafkreieo2p3k22c3swpk24bckghbv53m3alpr2hmptg5uhwuaghi6ird7a > block",
        "carfs car get backup.car /photos/2024/a.jpg -o a.jpg",
    )
)
@car_argument
@click.argument("what", metavar="CID|PATH")
@output_option
@click.option("--dag-json", is_flag=True, help="Show a dag-cbor, dag-json or dag-pb block as dag-json text.")
@quiet_option
def get(car: str, what: str, output: str | None, dag_json: bool, quiet: bool) -> None:
    """Write one block of CAR, or the file at a path below its root; every block is checked against its CID.

    A bare CID gives that block as it is. CID/path, or /path below the only root, gives the bytes of a file.
    """
    with (
        car_path(car) as path,
        ReadOnlyBlockstore.open(path) as blocks,
        opened(output or STDOUT, text=True) as file,
        progress_beside_output(f"reading {what}", quiet=quiet) as step,
    ):
        for piece in _pieces(blocks, what, dag_json, step):
            file.write(piece)


@command(
    epilog=example(
        "carfs car get-block backup.car bafkreieo2p3k22c3swpk24bckghbv53m3alpr2hmptg5uhwuaghi6ird7a block"
    )
)
@car_argument
@click.argument("cid", metavar="CID")
@output_argument
@output_option
def get_block(car: str, cid: str, out: str | None, output: str | None) -> None:
    """Write the block CID of CAR, checked, to a file or to standard output.

    CAR may be - for standard input. `carfs car get` knows paths too, and shows what is in a block.
    """
    target = only(out, output, default=STDOUT)
    try:
        wanted = Cid.parse(cid)
    except Malformed as error:
        raise click.UsageError(error.message) from error
    with car_path(car) as path, ReadOnlyBlockstore.open(path) as blocks:
        block = blocks.get(wanted)
        with opened(target, text=True) as file:
            file.write(block)


def _pieces(
    blocks: ReadOnlyBlockstore, what: str, dag_json: bool, step: Step
) -> Iterator[bytes | memoryview]:
    target = Target.parse(what, blocks.roots)
    cid = target.find(blocks)
    if dag_json:
        yield f"{dagjson.render(_value(cid, blocks.get(cid)))}\n".encode()
        return
    kind = stat(blocks, cid).kind if target.is_path else Kind.OTHER
    if kind is Kind.DIRECTORY:
        raise CommandFailed(f"{what} is a directory; carfs car extract unpacks it", Exit.USAGE)
    if kind is Kind.FILE:
        file = File.open(blocks, cid)
        for offset in range(0, file.size, PIECE_BYTES):
            step(offset, file.size)
            yield file.read(offset, PIECE_BYTES)
    else:
        yield blocks.get(cid)


def _value(cid: Cid, block: bytes | memoryview) -> Any:
    """The IPLD value of a block, as dag-json shows it."""
    if cid.codec == DAG_CBOR:
        return dagcbor.decode(block, strict=False)
    if cid.codec == DAG_JSON:
        return dagjson.decode(block)
    if cid.codec == DAG_PB:
        node = dagpb.decode(block)
        links = [
            {"Hash": link.cid, "Name": link.name.decode("utf-8", "replace"), "Tsize": link.tsize}
            for link in node.links
        ]
        return {"Links": links} if node.data is None else {"Data": node.data, "Links": links}
    raise UnknownCodec(cid.codec)
