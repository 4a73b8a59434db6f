"""`carfs car verify`: whether a CAR is what it says it is."""

from __future__ import annotations

from pathlib import Path

import click

from agent.cli.car.given import car_argument, car_path
from agent.cli.command import command, example, json_option, quiet_option
from agent.cli.exits import Exit
from agent.cli.output import emit_json, size_text
from agent.cli.progress import progress
from carlib.verify import Report
from carlib.verify import verify as verify_car

SHOWN_PROBLEMS = 10


@command(epilog=example("carfs car verify backup.car", "carfs car verify piece.car --index piece.car.idx"))
@car_argument
@click.option(
    "--index", type=click.Path(path_type=Path), help="Check this detached index instead of the CAR's own."
)
@json_option
@quiet_option
def verify(car: str, index: Path | None, as_json: bool, quiet: bool) -> int:
    """Hash every block of CAR, look for its roots, and check the index against the data both ways.

    CAR may be - for standard input. The exit code is 5 when anything is wrong; a root whose block is absent is told,
    and allowed, as the format allows it.
    """
    with car_path(car) as path:
        with progress(f"verifying {car}", quiet=quiet) as step:
            found = verify_car(path, index=index, progress=step)
        size_bytes = path.stat().st_size
    if as_json:
        emit_json(_as_json(found, size_bytes))
    else:
        _print(found, size_bytes)
    return Exit.DONE if found.good else Exit.CORRUPT


def _print(found: Report, size_bytes: int) -> None:
    blocks = f"{found.blocks} block" + ("s" if found.blocks != 1 else "")
    print(f"Blocks: {blocks}, {size_text(found.data_bytes)} of data hashed")
    absent = f", absent: {', '.join(map(str, found.missing_roots))}" if found.missing_roots else ""
    print(f"Roots: {len(found.roots) - len(found.missing_roots)} of {len(found.roots)} present{absent}")
    print(f"Index: {found.index_state}")
    if found.padding:
        print(f"Padding: {found.padding} zero bytes after the data")
    if found.good:
        print("Verdict: good")
        return
    for problem in found.problems[:SHOWN_PROBLEMS]:
        print(f"Problem: {problem}")
    if found.problem_count > SHOWN_PROBLEMS:
        print(f"Problem: {found.problem_count - SHOWN_PROBLEMS} more")
    if found.version and any((problem.offset or 0) >= found.whole_until for problem in found.problems):
        print(f"Whole until: offset {found.whole_until} of {size_bytes}")
    print("Verdict: corrupt")


def _as_json(found: Report, size_bytes: int) -> dict[str, object]:
    return {
        "good": found.good,
        "version": found.version,
        "blocks": found.blocks,
        "dataBytes": found.data_bytes,
        "roots": [str(root) for root in found.roots],
        "missingRoots": [str(root) for root in found.missing_roots],
        "index": found.index_state,
        "padding": found.padding,
        "wholeUntil": found.whole_until,
        "size": size_bytes,
        "problemCount": found.problem_count,
        "problems": [str(problem) for problem in found.problems],
    }
