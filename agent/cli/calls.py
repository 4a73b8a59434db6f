"""Calls to the agent from commands: errors become exit codes, and long calls show progress."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

from agent import client
from agent.cli.exits import AgentRefused, AgentUnreachable
from agent.cli.output import printable
from agent.cli.progress import progress

POLL_INTERVAL_S = 0.25

Json = Any  # any value that JSON can carry
Amount = tuple[int, int]
"""Done, and all; 0: not known."""
HowFar = Callable[[Json], Amount | None]
"""From what `Carfs.Status` (or another method that was chosen) gives; None: nothing is known (yet)."""


def shown(text: str) -> str:
    """Text from the agent (a key, an error) as a terminal may see it."""
    return printable(text.encode(errors="surrogateescape"))


def call(method: str, params: Json = None, *, timeout_s: float | None = client.CALL_TIMEOUT_S) -> Json:
    """The result of one call; raises AgentUnreachable, AgentRefused. `timeout_s` None: however long it takes."""
    try:
        return client.Client(timeout_s=timeout_s).call(method, params)
    except client.AgentUnreachable as error:
        raise AgentUnreachable(str(error)) from error
    except client.AgentError as error:
        raise AgentRefused(shown(str(error)), error.error_class) from error


def stream(method: str, params: Json = None) -> Iterator[Json]:
    """The values of a method that gives a stream; raises AgentUnreachable, AgentRefused. Whoever stops reading calls it
    off."""
    try:
        yield from client.Client().stream(method, params)
    except client.AgentUnreachable as error:
        raise AgentUnreachable(str(error)) from error
    except client.AgentError as error:
        raise AgentRefused(shown(str(error)), error.error_class) from error


def call_that_indexes(method: str, params: Json, key: str, *, quiet: bool) -> Json:
    """Likewise for a call that returns when the shard `key` is indexed; shows how far that is.

    Whoever interrupts it stops waiting; the agent goes on.
    """
    return call_that_lasts(
        method, params, f"indexing {shown(key)}", lambda status: amount(status["Indexing"], key), quiet=quiet
    )


def call_that_lasts(
    method: str,
    params: Json,
    what: str,
    how_far: HowFar,
    *,
    quiet: bool,
    unit: str = "",
    asked: str = "Carfs.Status",
    asked_with: Json = None,
) -> Json:
    """The result of a call that takes as long as it takes; meanwhile shows how far it is, which `how_far` takes from
    the agent's status, or what the method `asked` gives. `what` and `unit` are those of `progress`."""
    outcome: list[Json | Exception] = []

    def run() -> None:
        try:
            outcome.append(call(method, params, timeout_s=None))
        except Exception as error:  # raised below, in the thread that waits
            outcome.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    with progress(what, quiet=quiet, unit=unit) as step:
        while thread.is_alive():
            thread.join(POLL_INTERVAL_S)
            if thread.is_alive() and not quiet:
                with suppress(AgentUnreachable, AgentRefused):  # if it matters, the call itself says so
                    found = how_far(call(asked, asked_with))
                    if found is not None:
                        step(*found)
    if isinstance(outcome[0], Exception):
        raise outcome[0]
    return outcome[0]


def call_with_tasks(method: str, params: Json, what: str, subject: str, *, quiet: bool) -> Json:
    """Likewise for what is done by tasks about `subject`."""
    return call_that_lasts(
        method, params, what, lambda tasks: _task_amount(tasks, subject), quiet=quiet, asked="Carfs.Tasks"
    )


def _task_amount(tasks: Json, subject: str) -> Amount | None:
    return next(
        ((one["Done"], one["Total"]) for one in tasks["Tasks"] if one["Subject"] == subject and one["Done"]),
        None,
    )


def amount(progresses: Json, key: str) -> Amount | None:
    """How far one shard of a list of `Progress` is."""
    return next(((one["Done"], one["Total"]) for one in progresses if one["Key"] == key), None)
