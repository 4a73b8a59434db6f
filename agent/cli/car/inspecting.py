"""`carfs car inspect`: the report on one CAR, in the words of go-car's tool."""

from __future__ import annotations

import click

from agent.cli.car.given import car_path, optional_car_argument
from agent.cli.command import command, example, json_option, quiet_option
from agent.cli.output import emit_json
from agent.cli.progress import progress
from carlib.cid import codec_name
from carlib.index import CODEC_NAMES
from carlib.inspect import Spread, Stats, report
from carlib.inspect import inspect as inspect_car
from carlib.multihash import NAMES


@command(epilog=example("carfs car inspect backup.car", "carfs car inspect --full --json backup.car"))
@optional_car_argument
@click.option(
    "--full", is_flag=True, help="Hash every block too, and fail at the first that does not match its CID."
)
@json_option
@quiet_option
def inspect(car: str, full: bool, as_json: bool, quiet: bool) -> None:
    """Report on header, roots, blocks and codecs of CAR, as go-car's `car inspect` does.

    CAR may be - for standard input.
    """
    with car_path(car) as path, progress(f"inspecting {car}", quiet=quiet) as step:
        stats = inspect_car(path, full=full, progress=step)
    if as_json:
        emit_json(_as_json(stats))
    else:
        print(report(stats))


def _as_json(stats: Stats) -> dict[str, object]:
    container = stats.container
    found: dict[str, object] = {
        "version": container.version,
        "roots": [str(root) for root in container.roots],
        "rootsPresent": stats.roots_present,
        "blockCount": stats.block_count,
        "blockLength": _spread(stats.block_lengths),
        "cidLength": _spread(stats.cid_lengths),
        "codecs": {codec_name(code): count for code, count in sorted(stats.codecs.items())},
        "multihashes": {NAMES.get(code, hex(code)): count for code, count in sorted(stats.hashes.items())},
    }
    if container.version == 2:
        found |= {
            "characteristics": f"{container.characteristics:032x}",
            "fullyIndexed": container.fully_indexed,
            "dataOffset": container.data_offset,
            "dataSize": container.data_size,
            "indexOffset": container.index_offset,
            "indexCodec": CODEC_NAMES.get(stats.index_codec),
        }
    return found


def _spread(spread: Spread) -> dict[str, int]:
    return {"min": spread.least, "average": spread.mean, "max": spread.greatest}
