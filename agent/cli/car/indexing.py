"""`carfs car index`: an index beside a CAR, or a CARv2 with its index inside."""

from __future__ import annotations

from pathlib import Path

import click

from agent.cli.car.given import car_argument, car_path
from agent.cli.command import command, example, json_option, quiet_option
from agent.cli.output import emit_json, size_text
from agent.cli.progress import progress
from carlib.container import read_container
from carlib.frame import wrap
from carlib.index import CODEC_NAMES, MULTIHASH_INDEX_SORTED, Index
from carlib.indexing import build
from carlib.options import WriteOptions
from carlib.source import FileSource

CODECS = {name: code for code, name in CODEC_NAMES.items()}


@command(
    epilog=example(
        "carfs car index piece.car -o piece.car.idx", "carfs car index --car old.car -o indexed.car"
    )
)
@car_argument
@click.option(
    "-o", "--output", required=True, type=click.Path(path_type=Path), help="The index, or CARv2, to write."
)
@click.option("--car", "as_car", is_flag=True, help="Write a CARv2: the data of CAR with its index inside.")
@click.option("--codec", type=click.Choice(list(CODECS)), default=CODEC_NAMES[MULTIHASH_INDEX_SORTED],
              show_default=True, help="Format of the index.")  # fmt: skip
@json_option
@quiet_option
def index(car: str, output: Path, as_car: bool, codec: str, as_json: bool, quiet: bool) -> None:
    """Index the blocks of CAR without reading their data.

    The output is a detached index as go-car reads it or, with --car, an indexed CARv2. It appears when it is
    complete. CAR may be - for standard input.
    """
    with car_path(car) as path, progress(f"indexing {car}", quiet=quiet) as step:
        if as_car:
            wrap(path, output, WriteOptions(index_codec=CODECS[codec]), progress=step)
        else:
            build(path, output, codec=CODECS[codec], progress=step)
    entries, size_bytes = _written(output, as_car)
    if as_json:
        emit_json({"entries": entries, "indexCodec": codec, "indexSize": size_bytes})
    else:
        print(f"{entries} entries, index of {size_text(size_bytes)}")


def _written(output: Path, as_car: bool) -> tuple[int, int]:
    """Entries and bytes of the index that lies in `output` now."""
    with FileSource(output) as source:
        start = read_container(source).index_offset if as_car else 0
        found = Index.open(source, start)
        return len(found), found.end - start
