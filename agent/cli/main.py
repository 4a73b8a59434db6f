"""The entry point of `carfs`: the table of commands, and what happens to whatever they raise."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import click

from agent.cli.command import CommandTable, example, group
from agent.cli.exits import run_to_exit_code
from agent.cli.output import replace_closed_streams, take_any_name

COMMANDS: CommandTable = {
    "up": ("fusefs.command:up", "Start agent and mount together in the foreground."),
    "mount": ("fusefs.command:mount", "Mount the agent's shards, or just the CAR files given."),
    "umount": ("fusefs.command:umount", "End a mount."),
    "agent": ("agent.cli.daemon:agent", "Run the agent in the foreground."),
    "status": (
        "agent.cli.status:status",
        "What the agent does now: shards, limits, tasks, what they wait for.",
    ),
    "top": ("agent.cli.top:top", "The same for the screen, again and again: limits, workers, tasks."),
    "resources": ("agent.cli.resources:resources", "What limits the agent, how much is left, and why."),
    "worker": (
        "agent.cli.worker:worker",
        "Workers and tasks: run, info, list, jobs, abort, enable, disable.",
    ),
    "doctor": ("agent.cli.doctor:doctor", "What is not well, and what to do about it."),
    "dagstore": ("agent.cli.dagstore:dagstore", "Shards: register, list, initialise, recover, destroy."),
    "client": ("agent.cli.client:client", "Imports: import, list, verify, repair, export; commP."),
    "deal": ("agent.cli.deal:deal", "Storage deals: propose, list, import, retry, end, unseal."),
    "systemd": (
        "agent.cli.units:systemd",
        "Run agent and mounts as units of systemd: install, status, uninstall.",
    ),
    "auth": ("agent.cli.auth:auth", "Tokens for clients over TCP: create, verify, revoke."),
    "rpc": ("agent.cli.rpc:rpc", "The agent's interface: its schema, any call."),
    "config": ("agent.cli.config:config", "The agent's configuration: show, explain, check."),
    "car": ("agent.cli.car:car", "CAR files: list, read, inspect, verify, index, create, extract."),
}

COMPLETION_VARIABLE = "_CARFS_COMPLETE"
"""`_CARFS_COMPLETE=bash_source carfs` prints the completion of the shell named; click's protocol."""


def _print_version(ctx: click.Context, _param: click.Parameter, wanted: bool) -> None:
    if not wanted or ctx.resilient_parsing:
        return
    from importlib.metadata import version  # 10 ms, for this option alone

    click.echo(f"carfs {version('carfs')}")
    ctx.exit()


@click.option(
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_print_version,
    help="Show the version.",
)
@group(
    COMMANDS, epilog=example("carfs car create photos -o photos.car", "carfs mount photos.car mnt", "ls mnt")
)
def cli() -> None:
    """Content-addressed data in CAR files, shown as plain directories.

    Exit codes: 0 done, 1 failed, 2 usage, 3 not found, 4 refused or busy, 5 corrupt data,
    6 agent not reachable.
    """


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and gives its exit code; `argv` (default: the process's) has no program name."""
    replace_closed_streams()
    arguments = list(sys.argv[1:] if argv is None else argv)
    return run_to_exit_code(lambda: _run(arguments))


def _run(arguments: list[str]) -> object:
    """What `click.Group.main` does, without its answers to Ctrl-C and closed pipes: those are in `exits`."""
    wanted = os.environ.get(COMPLETION_VARIABLE)
    if wanted:
        from click.shell_completion import shell_complete

        return shell_complete(cli, {}, "carfs", COMPLETION_VARIABLE, wanted)
    take_any_name()
    with cli.make_context("carfs", arguments) as ctx:
        return cli.invoke(ctx)


if __name__ == "__main__":
    sys.exit(main())
