"""`carfs agent`: the daemon, in the foreground."""

from __future__ import annotations

import os
from pathlib import Path

import click

from agent.cli.command import command, example
from agent.cli.exits import CommandFailed, Exit


@command(epilog=example("carfs agent", "CARFS_PATH=/srv/carfs carfs agent --config /etc/carfs.toml"))
@click.option(
    "--config",
    "config_file",
    type=click.Path(path_type=Path),
    help="Configuration file.  [default: config.toml in $CARFS_PATH]",
)
def agent(config_file: Path | None) -> int:
    """Run the agent in the foreground, with its state in $CARFS_PATH (~/.carfs), until SIGTERM or Ctrl-C.

    Each configuration key can also be set as CARFS_SECTION_KEY, for instance CARFS_WORKERS_COUNT=4. SIGUSR1 writes what
    every task is doing to the log.
    """
    from agent import service  # trio, anycorn, Starlette: a quarter of a second
    from agent.repository import RepositoryLocked

    try:
        return service.main(config_file)
    except RepositoryLocked as error:
        raise CommandFailed(str(error), Exit.REFUSED) from error
    except service.CannotStart as error:
        raise CommandFailed(f"cannot start: {_text(error)}") from error


def _text(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename is not None:
        return f"{os.fsdecode(error.filename)}: {error.strerror}"
    return str(error)
