"""`carfs dagstore initialize-shard`, `initialize-all` and `recover-shard`: having indices made."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click

from agent.cli.calls import call, call_that_indexes, shown, stream
from agent.cli.command import command, example, json_option, quiet_option
from agent.cli.dagstore.given import filter_of, filter_options, key_argument, text_key
from agent.cli.exits import CommandFailed, Exit
from agent.cli.output import Styled, color_option, emit_json, emit_json_line

Json = Any  # any value that JSON can carry

CONCURRENCY_HELP = "How many at once; 0: as many as there are."


@command(epilog=example("carfs dagstore initialize-shard photos"))
@key_argument
@quiet_option
@json_option
def initialize_shard(key: str, quiet: bool, as_json: bool) -> None:
    """Index the shard KEY, which was registered lazily and not used yet; returns when it is available.

    Nothing is printed, with --json all that is known of the shard.
    """
    call_that_indexes("Filecoin.DagstoreInitializeShard", [key], key, quiet=quiet)
    if as_json:
        emit_json(call("Carfs.ShardInfo", [key]))


@command(
    epilog=example(
        "carfs dagstore initialize-all --concurrency 5",
        "carfs dagstore initialize-all --concurrency 0 --include-sealed",
    )
)
@click.option("--concurrency", type=click.IntRange(0), required=True, metavar="N", help=CONCURRENCY_HELP)
@click.option("--include-sealed", is_flag=True, help="Also shards whose data must be unsealed first.")
@color_option
@json_option
def initialize_all(concurrency: int, include_sealed: bool, color: bool, as_json: bool) -> int:
    """Index all shards that were registered lazily and not used yet; a line for each that starts and ends.

    Ctrl-C stops it; what was begun, the agent brings to its end. The exit code is 1 if one failed.
    """
    params = {"MaxConcurrency": concurrency, "IncludeSealed": include_sealed}
    return _show_steps(stream("Filecoin.DagstoreInitializeAll", params), color=color, as_json=as_json)


@command(
    epilog=example(
        "carfs dagstore recover-shard photos",
        "carfs dagstore recover-shard --all --error-class gone --concurrency 10",
    )
)
@click.argument("key", required=False, callback=text_key)
@click.option(
    "--all", "is_all", is_flag=True, help="All errored shards that the filter lets through, instead of KEY."
)
@filter_options
@click.option("--concurrency", type=click.IntRange(0), default=5, show_default=True, metavar="N",
              help=f"With --all: {CONCURRENCY_HELP[0].lower()}{CONCURRENCY_HELP[1:]}")  # fmt: skip
@color_option
@json_option
@quiet_option
def recover_shard(
    key: str | None,
    is_all: bool,
    prefix: str,
    glob: str,
    classes: tuple[str, ...],
    concurrency: int,
    color: bool,
    as_json: bool,
    quiet: bool,
) -> int:
    """Index the errored shard KEY again, or with --all many; returns when they are available or have failed."""
    if (key is None) != is_all:
        raise click.UsageError("give a KEY, or --all")
    if key is not None:
        call_that_indexes("Filecoin.DagstoreRecoverShard", [key], key, quiet=quiet)
        if as_json:
            emit_json(call("Carfs.ShardInfo", [key]))
        return Exit.DONE
    params = filter_of(prefix, glob, classes) | {"MaxConcurrency": concurrency}
    return _show_steps(stream("Carfs.RecoverShards", params), color=color, as_json=as_json)


def _show_steps(steps: Iterator[Json], *, color: bool, as_json: bool) -> int:
    """Lotus' lines; gives the exit code."""
    failed = 0
    try:
        for step in steps:
            failed += step["Event"] == "end" and not step["Success"]
            if as_json:
                emit_json_line(step)
            else:
                print(
                    f"({step['Current']}/{step['Total']}) {shown(step['Key'])} {_word(step, color)}",
                    flush=True,
                )
    except KeyboardInterrupt:
        raise CommandFailed("aborted", Exit.INTERRUPTED) from None
    return Exit.FAILED if failed else Exit.DONE


def _word(step: Json, color: bool) -> str:
    if step["Event"] == "start":
        return "STARTING"
    if step["Success"]:
        return Styled("SUCCESS", "green").text_in(color)
    return f"{Styled('ERROR', 'red').text_in(color)} {shown(step['Error'])}"
