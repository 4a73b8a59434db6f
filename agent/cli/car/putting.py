"""`carfs car put-block`: one more block in a CAR, or a CAR of one block."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from agent.cli.car.result import version_option
from agent.cli.command import command, example
from agent.cli.exits import CommandFailed, Exit
from carlib import frame, multihash
from carlib.cid import DAG_CBOR, DAG_JSON, DAG_PB, RAW, Cid
from carlib.container import read_container
from carlib.errors import CarError, HashMismatch, LimitExceeded
from carlib.limits import MAX_BLOCK_BYTES
from carlib.options import WriteOptions
from carlib.source import FileSource
from carlib.writer import creating

CODECS = {"raw": RAW, "dag-pb": DAG_PB, "dag-cbor": DAG_CBOR, "dag-json": DAG_JSON}


@command(
    epilog=example(
        "carfs car put-block new.car < block",
        "carfs car put-block --codec dag-cbor --set-root new.car < node.cbor",
    )
)
@click.argument("car", metavar="CAR", type=click.Path(path_type=Path))
@click.option("-c", "--codec", type=click.Choice(list(CODECS)), default=None,
              help="Codec of the block, for its CID; its content is not looked into.  [default: raw]")  # fmt: skip
@click.option("--cid", metavar="CID", help="The CID that the block must have, instead of a codec.")
@version_option(2)
@click.option("--set-root", is_flag=True, help="Make the block the root of the CAR, which must be new.")
def put_block(car: Path, codec: str | None, cid: str | None, version: int, set_root: bool) -> None:
    """Put the block that is read from standard input into CAR, which is made if need be, and print its CID.

    CAR is replaced when the new one is complete; its version stays as it is. A block that is there is not put again.
    """
    if cid is not None and codec is not None:
        raise click.UsageError("--cid and --codec are mutually exclusive (use one or the other)")
    exists = car.exists()
    if set_root and exists:
        raise CommandFailed("cannot use --set-root when appending to existing file", Exit.REFUSED)
    data = sys.stdin.buffer.read(MAX_BLOCK_BYTES + 1)
    if len(data) > MAX_BLOCK_BYTES:
        raise LimitExceeded("block length", len(data), MAX_BLOCK_BYTES, source="standard input")
    named = Cid.of(data, CODECS[codec or "raw"]) if cid is None else _checked(cid, data)
    if exists:
        _append(car, named, data, version)
        print("Block added to existing CAR file:", car, file=sys.stderr)
    else:
        roots = [named] if set_root else []
        with creating(car, WriteOptions(version=version, identity=named.is_identity), roots=roots) as made:
            made.put(named, data)
            made.finish()
        print("Created new CAR file:", car, file=sys.stderr)
    print(named)


def _append(car: Path, cid: Cid, data: bytes, version: int) -> None:
    with FileSource(car) as source:
        found = read_container(source).version
    explicit = click.get_current_context().get_parameter_source("version")
    if found != version and explicit is click.core.ParameterSource.COMMANDLINE:
        raise CommandFailed(f"{car} is a CARv{found} and stays one", Exit.REFUSED)
    frame.append(car, [(cid, data)])


def _checked(text: str, data: bytes) -> Cid:
    try:
        cid = Cid.parse(text)
    except CarError as error:
        raise click.UsageError(f"failed to parse CID: {error.message}") from error
    try:
        multihash.check(cid, data)
    except HashMismatch as error:
        raise CommandFailed(f"CID mismatch: the block is not that of {cid}", Exit.CORRUPT) from error
    return cid
