"""`carfs car index`: an index beside a CAR, or a CARv2 with its index inside."""

from __future__ import annotations

from pathlib import Path

import click

from agent.cli.car.given import car_argument, car_path
from agent.cli.command import command, example, json_option, quiet_option
from agent.cli.output import emit_json, size_text
from agent.cli.progress import progress
from carlib.index import CODEC_NAMES, MULTIHASH_INDEX_SORTED
from carlib.indexing import IndexReport, build
from carlib.wrap import wrap

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
    write = wrap if as_car else build
    with car_path(car) as path, progress(f"indexing {car}", quiet=quiet) as step:
        report = write(path, output, codec=CODECS[codec], progress=step)
    if as_json:
        emit_json(_as_json(report))
    else:
        print(f"{report.block_count} blocks, index of {size_text(report.index_size)}")


def _as_json(report: IndexReport) -> dict[str, object]:
    return {
        "version": report.version,
        "roots": [str(root) for root in report.roots],
        "blocks": report.block_count,
        "identityBlocks": report.identity_count,
        "dataOffset": report.data_offset,
        "dataSize": report.data_size,
        "padding": report.padding_size,
        "indexCodec": CODEC_NAMES[report.index_codec],
        "indexSize": report.index_size,
    }
