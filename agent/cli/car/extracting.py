"""`carfs car extract`: files and directories out of a CAR."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import click

from agent.cli.car.given import car_argument, car_path
from agent.cli.car.target import Target
from agent.cli.command import command, example, json_option, quiet_option
from agent.cli.exits import CommandFailed, Exit, code_of
from agent.cli.output import emit_json, printable, size_text
from agent.cli.progress import progress
from carlib.blockstore import ReadOnlyBlockstore
from carlib.cid import Cid
from carlib.extract import ExtractReport
from carlib.extract import extract as extract_dag
from carlib.names import shown


@command(
    epilog=example(
        "carfs car extract backup.car -o restored", "carfs car extract backup.car photos/2024 -o ."
    )
)
@car_argument
@click.argument("paths", metavar="[CID|PATH]...", nargs=-1)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), default=Path(), help="Folder to write to (default: .)."
)
@json_option
@quiet_option
def extract(car: str, paths: tuple[str, ...], output: Path, as_json: bool, quiet: bool) -> int:
    """Unpack CAR, or just the paths given; every block is checked against its CID.

    The content of the only root goes into the folder itself; of several roots each goes into a folder named by its
    CID, and a path goes under its last name. Nothing is written outside of the folder. What is missing or corrupt is
    named and the rest unpacked; then the exit code is 3 where blocks were missing, 5 where any were corrupt.
    """
    reports = []
    with car_path(car) as given, ReadOnlyBlockstore.open(given, salvage=True) as blocks:
        output.mkdir(parents=True, exist_ok=True)
        with progress(f"unpacking {car}", quiet=quiet) as step:
            for cid, folder in _wanted(blocks, paths, output):
                if folder is not output and folder.is_symlink():  # made by what was unpacked before it
                    raise CommandFailed(f"{folder} is a symlink, nothing is written through it", Exit.REFUSED)
                reports.append(extract_dag(blocks, cid, folder, progress=step))
    _print(reports, as_json)
    return _exit_code(reports)


def _wanted(blocks: ReadOnlyBlockstore, paths: tuple[str, ...], output: Path) -> Iterator[tuple[Cid, Path]]:
    """What to unpack, and where to."""
    if not paths:
        for root in blocks.roots:
            yield root, output if len(blocks.roots) == 1 else output / str(root)
    for path in paths:
        target = Target.parse(path, blocks.roots)
        name = (
            shown(target.names[-1]).decode("utf-8", "surrogateescape") if target.names else str(target.start)
        )
        yield target.find(blocks), output / name


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
        print(f"{counts['files']} files, {counts['directories']} directories, {size_text(counts['bytes'])}")


def _exit_code(reports: list[ExtractReport]) -> Exit:
    """The gravest of what happened: corrupt data, then missing blocks, then what the file system refused."""
    codes = {code_of(problem.error) for report in reports for problem in report.problems}
    return next((code for code in (Exit.CORRUPT, Exit.NOT_FOUND, Exit.FAILED) if code in codes), Exit.DONE)
