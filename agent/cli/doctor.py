"""`carfs doctor`: what is not well with the agent's state, and what to do about it."""

from __future__ import annotations

import os
from typing import Any

import click

from agent.cli.calls import call, shown
from agent.cli.command import command, example, json_option
from agent.cli.exits import AgentUnreachable, CommandFailed, Exit
from agent.cli.output import emit_json

_EXIT_BY_SEVERITY = {"error": Exit.FAILED, "warning": Exit.FAILED, "note": Exit.DONE}


@command(epilog=example("carfs doctor", "carfs doctor --fix", "carfs doctor --json | jq '.[].What'"))
@click.option("--fix", is_flag=True, help="Mend what can be mended without a risk.")
@json_option
def doctor(fix: bool, as_json: bool) -> int:
    """Look over the whole state and say what is not well: catalogue, data, indices, repairs, space, permissions.

    Asks the agent; where none runs, looks by itself, and changes nothing without --fix. The exit code is 0 where all is
    well (there may be notes), 5 where data or state is damaged, 1 for anything else that should be seen to.
    """
    try:
        call("Filecoin.Version")  # an agent that hangs is a finding, and is not waited for
    except AgentUnreachable:
        findings = _without_agent(fix)
    else:
        findings = call("Carfs.Doctor", {"Fix": fix}, timeout_s=None)
    if as_json:
        emit_json(findings)
    else:
        for one in findings:
            _print(one)
        _print_sum(findings, fix)
    return _exit_code(findings)


def _without_agent(fix: bool) -> list[dict[str, Any]]:  # Any: JSON, as doctor.findings.Finding documents it
    import msgspec

    from agent.config import ConfigError
    from agent.dagstore.failures import ShardError
    from agent.doctor.consultation import consult_alone
    from agent.repository import NoHome, Repository

    try:
        found = consult_alone(Repository.from_environment(), environ=os.environ, fix=fix)
    except (NoHome, ConfigError) as error:
        raise CommandFailed(str(error)) from error
    except ShardError as error:
        raise CommandFailed(str(error), Exit.NOT_FOUND) from error
    builtins: list[dict[str, Any]] = msgspec.to_builtins(found)
    return builtins


def _print(one: dict[str, Any]) -> None:
    print(f"{one['Severity']}: {one['Check']}: {shown(one['What'])}")
    print(f"    fixed: {shown(one['Fixed'])}" if one["Fixed"] else f"    {shown(one['Advice'])}")


def _print_sum(findings: list[dict[str, Any]], fix: bool) -> None:
    left = [one for one in findings if not one["Fixed"]]
    counts = [(sum(one["Severity"] == kind for one in left), kind) for kind in _EXIT_BY_SEVERITY]
    told = ", ".join(f"{count} {kind}" + ("s" if count > 1 else "") for count, kind in counts if count)
    fixable = 0 if fix else sum(one["Fixable"] for one in left)
    print(told + (f"; --fix mends {fixable}" if fixable else "") if told else "All is well.")


def _exit_code(findings: list[dict[str, Any]]) -> Exit:
    left = [one for one in findings if not one["Fixed"]]
    if any(one["Corrupt"] for one in left):
        return Exit.CORRUPT
    return max((_EXIT_BY_SEVERITY[one["Severity"]] for one in left), default=Exit.DONE)
