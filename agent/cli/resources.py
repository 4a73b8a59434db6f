"""`carfs resources`: what limits the agent, or this process, and why."""

from __future__ import annotations

import os
from typing import Any

import click

from agent.cli.bars import takes_blocks
from agent.cli.calls import call, shown
from agent.cli.command import command, example, json_option
from agent.cli.exits import CommandFailed
from agent.cli.load import limit_lines, text_of
from agent.cli.output import color_option, emit_json

Json = Any  # any value that JSON can carry


@command(
    epilog=example(
        "carfs resources",
        "carfs resources --explain",
        "systemd-run --user --pipe -p MemoryMax=512M carfs resources --local --explain",
        "carfs resources --json | jq .Memory.Headroom",
    )
)
@click.option("--explain", is_flag=True, help="Show every limit, the file it was read from, and which bind.")
@click.option("--local", is_flag=True, help="Read the limits of this process here; asks no agent.")
@color_option
@json_option
def resources(explain: bool, local: bool, color: bool, as_json: bool) -> None:
    """Show how much memory, swap, CPU and processes the agent may take, how much of it is left, and what binds.

    Limits are the smallest of the machine, of every cgroup above, of the process and of the configuration; what is left
    is the least of all of them.
    """
    found = _local() if local else call("Carfs.Resources")
    if as_json:
        emit_json(found)
    elif explain:
        print("\n".join(shown(line) for line in found["Explanation"]))
        print(f"\ngroups: {shown(found['Groups'])}")
    else:
        for line in limit_lines(found, plain=not takes_blocks()):
            print(text_of(line, color=color))
        if found["Problems"]:
            print(f"problems  {len(found['Problems'])}; --explain has them")


def _local() -> Json:
    """As `Carfs.Resources` would give it, of this process."""
    import msgspec

    from agent.config import ConfigError, load
    from agent.repository import NoHome, Repository
    from agent.resources.document import ResourcesShown
    from agent.resources.explaining import lines
    from agent.resources.files import MachineFiles
    from agent.resources.reading import read

    try:
        file = Repository.from_environment().config
        config = load(file, required=False, environ=os.environ)
    except (NoHome, ConfigError) as error:
        raise CommandFailed(str(error)) from error
    snapshot = read(MachineFiles(), config.resources)
    return msgspec.to_builtins(
        ResourcesShown.explained(snapshot, lines(snapshot), "these are of a process, not of an agent")
    )
