"""`carfs car extract`: files and directories out of a CAR."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import click

from agent.cli.car.given import car_path
from agent.cli.car.result import STDOUT
from agent.cli.car.target import Target
from agent.cli.command import command, example, json_option, quiet_option
from agent.cli.exits import CommandFailed, Exit, code_of
from agent.cli.output import emit_json, printable
from agent.cli.progress import progress
from carlib.blockstore import ReadOnlyBlockstore
from carlib.cid import Cid
from carlib.errors import CarError
from carlib.extract import ExtractionLimit, ExtractReport, Problem
from carlib.extract import extract as extract_dag
from carlib.names import shown
from carlib.unixfs import File, Kind, stat

PIECE_BYTES = 1 << 20


@command(
    epilog=example(
        "carfs car extract backup.car -o restored",
        "carfs car extract backup.car photos/2024 -o .",
        "carfs car extract -f - -o - notes.txt < backup.car",
    )
)
@click.argument("arguments", metavar="[CAR] [CID|PATH]...", nargs=-1)
@click.option("-f", "-i", "--file", "--input", "file", metavar="CAR",
              help="The CAR, as an option; then all arguments are paths.")  # fmt: skip
@click.option(
    "-o",
    "--output",
    metavar="FOLDER",
    default=".",
    help="Where to write to, - for standard output.  [default: .]",
)
@click.option("-v", "--verbose", is_flag=True, help="Name every file as it is unpacked.")
@json_option
@quiet_option
def extract(
    arguments: tuple[str, ...], file: str | None, output: str, verbose: bool, as_json: bool, quiet: bool
) -> int:
    """Unpack CAR, or just the paths given; every block is checked against its CID.

    The content of the only root goes into the folder itself; of several roots each goes into a folder named by its
    CID, and a path goes under the path that it has. Nothing is written outside of the folder. What is missing or
    corrupt is named and the rest unpacked; then the exit code is 3 where blocks were missing, 5 where any were
    corrupt. With -o - the bytes of files go to standard output. CAR may be - for standard input.
    """
    if file is None and not arguments:
        raise click.UsageError("a file source must be specified")
    car, *paths = (file, *arguments) if file is not None else arguments
    with car_path(car) as given, ReadOnlyBlockstore.open(given, salvage=True) as blocks:
        if output == STDOUT:
            _write_files(blocks, paths)
            return Exit.DONE
        folder, reports = Path(output), []
        folder.mkdir(parents=True, exist_ok=True)
        with progress(f"unpacking {car}", quiet=quiet or verbose) as step:
            for cid, place in _wanted(blocks, paths, folder):
                try:
                    if isinstance(cid, CarError):
                        raise cid
                    _make_way(folder, place)
                    tell = _teller(place) if verbose else None
                    reports.append(extract_dag(blocks, cid, place, progress=step, tell=tell))
                except ExtractionLimit:
                    raise
                except CarError as error:  # what was asked for with it is unpacked all the same
                    problem = Problem(os.fsencode(place.relative_to(folder)), error)
                    reports.append(ExtractReport(place, 0, 0, 0, 0, (problem,)))
    _print(reports, as_json)
    return _exit_code(reports)


def _wanted(
    blocks: ReadOnlyBlockstore, paths: list[str], output: Path
) -> Iterator[tuple[Cid | CarError, Path]]:
    """What to unpack, or why it cannot be found, and where to."""
    if not paths:
        for root in blocks.roots:
            yield root, output if len(blocks.roots) == 1 else output / str(root)
    for path in paths:
        target = Target.parse(path, blocks.roots)
        names = [shown(name).decode("utf-8", "surrogateescape") for name in target.names]
        place = output.joinpath(*(names or [str(target.start)]))
        try:
            yield target.find(blocks), place
        except CarError as error:
            yield error, place


def _make_way(folder: Path, place: Path) -> None:
    """Make the folders between; refuse a symlink among them, which may be one that was unpacked before."""
    at = folder
    for name in place.relative_to(folder).parts:
        at = at / name
        if at.is_symlink():
            raise CommandFailed(f"{at} is a symlink, nothing is written through it", Exit.REFUSED)
        if at != place:
            at.mkdir(exist_ok=True)


def _teller(place: Path) -> Callable[[bytes], None]:
    """Names what is unpacked to `place`, or below it, as go-car's tool does."""

    def tell(path: bytes) -> None:
        print(
            printable(str(place / path.decode("utf-8", "surrogateescape") if path else place)),
            file=sys.stderr,
        )

    return tell


def _write_files(blocks: ReadOnlyBlockstore, paths: list[str]) -> None:
    """The bytes of each file, one after the other."""
    if not paths and len(blocks.roots) != 1:
        raise CommandFailed(f"the CAR has {len(blocks.roots)} roots; name a file by CID/path", Exit.USAGE)
    for path in paths or ["/"]:
        cid = Target.parse(path, blocks.roots).find(blocks)
        kind = stat(blocks, cid).kind
        if kind is Kind.DIRECTORY:
            raise CommandFailed(
                f"cannot extract a directory to stdout, use a path to extract a specific file: {path}",
                Exit.USAGE,
            )
        if kind is Kind.SYMLINK:
            raise CommandFailed(f"cannot extract a symlink to stdout: {path}", Exit.USAGE)
        file = File.open(blocks, cid)
        for offset in range(0, file.size, PIECE_BYTES):
            sys.stdout.buffer.write(file.read(offset, PIECE_BYTES))


def _print(reports: list[ExtractReport], as_json: bool) -> None:
    problems = [problem for report in reports for problem in report.problems]
    for problem in problems:
        print(f"carfs: {printable(str(problem))}", file=sys.stderr)
    counts = {
        "files": sum(report.files for report in reports),
        "directories": sum(report.directories for report in reports),
        "symlinks": sum(report.symlinks for report in reports),
        "bytes": sum(report.bytes for report in reports),
    }
    if as_json:
        shown_problems = [{"path": printable(one.path), "error": str(one.error)} for one in problems]
        emit_json(counts | {"problems": shown_problems})
    else:
        print(f"extracted {counts['files'] + counts['symlinks']} file(s)", file=sys.stderr)


def _exit_code(reports: list[ExtractReport]) -> Exit:
    """The gravest of what happened: corrupt data, then missing blocks, then what the file system refused."""
    codes = {code_of(problem.error) for report in reports for problem in report.problems}
    return next((code for code in (Exit.CORRUPT, Exit.NOT_FOUND, Exit.FAILED) if code in codes), Exit.DONE)
