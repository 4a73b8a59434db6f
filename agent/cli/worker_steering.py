"""`carfs worker abort | remove | enable | disable`: what changes what workers do."""

from __future__ import annotations

import click

from agent.cli.calls import call, shown
from agent.cli.command import command, example
from agent.cli.worker_showing import named


@command(epilog=example("carfs worker abort 6f5902ac"))
@click.argument("id")
def abort(id: str) -> None:
    """End the task ID, whether it runs or waits: its process is killed, and whoever waits for it is told.

    What asked for the task may ask again: a shard whose indexing is aborted is Errored until it is recovered.
    """
    task = named(call("Carfs.Tasks")["Tasks"], id, "task")
    call("Carfs.AbortTask", {"ID": task["ID"]})
    print(f"Aborted {task['Kind']} of {shown(task['Subject'])}")


@command(epilog=example("carfs worker remove 6f5902ac"))
@click.argument("id")
def remove(id: str) -> None:
    """Take the task ID out of the queue; refused if it runs already."""
    task = named(call("Carfs.Tasks")["Tasks"], id, "task")
    call("Filecoin.SealingRemoveRequest", {"SchedId": task["ID"]})
    print(f"Removed {task['Kind']} of {shown(task['Subject'])}")


@command(epilog=example("carfs worker enable b1d3e6f5"))
@click.argument("id")
def enable(id: str) -> None:
    """Let the worker ID have new tasks again."""
    _set_enabled(id, True)


@command(epilog=example("carfs worker disable b1d3e6f5"))
@click.argument("id")
def disable(id: str) -> None:
    """Give the worker ID nothing new; what it does goes on."""
    _set_enabled(id, False)


def _set_enabled(id: str, enabled: bool) -> None:
    worker = named(call("Carfs.Tasks", {"Limit": 1})["Workers"], id, "worker")
    call("Carfs.SetWorkerEnabled", {"Worker": worker["ID"], "Enabled": enabled})
    print(f"{'Enabled' if enabled else 'Disabled'} {shown(worker['Name'])}")
