"""`carfs worker …`: what does the heavy work."""

from __future__ import annotations

from agent.cli.command import CommandTable, example, group

COMMANDS: CommandTable = {
    "run": ("agent.cli.worker_run:run", "Join an agent elsewhere as a worker of it."),
}


@group(
    COMMANDS, epilog=example("carfs worker run --connect /srv/carfs/agent.sock"), implied={"--connect": "run"}
)
def worker() -> None:
    """Do heavy work for an agent elsewhere."""
