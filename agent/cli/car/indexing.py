"""`carfs car index`: a CARv2 with its index inside, or an index beside a CAR."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import BinaryIO

import click

from agent.cli.car.given import car_argument, car_path
from agent.cli.car.result import STDOUT, only, output_argument, output_option, stream_target, version_option
from agent.cli.command import command, example, json_option, quiet_option
from agent.cli.output import emit_json, size_text
from agent.cli.progress import Step, progress
from carlib import frame
from carlib.container import read_container
from carlib.index import CODEC_NAMES, MULTIHASH_INDEX_SORTED, Index
from carlib.indexing import build
from carlib.options import WriteOptions
from carlib.source import FileSource

CODECS = {name: code for code, name in CODEC_NAMES.items()}
NONE = "none"
_DEFAULT = CODEC_NAMES[MULTIHASH_INDEX_SORTED]


@command(
    epilog=example(
        "carfs car index create piece.car piece.car.idx",
        "cat piece.car | carfs car index create - > piece.car.idx",
    )
)
@car_argument
@output_argument
@output_option
@click.option("-c", "--codec", type=click.Choice(list(CODECS)), default=_DEFAULT, show_default=True,
              help="Format of the index.")  # fmt: skip
@json_option
@quiet_option
def create(car: str, out: str | None, output: str | None, codec: str, as_json: bool, quiet: bool) -> None:
    """Write a detached index of the blocks of CAR, without reading their data.

    It goes to standard output unless a file is named. CAR may be - for standard input.
    """
    name = only(out, output, default=STDOUT)
    target = stream_target(name)
    with car_path(car) as path, progress(f"indexing {car}", quiet=quiet) as step:
        _build(path, target, CODECS[codec], step)
    if name != STDOUT:
        _tell(Path(name), 0, as_json)


@command(
    epilog=example(
        "carfs car index old.car indexed.car",
        "carfs car index --codec none old.car plain-v2.car",
        "carfs car index create piece.car piece.car.idx",
    ),
    actions={"create": create},
)
@car_argument
@output_argument
@output_option
@click.option("-c", "--codec", type=click.Choice([*CODECS, NONE]), default=None,
              help=f"Format of the index, or none for a CARv2 without.  [default: {_DEFAULT}]")  # fmt: skip
@version_option(2)
@json_option
@quiet_option
def index(
    car: str,
    out: str | None,
    output: str | None,
    codec: str | None,
    version: int,
    as_json: bool,
    quiet: bool,
) -> None:
    """Write the data of CAR as a CARv2 with an index; blocks are not looked into.

    It goes to standard output unless a file is named. --version 1 takes frame and index off instead. CAR may be - for
    standard input. `carfs car index create` writes the index alone.
    """
    if version == 1 and codec not in (None, NONE):
        raise click.UsageError("'none' is the only supported codec for a v1 car")
    name = only(out, output, default=STDOUT)
    target = stream_target(name)
    with car_path(car) as path, progress(f"indexing {car}", quiet=quiet) as step:
        if version == 1:
            frame.extract_v1(path, target, take_v1=True, progress=step)
            return
        index_codec = None if codec == NONE else CODECS[codec or _DEFAULT]
        frame.wrap(path, target, WriteOptions(index_codec=index_codec), progress=step)
    if name != STDOUT and index_codec is not None:
        with FileSource(Path(name)) as source:
            start = read_container(source).index_offset
        _tell(Path(name), start, as_json)


def _build(path: Path, target: Path | BinaryIO, codec: int, step: Step) -> None:
    """The index at `target`; into a pipe it goes when it is complete."""
    if isinstance(target, Path):
        build(path, target, codec=codec, progress=step)
        return
    with tempfile.TemporaryDirectory(prefix="carfs-") as folder:
        build(path, Path(folder) / "index", codec=codec, progress=step)
        with (Path(folder) / "index").open("rb") as file:
            while piece := file.read(1 << 20):
                target.write(piece)


def _tell(path: Path, start: int, as_json: bool) -> None:
    """Entries and bytes of the index that begins at `start` of `path`."""
    with FileSource(path) as source:
        found = Index.open(source, start)
    if as_json:
        emit_json(
            {"entries": len(found), "indexCodec": CODEC_NAMES[found.codec], "indexSize": found.end - start}
        )
    else:
        print(f"{len(found)} entries, index of {size_text(found.end - start)}", file=sys.stderr)
