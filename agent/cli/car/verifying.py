"""`carfs car verify`: whether a CAR is what it says it is."""

from __future__ import annotations

from pathlib import Path

import click

from agent.cli.car.given import car_argument, car_path
from agent.cli.command import command, example, json_option, quiet_option
from agent.cli.exits import Exit
from agent.cli.output import emit_json, size_text
from agent.cli.progress import progress
from carlib.reachability import Reach
from carlib.verify import Depth, Report
from carlib.verify import verify as verify_car

SHOWN_PROBLEMS = 10


DEPTHS = {depth.name.lower(): depth for depth in Depth}


@command(
    epilog=example(
        "carfs car verify backup.car",
        "carfs car verify --depth index --sample 1000 piece.car",
        "carfs car verify --depth full --complete piece.car --index piece.car.idx",
    )
)
@car_argument
@click.option("--depth", type=click.Choice(list(DEPTHS)), default=Depth.BLOCKS.name.lower(), show_default=True,
              help="How much to look at; see above.")  # fmt: skip
@click.option("--sample", metavar="N", type=click.IntRange(1),
              help="Look at N entries of the index, chosen by chance, instead of all.")  # fmt: skip
@click.option("--complete", is_flag=True,
              help="Exit with 3 where the block of a root or, with --depth full, of a link is absent.")  # fmt: skip
@click.option(
    "--index", type=click.Path(path_type=Path), help="Check this detached index instead of the CAR's own."
)
@json_option
@quiet_option
def verify(
    car: str,
    depth: str,
    sample: int | None,
    complete: bool,
    index: Path | None,
    as_json: bool,
    quiet: bool,
) -> int:
    """Check CAR to a depth, each of which takes in those before it.

    \b
    structure  frame, sections, padding, roots; no data is read
    index      the index against the sections, both ways
    blocks     the hash of every block
    full       every link: blocks that the roots lead to, links that
               lead nowhere, blocks that nothing leads to

    CAR may be - for standard input. The exit code is 5 when anything is wrong; roots and links whose blocks are absent
    are told, and allowed, as the format allows them.
    """
    chosen = DEPTHS[depth]
    if sample is not None and chosen is Depth.STRUCTURE:
        raise click.UsageError("--sample is for an index, which --depth structure does not look into")
    with car_path(car) as path:
        with progress(f"verifying {car}", quiet=quiet) as step:
            found = verify_car(path, index=index, depth=chosen, sample=sample, progress=step)
        size_bytes = path.stat().st_size
    if as_json:
        emit_json(_as_json(found, chosen, size_bytes))
    else:
        _print(found, chosen, size_bytes)
    if not found.good:
        return Exit.CORRUPT
    return Exit.NOT_FOUND if complete and not found.complete else Exit.DONE


def _print(found: Report, depth: Depth, size_bytes: int) -> None:
    blocks = f"{found.blocks} block" + ("s" if found.blocks != 1 else "")
    data = "data hashed" if depth >= Depth.BLOCKS else "data, not read"
    print(f"Blocks: {blocks}, {size_text(found.data_bytes)} of {data}")
    absent = f", absent: {', '.join(map(str, found.missing_roots))}" if found.missing_roots else ""
    print(f"Roots: {len(found.roots) - len(found.missing_roots)} of {len(found.roots)} present{absent}")
    sampled = f", by {found.index_sampled} entries" if found.index_sampled else ""
    print(f"Index: {found.index_state}{sampled}")
    if found.links is not None:
        _print_links(found.links)
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


def _print_links(links: Reach) -> None:
    print(f"Links: {links.reachable} blocks reachable, {links.dangling} links dangling, "
          f"{links.unreachable} blocks unreachable")  # fmt: skip
    for one in links.named_dangling[:SHOWN_PROBLEMS]:
        print(f"Dangling: {one.target}" + (f" in {one.parent}" if one.parent else ", a root"))
    if links.dangling > SHOWN_PROBLEMS:
        print(f"Dangling: {links.dangling - SHOWN_PROBLEMS} more")
    for cid in links.named_unreachable[:SHOWN_PROBLEMS]:
        print(f"Unreachable: {cid}")
    if links.unreachable > SHOWN_PROBLEMS:
        print(f"Unreachable: {links.unreachable - SHOWN_PROBLEMS} more")


def _as_json(found: Report, depth: Depth, size_bytes: int) -> dict[str, object]:
    links = found.links
    return {
        "good": found.good,
        "complete": found.complete,
        "depth": depth.name.lower(),
        "version": found.version,
        "blocks": found.blocks,
        "dataBytes": found.data_bytes,
        "roots": [str(root) for root in found.roots],
        "missingRoots": [str(root) for root in found.missing_roots],
        "index": found.index_state,
        "indexSampled": found.index_sampled,
        "links": links
        and {
            "reachable": links.reachable,
            "dangling": links.dangling,
            "unreachable": links.unreachable,
            "unreadable": links.unreadable,
            "firstDangling": [
                {"parent": one.parent and str(one.parent), "target": str(one.target)}
                for one in links.named_dangling
            ],
            "firstUnreachable": [str(cid) for cid in links.named_unreachable],
        },
        "padding": found.padding,
        "wholeUntil": found.whole_until,
        "size": size_bytes,
        "problemCount": found.problem_count,
        "problems": [str(problem) for problem in found.problems],
    }
