"""`carfs car list`: the blocks of a CAR in file order, or the paths below its roots."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import click

from agent.cli.car import nodes
from agent.cli.car.given import car_path, optional_car_argument
from agent.cli.car.result import STDOUT, only, output_argument, output_option, printing_to
from agent.cli.car.tree import Found, walk
from agent.cli.command import command, example, json_option, quiet_option
from agent.cli.exits import Exit
from agent.cli.output import emit_json_line, printable
from agent.cli.progress import Step, progress_beside_output
from carlib.blockstore import ReadOnlyBlockstore
from carlib.checked import CheckedBlocks
from carlib.cid import Cid, codec_name
from carlib.container import read_container
from carlib.section import Section, Sections
from carlib.source import FileSource

TELL_EVERY = 4096


@command(
    epilog=example(
        "carfs car list backup.car", "carfs car ls --offsets backup.car", "carfs car ls --unixfs backup.car"
    )
)
@optional_car_argument
@output_argument
@output_option
@click.option("-v", "--verbose", is_flag=True,
              help="Show codec, and links and UnixFS type of nodes; with --unixfs kind, size and CID.")  # fmt: skip
@click.option("--offsets", is_flag=True, help="Add the offset, the size of the data, and the codec.")
@click.option("--unixfs", is_flag=True, help="List paths below the roots instead of blocks.")
@click.option("--unixfs-blocks", is_flag=True, help="Likewise, with the CID before each path.")
@json_option
@quiet_option
def list_(
    car: str,
    out: str | None,
    output: str | None,
    verbose: bool,
    offsets: bool,
    unixfs: bool,
    unixfs_blocks: bool,
    as_json: bool,
    quiet: bool,
) -> int:
    """List the CIDs of the blocks in CAR, in file order, without reading their data.

    CAR may be - for standard input. With --json, one object a line. With --unixfs the exit code is 3 when blocks
    were missing; what is there is listed all the same.
    """
    with (
        car_path(car) as path,
        progress_beside_output(f"listing {car}", quiet=quiet) as step,
        printing_to(only(out, output, default=STDOUT)),
    ):
        if unixfs or unixfs_blocks:
            return _list_paths(path, verbose, unixfs_blocks, as_json, step)
        if verbose and not as_json:
            _list_nodes(path, step)
            return Exit.DONE
        for section in _sections(path, step):
            _print_block(section, offsets, as_json)
    return Exit.DONE


def _sections(path: Path, step: Step) -> Iterator[Section]:
    with FileSource(path) as source:
        container = read_container(source)
        sections = Sections(source, container.first_section, container.data_end, zero_is_end=True)
        for number, section in enumerate(sections):
            if number % TELL_EVERY == 0:
                step(section[1], container.data_end)
            yield section


def _list_nodes(path: Path, step: Step) -> None:
    with FileSource(path) as source:
        container = read_container(source)
        for block in CheckedBlocks(source, container):
            if block.problem is not None:
                raise block.problem
            step(block.offset, container.data_end)
            for line in nodes.lines(block.cid, bytes(block.data)):
                print(line)


def _print_block(section: Section, offsets: bool, as_json: bool) -> None:
    cid, (_, offset, data_offset, size) = Cid(section[0]), section
    if as_json:
        codec = codec_name(cid.codec)
        emit_json_line(
            {"cid": str(cid), "codec": codec, "offset": offset, "dataOffset": data_offset, "size": size}
        )
    elif offsets:
        print(f"{offset:>12} {size:>9} {codec_name(cid.codec):<8} {cid}")
    else:
        print(cid)


def _list_paths(path: Path, verbose: bool, with_cids: bool, as_json: bool, step: Step) -> int:
    complete, size_bytes = True, 0
    with ReadOnlyBlockstore.open(path) as blocks:
        for root in blocks.roots:
            above = f"{root}/" if len(blocks.roots) > 1 else ""
            for found in walk(blocks, root):
                complete = complete and not found.problems
                size_bytes += found.stat.size if found.stat else 0
                step(size_bytes, 0)
                _print_path(found, above, verbose, with_cids, as_json)
    return Exit.DONE if complete else Exit.NOT_FOUND


def _print_path(found: Found, above: str, verbose: bool, with_cids: bool, as_json: bool) -> None:
    name = above + (printable(b"/".join(found.path)) or ".")
    kind, size = (found.stat.kind.value, found.stat.size) if found.stat else ("missing", 0)
    problems = [str(problem) for problem in found.problems]
    if as_json:
        emit_json_line(
            {"path": name, "cid": str(found.cid), "kind": kind, "size": size, "problems": problems}
        )
        return
    if verbose:
        print(f"{kind:<9} {size:>12} {found.cid} {name}")
    elif found.path:  # a root has no name
        print(f"{found.cid} {name}" if with_cids else name)
    for problem in problems:
        print(f"carfs: {name}: {problem}", file=sys.stderr)
