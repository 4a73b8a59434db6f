"""`carfs worker …`: what does the heavy work, what it does now, and how to end it; with Lotus' names and columns."""

from __future__ import annotations

from agent.cli.command import CommandTable, example, group

COMMANDS: CommandTable = {
    "run": ("agent.cli.worker_run:run", "Join an agent elsewhere as a worker of it."),
    "info": ("agent.cli.worker_showing:info", "What one worker is, has and may."),
    "list": ("agent.cli.worker_showing:list_workers", "List the workers and how full they are."),
    "jobs": ("agent.cli.worker_showing:jobs", "List the tasks that run and wait."),
    "resources": ("agent.cli.worker_showing:resources", "List the variables that say what tasks need."),
    "sched-diag": ("agent.cli.worker_showing:sched_diag", "Print the queue as JSON, as Lotus does."),
    "abort": ("agent.cli.worker_steering:abort", "End a task."),
    "remove": ("agent.cli.worker_steering:remove", "Take a task that waits out of the queue."),
    "enable": ("agent.cli.worker_steering:enable", "Let a worker have new tasks again."),
    "disable": ("agent.cli.worker_steering:disable", "Give a worker nothing new."),
}


@group(
    COMMANDS,
    epilog=example("carfs worker list", "carfs worker jobs", "carfs worker abort 6f5902ac"),
    implied={"--connect": "run"},
)
def worker() -> None:
    """Look at and steer the processes that do what is heavy: the agent's own, and those of other machines.

    A task or a worker is named by its ID, or the beginning of it.
    """
