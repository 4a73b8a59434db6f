"""`carfs worker run`: does heavy work for an agent elsewhere."""

from __future__ import annotations

import socket
from pathlib import Path

import click

from agent.cli.command import command, example
from agent.cli.exits import EXIT_BY_RPC_CLASS, AgentUnreachable, CommandFailed, Exit


@command(
    epilog=example(
        "carfs worker run --connect /srv/carfs/agent.sock",
        "CARFS_TOKEN=$(cat token) carfs worker run --connect 10.0.0.7:3453 --only index,verify",
        "carfs worker --connect https://agent.example.org --token-file /etc/carfs/token --memory 8GiB",
    )
)
@click.option(
    "--connect",
    "where",
    required=True,
    metavar="WHERE",
    help="The agent: the path of its socket or state folder, HOST:PORT, or a http(s) URL.",
)
@click.option("--name", default="", help="What the agent calls this worker.  [default: the host's name]")
@click.option(
    "--token-file",
    type=click.Path(path_type=Path),
    help="File with the token for an agent over TCP.  [default: the variable CARFS_TOKEN]",
)
@click.option(
    "--only", default="", metavar="KIND,…", help="Kinds of task to do.  [default: index,verify,commp]"
)
@click.option("--memory", default="", metavar="SIZE", help="Memory to use at most, such as 8GiB.")
@click.option("--no-swap", is_flag=True, help="Do not count swap as room for the peaks of tasks.")
@click.option(
    "--grace",
    "grace_s",
    type=click.FloatRange(min=0),
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    help="For what runs to end, on SIGTERM or Ctrl-C.",
)
@click.option("--once", is_flag=True, help="End with the connection; do not join again.")
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    show_default=True,
    help="What is told on stderr.",
)
def run(
    where: str,
    name: str,
    token_file: Path | None,
    only: str,
    memory: str,
    no_swap: bool,
    grace_s: float,
    once: bool,
    log_level: str,
) -> None:
    """Join an agent as a worker of it, until SIGTERM or Ctrl-C.

    The agent gives it tasks as far as the limits of this machine, cgroup and process allow. The agent's state folder
    and the data must be seen here at the same paths. On SIGTERM or Ctrl-C what runs may end; a second one ends it at
    once. When the agent is gone, it is joined again as soon as it is back.
    """
    from agent.resources.settings import ResourcesConfig  # late: with them come trio, httpcore and msgspec
    from agent.workers.remote import program, staging
    from agent.workers.remote.link import LinkBroken, Refused
    from agent.workers.remote.messages import shown
    from agent.workers.remote.where import TOKEN_VARIABLE, Where, find_token

    kinds = frozenset(filter(None, (kind.strip() for kind in only.split(",")))) or staging.KINDS
    unknown = sorted(kinds - staging.KINDS)
    if unknown:
        known = ", ".join(sorted(staging.KINDS))
        raise CommandFailed(
            f"--only: a worker elsewhere cannot do {unknown[0]!r}; it can do {known}", Exit.USAGE
        )
    try:
        agent = Where.parse(where)
        resources = ResourcesConfig(memory=memory, swap=not no_swap)
        token = find_token(token_file)
    except ValueError as error:
        raise CommandFailed(str(error), Exit.USAGE) from error
    if agent.needs_token and not token:
        hint = "`carfs auth create-token --perm admin` on the agent's machine makes one"
        raise CommandFailed(f"{agent} needs a token, in {TOKEN_VARIABLE} or --token-file; {hint}", Exit.USAGE)
    try:
        program.main(
            agent, token, name=shown(name or socket.gethostname()), kinds=kinds, resources=resources, grace_s=grace_s,
            once=once, log_level=log_level,
        )  # fmt: skip
    except LinkBroken as error:
        raise AgentUnreachable(str(error)) from error
    except Refused as error:
        code = EXIT_BY_RPC_CLASS.get(error.error_class, Exit.FAILED)
        raise CommandFailed(f"{agent} refuses this worker: {error}", code) from error
